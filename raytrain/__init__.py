"""Kubernetes-native multitask fine-tuning of FLAN-T5 on Ray Train."""

__version__ = "0.1.0"
