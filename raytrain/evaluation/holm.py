"""Correction for the number of comparisons that are looked at (Holm 1979)."""

from collections.abc import Sequence


def adjust(p_values: Sequence[float | None]) -> list[float | None]:
    """Returns the p-values after Holm's correction; None (nothing was tested) stays None.

    If no effect exists at all, the chance that any adjusted value is below 5 % is at most 5 %,
    however the comparisons depend on each other (Holm, "A simple sequentially rejective multiple
    test procedure").
    """
    tested = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        adjusted[place] = largest
    return adjusted
