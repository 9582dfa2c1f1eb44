"""The command line's side of a cluster: jobs are submitted, watched and ended."""
