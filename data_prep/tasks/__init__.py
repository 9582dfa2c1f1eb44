"""From a source's row to an example.

Task types, columns, labels, splits, mixture, bad rows, personal data.
"""
