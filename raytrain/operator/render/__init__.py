"""A FineTuneJob's attempt as Kubernetes objects: the RayJob, its pods, and what stands beside it."""
