"""The command line's side of a cluster: documents are sent there, looked at, and ended."""
