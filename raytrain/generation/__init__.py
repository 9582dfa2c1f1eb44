"""Generating with a T5: requests and results, the inference engine, continuous batching, the generator."""
