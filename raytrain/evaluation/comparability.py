"""Which scores can be compared: the one rule of comparisons and leaderboards.

Two scores of a task can be compared if both are of the same rows (ids, inputs, references, labels),
read with the same prompts and limits, decoded in the same way, and scored by the same protocol.
"""

from collections.abc import Mapping

from raytrain.evaluation.results import ScoreCard

_SETTINGS = ("decoding", "max_input_tokens", "max_new_tokens", "precision", "references")


def conditions(card: ScoreCard) -> Mapping[str, str]:
    """Returns all that must be equal for the primary scores of two cards to be compared."""
    metrics = card.protocol.get("metrics") or {}
    return {
        "metric": card.primary_metric,
        "protocol": str(metrics.get(card.primary_metric, "")),
        "rows": card.rows_digest,
        "prompts": card.prompts_digest,
        "number of rows": f"{card.rows}",
        **{name: str(card.protocol.get(name, "")) for name in _SETTINGS},
    }


def obstacles(first: ScoreCard, second: ScoreCard) -> list[str]:
    """Returns why two cards cannot be compared, one phrase each; empty if they can."""
    ours, theirs = conditions(first), conditions(second)
    if not ours["rows"] or not theirs["rows"]:
        return ["it is not known which rows were scored"]
    different = [name for name in ours if ours[name] != theirs[name]]
    if "rows" in different:  # other rows have other prompts
        different = [name for name in different if name != "prompts"]
    return [_phrase(name, ours[name], theirs[name]) for name in different]


def _phrase(name: str, ours: str, theirs: str) -> str:
    fixed = {
        "rows": "other rows (ids, inputs, references or labels)",
        "prompts": "other prompts of the same rows",
        "protocol": "another version of the metric",
    }
    return fixed.get(name) or f"{name.replace('_', ' ')}: {ours or 'not known'} and {theirs or 'not known'}"
