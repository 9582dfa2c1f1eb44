"""The command line's side of a cluster: jobs are sent there, looked at, and ended."""
