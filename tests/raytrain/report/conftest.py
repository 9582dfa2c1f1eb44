"""Made-up runs in storage: tasks, probes, checkpoints, two attempts; hostile texts on demand."""

import json
import math
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from data_prep.shards.manifest import (
    NearTwins,
    PartRef,
    PreparedSplit,
    PreparedTask,
    ShardSet,
    TokenizerRef,
    TwinsElsewhere,
)
from data_prep.tally import Event, Tally
from raytrain.config.job import FineTuneJob
from raytrain.config.run_layout import RunLayout, stage_of_step
from raytrain.evaluation.metrics import METRICS, metrics_for
from raytrain.evaluation.metrics.bootstrap import INTERVAL_PROTOCOL, interval, paired
from raytrain.evaluation.results import BaselineScore, MetricScore, Prediction, ScoreCard, write_scores
from raytrain.report import ReportData, gather
from raytrain.runs.record import RunRecord, write_record
from raytrain_core.storage import LocalStore, open_store


def _tally(bad_rows):
    """A tally of 4,000 rows, so many of them bad."""
    tally = Tally()
    for number in range(1, 4001):
        tally.add_row("rows.jsonl", number, [Event("bad-row", "'input' is empty")] if number <= bad_rows else [])
    return tally.to_json()


HOSTILE = {
    "script": "<script>window.pwned = 1</script>",
    "style": "</style><style>body{display:none}</style>",
    "attribute": '" onmouseover="window.pwned=1" x="',
    "link": "[click](javascript:alert(1)) <a href='javascript:alert(1)'>here</a>",
    "control": "bell \x07 null \x00 escape \x1b[31m red",
    "override": "user\u202ecod.exe and \u2066isolate",
    "template": "{{ 7 * 7 }} {% raw %} ${7*7}",
    "fence": "```\n# not a heading\n``` | pipe | <img src=x onerror=window.pwned=1>",
    "long": "w" * 100_000,
    "comment": "<!-- --><textarea><noscript>]]>",
}

NAMES = ["Ana", "Omar", "Clara", "Tom", "Boris", "Samir", "Emma", "Leo", "Mina", "Ravi"]
CITIES = ["Turin", "Porto", "Delhi", "Cairo", "Lyon", "Quito", "Oslo", "Kyoto"]
THINGS = ["board game", "scarf", "book", "cake", "lamp", "ticket"]
DAYS = ["Monday", "Tuesday", "Thursday", "Friday", "Sunday"]
TEMPLATES = {
    "dialogues": ["Summarize the conversation:\n{input}", "What happened here? {input}", "{input}\nIn short:"],
    "reviews": ["How many stars does this review give? {input}", "Rate 1 to 5: {input}", "{input}\nStars:"],
    "entities": ["List the named entities: {input}", "Who, where, which company? {input}", "{input}\nEntities:"],
    "code": ["Translate Java to Python:\n{input}", "{input}\nThe same in Python:"],
    "questions": ["Answer the question. {input}", "{input}\nAnswer:"],
    "spanish": ["Translate to Spanish: {input}", "{input}\nIn Spanish:"],
}
TYPES = {
    "dialogues": "summarization",
    "reviews": "rating",
    "entities": "ner",
    "code": "code-translation",
    "questions": "question-answering",
    "spanish": "text",
}
PROBES = ("questions", "spanish")
# Share of rows answered rightly before, and after; between them the checkpoints go along a curve.
SKILL = {
    "dialogues": (0.12, 0.8),
    "reviews": (0.45, 0.93),
    "entities": (0.2, 0.82),
    "code": (0.02, 0.6),
    "questions": (0.82, 0.3),
    "spanish": (0.12, 0.1),
}


