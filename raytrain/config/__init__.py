"""The FineTuneJob: its models, loading, identity, schema and reference."""

from raytrain.config.job import API_VERSION, KIND, FineTuneJob, Metadata, Spec

__all__ = ["API_VERSION", "KIND", "FineTuneJob", "Metadata", "Spec"]
