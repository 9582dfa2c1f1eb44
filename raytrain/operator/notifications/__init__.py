"""Tells people and programs outside of the cluster about jobs."""
