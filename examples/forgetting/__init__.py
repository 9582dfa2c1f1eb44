"""Compares what different ways of fine-tuning the same base model forget."""
