"""What different ways of fine-tuning one base model forget."""
