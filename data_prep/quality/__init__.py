"""The quality of prepared data: statistics, findings, n-gram overlap, plots and the data card."""
