"""Helpers of several tests: servers, small worlds, faults."""

from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
"""The root of the checkout."""
