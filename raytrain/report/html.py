"""ReportData as one self-contained HTML page.

Whatever a model, a row or a job says is escaped by jinja2; the page's content security policy
allows its own style and script by their hashes and nothing else: no network, no inline handlers, no
style attributes.
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

from raytrain.report import charts
from raytrain.report import phrases as words
from raytrain.report.model import CurvePoint, Interval, ReportData, Sample, Task, TemplateScore
from raytrain.report.safe_text import Piece, agreement

_EXACT = {"code-translation"}  # where upper and lower case differ in meaning


def render_html(data: ReportData) -> str:
    """The report page."""
    return render_page(
        "report.html.j2",
        scripts=("theme.js", "samples.js"),
        data=data,
        loss_axis=charts.loss_axis([t.loss for t in data.tasks]),
        last_step=max([data.training.steps, *data.steps]),
    )


def render_page(template: str, *, scripts: Sequence[str], connect: str = "'none'", **values: Any) -> str:
    """A template rendered with the style and script that its security policy names by their hashes.

    `connect` is whom its script may ask over the network.
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
        "number": words.number,
        "interval": words.interval,
        "compact": words.compact,
        "duration": words.duration,
        "when": when,
        "listing": words.listing,
        "percentage": percentage,
        "baselines": baselines,
        "by_step": by_step,
        "spread": spread,
        "point": point,
        "sample_templates": sample_templates,
        "storage": storage,
        "model_folder": model_folder,
    }
    environment.globals |= {
        "charts": charts,
        "words": words,
        "verdict": words.verdict_label,
        "tone": tone,
        "agreed": agreed,
        "heat": heat,
    }
    return environment


def when(text: str | None) -> str:
    """`2026-01-05 09:00 UTC` of an ISO time; what is none is shown as it is."""
    if not text:
        return "–"
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return text


def percentage(value: float | None) -> str:
    """A share as a percentage."""
    return "–" if value is None else f"{100 * value:.1f} %"


def tone(task: Task) -> str:
    """The class of a verdict: better, worse, noise or unknown."""
    return task.difference.verdict if task.difference else "unknown"


def agreed(task: Task, sample: Sample, answer: str | None) -> list[Piece]:
    """An answer in pieces that agree with the reference it is nearest to, and pieces that do not."""
    if answer is None:
        return []
    exact = task.type in _EXACT
    found = [agreement(answer, reference, exact=exact) for reference in sample.references or [""]]
    return max(found, key=lambda pieces: sum(len(p.text) for p in pieces if p.agrees))


def heat(task: Task, value: float, *, validation: bool) -> str:
    """The class of a cell in the table of tasks and checkpoints: against the base model on the same rows."""
    first = next((p.value for p in task.validation if p.step == 0), None) if validation else None
    if first is None and task.primary_metric.before:
        first = task.primary_metric.before.value
    if first is None:
        return ""
    return charts.heat_class(value, first, task.primary_metric.better, task.primary_metric.scale)


def baselines(task: Task) -> list[tuple[str, float]]:
    """Baselines as (what they answer and score, value)."""
    return [(f"{b.label}: {words.number(b.value, task.primary_metric.scale)}", b.value) for b in task.baselines]


def by_step(points: Sequence[CurvePoint]) -> dict[int, CurvePoint]:
    """Checkpoints by their step."""
    return {p.step: p for p in points}


def spread(templates: Sequence[TemplateScore]) -> float | None:
    """Best minus worst wording after training; None with fewer than two."""
    values = [w.after for w in templates if w.after is not None]
    return max(values) - min(values) if len(values) > 1 else None


def point(value: float | None) -> Interval | None:
    """A value without an interval."""
    return None if value is None else Interval(value=value)


def sample_templates(tasks: Sequence[Task]) -> list[int]:
    """Numbers of all wordings that samples have."""
    return sorted({sample.template for task in tasks for sample in task.samples})


def storage(data: ReportData) -> str:
    """The storage that the run lies in, as the command line takes it."""
    return data.uri.removesuffix(f"/runs/{data.run}").removeprefix("file://")


def model_folder(data: ReportData) -> str:
    """Where the exported model lies."""
    return f"{data.uri.removeprefix('file://')}/model"
