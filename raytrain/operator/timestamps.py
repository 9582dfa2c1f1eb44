"""Times as Kubernetes writes them, and lengths of time as a job writes them."""

from datetime import UTC, datetime, timedelta

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def format_time(time: datetime) -> str:
    """`2026-11-23T12:00:00Z`."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime:
    """The inverse of `format_time`."""
    return datetime.fromisoformat(text)


def parse_duration(text: str) -> timedelta:
    """A number with a unit: `90s`, `30m`, `12h`, `7d`."""
    return timedelta(seconds=int(text[:-1]) * _SECONDS[text[-1]])