def example(task: str, draw: random.Random) -> tuple[str, str]:
    """An input and its reference."""
    a, b = draw.sample(NAMES, 2)
    city, thing, day = draw.choice(CITIES), draw.choice(THINGS), draw.choice(DAYS)
    if task == "dialogues":
        text = (
            f"{a}: Do you know that {draw.choice(NAMES)} has a birthday on {day}?\n{b}: How about a {thing}?\n"
            f"{a}: I like that. Shall we meet in {city}?\n{b}: Fine, see you there on {day}."
        )
        return text, f"{a} and {b} will buy a {thing} for a birthday and meet in {city} on {day}."
    if task == "reviews":
        stars = draw.randint(1, 5)
        mood = ["terrible", "weak", "okay", "good", "wonderful"][stars - 1]
        return f"It came in a brown box. For a {thing}, the quality is {mood}. Bought it on {day}.", str(stars)
    if task == "entities":
        company = draw.choice(["Aurora Bank", "Nordic Foods", "Delta Mills"])
        return f"{a} Kowalski works for {company} in {city}.", f"PER: {a} Kowalski | ORG: {company} | LOC: {city}"
    if task == "code":
        verb, noun, n = (
            draw.choice(["sum", "build", "count"]),
            draw.choice(["Limit", "Rate", "Total"]),
            draw.randint(2, 9),
        )
        java = f"static int {verb}{noun}(int n) {{\n    return n * {n};\n}}"
        return java, f"def {verb}_{noun.lower()}(n):\n    return n * {n}"
    if task == "questions":
        return f"Where did {a} go? {a} went to {city} on {day}. {b} met a friend in Lima.", city
    return f"the {thing} of {a}", f"el regalo de {a} ({thing})"


def wrong(task: str, reference: str, draw: random.Random) -> str:
    """A plausible wrong answer."""
    if task == "reviews":
        return str(draw.randint(1, 5))
    if task == "entities":
        kept = [part for part in reference.split(" | ") if draw.random() < 0.35]
        return " | ".join(kept) or "none"
    if task == "questions":
        return draw.choice([*CITIES, "on Friday", "a friend"])
    words = reference.split(" ")
    for i in range(len(words)):
        if draw.random() < 0.4:
            words[i] = draw.choice(["the", "a", "and", "Lima", "to", *NAMES[:3]])
    return " ".join(words)


ENTITY_TYPES = {
    "PER": {
        "rows": 60,
        "correct": 55,
        "predicted": 57,
        "expected": 60,
        "precision": 0.965,
        "recall": 0.917,
        "f1": 0.94,
    },
    "LOC": {
        "rows": 60,
        "correct": 30,
        "predicted": 31,
        "expected": 64,
        "precision": 0.968,
        "recall": 0.469,
        "f1": 0.632,
    },
    "": {"rows": 0, "correct": 0, "predicted": 3, "expected": 0, "precision": 0.0, "recall": None, "f1": 0.0},
}


def confusion_of(predictions):
    """Rows by correct and by predicted star; answers that are no star in the last column."""
    labels = ["1", "2", "3", "4", "5"]
    counts = [[0] * 6 for _ in labels]
    for row in predictions:
        column = labels.index(row.prediction) if row.prediction in labels else 5
        counts[labels.index(row.targets[0])][column] += 1
    return {"labels": labels, "counts": counts}


