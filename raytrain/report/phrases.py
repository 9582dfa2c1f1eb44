"""The report's plain words: names of metrics and baselines, verdicts, and the summary that stands first."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from raytrain.report.model import Difference, Forgetting, Metric, Summary, Task, Training


class MetricWords(NamedTuple):
    """How a metric is called, and what it measures in one clause."""

    label: str
    meaning: str


METRIC_WORDS: dict[str, MetricWords] = {
    "rouge1": MetricWords("ROUGE-1", "overlap with the reference in single words"),
    "rouge2": MetricWords("ROUGE-2", "overlap with the reference in pairs of words"),
    "rougeL": MetricWords("ROUGE-L", "overlap with the reference in words that come in the same order"),
    "rougeLsum": MetricWords("ROUGE-Lsum", "ROUGE-L taken sentence by sentence"),
    "accuracy": MetricWords("accuracy", "share of answers that are right"),
    "within_one": MetricWords("within one", "share of ratings at most one step off"),
    "mae": MetricWords("mean error", "how many steps a rating is off on average; lower is better"),
    "f1": MetricWords("F1", "entities found with the right text and type: precision and recall in one figure"),
    "precision": MetricWords("precision", "share of what was found that is right"),
    "recall": MetricWords("recall", "share of what was to be found that was found"),
    "unparsable": MetricWords("unparsable", "share of answers that are not in the wished form; lower is better"),
    "chrf": MetricWords("chrF", "overlap with the reference in short runs of characters"),
    "bleu": MetricWords("BLEU", "overlap with the reference in runs of one to four words"),
    "exact_code": MetricWords("exact code", "share of translations equal to the reference, spacing aside"),
    "macro_f1": MetricWords(
        "macro F1", "F1 of every label, averaged so that rare labels count as much as frequent ones"
    ),
    "spearman": MetricWords("rank correlation", "do answers rise where the labels rise: Spearman's rho"),
    "no_label": MetricWords("no label", "share of answers that are no label at all; lower is better"),
    "parses": MetricWords("parses", "share of answers that are code without a syntax error"),
    "perplexity": MetricWords("perplexity", "how surprised the model is by the right answer; lower is better"),
    "choice_accuracy": MetricWords("right choice", "share of questions whose right choice is the likeliest one"),
    "exact@squad": MetricWords("exact (SQuAD)", "share of answers equal to the reference, as SQuAD counts"),
    "f1@squad": MetricWords("word F1 (SQuAD)", "overlap with the reference in words, whatever their order"),
    "bleu@t5": MetricWords("BLEU (T5)", "BLEU as T5's papers report it"),
    "exact_match": MetricWords("exact match", "share of answers equal to the reference"),
}
TYPE_LABELS = {
    "summarization": "summarization",
    "rating": "rating",
    "sentiment": "sentiment",
    "ner": "named entities",
    "translation": "translation",
    "code-translation": "code translation",
    "multiple-choice": "multiple choice",
    "question-answering": "question answering",
    "text": "free text",
}
WAYS = {"t5": "T5's way", "hf": "Hugging Face's way"}
BASELINE_LABELS = {
    "most-frequent": "always the most frequent answer",
    "copy": "copying the input",
    "lead-3": "the first three sentences",
    "longest-sentence": "the longest sentence",
    "references": "one reference against the others",
}
MOSTLY = 0.5  # a probe that lost at least this share of its score counts as mostly forgotten


def metric_label(name: str) -> str:
    """A metric's name as people write it."""
    plain, _, way = name.partition("@")
    if name not in METRIC_WORDS and plain in METRIC_WORDS and way in WAYS:
        return f"{METRIC_WORDS[plain].label} ({WAYS[way]})"
    key = name if name in METRIC_WORDS else name.replace("-", "_")
    return METRIC_WORDS[key].label if key in METRIC_WORDS else name.replace("_", " ").replace("-", " ")


