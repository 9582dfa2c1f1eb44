"""What a run reports: attempts, progress, events and metrics, logs, and the console."""
