"""Formats results of the data commands as text for a terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from raytrain.cli.output import columns
from raytrain.cli.render import size

if TYPE_CHECKING:
    from data_prep.quality.findings import DataRow, Finding
    from data_prep.quality.statistics import SplitSummary
    from data_prep.shards.manifest import ShardSet
    from raytrain.datasets.diff import DataDiff, SplitChange
    from raytrain.datasets.plan_report import PlanReport, TaskPlan
    from raytrain.datasets.preview import TaskPreview, Tokens
    from raytrain.datasets.row_trace import RowTrace
    from raytrain.datasets.verify import VerifyReport


def preview(found: "Sequence[TaskPreview]") -> str:
    """Formats rows of each task: prompt and answer."""
    blocks = []
    for task in found:
        probe = ", a probe" if task.probe else ""
        lines = [f"== {task.task} ({task.type}, {task.variants} templates{probe})"]
        for row in task.rows:
            answers = "\n".join(_indent(target) for target in row.targets)
            lines += ["", f"-- {row.where}, template {row.template}", _indent(row.prompt), "   =>", answers]
            if row.prompt_tokens is not None and row.target_tokens is not None:
                lines += ["", _tokens("prompt", row.prompt_tokens), _tokens("answer", row.target_tokens)]
        lines += ["", *(f"bad row: {bad}" for bad in task.bad)] if task.bad else []
        lines += ["", f"of {task.read:,} rows read:", *task.events] if task.events else []
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def row_traces(found: "Sequence[RowTrace]") -> str:
    """Formats the steps of a row, one below the other."""
    blocks = []
    for trace in found:
        lines = [f"== {trace.task}, {trace.where}: {trace.outcome}"]
        for step in trace.steps:
            notes = f" ({'; '.join(step.notes)})" if step.notes else ""
            lines += ["", f"-- {step.name}{notes}", _indent(step.text)]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _tokens(what: str, found: "Tokens") -> str:
    """Formats tokens as `15 tokens of the prompt: ▁Ann ▁said ⏎ ...`."""
    cut = f", of which {found.limit:,} are kept" if found.cut else ""
    unknown = f", {found.unknown:,} unknown" if found.unknown else ""
    tokens = " ".join(token.replace("\n", "⏎").replace("\t", "⇥") for token in found.tokens)
    return _indent(f"{len(found.tokens):,} tokens of the {what}{cut}{unknown}:\n{tokens}")


def plan(found: "PlanReport") -> str:
    """Formats the plan: facts, then a line for each task."""
    row = "rows of unknown size"
    if found.row is not None:
        row = f"{_count(found.rows_per_step)} rows of {found.row[0]:,} + {found.row[1]:,}"
    facts = [
        ("run", found.run),
        (
            "steps",
            f"{_count(found.steps)} of {row}, at most {found.batch_tokens:,} tokens each",
        ),
        ("examples", _about(found.examples, found.exact)),
        ("tokens", f"{_about(found.tokens, found.exact)}" + (f", rows {found.fill:.1%} full" if found.fill else "")),
        ("known from", found.basis),
    ]
    heads = ("task", "part of", "rows", "share", "seen", "epochs", "each row", "templates", "tokens in/out")
    rows: list[tuple[str, ...]] = [heads]
    rows += [
        (
            task.task,
            task.part,
            _count(task.rows),
            "unknown" if task.share is None else f"{task.share:.2%}",
            _about(task.seen, found.exact),
            "unknown" if task.epochs is None else f"{task.epochs:.2f}",
            _times(task.times),
            _variants(task),
            f"{_about(task.source_tokens, found.exact)} / {_about(task.target_tokens, found.exact)}",
        )
        for task in found.tasks
    ]
    if all(task.part == "" for task in found.tasks):
        rows = [(row[0], *row[2:]) for row in rows]
    lines = [columns(facts), "", columns(rows, right=range(len(rows[0]) - 7, len(rows[0])))]
    return "\n".join([*lines, "", *found.notes]).rstrip()


def statistics(name: str, shard_set: "ShardSet", found: "Sequence[SplitSummary]") -> str:
    """Formats statistics by split, then the labels of tasks that have few."""
    heads = ("task", "split", "rows", "variants", "prompt p50/p95/max", "cut", "answer p50/p95/max", "cut")
    rows: list[tuple[str, ...]] = [(*heads, "unknown", "altered in/out", "repeated", "targets")]
    for s in found:
        sides = []
        for side in (s.source, s.target):
            sides += [f"{side.p50:,}/{side.p95:,}/{side.max:,}", f"{side.cut:.1%}"]
        lost = f"{s.unknown_tokens:.2%}", f"{s.altered_inputs:.1%}/{s.altered_targets:.1%}"
        task = f"{s.task} (probe)" if s.probe else s.task
        rows.append(
            (
                task,
                s.split,
                f"{s.rows:,}",
                f"{s.variants}",
                *sides,
                *lost,
                f"{s.duplicates:,}",
                f"{s.distinct_targets:,}",
            )
        )
    lines = [_title(name, shard_set), "", columns(rows, right=range(2, len(rows[0])))]
    labelled = [s for s in found if s.labels]
    if labelled:
        lines += ["", columns([(s.task, s.split, _labels(s)) for s in labelled])]
    shares = ", ".join(f"{task} {share:.1%}" for task, share in shard_set.rates.items())
    return "\n".join([*lines, "", f"mixture: {shares}"])


def findings(name: str, shard_set: "ShardSet", found: "Sequence[Finding]") -> str:
    """Formats findings by kind, with examples."""
    from data_prep.quality.findings import MEANING

    lines = [_title(name, shard_set)]
    for kind, meaning in MEANING.items():
        mine = [f for f in found if f.kind == kind]
        if not mine:
            continue
        lines += ["", f"== {kind}: {meaning}"]
        for f in mine:
            within = f", in {f.within} too" if f.kind == "leak" else f", much of it in {f.within}" if f.within else ""
            note = f" ({f.note})" if f.note else ""
            lines += ["", f"{f.task} {f.split}: {f.rows:,} of {f.of:,} rows{within}{note}"]
            for example in f.examples:
                lines += [f"   {_found_row(example.row)}" + (f"  [{example.note}]" if example.note else "")]
                lines += [f"   = {_found_row(example.other)}"] if example.other is not None else []
    missing = [kind for kind in MEANING if not any(f.kind == kind for f in found)]
    return "\n".join([*lines, "", f"nothing found: {', '.join(missing)}" if missing else ""]).rstrip()


def comparison(found: "DataDiff") -> str:
    """Formats the differences between two sets of prepared data."""
    (first, a), (second, b) = found.first, found.second
    lines = [f"{first} (shard set {a[:12]}) -> {second} (shard set {b[:12]})"]
    if found.same:
        return "\n".join([*lines, "", "The data is the same."])
    lines += ["", *(f"setting {line}" for line in found.settings)] if found.settings else []
    heads = ("task", "", "share", "split", "rows", "added", "removed", "other answer", "mean tokens in/out")
    rows: list[tuple[str, ...]] = [heads]
    for task in found.tasks:
        share = " -> ".join("-" if one is None else f"{one:.1%}" for one in dict.fromkeys(task.share))
        for number, s in enumerate(task.splits or [None]):
            begin = (task.task, task.change, share) if number == 0 else ("", "", "")
            rows.append((*begin, *(("",) * 6 if s is None else _split_change(s))))
    lines += ["", columns(rows, right=(4, 5, 6, 7))]
    for task in found.tasks:
        lines += ["", *(f"{task.task}: {line}" for line in task.settings)] if task.settings else []
        cases = [(s.split, what, row) for s in task.splits for what, row in s.examples]
        lines += [f"   {what} {_found_row(row)}" for _, what, row in cases]
    return "\n".join(lines)


def verified(found: "VerifyReport") -> str:
    """Formats the result of a verification: what was read, and what is corrupt or missing."""
    read = f"{found.what}: {found.objects:,} objects, {size(found.bytes)}"
    if not found.corrupt:
        return f"{read}; all checksums match"
    lines = [*(f"corrupt: {one}" for one in found.corrupt), f"{read}; {len(found.corrupt):,} corrupt or missing"]
    if any("/shards/parts/" in one for one in found.corrupt):
        lines.append("  Delete the corrupt objects below shards/parts and prepare again, which recreates them.")
    return "\n".join(lines)


def _title(name: str, shard_set: "ShardSet") -> str:
    digest = shard_set.digest[:12]
    return name if name.endswith(digest) else f"{name}: shard set {digest}"


def _labels(summary: "SplitSummary") -> str:
    labels = list((summary.labels or {}).items())
    shown = ", ".join(f"{_short(name, 24)} {count / summary.rows:.1%}" for name, count in labels[:8])
    return shown + (f", and {len(labels) - 8} more" if len(labels) > 8 else "")


def _found_row(row: "DataRow") -> str:
    return f"{row.split} {row.id}: {_short(row.input, 110)} => {_short(row.target, 60)}"


def _split_change(s: "SplitChange") -> tuple[str, ...]:
    rows = " -> ".join(f"{n:,}" for n in dict.fromkeys(s.rows))
    means = " -> ".join(f"{a:.0f}/{b:.0f}" for a, b in dict.fromkeys(s.mean_tokens))
    return s.split, rows, f"{s.added:,}", f"{s.removed:,}", f"{s.other_target:,}", means


def _short(text: str, most: int) -> str:
    """Returns the text as one line of at most `most` characters, with white space escaped."""
    line = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _count(number: int | None) -> str:
    return "unknown" if number is None else f"{number:,}"


def _about(number: int | None, exact: bool) -> str:
    return "unknown" if number is None else f"{'' if exact else '~'}{number:,}"


def _span(least: int, most: int) -> str:
    return f"{least:,}" if least == most else f"{least:,}-{most:,}"


def _times(times: tuple[int, int] | None) -> str:
    return "unknown" if times is None else f"{_span(*times)}x"


def _variants(task: "TaskPlan") -> str:
    if task.times is None:
        return f"of {task.variants}"
    return f"{_span(*(min(times, task.variants) for times in task.times))} of {task.variants}"


def _indent(text: str) -> str:
    return "\n".join(f"   {line}" for line in text.split("\n"))
