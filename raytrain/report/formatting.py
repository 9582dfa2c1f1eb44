"""Numbers, intervals and lists as the report writes them."""

from collections.abc import Sequence
from typing import Literal


def format_score(value: float | None, scale: Literal["percent", "raw"] = "percent", *, sign: bool = False) -> str:
    """Formats a score: fractions as 0 to 100 with one decimal, raw values with two."""
    if value is None:
        return "–"
    shown = value * 100 if scale == "percent" else value
    digits = 1 if scale == "percent" else 2
    text = f"{abs(shown):.{digits}f}"
    if float(text) == 0:
        return ("±" if sign else "") + text
    return ("−" if shown < 0 else "+" if sign else "") + text


def format_interval(
    low: float | None, high: float | None, scale: Literal["percent", "raw"], *, sign: bool = False
) -> str:
    """Formats an interval as `[a, b]`; empty if it is not known."""
    return (
        ""
        if low is None or high is None
        else f"[{format_score(low, scale, sign=sign)}, {format_score(high, scale, sign=sign)}]"
    )


def format_count(value: int, noun: str, plural: str | None = None) -> str:
    """Formats a count with its noun: `1 row`, `2,000 rows`."""
    return f"{value:,} {noun if value == 1 else plural or noun + 's'}"


def abbreviate(value: float) -> str:
    """Abbreviates a large count: 950, 12.3 k, 4.56 M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1e3 if unit == 'k' else size):.3g} {unit}"
    return f"{value:,.0f}"


def join_names(names: Sequence[str], most: int = 8) -> str:
    """Joins names as `a, b and c`; long lists end in `and 12 more`."""
    shown = list(names)
    if len(shown) > most:
        shown = [*shown[: most - 1], f"{len(shown) - most + 1} more"]
    return shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + f" and {shown[-1]}" if shown else ""
