"""Prepared data in the object store: manifests, writing, reading, verifying, and who does the work."""
