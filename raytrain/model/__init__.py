"""Models: resolving a URI to a folder, loading without the tied-embedding traps, exporting.

Importing this package imports neither torch nor transformers.
"""

from raytrain.model.export import export
from raytrain.model.loading import load
from raytrain.model.source import check_folder, digest, resolve

__all__ = ["check_folder", "digest", "export", "load", "resolve"]
