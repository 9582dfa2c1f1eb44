"""Writes the data card of a shard set as Markdown, from its manifests and the job's sources."""

from collections.abc import Mapping, Sequence
from typing import Any

from data_prep.config import Mixture, MixtureStrategy, Task
from data_prep.quality.findings import MEANING, Finding
from data_prep.shards.manifest import PreparedTask, ShardSet
from data_prep.tally import Tally

_SETTINGS = {
    "where": "only rows where `{}`",
    "transform": "rows changed by the function `{}`",
    "limit": "at most {:,} rows of each split, chosen by a keyed hash",
    "target_format": "targets are written as `{}`",
}
"""Settings of a task that changed or selected its rows, as text."""


def card(
    shard_set: ShardSet, *, title: str, tasks: Mapping[str, Task], findings: Sequence[Finding] | None = None
) -> str:
    """Returns the card.

    `tasks` (of the job, by name) add source and licence; `findings` those of `find`, if all rows
    were checked.
    """
    blocks = [
        f"# Data of {title}",
        f"Shard set `{shard_set.digest}`: {_count(len(shard_set.tasks), 'task')}, "
        f"{sum(split.examples for task in shard_set.tasks for split in task.splits.values()):,} rows.",
        _overview(shard_set, tasks),
        "## How it was prepared",
        _preparation(shard_set),
        "## What was checked",
        _checks(shard_set, findings),
    ]
    for task in shard_set.tasks:
        blocks += [f"## {task.name}", *_task(task, tasks.get(task.name))]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _overview(shard_set: ShardSet, tasks: Mapping[str, Task]) -> str:
    rows: list[tuple[str, ...]] = [("task", "type", "train", "validation", "test", "share", "licence")]
    for task in shard_set.tasks:
        counts = [f"{task.splits[s].examples:,}" if s in task.splits else "-" for s in ("train", "validation", "test")]
        share = "probe" if task.probe else f"{shard_set.rates[task.name]:.1%}"
        rows.append((task.name, task.type, *counts, share, _licence(tasks.get(task.name))))
    return _table(rows)


def _licence(task: Task | None) -> str:
    return "not stated" if task is None or task.source.licence is None else _cell(task.source.licence)


def _preparation(shard_set: ShardSet) -> str:
    limits, tokenizer = shard_set.limits, shard_set.tokenizer
    lines = [
        f"- Tokenizer with {tokenizer.size:,} tokens, digest `{tokenizer.digest[:16]}`.",
        f"- Prompts are truncated to {limits['max_input_tokens']:,} tokens, "
        f"targets to {limits['max_target_tokens']:,}.",
        f"- Mixture: {_mixture(Mixture.model_validate(shard_set.mixture))}.",
    ]
    return "\n".join(lines)


def _mixture(mixture: Mixture) -> str:
    parts = [f"group {group.name} at rate {group.rate:g} ({_how(group)})" for group in mixture.groups or []]
    parts = parts or [_how(mixture)]
    if mixture.replay is not None:
        again = ", ".join(mixture.replay.tasks)
        parts.append(f"{mixture.replay.share:.0%} replayed from {again} ({_how(mixture.replay)})")
    return "; ".join([*parts, f"seed {mixture.seed}"])


def _how(shares: MixtureStrategy) -> str:
    words: list[str] = [shares.strategy]
    words += [f"temperature {shares.temperature:g}"] if shares.strategy == "temperature" else []
    words += [f"counting at most {shares.cap:,} examples of a task"] if shares.cap is not None else []
    return ", ".join(words)


def _checks(shard_set: ShardSet, findings: Sequence[Finding] | None) -> str:
    lines = [
        "Preparation compares the inputs of all rows for equality: within a split, between splits and across tasks.",
        "",
        *_list(_exact(shard_set)),
    ]
    if findings is not None:
        lines += ["", "All rows were checked for:", ""]
        lines += [f"- {meaning}: {_found(kind, findings)}" for kind, meaning in MEANING.items()]
    return "\n".join(lines)


