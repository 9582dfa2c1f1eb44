"""Shard sets in the object store: manifests, parts, writing, reading, and the workers that do it."""
