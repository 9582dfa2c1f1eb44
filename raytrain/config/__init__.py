"""The FineTuneJob: models, loading, identity, schema, explanation."""

from raytrain.config.job import API_VERSION, KIND, FineTuneJob, Metadata, Spec

__all__ = ["API_VERSION", "KIND", "FineTuneJob", "Metadata", "Spec"]
