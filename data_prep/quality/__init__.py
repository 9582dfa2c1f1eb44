"""What prepared data looks like: statistics, findings, n-gram overlap, plots and the data card."""
