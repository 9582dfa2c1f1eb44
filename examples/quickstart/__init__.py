"""The quickstart's world: generated rows, a tokenizer and a small pre-trained T5."""
