"""Training: sampling order and packing, the packed model, optimizers, trainer, checkpoints."""