def _exact(shard_set: ShardSet) -> list[str]:
    found = [
        f"{task.name}: {what.replace(' in ', ' rows also in ')}: {rows:,}"
        for task in shard_set.tasks
        for what, rows in task.leakage.items()
        if rows
    ]
    found += [
        f"{one['task']}: {one['split']} rows also in the training data of {one['trained_in']}: "
        f"{one['rows']:,} of {one['of']:,}"
        for one in shard_set.leakage
    ]
    return found or ["no held-out row is in the training data"]


def _found(kind: str, findings: Sequence[Finding]) -> str:
    mine = [f for f in findings if f.kind == kind]
    return "; ".join(f"{f.rows:,} of {f.of:,} in {f.task} {f.split}" + _within(f) for f in mine) or "none"


def _within(finding: Finding) -> str:
    return f" (with {finding.within})" if finding.within else ""


def _task(task: PreparedTask, job_task: Task | None) -> list[str]:
    identity: Mapping[str, Any] = task.provenance["identity"]["task"]
    return [
        _sources(task, job_task),
        "\n".join(_list(_filters(task, identity))),
        _splits(task),
        "Templates of the instruction:",
        _variants(task, identity),
    ]


def _sources(task: PreparedTask, job_task: Task | None) -> str:
    lines = []
    if job_task is not None:
        uris = [job_task.source.uri] if job_task.source.uri else list((job_task.source.splits or {}).values())
        lines.append(f"Source: {', '.join(f'`{uri}`' for uri in uris)}. Licence: {_licence(job_task)}.")
    files = [("file", "split", "sha256")]
    files += [(f"`{f['name']}`", f["split"] or "-", f"`{f['sha256'][:16]}`") for f in task.provenance["sources"]]
    return "\n\n".join([*lines, _table(files)])


def _filters(task: PreparedTask, identity: Mapping[str, Any]) -> list[str]:
    """How rows were chosen and changed, and how many were left out."""
    found = [f"splits: {task.provenance['split_rule']}", f"columns: {_columns(identity['columns'])}"]
    found += [text.format(identity[name]) for name, text in _SETTINGS.items() if identity.get(name)]
    if labels := identity.get("labels"):
        found.append(f"labels: {', '.join(map(str, labels))}")
    if shots := identity.get("few_shot"):
        found.append(f"{shots['share']:.0%} of the training prompts show up to {shots['examples']} other training rows")
    if identity.get("mask"):
        found.append("personal data replaced by placeholders")
    tally = Tally.from_json(task.tally)
    return [*found, f"{_count(tally.rows['read'], 'row')} read", *(_cell(line) for line in tally.lines())]


def _columns(columns: Mapping[str, Any]) -> str:
    unused = ("input", "target") if columns.get("tokens") else ()  # tokens and tags replace these
    used = {name: column for name, column in columns.items() if column and name not in unused}
    return ", ".join(
        f"{name} from {' and '.join(f'`{one}`' for one in (column if isinstance(column, list) else [column]))}"
        for name, column in used.items()
    )


def _splits(task: PreparedTask) -> str:
    rows = [
        ("split", "rows", "variants", "prompt p50/p95/max", "cut", "target p50/p95/max", "cut", "unknown", "repeated")
    ]
    for name, split in task.splits.items():
        s = split.statistics
        sides = [
            "/".join(f"{s[side][q]:,}" for q in ("p50", "p95", "max")) for side in ("source_tokens", "target_tokens")
        ]
        cuts = f"{s['truncated_sources']:.1%}", f"{s['truncated_targets']:.1%}"
        last = f"{s['unknown_tokens']:.2%}", f"{s['duplicates']:,}"
        rows.append((name, f"{split.examples:,}", str(split.variants), sides[0], cuts[0], sides[1], cuts[1], *last))
    return _table(rows)


def _variants(task: PreparedTask, identity: Mapping[str, Any]) -> str:
    used: dict[str, int] = {}
    for split in task.splits.values():
        for number, rows in split.statistics["templates"].items():
            used[number] = used.get(number, 0) + rows
    return "\n".join(
        f"{number + 1}. ({used.get(str(number), 0):,} rows)\n\n"
        + "\n".join(f"        {line}" for line in str(template).split("\n"))
        for number, template in enumerate(identity["templates"])
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def _list(lines: Sequence[str]) -> list[str]:
    return [f"- {line}" for line in lines]


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([head, f"|{' --- |' * len(rows[0])}", *body])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
