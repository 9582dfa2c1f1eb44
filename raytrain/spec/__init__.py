"""The FineTuneJob document: models, loading, identity, schema, explanation."""

from raytrain.spec.document import API_VERSION, KIND, FineTuneJob, Metadata, Spec

__all__ = ["API_VERSION", "KIND", "FineTuneJob", "Metadata", "Spec"]
