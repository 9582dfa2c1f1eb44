"""Asks the Hugging Face hub for the number of rows of a data set; downloads nothing."""

import os
import re
from typing import Any

_URI = re.compile(r"hf://(?:datasets/)?(?P<name>[\w./-]+?)(?::(?P<config>[^@:]+))?(?:@(?P<revision>[^@]+))?/?")
_SECONDS = 5.0


class Hub:
    """Asks the hub until it fails to answer once; afterwards everything is unknown."""

    def __init__(self) -> None:
        self.reached = os.environ.get("HF_HUB_OFFLINE", "").upper() not in ("1", "ON", "YES", "TRUE")

    def rows(self, uri: str) -> dict[str, int] | None:
        """Returns rows by split according to the data set's card; None if they are unknown."""
        match = _URI.fullmatch(uri)
        if match is None or not self.reached:
            return None
        try:
            import huggingface_hub
        except ModuleNotFoundError:  # the client has none: unknown, as without the network
            self.reached = False
            return None
        try:
            info = huggingface_hub.HfApi().dataset_info(match["name"], revision=match["revision"], timeout=_SECONDS)
        except Exception:  # several libraries; whatever the reason, the rows are unknown
            self.reached = False
            return None
        return _counted(info.card_data, match["config"])


def _counted(card: Any, config: str | None) -> dict[str, int] | None:
    """Rows by split from a card's `dataset_info`: a mapping, or a list with one a configuration."""
    try:
        described = card["dataset_info"] if card is not None else None
    except KeyError:
        return None
    entries = [e for e in (described if isinstance(described, list) else [described]) if isinstance(e, dict)]
    chosen = [e for e in entries if e.get("config_name", "default") == config] if config else entries
    if len(chosen) != 1:
        return None
    splits = chosen[0].get("splits") or []
    counts = {s.get("name"): s.get("num_examples") for s in splits if isinstance(s, dict)}
    return {n: c for n, c in counts.items() if isinstance(n, str) and isinstance(c, int)} or None