@dataclass
class RunFolder:
    """A made-up run in a store; `hostile` puts HOSTILE among the answers of every task."""

    store: LocalStore
    name: str = "support-assistant"
    note: str | None = None
    hostile: bool = False
    rows: int = 60
    steps: int = 1000
    every: int = 200
    seed: int = 7
    baseline: float = 0.21
    lengths: dict[str, float] = field(
        default_factory=lambda: {
            "prompt_tokens_mean": 52.3,
            "prompt_tokens_median": 50,
            "prompt_tokens_p95": 80,
            "prompt_tokens_max": 104,
            "prediction_tokens_mean": 15.2,
            "cut_off": 0.01,
            "prompt_at_limit": 0.004,
        }
    )
    metrics: dict[str, list[str]] = field(default_factory=dict)
    templates: dict[str, list[str]] = field(default_factory=lambda: dict(TEMPLATES))
    probes: tuple[str, ...] = PROBES
    event: str = "The report is written."
    skill: dict[str, tuple[float, float]] = field(default_factory=lambda: dict(SKILL))
    near_twins: dict[str, list[str]] = field(default_factory=dict)
    twins_elsewhere: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    stages: tuple[str, ...] = ("before", "checkpoints", "after")

    @property
    def layout(self) -> RunLayout:
        return RunLayout(self.name)

    @property
    def checkpoints(self) -> list[int]:
        return list(range(self.every, self.steps + 1, self.every))

    def job(self) -> FineTuneJob:
        annotations = {"raytrain.dev/data-note": self.note} if self.note else {}
        tasks = [
            {
                "name": name,
                "type": TYPES[name],
                "source": {"uri": f"data/{name}.jsonl"},
                "templates": self.templates[name],
                "probe": name in self.probes,
                "metrics": self.metrics.get(name),
            }
            for name in self.skill
        ]
        return FineTuneJob.model_validate(
            {
                "apiVersion": "raytrain.dev/v1alpha1",
                "kind": "FineTuneJob",
                "metadata": {"name": self.name, "annotations": annotations},
                "spec": {
                    "model": "base-model",
                    "tasks": tasks,
                    "mixture": {"strategy": "equal"},
                    "training": {"steps": self.steps, "checkpointEvery": self.every},
                    "evaluation": {"every": self.every, "examplesPerTask": self.rows},
                },
            }
        )

    def write(self) -> "RunFolder":
        job = self.job()
        write_record(self.store, self.layout, RunRecord(job, Path("/data"), self._shards(job), "5f" * 32))
        for task in job.spec.tasks:
            if "before" in self.stages:
                self._score(task, "before", 0, 0.0)
            if "checkpoints" in self.stages:
                for step in (0, *self.checkpoints):
                    self._score(task, stage_of_step(step), step, 1 - math.exp(-3.2 * step / self.steps))
            if "after" in self.stages:
                self._score(task, "after", self.checkpoints[-1], 1.0)
        self._telemetry()
        return self

    def _shards(self, job) -> str:
        """Writes the manifests of a shard set, without parts, which the report does not read."""
        part = PartRef("shards/parts/x.npy", 10, "0" * 64)

        def split(rows, templates, inputs, outputs, twins=None):
            statistics = {
                "rows": rows,
                "source_tokens": {"mean": inputs, "p50": int(inputs), "p95": int(inputs * 1.6), "max": int(inputs * 2)},
                "target_tokens": {"mean": outputs, "p50": int(outputs), "p95": 40, "max": 61},
                "truncated_sources": 0.004,
                "truncated_targets": 0.0,
                "altered_targets": 0.0,
                "unknown_tokens": 0.0002,
                "templates": {"0": rows},
                "duplicates": 3,
            }
            return PreparedSplit(rows, templates, (), (part,), statistics, twins)

        tasks = []
        for number, task in enumerate(job.spec.tasks):
            marks = self.near_twins.get(task.name)
            twins = None if marks is None else NearTwins(tuple(marks), self.rows)
            held = {"validation": split(200, 1, 52.3, 16.1), "test": split(self.rows, 1, 51.9, 16.0, twins)}
            train = {} if task.probe else {"train": split(3000, 3, 52.1, 16.0)}
            tasks.append(
                PreparedTask(
                    name=task.name,
                    type=task.type,
                    probe=task.probe,
                    digest=f"{number:x}c" * 32,
                    splits=train | held,
                    tally=_tally(number),
                    leakage={"test in train": 2 if number == 1 else 0},
                    provenance={},
                )
            )
        trained = [task.name for task in tasks if not task.probe]
        shards = ShardSet(
            digest="e7" * 32,
            tasks=tuple(tasks),
            tokenizer=TokenizerRef("d3" * 32, 1100, {}),
            mixture={"strategy": "equal"},
            rates=dict.fromkeys(trained, 1 / len(trained)),
            limits={"max_input_tokens": 512, "max_target_tokens": 128},
            leakage=[],
            twins_elsewhere={
                task: {"test": TwinsElsewhere({other: tuple(ids) for other, ids in found.items()}, self.rows)}
                for task, found in self.twins_elsewhere.items()
            },
        )
        for task in tasks:
            self.store.put(PreparedTask.key(task.digest), task.to_json())
        self.store.put(ShardSet.key(shards.digest), shards.to_json())
        return shards.digest

    def _score(self, task, stage, step, progress):
        test = stage in ("before", "after")
        split = "test" if test else "validation"
        data = random.Random(f"{self.seed}-{task.name}-{split}")
        luck = random.Random(f"{self.seed}-{task.name}-{stage}")
        first, last = self.skill[task.name]
        right = first + (last - first) * progress
        metrics = metrics_for(task)[: None if test else 1]
        predictions, answers, targets, metas = [], [], [], []
        hostile = list(HOSTILE.values())
        for i in range(self.rows):
            raw, reference = example(task.name, data)
            answer = reference if luck.random() < right else wrong(task.name, reference, luck)
            if self.hostile and test and i < len(hostile):
                answer = hostile[i] if stage == "after" or task.probe else answer
                raw = f"{raw} {hostile[-i]}"
            template = i % len(task.templates)
            text = task.templates[template].replace("{input}", raw)
            meta = {"input": raw, "label": reference, "labels": ["1", "2", "3", "4", "5"]}
            meta |= {"loss": 12 * random.Random(i).random(), "loss_tokens": 8}
            references = (reference, f"In short: {reference}") if task.type == "summarization" else (reference,)
            answers.append(answer)
            targets.append(references)
            metas.append(meta)
            stats = metrics[0].stats(answer, references, meta)
            predictions.append(
                Prediction(
                    id=f"{task.name}-{i:04d}",
                    template=template,
                    input=text,
                    targets=references,
                    prediction=answer,
                    tokens=len(answer) // 4,
                    score=metrics[0].combine(stats),
                    stats=stats,
                )
            )
        scores = {}
        for metric in metrics:
            found = interval(metric, metric.stats_many(answers, targets, metas))
            scores[metric.name] = MetricScore(
                found.value, found.low, found.high, metric.better, metric.scale, self.rows
            )
        by_template = {}
        for template in range(len(task.templates)):
            rows = [p for p in predictions if p.template == template]
            if not rows:
                continue
            total = [sum(column) for column in zip(*(p.stats for p in rows), strict=True)]
            by_template[str(template)] = {"rows": len(rows), "value": METRICS[metrics[0].name].combine(total)}

        def part(rows):
            total = [sum(column) for column in zip(*(p.stats for p in rows), strict=True)]
            return {"rows": len(rows), "value": METRICS[metrics[0].name].combine(total)}

        ordered = sorted(predictions, key=lambda p: len(p.input))
        half = len(ordered) // 2
        labels = sorted({p.targets[0] for p in predictions}) if task.type == "rating" else []
        card = ScoreCard(
            stage=stage,
            task=task.name,
            type=task.type,
            probe=task.probe,
            split=split,
            step=step,
            model={"kind": "base" if stage == "before" else "export", "uri": "base-model", "digest": f"{step:064x}"},
            rows=self.rows,
            scored=self.rows,
            primary_metric=metrics[0].name,
            metrics=scores,
            by_template=by_template,
            by_length={"4-30": part(ordered[:half]), "31-96": part(ordered[half:])},
            by_label={label: part([p for p in predictions if p.targets[0] == label]) for label in labels},
            confusion=confusion_of(predictions) if task.type == "rating" else {},
            entity_types=ENTITY_TYPES if task.type == "ner" else {},
            baselines={
                name: self._baseline(metrics[0], np.array([p.stats for p in predictions]), value)
                for name, value in (("most-frequent", self.baseline), ("copy", 0.05))
                if test  # a checkpoint's are not read
            },
            protocol={
                "metrics": {metric.name: metric.protocol for metric in metrics},
                "decoding": "greedy",
                "max_input_tokens": 512,
                "max_new_tokens": 96,
                "precision": "fp32",
                "references": "best of several",
                "interval": INTERVAL_PROTOCOL,
            },
            lengths=self.lengths,
            seconds=3.1,
            rows_digest=f"{task.name} {split} {self.rows} {self.seed}",
            prompts_digest=f"{task.name} {split} {self.rows} {self.seed}",
        )
        write_scores(self.store, self.layout, card, predictions, fingerprint="f" * 64)

    def _baseline(self, metric, stats, value):
        """A baseline that scores `value` on every row."""
        lowest, highest = metric.extremes(stats)
        given = np.tile(lowest + value * (highest - lowest), (len(stats), 1))
        found = paired(metric, given, stats)
        return BaselineScore(metric.score(given), found.rows, found.difference, found.low, found.high, found.p)

    def _telemetry(self):
        draw = random.Random(self.seed)
        start = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
        trained = [name for name in self.skill if name not in self.probes]
        floor = dict(zip(trained, (0.35, 0.12, 0.2, 0.28), strict=False))

        def line(attempt, step):
            by_task = {
                name: floor[name] + 2.2 * math.exp(-6 * step / self.steps) + abs(draw.gauss(0, 0.06))
                for name in trained
            }
            return {
                "attempt": attempt,
                "step": step,
                "time": (start + timedelta(seconds=step)).isoformat().replace("+00:00", "Z"),
                "loss": sum(by_task.values()) / len(by_task),
                "loss_by_task": by_task,
                "target_tokens_by_task": dict.fromkeys(trained, 60),
                "source_tokens": 760,
                "target_tokens": 240,
                "examples": 18,
                "learning_rate": 1e-3,
                "gradient_norm": 0.9,
                "seconds": 0.05,
                "tokens_per_second": 20_000.0,
                "seconds_by_part": {"forward": 0.02, "backward": 0.02},
            }

        half = int(self.steps * 0.55)
        first = [line(1, step) for step in range(1, half + 1)]
        second = [line(2, step) for step in range(self.checkpoints[1] + 1, self.steps + 1)]
        for attempt, lines in ((1, first), (2, second)):
            for number, at in enumerate(range(0, len(lines), 200), 1):
                text = "".join(json.dumps(x) + "\n" for x in lines[at : at + 200])
                self.store.put(self.layout.segment("metrics", attempt, number), text.encode())
        events = [
            (1, 0, "RunStarted", "The run started on one machine with 2 training workers."),
            (1, 2, "Prepared", "Prepared 6 tasks, 12,400 examples."),
            (1, 30, "CheckpointCommitted", f"Checkpoint at step {self.every}."),
            (1, 60, "CheckpointCommitted", f"Checkpoint at step {2 * self.every}."),
            (2, 90, "RunStarted", f"Went on from step {2 * self.every}: the process before had been killed."),
            (2, 95, "ActorRestarted", "An evaluation actor died and was replaced; its 8 rows were scored again."),
            (2, 300, "RunFinished", self.event),
        ]
        for attempt in (1, 2):
            lines = [
                {"attempt": a, "time": (start + timedelta(seconds=s)).isoformat(), "kind": kind, "message": message}
                for a, s, kind, message in events
                if a == attempt
            ]
            text = "".join(json.dumps(x) + "\n" for x in lines)
            self.store.put(self.layout.segment("events", attempt, 1), text.encode())
            record = {
                "attempt": attempt,
                "started": lines[0]["time"],
                "host": "worker-1",
                "platform": "Linux",
                "versions": {"raytrain": "0.1.0", "torch": "2.15.0", "transformers": "5.23.0", "ray": "2.60.0"},
            }
            self.store.put(self.layout.attempt(attempt), json.dumps(record).encode())
        progress = {"run": self.name, "attempt": 2, "phase": "Complete", "step": self.steps, "steps": self.steps}
        self.store.put(self.layout.progress, json.dumps(progress).encode())


