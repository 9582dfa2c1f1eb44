"""From a source's row to an example: task types, columns, labels, splits, mixture, bad rows, personal data."""
