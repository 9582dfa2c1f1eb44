"""Score cards and predictions, stored under `scores/<stage>/<task>/` with a manifest."""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from data_prep.config import Split
from raytrain.config.run_layout import RunLayout
from raytrain.generation.requests import ModelRef
from raytrain_core.storage import CorruptError, NotFoundError, Store
from raytrain_core.storage.commit import MANIFEST, Manifest, commit, read_manifest
from raytrain_core.storage.store import sha256_of

SCORES = "scores.json"
PREDICTIONS = "predictions.parquet"


@dataclass(frozen=True, slots=True)
class Stage:
    """A point of a run at which a model is scored: before, step-000500, after."""

    name: str
    model: ModelRef
    split: Split


@dataclass(frozen=True, slots=True)
class MetricScore:
    """A metric over the rows that it could score, with its 95 % interval.

    Without a value, `error` says why there is none. `reference` is what the references score
    against themselves, where that is not a perfect score. `unparsable` is the share of answers that
    the metric could not read (as a label, entities or a choice); None where every text is an
    answer.
    """

    value: float | None
    low: float | None
    high: float | None
    better: Literal["higher", "lower"]
    scale: Literal["percent", "raw"] = "percent"
    rows: int | None = None
    reference: float | None = None
    error: str | None = None
    unparsable: float | None = None


@dataclass(frozen=True, slots=True)
class BaselineScore:
    """What answers without a model score, and the model's score minus that, by the primary metric.

    The difference is paired over `rows`, those that both could be scored on, and has a 95 %
    interval and a two-sided p-value. It is None where there are no such rows.
    """

    value: float
    rows: int = 0
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None


@dataclass(frozen=True, slots=True)
class Agreement:
    """What people score against each other: each reference against the others of its row.

    Rows have at most `references`, so that a reference is compared with at most `against`, one less
    than a prediction is: the best of fewer is lower. `rows` counts the rows with several.
    """

    value: float
    low: float
    high: float
    rows: int
    references: int
    against: int


@dataclass(frozen=True, slots=True)
class ScoreCard:
    """The scores of one task at one stage: the content of scores.json.

    `rows` counts all rows, `scored` those that the primary metric could score. `by_template`,
    `by_length` (of the prompt, in tokens) and `by_label` map a group of rows to its number of rows
    and its primary score. `rows_digest` identifies the rows by ids, inputs, references and labels,
    whatever their templates; `prompts_digest` the prompts that were made of them.

    `confusion` of a task with labels has `labels` and `counts`: rows by correct (first) and by
    predicted label, the last column for answers that name none. `entity_types` maps each type of
    entity to counts, precision, recall and f1; the type "" counts parts that are no entity.

    `unmade` says of each breakdown that could not be made why not. A card with an `error` has no
    scores and is never stored.
    """

    stage: str
    task: str
    type: str
    probe: bool
    split: str
    step: int
    model: Mapping[str, str]
    rows: int = 0
    scored: int = 0
    primary_metric: str = ""
    metrics: Mapping[str, MetricScore] = field(default_factory=dict)
    by_template: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    by_length: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    by_label: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    confusion: Mapping[str, Any] = field(default_factory=dict)
    entity_types: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    baselines: Mapping[str, BaselineScore] = field(default_factory=dict)
    agreement: Agreement | None = None
    protocol: Mapping[str, Any] = field(default_factory=dict)
    lengths: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    rows_digest: str = ""
    prompts_digest: str = ""
    unmade: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None

    @property
    def value(self) -> float | None:
        """The primary score, None where scoring failed."""
        score = self.metrics.get(self.primary_metric)
        return None if score is None else score.value

    @property
    def selection_value(self) -> float | None:
        """The primary score with its sign set so that higher is better.

        A correlation below 0 counts as 0, because a negative value is an error here.
        """
        value = self.value
        if value is None:
            return None
        return max(0.0, value) if self.metrics[self.primary_metric].better == "higher" else -value

    def to_json(self) -> dict[str, Any]:
        """Returns the content of scores.json."""
        body = asdict(self)
        for score in body["metrics"].values():
            for name in ("rows", "reference", "error", "unparsable"):
                if score[name] is None:
                    del score[name]
        for name in ("agreement", "error"):
            if body[name] is None:
                del body[name]
        if not self.unmade:
            del body["unmade"]
        return body

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "ScoreCard":
        """Returns the card that `to_json` was made of.

        Raises KeyError, TypeError or ValueError where `body` is not one.
        """
        values = dict(body)
        values["metrics"] = {name: MetricScore(**score) for name, score in body["metrics"].items()}
        values["baselines"] = {name: BaselineScore(**score) for name, score in body["baselines"].items()}
        values["agreement"] = Agreement(**body["agreement"]) if "agreement" in body else None
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Prediction:
    """One row with its prediction.

    `stats` are the row's sufficient statistics for the primary metric, `score` is the metric of
    this row alone; () and None for a row that the metric could not score.
    """

    id: str
    template: int
    input: str
    targets: tuple[str, ...]
    prediction: str
    tokens: int
    score: float | None
    stats: tuple[float, ...]


