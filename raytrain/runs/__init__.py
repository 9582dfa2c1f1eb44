"""What a run leaves in storage: its record, checkpoints, status and logs; lineage and garbage collection."""
