"""What a run says about itself: attempts, progress, segments of events and metrics, logs, and the console."""
