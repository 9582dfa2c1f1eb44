"""Verdicts on tasks and probes, as labels and as sentences."""

from typing import Literal

from raytrain.report.formatting import format_count, format_interval, format_score
from raytrain.report.model import BaselineVerdict, Difference, Forgetting, Metric, Task, TaskVerdict

MOSTLY = 0.5  # a probe that lost at least this share of its score counts as mostly forgotten
MANY_TWINS = 0.01  # share of the scored rows from which on near-twins are marked beside the verdict


def probe_fate(task: Task) -> Literal["kept", "improved", "partly", "mostly", "nothing", "unknown"]:
    """Classifies what happened to a skill that this run did not train."""
    d = task.difference
    if d is None or d.verdict in ("unknown", "few"):
        return "unknown"
    if d.verdict == "noise":
        return "nothing" if _nothing_to_lose(task.primary_metric) else "kept"
    if d.verdict == "better":
        return "improved" if task.verdict == "better" else "kept"
    return "mostly" if _lost_share(task.primary_metric, d) >= MOSTLY else "partly"


def _nothing_to_lose(primary_metric: Metric) -> bool:
    return primary_metric.before is not None and primary_metric.better == "higher" and primary_metric.before.value <= 0


def _lost_share(primary_metric: Metric, difference: Difference) -> float:
    """Returns the lost share of the score before training; 0 for error measures."""
    before = primary_metric.before
    if before is None or primary_metric.better == "lower" or before.value <= 0:
        return 0.0
    return -difference.gain / before.value


FATE_LABELS = {
    "kept": "kept",
    "improved": "improved",
    "partly": "partly forgotten",
    "mostly": "mostly forgotten",
    "nothing": "nothing to lose",
    "unknown": "not known",
}
VERDICT_LABELS = {
    "better": "better",
    "not-above-baseline": "not above baseline",
    "worse": "worse",
    "noise": "within noise",
    "few": "too few rows",
    "unknown": "not known",
}


def task_verdict(difference: Difference | None, baseline: BaselineVerdict) -> TaskVerdict:
    """Judges a task: better is better than before, and than the best trivial baseline if any."""
    if difference is None or difference.verdict != "better":
        return difference.verdict if difference else "unknown"
    if baseline in {"few", "unknown"}:
        return baseline
    return "better" if baseline in ("above", "none") else "not-above-baseline"


def flags(task: Task) -> list[str]:
    """Returns what a reader must know before the verdict is believed, in a word or two each."""
    twins = task.without_twins
    known = (
        ("below baseline", task.baseline_verdict == "below"),
        ("one answer", task.one_answer),
        ("near-twins", twins is not None and twins.rows >= MANY_TWINS * twins.of),
    )
    return [text for text, here in known if here]


def verdict_label(task: Task) -> str:
    """Returns the verdict on a task in a word or two."""
    if task.probe and task.verdict != "few":
        return FATE_LABELS[probe_fate(task)]
    return VERDICT_LABELS[task.verdict]


def task_sentence(primary_metric: Metric, difference: Difference | None, *, probe: bool) -> str:
    """Describes what happened to a task in one or two sentences."""
    scale, label = primary_metric.scale, primary_metric.label
    before = format_score(primary_metric.before.value if primary_metric.before else None, scale)
    after = format_score(primary_metric.after.value if primary_metric.after else None, scale)
    if difference is None:
        return _unpaired_sentence(primary_metric, before, after)
    span = format_interval(difference.low, difference.high, scale, sign=True)
    by = f"{format_score(difference.value, scale, sign=True)}" + (f", 95\u00a0% interval {span}" if span else "")
    moved = f"{label[:1].upper()}{label[1:]} went from {before} to {after} ({by})"
    if difference.verdict == "few":
        return f"{moved}. {format_count(difference.rows, 'row')}: too few to tell whether this is more than chance."
    if difference.verdict == "noise":
        return _noise_sentence(moved, primary_metric, difference, probe=probe)
    if difference.verdict == "unknown":
        return f"{moved}. It is not known whether this is more than chance."
    lost = _lost_share(primary_metric, difference)
    gone = f": {100 * lost:.0f}\u00a0% of the score is gone" if probe and lost > 0 else ""
    return f"{moved}{gone}. This is more than chance."


def _unpaired_sentence(primary_metric: Metric, before: str, after: str) -> str:
    label = primary_metric.label
    if primary_metric.after:
        return f"After training: {label} {after}. There is no score from before training to compare with."
    if primary_metric.before:
        return f"Before training: {label} {before}. Not scored after training yet."
    return "Not scored yet."


def _noise_sentence(moved: str, primary_metric: Metric, difference: Difference, *, probe: bool) -> str:
    low, high = difference.low, difference.high
    if low is not None and high is not None and not low <= 0 <= high:
        return f"{moved}. Of a single task this would be more than chance; among all tasks of this report it may be."
    if not probe or low is None or high is None:
        return f"{moved}. The interval contains zero, so with this few rows it could be chance."
    if _nothing_to_lose(primary_metric):
        return f"{moved}. The model could not do this before, so there was nothing to forget."
    limit = format_score(-low if primary_metric.better == "higher" else high, primary_metric.scale)
    return f"{moved}. No loss can be shown; any loss is unlikely to exceed {limit}."


def forgetting_sentence(forgetting: Forgetting, primary_metric: Metric) -> str:
    """Compares the last checkpoint with the best one."""
    if forgetting.best_minus_now is None:
        return ""
    if forgetting.best_minus_now <= 0:
        return "On validation rows, the last checkpoint also has the best score."
    lost = format_score(forgetting.best_minus_now, primary_metric.scale)
    return f"On validation rows, the last checkpoint scores {lost} below the best one."
