"""Training: the plan of examples, packing into rows, the model step, the loop and its checkpoints."""
