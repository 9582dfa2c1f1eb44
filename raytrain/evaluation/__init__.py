"""Scoring: decoding, metrics, scores and what was forgotten.

`ray_actors` spreads it over actors.
"""
