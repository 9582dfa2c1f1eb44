"""What a training step is fed with: sampling order, packing, batches, the loader."""
