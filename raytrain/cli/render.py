"""Results as text for a terminal. Pure: from the objects that the commands got to strings."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from raytrain.cli.output import columns
from raytrain.telemetry.console import duration

SPLITS = ("train", "validation", "test")

if TYPE_CHECKING:
    from raytrain.ask import Answer
    from raytrain.check import CheckReport
    from raytrain.findings import Findings
    from raytrain.preview import TaskPreview
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


def check(found: "CheckReport") -> str:
    """What a document would do."""
    rows: list[tuple[str, ...]] = [("task", "type", "train", "validation", "test", "share", "epochs", "tokens in/out")]
    for task in found.tasks:
        counts = task.rows or {}
        number = {s: f"{counts[s]:,}" if s in counts else ("unknown" if task.rows is None else "-") for s in SPLITS}
        if task.probe:
            number["train"] = "probe"
        share = "-" if task.probe else "unknown" if task.share is None else f"{task.share:.1%}"
        epochs = "-" if task.probe else "unknown" if task.epochs is None else f"{task.epochs:.2f}"
        tokens = "unknown" if task.input_tokens is None else f"{task.input_tokens:.0f}/{task.target_tokens:.0f}"
        rows.append((task.name, task.type, *number.values(), share, epochs, tokens))
    parameters = "unknown" if found.parameters is None else f"{found.parameters / 1e6:,.1f} million parameters"
    row = f", in rows of {found.row[0]:,} + {found.row[1]:,}" if found.row else ""
    memory = "unknown" if found.memory_bytes is None else f"{found.memory_bytes / (1 << 30):.2f} GiB"
    time = "unknown" if found.seconds is None else f"about {duration(found.seconds)}"
    facts = [
        ("run", f"{found.run} in {found.storage}"),
        ("model", f"{found.model}, {parameters} ({found.model_note})"),
        ("steps", f"{found.steps:,} of at most {found.tokens_per_step:,} tokens{row}: {found.tokens:,} tokens"),
        ("checkpoints", f"{found.checkpoints:,}, of which {found.scored_checkpoints:,} are scored on the way"),
        ("memory", f"{memory} ({found.memory_note})"),
        ("time", f"{time} ({found.seconds_basis})"),
        ("lengths", found.lengths_basis),
    ]
    if found.ignored:
        facts.append(("ignored here", ", ".join(found.ignored)))
    lines = [columns(facts), "", columns(rows, right=(2, 3, 4, 5, 6, 7)), ""]
    lines += [f"{task.name}: {task.note}" for task in found.tasks if task.note]
    lines += [f"warning: {warning}" for warning in found.warnings]
    return "\n".join([*lines, "", "The document is right."])


def preview(found: "Sequence[TaskPreview]") -> str:
    """Rows of each task, prompt and answer."""
    blocks = []
    for task in found:
        probe = ", a probe" if task.probe else ""
        lines = [f"== {task.task} ({task.type}, {task.wordings} wordings{probe})"]
        for row in task.rows:
            answers = "\n".join(_indent(target) for target in row.targets)
            lines += ["", f"-- {row.where}, wording {row.template}", _indent(row.prompt), "   =>", answers]
        lines += ["", *(f"bad row: {bad}" for bad in task.bad)] if task.bad else []
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def findings(found: "Findings") -> str:
    """What preparation found, split by split."""
    heads = ("task", "split", "rows", "wordings", "tokens in/out", "longest", "cut in/out", "unknown", "duplicates")
    rows: list[tuple[str, ...]] = [heads]
    for s in found.splits:
        mean, longest = f"{s.mean_tokens[0]:.0f}/{s.mean_tokens[1]:.0f}", f"{s.longest[0]:,}/{s.longest[1]:,}"
        cut = f"{s.cut_sources:.1%}/{s.cut_targets:.1%}"
        counts = f"{s.rows:,}", f"{s.wordings}", mean, longest, cut, f"{s.unknown_tokens:.2%}", f"{s.duplicates:,}"
        rows.append((s.task, s.split, *counts))
    lines = [f"{found.run}: shard set {found.shard_set[:12]}", "", columns(rows, right=range(2, len(heads)))]
    shares = ", ".join(f"{task} {share:.1%}" for task, share in found.shares.items())
    lines += ["", f"mixture: {shares}"]
    lines += [f"warning: {warning}" for warning in found.warnings]
    return "\n".join(lines)


def _indent(text: str) -> str:
    return "\n".join(f"   {line}" for line in text.split("\n"))
