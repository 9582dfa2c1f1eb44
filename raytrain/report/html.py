"""Renders reports as self-contained HTML pages.

Jinja2 escapes all text of models, rows and jobs. The content security policy allows only the page's
own style and script, by their hashes: no network, no inline handlers, no style attributes.
"""

import base64
import hashlib
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from raytrain.report import charts, readings
from raytrain.report.formatting import abbreviate, format_count, format_interval, format_score, join_names
from raytrain.report.metric_names import metric_label, metric_meaning
from raytrain.report.model import CurvePoint, Interval, Preference, ReportData, Sample, Task, TemplateScore
from raytrain.report.preference import preference_sentence
from raytrain.report.published import PUBLISHED_NOTE
from raytrain.report.verdicts import flags, forgetting_sentence, verdict_label
from raytrain.report.words import Change, Span, changes, closest_agreement
from raytrain.telemetry.progress import FINAL
from raytrain_core.text import duration

_LEAST_SHARED = 0.3  # of the shorter answer, for a change to be shown word by word


def render_html(data: ReportData, *, every: float | None = None) -> str:
    """Renders the report page.

    With `every`, the page of a run that goes on looks for news of itself where it was loaded from,
    so often in seconds.
    """
    live = every if unfinished(data) and data.phase not in FINAL else None
    return render_page(
        "report.html.j2",
        # live.js comes first: it remembers the page as it was loaded
        scripts=(*(("live.js",) if live else ()), "theme.js", "print.js", "samples.js"),
        connect="'none'" if live is None else "'self'",
        live=live,
        data=data,
        published_note=PUBLISHED_NOTE,
        loss_axis=charts.loss_axis([t.loss for t in data.tasks]),
        last_step=max([data.training.steps, *data.steps]),
    )


def render_page(template: str, *, scripts: Sequence[str], connect: str = "'none'", **values: Any) -> str:
    """Renders a template with its style, its scripts and a content security policy.

    The policy names the hashes of style and scripts. `connect` is the policy's connect-src: where
    the page's scripts may send requests.
    """
    style, code = _asset("style.css"), "".join(_asset(name) for name in scripts)
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(code)}'; img-src data:; "
        f"connect-src {connect}; base-uri 'none'; form-action 'none'"
    )
    return (
        _environment().get_template(template).render(policy=policy, style=Markup(style), script=Markup(code), **values)
    )


def _asset(name: str) -> str:
    return (files("raytrain.report") / "templates" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("raytrain.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": format_score,
        "interval": format_interval,
        "compact": abbreviate,
        "duration": duration,
        "when": when,
        "listing": join_names,
        "percentage": percentage,
        "baselines": baselines,
        "people": people,
        "has_people": has_people,
        "flags": flags,
        "template_slices": template_slices,
        "by_step": by_step,
        "spread": spread,
        "point": point,
        "sample_templates": sample_templates,
        "storage": storage,
        "model_folder": model_folder,
    }
    environment.globals |= {
        "charts": charts,
        "count": format_count,
        "metric_label": metric_label,
        "metric_meaning": metric_meaning,
        "forgetting_sentence": forgetting_sentence,
        "verdict": verdict_label,
        "tone": tone,
        "agreed": agreed,
        "changed": changed,
        "unfinished": unfinished,
        "preferences": preferences,
        "readings": readings,
        "preference_sentence": preference_sentence,
        "heat": heat,
    }
    return environment


def when(text: str | None) -> str:
    """Formats an ISO time as `2026-01-05 09:00 UTC`; other text is shown unchanged."""
    if not text:
        return "–"
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return text


def percentage(value: float | None) -> str:
    """Formats a fraction as a percentage."""
    return "–" if value is None else f"{100 * value:.1f} %"


def tone(task: Task) -> str:
    """Returns the CSS class of a task's verdict: better, worse, noise or unknown."""
    return {"not-above-baseline": "noise", "few": "unknown"}.get(task.verdict, task.verdict)


def agreed(task: Task, sample: Sample, answer: str | None) -> list[Span]:
    """Splits an answer into spans that agree with the closest reference, and spans that do not."""
    return [] if answer is None else closest_agreement(answer, sample.references, task_type=task.type)


def heat(task: Task, value: float, *, validation: bool) -> str:
    """Returns the CSS class of a heat-map cell, relative to the base model on the same split."""
    first = next((p.value for p in task.validation if p.step == 0), None) if validation else None
    if first is None and task.primary_metric.before:
        first = task.primary_metric.before.value
    if first is None:
        return ""
    return charts.heat_class(value, first, task.primary_metric.better, task.primary_metric.scale)


def changed(sample: Sample) -> list[Change]:
    """Returns the change from the answer before to the answer after, or nothing to show.

    Answers that share little are better read one below the other.
    """
    if not sample.before or not sample.after or sample.before == sample.after:
        return []
    pieces = changes(sample.before, sample.after)
    shared = sum(len(piece.text) for piece in pieces if piece.kind == "same")
    return pieces if shared >= _LEAST_SHARED * min(len(sample.before), len(sample.after)) else []


def unfinished(data: ReportData) -> bool:
    """Whether the run is still in progress, or has ended before its report."""
    return bool(data.phase) and data.phase not in ("Complete", "Reporting")


def preferences(data: ReportData, task: str | None) -> list[Preference]:
    """Returns what people chose on a task (None: on all), one entry for each review."""
    return [found for review in data.reviews for found in review.preferences if found.task == task]


def baselines(task: Task) -> list[tuple[str, float]]:
    """Returns each trivial baseline as (description with score, value)."""
    scale = task.primary_metric.scale
    return [(f"{b.label}: {format_score(b.value, scale)}", b.value) for b in task.baselines]


def people(task: Task) -> list[tuple[str, float]]:
    """Returns the agreement between references as (description with score, value)."""
    return [] if task.agreement is None else [(task.agreement.sentence, task.agreement.value)]


def has_people(tasks: Sequence[Task]) -> bool:
    """Whether any task has references that can be scored against each other."""
    return any(people(task) for task in tasks)


def template_slices(task: Task) -> list[dict[str, Any]]:
    """Returns the scores by template with the names of a slice's fields."""
    return [
        {"name": w.text or f"template {w.template + 1}", "rows": w.rows, "before": w.before, "after": w.after}
        for w in task.templates
    ]


def by_step(points: Sequence[CurvePoint]) -> dict[int, CurvePoint]:
    """Maps checkpoints by step."""
    return {p.step: p for p in points}


def spread(templates: Sequence[TemplateScore]) -> float | None:
    """Returns best minus worst template after training; None with fewer than two."""
    values = [w.after for w in templates if w.after is not None]
    return max(values) - min(values) if len(values) > 1 else None


def point(value: float | None) -> Interval | None:
    """Wraps a value as an interval without bounds."""
    return None if value is None else Interval(value=value)


def sample_templates(tasks: Sequence[Task]) -> list[int]:
    """Returns the numbers of all templates that occur in samples."""
    return sorted({sample.template for task in tasks for sample in task.samples})


def storage(data: ReportData) -> str:
    """Returns the run's storage as the command line takes it."""
    return data.uri.removesuffix(f"/runs/{data.run}").removeprefix("file://")


def model_folder(data: ReportData) -> str:
    """Returns the folder of the exported model."""
    return f"{data.uri.removeprefix('file://')}/model"