def write_scores(
    store: Store,
    layout: RunLayout,
    card: ScoreCard,
    predictions: Sequence[Prediction],
    *,
    fingerprint: str,
    guard: Callable[[], None] | None = None,
) -> Manifest:
    """Commits the scores of one task at one stage.

    `fingerprint` is `Evaluator.fingerprint`. `guard` is called before the commit. Raises ValueError
    for a card with an error.
    """
    if card.error is not None:
        raise ValueError("the card of a failed scoring is not stored: the next attempt tries again")
    files = {
        SCORES: (json.dumps(card.to_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode(),
        PREDICTIONS: _to_parquet(predictions),
    }
    body = {
        "kind": "scores",
        "stage": card.stage,
        "task": card.task,
        "step": card.step,
        "model_digest": card.model["digest"],
        "fingerprint": fingerprint,
    }
    return commit(store, layout.scores(card.stage, card.task), files, body, guard=guard)


def read_card(store: Store, layout: RunLayout, stage: str, task: str) -> ScoreCard | None:
    """Returns the committed card, or None; raises CorruptError if it is not what was committed."""
    manifest = read_manifest(store, layout.scores(stage, task))
    return None if manifest is None else read_manifest_card(store, manifest)


def read_manifest_card(store: Store, manifest: Manifest) -> ScoreCard:
    """Returns the card of a manifest; raises CorruptError if it is not what was committed."""
    try:
        return ScoreCard.from_json(json.loads(_checked(store, manifest, SCORES)))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CorruptError(f"{store.uri}/{manifest.key(SCORES)}: not a score card ({error})") from None


def read_predictions(store: Store, layout: RunLayout, stage: str, task: str) -> list[Prediction] | None:
    """Returns the committed predictions in order, or None; raises CorruptError if damaged."""
    manifest = read_manifest(store, layout.scores(stage, task))
    if manifest is None:
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(pa.BufferReader(_checked(store, manifest, PREDICTIONS))).to_pylist()
        return [Prediction(**{**row, "targets": tuple(row["targets"]), "stats": tuple(row["stats"])}) for row in rows]
    except (pa.ArrowException, TypeError, KeyError) as error:
        raise CorruptError(f"{store.uri}/{manifest.key(PREDICTIONS)}: not predictions ({error})") from None


def read_primary_scores(
    store: Store, layout: RunLayout, on_damaged: Callable[[str], None] = lambda message: None
) -> dict[int, dict[str, float]]:
    """Returns the primary scores of all scored checkpoints: step to task to value.

    Higher is better: a fraction stays a fraction, an error becomes minus the error (`selection`
    makes them comparable). Damaged cards count as not scored; `on_damaged` is told of each.
    """
    scores: dict[int, dict[str, float]] = {}
    prefix = f"{layout.root}/scores/step-"
    for stat in store.list(prefix):
        stage, _, rest = stat.key.removeprefix(f"{layout.root}/scores/").partition("/")
        task, _, name = rest.partition("/")
        if name != MANIFEST:
            continue
        try:
            card = read_card(store, layout, stage, task)
        except (CorruptError, NotFoundError) as error:
            on_damaged(error.message)
            continue
        if card is not None and card.selection_value is not None:
            scores.setdefault(card.step, {})[task] = card.selection_value
    return scores


def _checked(store: Store, manifest: Manifest, name: str) -> bytes:
    key = manifest.key(name)
    try:
        entry = manifest.file(name)
    except KeyError:
        raise CorruptError(f"{store.uri}/{manifest.prefix}: the manifest does not list {name}") from None
    data = store.get(key)
    if sha256_of(data) != entry.sha256:
        raise CorruptError(f"{store.uri}/{key}: not the bytes that were committed")
    return data


def _to_parquet(predictions: Sequence[Prediction]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            ("id", pa.string()),
            ("template", pa.int32()),
            ("input", pa.string()),
            ("targets", pa.list_(pa.string())),
            ("prediction", pa.string()),
            ("tokens", pa.int32()),
            ("score", pa.float64()),
            ("stats", pa.list_(pa.float64())),
        ]
    )
    table = pa.Table.from_pylist([asdict(prediction) for prediction in predictions], schema=schema)
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()
