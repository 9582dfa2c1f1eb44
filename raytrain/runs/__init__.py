"""What a run leaves in storage: record, checkpoints, status, logs, lineage, and garbage collection."""
