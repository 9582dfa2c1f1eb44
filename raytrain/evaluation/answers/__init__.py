"""How answers are read: what a model wrote becomes a label, a choice, entities or a plain text.

The rules are stated in docs/explanation/metrics.md. A text that fits no rule is unparsable; the
share of those is reported next to each score.
"""
