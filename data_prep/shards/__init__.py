"""Shard sets in the object store.

Manifests, parts, writing, reading, and the workers that do it.
"""
