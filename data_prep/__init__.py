"""Data preparation: from anyone's rows to verified, content-addressed shards of a mixture.

Stands alone: it never imports `raytrain`, torch or ray.
"""
