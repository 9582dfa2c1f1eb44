"""Formats results as text for a terminal; pure functions from objects to strings."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from raytrain.cli.output import columns
from raytrain_core.text import duration

SPLITS = ("train", "validation", "test")

if TYPE_CHECKING:
    from raytrain.check import CheckReport
    from raytrain.cluster.jobs import ClusterStatus
    from raytrain.evaluation.evaluate_model import ModelScores
    from raytrain.evaluation.results import BaselineScore
    from raytrain.operator.install.verify import Check
    from raytrain.pipeline.outcome import RunOutcome
    from raytrain.report.leaderboard import Leaderboard
    from raytrain.runs.gc import Garbage, GarbageReport
    from raytrain.runs.status import RunStatus
    from raytrain.serving.predict import PredictionPair
    from raytrain.telemetry.bottleneck import Bottleneck


def outcome(found: "RunOutcome") -> str:
    """Formats the outcome of a run: scores, the report's location, how to try the model."""
    first = "was already complete; nothing was done" if found.done_before else "is complete"
    lines = [f"{found.name} {first}.", ""]
    if found.primary_scores:
        rows = [("task", "metric", "before", "after", "change (95 % interval)")]
        rows += [
            (
                h.task + (" (probe)" if h.probe else ""),
                h.metric,
                score(h.before, h.scale),
                score(h.after, h.scale),
                f"{signed(h.after - h.before, h.scale)} ({signed(h.low, h.scale)} to {signed(h.high, h.scale)}), "
                f"{h.verdict}" + (f" (not above {h.baseline})" if h.baseline and not h.probe else ""),
            )
            for h in found.primary_scores
        ]
        lines += [columns(rows, right=(2, 3)), ""]
    lines.append(f"report: {found.report_uri}")
    trained = [h.task for h in found.primary_scores if not h.probe]
    if trained:
        lines.append(
            f'try it: raytrain predict {found.name} --storage {found.storage} --task {trained[0]} --compare "your text"'
        )
    return "\n".join(lines)


def evaluated(found: "ModelScores") -> str:
    """Formats the scores of a model by task, next to the best baseline."""
    rows: list[tuple[str, ...]] = [("task", "metric", "score", "95 % interval", "unparsable", "rows", "best baseline")]
    notes = []
    for card in found.cards:
        kept = card.metrics[card.primary_metric]
        low, high = score(kept.low, kept.scale), score(kept.high, kept.scale)
        counted = f"{card.scored} of {card.rows}" if card.scored < card.rows else f"{card.rows}"
        best = _best_baseline(card.baselines, kept.better)
        baseline = (
            "-" if best is None else f"{score(best[1].value, kept.scale)} {best[0]}, {_against(best[1], kept.better)}"
        )
        unparsable = "-" if kept.unparsable is None else f"{kept.unparsable:.1%}".replace("%", " %")
        value = score(kept.value, kept.scale)
        rows.append((card.task, card.primary_metric, value, f"{low} to {high}", unparsable, counted, baseline))
        notes += [f"{card.task}: {name}: {m.error}" for name, m in card.metrics.items() if m.error]
        others = [
            f"{name} {score(m.value, m.scale)}" for name, m in card.metrics.items() if name != card.primary_metric
        ]
        notes += [f"{card.task}: {', '.join(others)}"] if others else []
    head = f"{found.model} on {found.split} rows; kept under evaluations/{found.name} in {found.storage}"
    return "\n".join([head, "", columns(rows, right=(2, 4, 5)), "", *notes])


def _best_baseline(baselines: "Mapping[str, BaselineScore]", better: str) -> "tuple[str, BaselineScore] | None":
    """Returns the strongest baseline."""
    return max(baselines.items(), key=lambda b: b[1].value if better == "higher" else -b[1].value, default=None)


def _against(baseline: "BaselineScore", better: str) -> str:
    """Says how the model compares with a baseline, of a single task."""
    if baseline.low is None or baseline.high is None:
        return "not compared"
    low, high = (baseline.low, baseline.high) if better == "higher" else (-baseline.high, -baseline.low)
    return "exceeded" if low > 0 else "not reached" if high < 0 else "not shown to be exceeded"


def leaderboard(found: "Leaderboard") -> str:
    """Formats entries by mean rank, with a column for each task and metric."""
    if not found.entries:
        return f"nothing in {found.storage} has been scored on test rows yet"
    labels = [column.label for column in found.columns]
    heads = [
        f"{label} ({labels[:i].count(label) + 1})" if labels.count(label) > 1 else label
        for i, label in enumerate(labels)
    ]
    rows: list[tuple[str, ...]] = [("", "rank", "what", *heads)]
    for place, entry in enumerate(found.entries, start=1):
        cells = [
            "-" if s is None else f"{score(s[0], column.scale)} ±{score((s[2] - s[1]) / 2, column.scale)}"
            for s, column in zip(entry.scores, found.columns, strict=True)
        ]
        rank = "-" if entry.rank is None else f"{entry.rank:.1f}"
        number = str(place) if entry.rank is not None else ""
        rows.append((number, rank, f"{entry.name}" + (" (model)" if entry.kind == "model" else ""), *cells))
    table = columns(rows, right=(0, 1, *range(3, 3 + len(heads))))
    return "\n".join([table, "", *_leaderboard_notes(found, labels)])


