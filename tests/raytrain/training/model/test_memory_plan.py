"""The memory plan against the tensors of a step, and what it says of the published models."""

import re

import numpy as np
import pytest

from raytrain.config.training import PackingShape, TrainingSpec
from raytrain.model.shape import FLAN, ModelShape
from raytrain.training.model.memory_plan import MemoryPlan, memory_plan
from raytrain.training.trainer import Trainer
from tests.support import REPOSITORY
from tests.support.packed_rows import examples, row_of
from tests.support.peak_memory import PeakMemory
from tests.support.tiny_t5 import tiny_model

GIB = 1 << 30
SOURCE, TARGET = 56, 24
MODEL = {"width": 64, "head": 24, "layers": 3, "decoder_layers": 2, "vocabulary": 600}
SETTINGS = {
    "fp32": {},
    "fp32, dropout": {"dropout": 0.1},
    "fp32, adamw, average, anchor": {"optimizer": "adamw", "ema": 0.9, "anchor": 1.0},
    "fp32, recomputed": {"activation_checkpointing": True},
    "bf16": {"precision": "bf16"},
    "bf16, recomputed": {"precision": "bf16", "activation_checkpointing": True},
    "bf16-pure": {"precision": "bf16-pure"},
    "bf16-pure, recomputed": {"precision": "bf16-pure", "activation_checkpointing": True},
    "lora": {"method": "lora"},
    "lora, bf16": {"method": "lora", "precision": "bf16"},
    "lora, bf16-pure": {"method": "lora", "precision": "bf16-pure"},
}


def training(**changes: object) -> TrainingSpec:
    limits = {"max_input_tokens": SOURCE, "max_target_tokens": TARGET, "batch_tokens": 4096, "dropout": 0.0}
    return TrainingSpec.model_validate({"steps": 1, **limits, **changes})


def shape_of(trainer: Trainer, *, tied: bool = False) -> ModelShape:
    return ModelShape.from_config(trainer.model.config.to_dict(), tied=tied)


def full_row(count):
    """As many examples as that, each as long as the job allows."""
    ids = [(np.full(SOURCE, 5, np.uint16), np.full(TARGET, 5, np.uint16)) for _ in range(count)]
    return row_of(ids, tasks=1)


def measured(trainer: Trainer, row) -> int:
    with PeakMemory() as memory:
        trainer.forward_backward([row])
    return memory.peak


def planned(trainer: Trainer, row, **options: object) -> MemoryPlan:
    shape = PackingShape(source=row.source_tokens, target=row.target_tokens)
    return memory_plan(shape_of(trainer, **options), trainer.training, shape, on_gpu=False)


def assert_near(trainer: Trainer, row, **options: bool) -> None:
    plan, found = planned(trainer, row, **options), measured(trainer, row)
    assert plan.activations + plan.logits == pytest.approx(found, rel=0.125)


@pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS.keys())
@pytest.mark.parametrize("count", [8, 24])
def test_activations_and_logits_are_those_of_a_step(changes, count):
    assert_near(Trainer(tiny_model(**MODEL), training(**changes), ["a"]), full_row(count))


def test_a_model_without_gates_and_with_one_table():
    model = tiny_model(feed_forward="relu", tied=True, **MODEL)
    assert_near(Trainer(model, training(), ["a"]), full_row(16), tied=True)


@pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS.keys())
def test_what_belongs_to_parameters_is_exact(changes):
    trainer = Trainer(tiny_model(**MODEL), training(**changes), ["a"])
    row = full_row(4)
    trainer.step(0, [row])
    plan = planned(trainer, row)
    values = {id(p): p for p in (*trainer.model.parameters(), *trainer.weights.values.values())}
    assert plan.weights == sum(p.nbytes for p in values.values())
    assert plan.gradients == trainer.gradients.buffer.nbytes
    states = [t for state in trainer.optimizer.state.values() for t in state.values() if hasattr(t, "nbytes")]
    assert plan.optimizer == pytest.approx(sum(t.nbytes for t in states if t.ndim), abs=1)
    copies = [*trainer.weights._average.values(), *trainer.weights._start.values()]
    assert plan.averages == sum(t.nbytes for t in copies)


def test_shorter_examples_take_no_more_than_planned_and_a_tenth():
    """Attention takes less, but groups of them are padded."""
    row = row_of(examples(24, longest=SOURCE), tasks=1)
    trainer = Trainer(tiny_model(**MODEL), training(), ["a"])
    plan = planned(trainer, row)
    assert 0.5 < measured(trainer, row) / (plan.activations + plan.logits) < 1.1


def test_smaller_micro_batches_and_shards_take_less():
    row = PackingShape(source=8192, target=1792)
    whole, halves = (memory_plan(FLAN["flan-t5-base"], training(micro_batch_tokens=n), row) for n in (None, 4992))
    assert halves.activations < 0.6 * whole.activations
    assert halves.weights == whole.weights
    two = memory_plan(FLAN["flan-t5-base"], training(), row, shards=2)
    assert (two.gradients, two.optimizer) == (whole.gradients // 2, whole.optimizer // 2)
    assert whole.weights // 2 < two.weights < whole.weights


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("flan-t5-small", 76_961_152),
        ("flan-t5-base", 247_577_856),
        ("flan-t5-large", 783_150_080),
        ("flan-t5-xl", 2_849_757_184),
        ("flan-t5-xxl", 11_135_332_352),
    ],
)
def test_the_published_shapes_have_the_published_parameters(name, parameters):
    assert FLAN[name].parameters == parameters


PAGE = {
    "fp32": {},
    "`precision: bf16`": {"precision": "bf16"},
    "`bf16`, `optimizer: adamw`": {"precision": "bf16", "optimizer": "adamw"},
    "`bf16`, `activationCheckpointing: true`": {"precision": "bf16", "activation_checkpointing": True},
    "`bf16-pure`, `method: lora`": {"precision": "bf16-pure", "method": "lora"},
    "`bf16-pure`, `lora`, `activationCheckpointing`": {
        "precision": "bf16-pure",
        "method": "lora",
        "activation_checkpointing": True,
    },
}


def table() -> str:
    """The table of docs/how-to/train.md: GiB for FLAN's limits and the largest default row."""
    lines = ["| GiB at the peak of a step | small | base | large | XL | XXL |", "| --- | --- | --- | --- | --- | --- |"]
    for label, changes in PAGE.items():
        spec = TrainingSpec.model_validate({"steps": 1, **changes})
        plans = [memory_plan(shape, spec, PackingShape(source=8192, target=1792)) for shape in FLAN.values()]
        lines.append(f"| {label} | {' | '.join(f'{plan.total / GIB:.1f}' for plan in plans)} |")
    return "\n".join(lines)


def test_the_page_has_the_plans_figures():
    page = (REPOSITORY / "docs/how-to/train.md").read_text()
    (found,) = re.findall(r"^\| GiB at the peak.*?(?=\n\n)", page, re.MULTILINE | re.DOTALL)
    assert found == table()