def metric_meaning(name: str) -> str:
    """What a metric measures, in one clause; empty if it is not known here."""
    if name not in METRIC_WORDS and name.partition("@")[2] in WAYS:
        return metric_meaning(name.partition("@")[0])
    key = name if name in METRIC_WORDS else name.replace("-", "_")
    return METRIC_WORDS[key].meaning if key in METRIC_WORDS else ""


def baseline_label(name: str) -> str:
    """What a baseline answers."""
    return BASELINE_LABELS.get(name, name.replace("-", " ").replace("_", " "))


def type_label(name: str) -> str:
    """A task type as people write it."""
    return TYPE_LABELS.get(name, name.replace("-", " "))


def number(value: float | None, scale: Literal["percent", "raw"] = "percent", *, sign: bool = False) -> str:
    """A score for people: fractions as 0 to 100 with one decimal, raw measures with two; a true minus sign."""
    if value is None:
        return "–"
    shown = value * 100 if scale == "percent" else value
    digits = 1 if scale == "percent" else 2
    text = f"{abs(shown):.{digits}f}"
    if float(text) == 0:
        return ("±" if sign else "") + text
    return ("−" if shown < 0 else "+" if sign else "") + text


def interval(low: float | None, high: float | None, scale: Literal["percent", "raw"], *, sign: bool = False) -> str:
    """An interval as `[a, b]`; empty if it is not known."""
    return "" if low is None or high is None else f"[{number(low, scale, sign=sign)}, {number(high, scale, sign=sign)}]"


def count(value: int, noun: str, plural: str | None = None) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{value:,} {noun if value == 1 else plural or noun + 's'}"