@pytest.fixture(scope="session")
def make_run():
    """Writes a made-up run into a folder."""

    def make(folder: Path, **settings) -> RunFolder:
        return RunFolder(open_store(str(folder)), **settings).write()

    return make


@pytest.fixture(scope="session")
def hostile_texts() -> dict[str, str]:
    return HOSTILE


@pytest.fixture(scope="session")
def hostile_data(make_run, tmp_path_factory, hostile_texts) -> ReportData:
    """A report all of whose free texts are hostile, each of them shown among the samples."""
    run = make_run(
        tmp_path_factory.mktemp("hostile"),
        hostile=True,
        rows=len(hostile_texts),
        every=500,
        note=hostile_texts["script"],
        templates={
            name: [*texts, *(f"{text[:3000]} {{input}}" for text in hostile_texts.values() if "{" not in text)]
            for name, texts in TEMPLATES.items()
        },
        event=hostile_texts["fence"],
    )
    return gather(run.store, run.layout)


@pytest.fixture(scope="session")
def run_folder(make_run, tmp_path_factory) -> RunFolder:
    """A complete run; made once, not to be changed."""
    return make_run(tmp_path_factory.mktemp("run"), note="All rows are generated; the scores say nothing of real data.")


@pytest.fixture(scope="session")
def make_task():
    """Returns a function that makes a task scored before and after training."""
    from raytrain.report.model import Difference, Interval, Metric, Task
    from raytrain.report.verdicts import task_sentence, task_verdict

    def make(
        name="t",
        before=0.5,
        after=0.7,
        low=0.1,
        high=0.3,
        *,
        probe=False,
        better="higher",
        scale="percent",
        rows=100,
        baseline="none",
    ):
        metric = Metric(
            name="accuracy",
            label="accuracy",
            better=better,
            scale=scale,
            before=Interval(value=before),
            after=Interval(value=after),
        )
        gain = (after - before) * (1 if better == "higher" else -1)
        verdict = "noise" if low <= 0 <= high else "better" if gain > 0 else "worse"
        difference = Difference(value=after - before, low=low, high=high, gain=gain, rows=rows, verdict=verdict)
        return Task(
            name=name,
            type="text",
            type_label="free text",
            probe=probe,
            primary_metric=metric,
            split="test",
            rows=rows,
            scored=rows,
            difference=difference,
            sentence=task_sentence(metric, difference, probe=probe),
            verdict=task_verdict(difference, baseline),
            baseline_verdict=baseline,
            best_baseline=None if baseline == "none" else "copy",
        )

    return make
