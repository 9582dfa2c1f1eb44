"""From an example to token ids: the tokenizer, instruction templates, prompts, few-shot prompts."""
