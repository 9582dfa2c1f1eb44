"""Steps against an oracle: stock transformers in float64, one example at a time, formulas in full.

The packed forward pass in float64 has the oracle's loss to 1e-8. What the trainer does with it in
fp32 (norm of the gradient, how far the weights move in two steps) has the oracle's to 1e-4.
"""

import math

import pytest
import torch
from transformers.models.t5.modeling_t5 import T5LayerNorm
from transformers.optimization import Adafactor

from raytrain.training.model.loss import Objective
from raytrain.training.model.packed_t5 import DeviceBatch, PackedT5
from tests.support.tiny_loader import TASKS, settings, tiny_loader, train, trainer_of
from tests.support.tiny_t5 import tiny_model

OPTIONS = [
    {"optimizer": "adamw"},
    {"optimizer": "adamw", "weight_decay": 0.1, "betas": (0.8, 0.95), "gradient_clip": 0.1},
    {"optimizer": "adamw", "label_smoothing": 0.1, "micro_batch_tokens": 40},
    {"optimizer": "adamw", "z_loss": 1e-2, "task_weights": {"long": 0.25}, "anchor": 5.0},
    {"optimizer": "adafactor", "gradient_clip": None},
    {
        "optimizer": "adafactor",
        "weight_decay": 0.1,
        "label_smoothing": 0.1,
        "z_loss": 1e-3,
        "task_weights": {"short": 3},
    },
]
STEPS = 2


@pytest.fixture(autouse=True)
def variance_in_the_model_s_precision(monkeypatch):
    """Makes norms use the model's precision; transformers takes their variance in fp32."""

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))

    monkeypatch.setattr(T5LayerNorm, "forward", forward)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options)))
def test_every_option_is_the_oracle_s(options):
    loader = tiny_loader()
    training = settings(steps=STEPS, dropout=0.0, learning_rate=0.01, schedule="constant", warmup_steps=0, **options)
    oracle = Oracle(training)
    start = {name: p.detach().clone() for name, p in oracle.model.named_parameters()}
    packed = PackedT5(
        oracle.model,
        objective=Objective(training.label_smoothing, training.z_loss),
        task_weights=torch.tensor(oracle.weights, dtype=torch.float64),
    )
    expected = []
    with loader.batches(0, STEPS, worker=0, workers=1) as batches:
        for step, rows in batches:
            with torch.no_grad():
                on_device = [DeviceBatch.of(row, dtype=torch.float64) for row in rows]
                found = sum(packed(batch, len(TASKS))[0].item() for batch in on_device)
            refs = [
                ref
                for row in loader.packed_order.rows(step * loader.rows_per_step, loader.rows_per_step)
                for ref in row
            ]
            objective, loss, norm = oracle.step([(ref.task, *loader.read_tokens(ref)) for ref in refs])
            assert found == pytest.approx(objective, rel=1e-8)
            expected.append((loss, norm))
    trainer = trainer_of(training)
    records, _, _ = train(loader, trainer)
    assert [r.loss for r in records] == pytest.approx([loss for loss, _ in expected], rel=1e-5)
    assert [r.gradient_norm for r in records] == pytest.approx([norm for _, norm in expected], rel=1e-4)
    fp32 = dict(trainer.model.named_parameters())
    moved = [
        math.sqrt(sum(((model[name].double() - start[name]) ** 2).sum().item() for name in start))
        for model in (fp32, dict(oracle.model.named_parameters()))
    ]
    assert moved[0] == pytest.approx(moved[1], rel=1e-4)


class Oracle:
    """A step of training as one would write it down."""

    def __init__(self, training):
        self.training, self.model = training, tiny_model(seed=1).double()
        self.weights = [training.task_weights.get(task, 1.0) for task in TASKS]
        named = list(self.model.named_parameters())
        free = [p for name, p in named if p.ndim < 2 or "relative_attention_bias" in name]
        decayed = [p for name, p in named if all(p is not other for other in free)]
        groups = [{"params": decayed, "weight_decay": training.weight_decay}, {"params": free, "weight_decay": 0.0}]
        if training.optimizer == "adamw":
            self.optimizer = torch.optim.AdamW(groups, lr=0.01, betas=training.betas, foreach=False)
        else:
            how = {"scale_parameter": False, "relative_step": False, "warmup_init": False}
            self.optimizer = Adafactor(groups, lr=0.01, clip_threshold=1.0, **how)
        self.first = [p.detach().clone() for p in self.model.parameters()]

    def step(self, examples):
        """Returns the objective's sum, the loss per target token, and the gradient's norm."""
        training = self.training
        self.model.zero_grad()
        objective, loss, tokens, counted = 0.0, 0.0, 0, 0.0
        for task, source, target in examples:
            labels = torch.tensor(target.astype(int))
            scores = self.model(input_ids=torch.tensor(source.astype(int))[None], labels=labels[None]).logits[0]
            log_sum = scores.logsumexp(-1)
            likely = scores[torch.arange(len(labels)), labels]
            smooth = training.label_smoothing
            value = (
                (1 - smooth) * (log_sum - likely) + smooth * (log_sum - scores.mean(-1)) + training.z_loss * log_sum**2
            )
            (self.weights[task] * value.sum()).backward()
            objective += self.weights[task] * value.sum().item()
            loss += (log_sum - likely).sum().item()
            tokens += len(labels)
            counted += self.weights[task] * len(labels)
        parameters = list(self.model.parameters())
        norm = math.sqrt(sum((p.grad**2).sum().item() for p in parameters)) / counted
        clip = training.gradient_clip
        factor = 1.0 if clip is None else min(1.0, clip / (norm + 1e-6))
        for p in parameters:
            p.grad.mul_(factor / counted)
        self.optimizer.step()
        with torch.no_grad():
            for p, first in zip(parameters, self.first, strict=True):
                p.lerp_(first, min(1.0, 0.01 * (training.anchor or 0.0)))
        return objective, loss / tokens, norm