def compact(value: float) -> str:
    """A large count in short: 950, 12.3 k, 4.56 M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1e3 if unit == 'k' else size):.3g} {unit}"
    return f"{value:,.0f}"


def duration(seconds: float) -> str:
    """`48 s`, `5 min 3 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")
    return f"{whole // 3600} h" + (f" {whole % 3600 // 60} min" if whole % 3600 // 60 else "")


def listing(names: Sequence[str], most: int = 8) -> str:
    """`a, b and c`; long lists end in `and 12 more`."""
    shown = list(names)
    if len(shown) > most:
        shown = [*shown[: most - 1], f"{len(shown) - most + 1} more"]
    return shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + f" and {shown[-1]}" if shown else ""


def probe_fate(task: Task) -> Literal["kept", "improved", "partly", "mostly", "nothing", "unknown"]:
    """What became of a skill that was not trained: in one word."""
    d = task.difference
    if d is None or d.verdict == "unknown":
        return "unknown"
    if d.verdict == "noise":
        return "nothing" if _nothing_to_lose(task.primary_metric) else "kept"
    if d.verdict == "better":
        return "improved"
    return "mostly" if _lost_share(task.primary_metric, d) >= MOSTLY else "partly"


def _nothing_to_lose(primary_metric: Metric) -> bool:
    return primary_metric.before is not None and primary_metric.better == "higher" and primary_metric.before.value <= 0


def _lost_share(primary_metric: Metric, difference: Difference) -> float:
    """Which part of the score before is gone; 0 where that cannot be said (error measures, nothing to lose)."""
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
VERDICT_LABELS = {"better": "better", "worse": "worse", "noise": "within noise", "unknown": "not known"}


def verdict_label(task: Task) -> str:
    """The verdict on a task in a word or two."""
    if task.probe:
        return FATE_LABELS[probe_fate(task)]
    return VERDICT_LABELS[task.difference.verdict if task.difference else "unknown"]


def task_sentence(primary_metric: Metric, difference: Difference | None, *, probe: bool) -> str:
    """What happened to a task, in one or two sentences."""
    scale, label = primary_metric.scale, primary_metric.label
    before = number(primary_metric.before.value if primary_metric.before else None, scale)
    after = number(primary_metric.after.value if primary_metric.after else None, scale)
    if difference is None:
        if primary_metric.before and not primary_metric.after:
            return f"Before training: {label} {before}. Not scored after training yet."
        if primary_metric.after:
            return f"After training: {label} {after}. There is no score before training to compare with."
        return "Not scored yet."
    span = interval(difference.low, difference.high, scale, sign=True)
    by = f"{number(difference.value, scale, sign=True)}" + (f", 95\u00a0% interval {span}" if span else "")
    moved = f"{label[:1].upper()}{label[1:]} went from {before} to {after} ({by})"
    if difference.verdict == "noise":
        return _noise_sentence(moved, primary_metric, difference, probe=probe)
    if difference.verdict == "unknown":
        return f"{moved}. Whether that is more than chance is not known."
    lost = _lost_share(primary_metric, difference)
    gone = f": {100 * lost:.0f}\u00a0% of the score is gone" if probe and lost > 0 else ""
    return f"{moved}{gone}. This is more than chance."


def _noise_sentence(moved: str, primary_metric: Metric, difference: Difference, *, probe: bool) -> str:
    if not probe or difference.low is None or difference.high is None:
        return f"{moved}. The interval holds zero: with so few rows this could be chance."
    if _nothing_to_lose(primary_metric):
        return f"{moved}. The model could not do this before, so there was nothing to forget."
    most = max(0.0, -difference.low if primary_metric.better == "higher" else difference.high)
    if most == 0 and primary_metric.scale == "percent" and difference.rows:
        most = min(1.0, 3 / difference.rows)  # the rule of three: nothing seen in n rows, up to 3/n possible
    limit = number(most, primary_metric.scale)
    return f"No loss can be shown. {moved}. If anything was lost, it is hardly more than {limit}."


def forgetting_sentence(forgetting: Forgetting, primary_metric: Metric) -> str:
    """The second way to look at forgetting: along the checkpoints."""
    if forgetting.best_minus_now is None:
        return ""
    if forgetting.best_minus_now <= 0:
        return "Along the checkpoints the last score is also the best (validation rows)."
    lost = number(forgetting.best_minus_now, primary_metric.scale)
    return f"Along the checkpoints the last score is {lost} below the best one (validation rows)."


def summary(
    *, model: str, tasks: Sequence[Task], training: Training, leaks: Sequence[str], missing: Sequence[str]
) -> Summary:
    """The lead sentence, the sentences below it, and what a reader must not overlook.

    `leaks` name held-out rows that training saw, `missing` what the run has not left; one sentence
    each.
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
    warnings = [
        f"{t.name}: the score after training is below its baseline, {baseline_label(t.below_baseline)}."
        for t in tasks
        if t.below_baseline and not t.probe
    ]
    warnings += [
        f"{t.name}: the same answer to {100 * t.lengths['same_answer']:.0f} % of the rows, where no reference stands "
        f"for more than {100 * t.lengths['same_reference']:.0f} %: its score may be that of one sentence."
        for t in tasks
        if t.one_answer
    ]
    warnings += [
        f"{t.name}: only {t.scored:,} of {count(t.rows, 'row')} were scored." for t in tasks if t.scored < t.rows
    ]
    warnings += [
        f"{t.name}: {m.label} could not be taken of {count(t.rows - (m.rows or 0), 'row')}: {m.error}"
        for t in tasks
        for m in t.metrics
        if m.error
    ]
    return Summary(
        lead=_lead(trained, probes), sentences=[s for s in sentences if s], warnings=[*warnings, *leaks, *missing]
    )


def _with(tasks: Sequence[Task], verdict: str) -> list[Task]:
    return [t for t in tasks if t.difference is not None and t.difference.verdict == verdict]


def _of(part: int, whole: int, noun: str) -> str:
    if part == whole:
        return f"the {noun}" if whole == 1 else f"both {noun}s" if whole == 2 else f"all {whole} {noun}s"
    return f"{part} of {whole} {noun}s"


def _lead(trained: Sequence[Task], probes: Sequence[Task]) -> str:
    better, worse = _with(trained, "better"), _with(trained, "worse")
    if not any(t.difference for t in tasks_of(trained, probes)):
        return "This run has not been scored before and after yet."
    parts = []
    if better:
        parts.append(f"better at {_of(len(better), len(trained), 'trained task')}")
    if worse:
        parts.append(f"worse at {_of(len(worse), len(trained), 'trained task')}")
    first = (
        "After fine-tuning the model is " + " and ".join(parts)
        if parts
        else ("After fine-tuning no trained task differs from before by more than chance")
    )
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


def _were(tasks: Sequence[Task]) -> str:
    return "was" if len(tasks) == 1 else "were"


def tasks_of(*groups: Sequence[Task]) -> list[Task]:
    """Several groups of tasks as one list."""
    return [t for group in groups for t in group]


def _what(model: str, trained: Sequence[Task], training: Training) -> str:
    how = f"The model {model} was trained"
    if training.steps:
        how += f" for {count(training.steps, 'step')}"
        tokens = training.source_tokens + training.target_tokens
        if tokens:
            how += f" on {compact(tokens)} tokens of text"
    names = listing([t.name for t in trained])
    mixed = f"a mixture of {len(trained)} tasks ({names})" if len(trained) > 1 else f"one task ({names})"
    return f"{how}: {mixed}."


def _asked(tasks: Sequence[Task], leaks: Sequence[str]) -> str:
    if not any(t.difference for t in tasks):
        return ""
    apart = "none of them is among the training rows"
    if leaks:
        apart = f"apart from those named below, {apart}"
    return f"It answered the same test rows before and after; {apart}."


def _gains(trained: Sequence[Task]) -> list[str]:
    better = sorted(_with(trained, "better"), key=lambda t: -(t.difference.gain if t.difference else 0))
    out = []
    if better:
        rises = [f"{t.name} from {_from_to(t)}" for t in better[:6]]
        verb = "One task got better" if len(better) == 1 else "These got better"
        out.append(f"{verb}: {listing(rises)}." + (f" ({len(better) - 6} more below.)" if len(better) > 6 else ""))
    if worse := _with(trained, "worse"):
        out.append(f"Got worse although trained on: {listing([f'{t.name} from {_from_to(t)}' for t in worse])}.")
    return out


def _from_to(task: Task) -> str:
    h = task.primary_metric
    before, after = (number(x.value if x else None, h.scale) for x in (h.before, h.after))
    return f"{before} to {after} ({h.label})"


def _probes(probes: Sequence[Task]) -> list[str]:
    if not probes:
        return ["No other skill was tested: add a task with `probe: true` to see what training makes the model forget."]
    out = []
    for fate, words in (
        ("mostly", "Mostly forgotten"),
        ("partly", "Partly forgotten"),
        ("kept", "Kept, as far as can be shown"),
        ("improved", "Improved without being trained on"),
        ("nothing", "Not there before, so nothing could be forgotten"),
    ):
        those = [t for t in probes if probe_fate(t) == fate]
        if those:
            out.append(f"{words}: {listing([f'{t.name}, {_from_to(t)}' for t in those], most=4)}.")
    return out


def _noise(tasks: Sequence[Task]) -> str:
    noise = _with(tasks, "noise")
    known = [t for t in tasks if t.difference is not None and t.difference.verdict != "unknown"]
    if not known:
        return ""
    if not noise:
        return "Every difference here is larger than chance would make it (its 95\u00a0% interval leaves zero out)."
    return (
        f"Within the noise, so not to be called a change: {listing([t.name for t in noise])}. "
        "The other differences are larger than chance would make them."
        if len(noise) < len(known)
        else "All differences are within the noise: score more rows (evaluation.examplesPerTask) to see smaller ones."
    )
