"""The summary at the top of a report: a lead sentence, the main findings, and warnings."""

from collections.abc import Sequence

from raytrain.report.caveats import caveats
from raytrain.report.formatting import abbreviate, format_count, format_score, join_names
from raytrain.report.model import Summary, Task, Training
from raytrain.report.verdicts import probe_fate


def summarize(
    *,
    model: str,
    tasks: Sequence[Task],
    training: Training,
    leaks: Sequence[str],
    missing: Sequence[str],
    changed: Sequence[str] = (),
) -> Summary:
    """Writes the lead sentence, the findings below it, and the warnings.

    `leaks` are sentences about held-out rows that training saw, besides those of the tasks'
    `without_twins`; `changed` about tasks of which much was lost, changed or cut; `missing` about
    parts of the run that do not exist (yet).
    """
    trained = [t for t in tasks if not t.probe]
    probes = [t for t in tasks if t.probe]
    sentences = [
        _what(model, trained, training),
        _asked(tasks, leaks),
        *_gains(trained),
        *_probes(probes),
        _noise(tasks),
    ]
    return Summary(
        lead=_lead(trained, probes),
        sentences=[s for s in sentences if s],
        warnings=[*caveats(tasks, [*leaks, *changed]), *missing],
    )


def _with(tasks: Sequence[Task], *verdicts: str) -> list[Task]:
    return [t for t in tasks if t.verdict in verdicts]


def _of(part: int, whole: int, noun: str) -> str:
    if part == whole:
        return f"the {noun}" if whole == 1 else f"both {noun}s" if whole == 2 else f"all {whole} {noun}s"
    return f"{part} of {whole} {noun}s"


def _lead(trained: Sequence[Task], probes: Sequence[Task]) -> str:
    if not any(t.difference for t in [*trained, *probes]):
        return "This run has not been scored both before and after training yet."
    first = f"After fine-tuning, the model is {_counts(trained)}" if trained else "No task was trained"
    forgot = [t for t in probes if probe_fate(t) in ("partly", "mostly")]
    known = [t for t in probes if probe_fate(t) not in ("unknown", "nothing")]
    if not known:
        return first + "."
    if not forgot:
        return (
            f"{first}; no loss can be shown on {_of(len(known), len(known), 'other skill')} that {_were(known)} tested."
        )
    bad = [t for t in forgot if probe_fate(t) == "mostly"]
    how = "mostly forgot" if len(bad) == len(forgot) else "partly forgot" if not bad else "forgot part or most of"
    return f"{first}; it {how} {_of(len(forgot), len(known), 'other skill')} that {_were(known)} tested."


def _counts(trained: Sequence[Task]) -> str:
    """Counts verdicts: `better at 1 of 4 trained tasks, above the trivial baseline at 2 of 4`."""
    of = f"of {len(trained)}"
    parts = [f"better at {len(_with(trained, 'better'))} {of} trained task{'s' if len(trained) > 1 else ''}"]
    with_baseline = [t for t in trained if t.best_baseline is not None and t.baseline_verdict != "unknown"]
    if with_baseline:
        above = sum(t.baseline_verdict == "above" for t in with_baseline)
        parts.append(f"above the trivial baseline at {above} of {len(with_baseline)}")
    if worse := _with(trained, "worse"):
        parts.append(f"worse at {len(worse)} {of}")
    if few := _with(trained, "few"):
        parts.append(f"with too few rows to tell at {len(few)} {of}")
    return ", ".join(parts)


def _were(tasks: Sequence[Task]) -> str:
    return "was" if len(tasks) == 1 else "were"


def _what(model: str, trained: Sequence[Task], training: Training) -> str:
    how = f"The model {model} was trained"
    if training.steps:
        how += f" for {format_count(training.steps, 'step')}"
        tokens = training.source_tokens + training.target_tokens
        if tokens:
            how += f" on {abbreviate(tokens)} tokens of text"
    names = join_names([t.name for t in trained])
    mixed = f"a mixture of {len(trained)} tasks ({names})" if len(trained) > 1 else f"one task ({names})"
    return f"{how}: {mixed}."


def _asked(tasks: Sequence[Task], leaks: Sequence[str]) -> str:
    if not any(t.difference for t in tasks):
        return ""
    apart = "none of them is among the training rows"
    if leaks or any(t.without_twins for t in tasks):
        apart = f"except for those listed below, {apart}"
    return f"It answered the same test rows before and after; {apart}."


def _gains(trained: Sequence[Task]) -> list[str]:
    better = sorted(_with(trained, "better"), key=lambda t: -(t.difference.gain if t.difference else 0))
    out = []
    if better:
        rises = [f"{t.name} from {_from_to(t)}" for t in better[:6]]
        out.append(f"Improved: {join_names(rises)}." + (f" ({len(better) - 6} more below.)" if len(better) > 6 else ""))
    if unbeaten := _with(trained, "not-above-baseline"):
        rises = [f"{t.name} from {_from_to(t)}" for t in unbeaten]
        out.append(f"Higher than before, but not above an answer without a model: {join_names(rises)}.")
    if worse := _with(trained, "worse"):
        out.append(f"Worse although trained on: {join_names([f'{t.name} from {_from_to(t)}' for t in worse])}.")
    return out


def _from_to(task: Task) -> str:
    h = task.primary_metric
    before, after = (format_score(x.value if x else None, h.scale) for x in (h.before, h.after))
    return f"{before} to {after} ({h.label})"


def _probes(probes: Sequence[Task]) -> list[str]:
    if not probes:
        return ["No other skill was tested. Add a task with `probe: true` to see what training makes the model forget."]
    out = []
    for fate, words in (
        ("mostly", "Mostly forgotten"),
        ("partly", "Partly forgotten"),
        ("kept", "No loss can be shown"),
        ("improved", "Improved without training"),
        ("nothing", "Score of zero before, so nothing to forget"),
    ):
        those = [t for t in probes if probe_fate(t) == fate]
        if those:
            out.append(f"{words}: {join_names([f'{t.name}, {_from_to(t)}' for t in those], most=4)}.")
    return out


def _noise(tasks: Sequence[Task]) -> str:
    tested = [t for t in tasks if t.difference is not None and t.difference.verdict not in ("unknown", "few")]
    noise = [t for t in tested if t.difference and t.difference.verdict == "noise"]
    if not tested:
        return ""
    chance = "more than chance, also after correcting for the number of tasks (Holm)"
    if not noise:
        return f"Every difference from before is {chance}."
    if len(noise) == len(tested):
        return "All differences are within the noise. Score more rows (evaluation.examplesPerTask) to see smaller ones."
    names = join_names([t.name for t in noise])
    return f"Within the noise, so no change is shown: {names}. The other differences are {chance}."
