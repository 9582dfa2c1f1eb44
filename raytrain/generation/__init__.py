"""Generation with a T5: request types, the inference engine, continuous batching, the generator."""
