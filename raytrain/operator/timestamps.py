"""Times as Kubernetes writes them, and lengths of time as a job writes them."""

import re
from datetime import UTC, datetime, timedelta
from typing import TypeGuard

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST = 1000 * 366 * 86400
"""In seconds: from any time of ours it ends within the calendar."""


def utc_now() -> datetime:
    """The present moment."""
    return datetime.now(UTC)


def format_time(time: datetime) -> str:
    """`2026-11-23T12:00:00Z`."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime:
    """The inverse of `format_time`."""
    return datetime.fromisoformat(text)


def readable(text: str | None) -> str | None:
    """The text if it is a time with a zone in this millennium; None for what others wrote."""
    try:
        time = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return text if time.tzinfo is not None and 2000 <= time.year < 3000 else None


def seconds_between(earlier: str, later: datetime) -> float:
    """Seconds from a written time to another; 0 if the clock has been set back meanwhile."""
    return max(0.0, (later - parse_time(earlier)).total_seconds())


def is_duration(value: object) -> TypeGuard[str]:
    """Whether `parse_duration` can read a value."""
    return isinstance(value, str) and re.fullmatch(r"[0-9]+[smhd]", value, re.ASCII) is not None


def parse_duration(text: str) -> timedelta:
    """A number with a unit: `90s`, `30m`, `12h`, `7d`; at most about 1,000 years."""
    return timedelta(seconds=min(int(text[:-1]) * _SECONDS[text[-1]], _LONGEST))
