"""Training on Ray Train: the driver, the channel between driver and workers, the worker."""
