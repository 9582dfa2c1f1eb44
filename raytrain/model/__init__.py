"""Models: resolving a URI to a folder, loading without the tied-embedding traps, exporting."""