def _leaderboard_notes(found: "Leaderboard", labels: Sequence[str]) -> list[str]:
    notes = [f"NOT COMPARABLE, in one column only by --force: {mixed}" for mixed in found.mixed]
    notes += [f"not ranked: {entry.name}: {entry.problem}" for entry in found.entries if entry.problem]
    ranked = sum(entry.problem is None for entry in found.entries)
    if found.ranked_by:
        counted = f"{len(found.ranked_by)} of {len(labels)} columns, those that all {ranked} have"
        notes.append(f"rank: mean rank over {counted}, ignoring noise; ± is half the 95 % interval")
    else:
        notes.append("no ranks: no column has a score of every run and model; ± is half the 95 % interval")
    lower = [column.label for column in found.columns if column.better == "lower"]
    notes += [f"lower is better: {', '.join(lower)}"] if lower else []
    if len(set(labels)) < len(labels):
        notes.append("a task appears twice if its scores are not comparable: other rows or another protocol")
    return notes


def predictions(found: "Sequence[PredictionPair]") -> str:
    """Formats answers one after the other; with both models, each is labelled."""
    blocks = []
    for answer in found:
        if answer.before is not None and answer.after is not None:
            blocks.append(f"before: {answer.before}\nafter:  {answer.after}")
        else:
            blocks.append(str(answer.after if answer.after is not None else answer.before))
    compared = any(a.before is not None and a.after is not None for a in found)
    return ("\n\n" if compared else "\n").join(blocks)


def bottleneck(found: "Bottleneck") -> str:
    """Formats the parts of a step, largest first, and the advice."""
    parts = "\n".join(f"  {part:<12} {share:>4.0%}" for part, share in found.shares.items() if share >= 0.005)
    head = f"a step takes {found.seconds:.3g} s (mean of the latest {found.steps}); bottleneck: {found.description}"
    return f"{head}\n{parts}\n{found.advice}"


def status(found: "RunStatus") -> str:
    """Formats the status of a run."""
    facts: list[tuple[str, str]] = [("run", f"{found.run} in {found.storage}"), ("phase", found.phase)]
    facts += _progress(found, f"{found.step / found.steps:.0%}" if found.steps else "")
    if found.tokens_per_second:
        facts.append(("speed", f"{found.tokens_per_second:,.0f} tokens/s"))
    if found.checkpoint_step is not None:
        facts.append(("checkpoint", f"step {found.checkpoint_step:,}"))
    restarts = ", ".join(f"{number} {kind}" for kind, number in found.restarts.items())
    facts.append(("attempts", f"{found.attempts}" + (f"; {restarts}" if restarts else "")))
    if found.silent_seconds is not None and found.updated:
        facts.append(("last update", f"{duration(found.silent_seconds)} ago"))
    if found.evaluation is not None:
        waiting = len(found.evaluation.waiting)
        behind = f"; {waiting} checkpoint{'s' if waiting != 1 else ''} waiting to be scored" if waiting else ""
        scored = "none yet" if found.evaluation.scored is None else f"step {found.evaluation.scored:,}"
        facts.append(("scored", scored + behind + f"; {found.evaluation.actors}"))
    if found.dashboard:
        facts.append(("dashboard", found.dashboard))
    facts += found.links.items()
    facts += _report(found.report, found.run)
    facts.append(("next", found.next_action))
    text = columns(facts)
    if found.scores:
        rows: list[tuple[str, ...]] = [("task", "metric", "before", "now", "after")]
        for task, scores in found.scores.items():
            shown = (score(value, scores.scale) for value in (scores.before, scores.now, scores.after))
            rows.append((task, scores.primary_metric, *shown))
        text += "\n\n" + columns(rows, right=(2, 3, 4))
    return text


def _report(uri: str | None, run: str) -> list[tuple[str, str]]:
    """Formats where the report is and, where no browser opens that, what does."""
    if not uri:
        return []
    if uri.startswith(("file:", "http:", "https:")):
        return [("report", uri)]
    return [("report", uri), ("in a browser", f"raytrain watch {run} --web")]


