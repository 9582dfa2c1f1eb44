"""What a run leaves in storage: record, checkpoints, logs, status; and garbage collection."""
