"""How much is computed at once, so that it fits a processor's cache. Without torch."""

SCORES = 1 << 23
"""Scores over the vocabulary (tokens times vocabulary) of the loss: 32 MB in fp32."""
LARGEST_GROUP = 1 << 18
"""Attended pairs a head of a group of segments."""


def scored_tokens(vocabulary: int) -> int:
    """Returns how many tokens are scored at once."""
    return max(64, min(4096, SCORES // vocabulary))
