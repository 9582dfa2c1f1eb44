"""The quickstart's world: generated rows, a tokenizer and a small T5 that was taught general skills."""
