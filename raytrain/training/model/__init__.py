"""The packed forward pass: T5 over packed rows, attention inside segments, the loss."""
