"""Standard benchmarks as probes: prompts, answers and metrics of lm-evaluation-harness."""
