"""What moves the weights: optimizers, learning-rate schedule, trainable parameters, FSDP."""
