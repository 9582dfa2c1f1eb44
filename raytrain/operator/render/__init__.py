"""Renders the Kubernetes objects of an attempt: the RayJob and its supporting objects."""
