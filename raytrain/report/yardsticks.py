"""What the report holds a score against: trivial answers, people, and the references themselves."""

from collections.abc import Sequence

from raytrain.evaluation.results import ScoreCard
from raytrain.report.differences import from_baseline
from raytrain.report.formatting import format_count, format_score
from raytrain.report.metric_names import baseline_label
from raytrain.report.model import Agreement, Baseline, BaselineVerdict, Difference, Metric

_VERDICTS: dict[str, BaselineVerdict] = {"better": "above", "worse": "below", "noise": "noise", "few": "few"}


def baselines_of(card: ScoreCard | None) -> list[Baseline]:
    """Returns the baselines of a score card, each with the model's lead over it."""
    if card is None:
        return []
    return [
        Baseline(
            name=name,
            label=baseline_label(name),
            value=score.value,
            difference=from_baseline(card.primary_metric, score),
        )
        for name, score in card.baselines.items()
    ]


def best_of(baselines: Sequence[Baseline], metric: Metric) -> Baseline | None:
    """Returns the baseline with the best score, of equals the first."""
    sign = 1 if metric.better == "higher" else -1
    return max(baselines, key=lambda baseline: sign * baseline.value, default=None)


def with_lead(baselines: Sequence[Baseline], best: Baseline | None, lead: Difference | None) -> list[Baseline]:
    """Returns the baselines, the best one with a lead that is corrected for the number of tasks."""
    return [b.model_copy(update={"difference": lead}) if b is best else b for b in baselines]


def baseline_verdict(best: Baseline | None, lead: Difference | None, *, scored: bool) -> BaselineVerdict:
    """Judges a trained model against its best baseline; `scored` after training."""
    if not scored:
        return "unknown"
    if best is None:
        return "none"
    return "unknown" if lead is None else _VERDICTS.get(lead.verdict, "unknown")


def baseline_sentence(best: Baseline | None, verdict: BaselineVerdict, metric: Metric) -> str:
    """Says whether the trained model is above its best baseline; empty where there is none."""
    if best is None or verdict in ("none", "unknown"):
        return ""
    baseline = f"the best answer without a model ({best.label}: {format_score(best.value, metric.scale)})"
    words = {
        "above": f"That is above {baseline}.",
        "below": f"That is below {baseline}.",
        "noise": f"It is not shown to be above {baseline}.",
        "few": f"These are too few rows to tell whether it is above {baseline}.",
    }
    return words[verdict]


def agreement_of(card: ScoreCard | None, metric: Metric) -> Agreement | None:
    """Returns what people score against each other, and how fair the comparison is."""
    if card is None or (found := card.agreement) is None:
        return None
    score = format_score(found.value, metric.scale)
    others = "the other" if found.against == 1 else f"the best of the other {found.against}"
    sentence = (
        f"People score {score} against each other, on {format_count(found.rows, 'row')} with several references: each "
        f"is compared with {others}, the model with the best of {found.references}, so the model has it easier."
    )
    return Agreement(
        value=found.value,
        low=found.low,
        high=found.high,
        rows=found.rows,
        references=found.references,
        against=found.against,
        sentence=sentence,
    )