def _progress(found: "RunStatus | ClusterStatus", percent: str) -> list[tuple[str, str]]:
    """Formats the known facts about progress."""
    facts = [("", found.message)] if found.message else []
    if found.steps:
        facts.append(("progress", f"step {found.step:,} of {found.steps:,} ({percent})"))
    if found.eta_seconds is not None:
        facts.append(("left", duration(found.eta_seconds)))
    if found.loss is not None:
        facts.append(("loss", f"{found.loss:.4f}"))
    return facts


def job(found: "ClusterStatus") -> str:
    """Formats the status of a job in a cluster."""
    facts = [("job", f"{found.name} in namespace {found.namespace}"), ("phase", found.phase)]
    facts += _progress(found, found.percent)
    if found.workers:
        facts.append(("workers", found.workers))
    for attempt in found.attempts:
        why = f": {attempt['message'] or attempt['reason']}" if attempt["reason"] or attempt["message"] else ""
        facts.append((f"attempt {attempt['number']}", f"{attempt['outcome']}{why}"))
    facts += _report(found.report, f"{found.name} -n {found.namespace}")
    text = columns(facts)
    if found.tasks:
        rows: list[tuple[str, ...]] = [("task", "metric", "before", "now", "after")]
        for task in found.tasks:
            name = task["name"] + (" (probe)" if task["probe"] else "")
            rows.append(
                (name, task["metric"], *(score(task[stage], task["scale"]) for stage in ("before", "now", "after")))
            )
        text += "\n\n" + columns(rows, right=(2, 3, 4))
    return text


def checkup(found: "Sequence[Check]") -> str:
    """Formats the checks of the doctor, with the remedy below each problem."""
    lines = []
    for finding in found:
        lines.append(f"{'ok ' if finding.ok else 'BAD'}  {finding.what}")
        if not finding.ok and finding.hint:
            lines.append(f"     {finding.hint}")
    return "\n".join(lines)


def job_line(found: "ClusterStatus") -> str:
    """Formats the status of a job in a cluster as one line."""
    parts = [found.phase, found.percent, found.message]
    return f"{found.name}: " + ", ".join(part for part in parts if part)


def score(value: float | None, scale: str) -> str:
    """Formats a score as the report does: a fraction as 0 to 100, or a dash if there is none."""
    return "-" if value is None else signed(value, scale).lstrip("+")


def signed(value: float, scale: str) -> str:
    """Formats a change with its sign: points of 100 with one decimal, other units with two."""
    return f"{100 * value:+.1f}" if scale == "percent" else f"{value:+.2f}"


def check(found: "CheckReport") -> str:
    """Formats what a job would do."""
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
        ("checkpoints", f"{found.checkpoints:,}, of which {found.scored_checkpoints:,} are scored during training"),
        ("memory", f"{memory} ({found.memory_note})"),
        ("time", f"{time} ({found.seconds_basis})"),
        ("lengths", found.lengths_basis),
    ]
    if found.ignored:
        facts.append(("ignored here", ", ".join(found.ignored)))
    facts += [(name, text) for name, _, text in (line.partition(": ") for line in found.in_cluster)]
    lines = [columns(facts), "", columns(rows, right=(2, 3, 4, 5, 6, 7)), ""]
    lines += [f"{task.name}: {task.note}" for task in found.tasks if task.note]
    lines += [f"{task.name}: {event}" for task in found.tasks for event in task.events]
    lines += [f"probe {line}" for line in found.benchmarks]
    lines += [f"warning: {warning}" for warning in found.warnings]
    return "\n".join([*lines, "", "The job is valid."])


def garbage(storage: str, found: "GarbageReport", *, deleted: bool) -> str:
    """Formats garbage by reason, the largest first."""
    lines = [f"garbage in {storage}", ""]
    by_reason: dict[str, list[Garbage]] = {}
    for one in found.garbage:
        by_reason.setdefault(one.reason, []).append(one)
    rows: list[tuple[str, ...]] = [("objects", "size", "oldest", "reason", "example")]
    for reason, ones in sorted(by_reason.items(), key=lambda item: -sum(one.bytes for one in item[1])):
        oldest = duration(max(one.age for one in ones))
        rows.append((f"{len(ones):,}", size(sum(one.bytes for one in ones)), oldest, reason, ones[0].key))
    if found.garbage:
        total = f"{len(found.garbage):,} objects, {size(sum(one.bytes for one in found.garbage))}"
        last = f"deleted {total}" if deleted else f"{total} can be deleted; run again with --yes to delete them"
        lines += [columns(rows, right=(0, 1, 2)), "", last]
    else:
        lines = [f"{storage}: no garbage found"]
    if found.preparing is not None:
        lines.append(
            f"shards are left alone because a preparation may be in progress: {found.preparing} is younger than --grace"
        )
    return "\n".join(lines)


def size(count: float) -> str:
    """Formats a number of bytes: `512 B`, `1.5 KiB`, `2.0 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
