"""Results as text for a terminal. Pure: from the objects that the commands got to strings."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from raytrain.cli.output import columns
from raytrain.telemetry.console import duration

if TYPE_CHECKING:
    from raytrain.ask import Answer
    from raytrain.status import RunStatus
    from raytrain.steps import RunOutcome


def outcome(found: "RunOutcome") -> str:
    """The last lines of a run: how it came out, where the report is, how to try the model."""
    first = "was done before; nothing was done now" if found.done_before else "is done"
    lines = [f"{found.name} {first}.", ""]
    if found.headlines:
        rows = [("task", "metric", "before", "after", "change (95 % interval)")]
        rows += [
            (
                h.task + (" (probe)" if h.probe else ""),
                h.metric,
                score(h.before),
                score(h.after),
                f"{signed(h.after - h.before)} ({signed(h.low)} to {signed(h.high)})",
            )
            for h in found.headlines
        ]
        lines += [columns(rows, right=(2, 3)), ""]
    lines.append(f"report: {found.report_uri}")
    trained = [h.task for h in found.headlines if not h.probe]
    if trained:
        lines.append(
            f'try it: raytrain predict {found.name} --storage {found.storage} --task {trained[0]} --compare "your text"'
        )
    return "\n".join(lines)


def answers(found: "Sequence[Answer]") -> str:
    """Answers alone, one after the other; with both models, each named."""
    blocks = []
    for answer in found:
        if answer.before is not None and answer.after is not None:
            blocks.append(f"before: {answer.before}\nafter:  {answer.after}")
        else:
            blocks.append(str(answer.after if answer.after is not None else answer.before))
    compared = any(a.before is not None and a.after is not None for a in found)
    return ("\n\n" if compared else "\n").join(blocks)


def status(found: "RunStatus") -> str:
    """A run at a glance."""
    facts: list[tuple[str, str]] = [("run", f"{found.run} in {found.storage}"), ("phase", found.phase)]
    if found.message:
        facts.append(("", found.message))
    if found.steps:
        facts.append(("progress", f"step {found.step:,} of {found.steps:,} ({found.step / found.steps:.0%})"))
    if found.eta_seconds is not None:
        facts.append(("left", duration(found.eta_seconds)))
    if found.loss is not None:
        facts.append(("loss", f"{found.loss:.4f}"))
    if found.tokens_per_second:
        facts.append(("speed", f"{found.tokens_per_second:,.0f} tokens/s"))
    if found.checkpoint_step is not None:
        facts.append(("checkpoint", f"step {found.checkpoint_step:,}"))
    restarts = ", ".join(f"{number} {kind}" for kind, number in found.restarts.items())
    facts.append(("attempts", f"{found.attempts}" + (f"; {restarts}" if restarts else "")))
    if found.silent_seconds is not None and found.updated:
        facts.append(("heard of", f"{duration(found.silent_seconds)} ago"))
    if found.dashboard:
        facts.append(("dashboard", found.dashboard))
    facts.append(("next", found.next_action))
    text = columns(facts)
    if found.scores:
        rows: list[tuple[str, ...]] = [("task", "metric", "before", "now", "after")]
        for task, scores in found.scores.items():
            rows.append((task, scores.headline, score(scores.before), score(scores.now), score(scores.after)))
        text += "\n\n" + columns(rows, right=(2, 3, 4))
    return text


def score(value: float | None) -> str:
    """A score with three decimals, a dash where there is none."""
    return "-" if value is None else f"{value:.3f}"


def signed(value: float) -> str:
    """A change with its sign."""
    return f"{value:+.3f}"
