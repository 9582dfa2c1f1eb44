"""The workload of the training benchmarks: FLAN-T5 shapes, lengths of four tasks, FLOPs.

Weights are random. Needs torch and transformers only to build a model; no data set, no hub.
"""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.output import processor

VOCABULARY = 32_128
TOKENS = 32_100
EOS = 1
SHAPES: dict[str, dict[str, int]] = {  # T5 v1.1 and FLAN-T5; `tiny` is for dry runs
    "tiny": {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4},
    "small": {"d_model": 512, "d_kv": 64, "d_ff": 1024, "num_layers": 8, "num_decoder_layers": 8, "num_heads": 6},
    "base": {"d_model": 768, "d_kv": 64, "d_ff": 2048, "num_layers": 12, "num_decoder_layers": 12, "num_heads": 12},
    "large": {"d_model": 1024, "d_kv": 64, "d_ff": 2816, "num_layers": 24, "num_decoder_layers": 24, "num_heads": 16},
}


@dataclass(frozen=True, slots=True)
class TaskShape:
    """A task: number of examples, mean and sigma of log-normal source and target lengths."""

    examples: int
    source: float
    source_sigma: float
    target: float
    target_sigma: float


# Dialogue summaries (27,192 training rows in two public sets), ratings, named entities, code
# translation.
FOUR = {
    "summarization": TaskShape(27_192, 190, 0.654, 30, 0.55),
    "rating": TaskShape(20_000, 120, 0.6, 2, 0.0),
    "ner": TaskShape(14_041, 30, 0.45, 20, 0.5),
    "code": TaskShape(10_300, 60, 0.6, 60, 0.6),
}


@dataclass(frozen=True, slots=True)
class SyntheticExample:
    """Source and target ids, both ending in EOS, and the number of the task."""

    source: npt.NDArray[np.uint16]
    target: npt.NDArray[np.uint16]
    task: int

    @property
    def tokens(self) -> int:
        """Source and target tokens, without padding."""
        return len(self.source) + len(self.target)


def drawn(rng: np.random.Generator, count: int, mean: float, sigma: float, *, least: int, most: int) -> Any:
    """Returns log-normal lengths, clipped to least .. most."""
    lengths = np.exp(rng.normal(math.log(mean) - sigma**2 / 2, sigma, count)) if sigma else np.full(count, mean)
    return np.clip(np.rint(lengths), least, most).astype(np.int64)


def examples(count: int = 4_000, *, seed: int = 1234, longest: tuple[int, int] = (512, 128)) -> list[SyntheticExample]:
    """Returns a proportional mixture of the four tasks with Zipf-like ids.

    Means are about 118 source and 24 target tokens.
    """
    rng = np.random.default_rng(seed)
    kinds = list(FOUR.values())
    sizes = np.array([kind.examples for kind in kinds], float)
    tasks = rng.choice(len(kinds), size=count, p=sizes / sizes.sum())
    source, target = np.empty(count, np.int64), np.empty(count, np.int64)
    for number, kind in enumerate(kinds):
        own = tasks == number
        source[own] = drawn(rng, int(own.sum()), kind.source, kind.source_sigma, least=4, most=longest[0])
        target[own] = drawn(rng, int(own.sum()), kind.target, kind.target_sigma, least=2, most=longest[1])
    ranks = np.cumsum(1.0 / np.arange(1, TOKENS - 10) ** 0.9)
    ranks /= ranks[-1]

    def ids(length: int) -> npt.NDArray[np.uint16]:
        found = (3 + np.searchsorted(ranks, rng.random(length))).clip(3, TOKENS - 1).astype(np.uint16)
        found[-1] = EOS
        return found

    return [
        SyntheticExample(ids(s), ids(t), int(task))
        for s, t, task in zip(source.tolist(), target.tolist(), tasks.tolist(), strict=True)
    ]


def model(shape: str, *, dropout: float = 0.0, seed: int = 0) -> Any:
    """Builds an untied `T5ForConditionalGeneration` of that shape with random fp32 weights."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    from raytrain.model.loading import untie

    torch.manual_seed(seed)
    options: dict[str, Any] = {"decoder_start_token_id": 0, "scale_decoder_outputs": False, **SHAPES[shape]}
    config = T5Config(vocab_size=VOCABULARY, dropout_rate=dropout, feed_forward_proj="gated-gelu", **options)
    built = T5ForConditionalGeneration(config)
    untie(built)
    torch.nn.init.normal_(built.lm_head.weight, std=config.d_model**-0.5)
    return built


def training_flops(shape: str, chosen: Sequence[SyntheticExample]) -> float:
    """Returns the FLOPs of forward and backward pass over these examples without padding."""
    from types import SimpleNamespace

    from raytrain.training.flops import step_flops

    config = SimpleNamespace(**SHAPES[shape], vocab_size=VOCABULARY, is_gated_act=True)
    return step_flops(config, np.array([len(e.source) for e in chosen]), np.array([len(e.target) for e in chosen]))


def machine() -> dict[str, Any]:
    """Describes the machine."""
    import torch
    import transformers

    found: dict[str, Any] = {
        "cores": os.cpu_count(),
        "processor": processor(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    if torch.cuda.is_available():
        found["device"] = torch.cuda.get_device_name(0)
    return found


def spread(values: Sequence[float]) -> dict[str, float]:
    """Returns median, minimum and maximum, to four digits."""
    return {
        name: float(f"{value:.4g}")
        for name, value in (("median", statistics.median(values)), ("min", min(values)), ("max", max(values)))
    }


def has_bf16(path: Path = Path("/proc/cpuinfo")) -> bool:
    """Returns whether this processor has bf16 instructions."""
    try:
        return any(flag in path.read_text() for flag in ("avx512_bf16", "amx_bf16", " bf16"))
    except OSError:
        return False


def rows_of(chosen: Sequence[SyntheticExample], shape: tuple[int, int]) -> tuple[Any, Callable[[int], Any]]:
    """Returns our packed order over the examples, and a function that collates row number k."""
    from raytrain.config.training import PackingShape
    from raytrain.training.data.batch import collate
    from raytrain.training.data.packing import ExampleLengths, PackedOrder
    from raytrain.training.data.sampling_order import SamplingOrder, TaskStream

    tasks = [[e for e in chosen if e.task == number] for number in range(len(FOUR))]
    lengths = ExampleLengths.of(
        [([np.array([len(e.source) for e in t])], [np.array([len(e.target) for e in t])]) for t in tasks]
    )
    streams = [TaskStream(name, len(t), 1, len(t) / len(chosen)) for name, t in zip(FOUR, tasks, strict=True)]
    order = PackedOrder(SamplingOrder(streams, 17), lengths, PackingShape(source=shape[0], target=shape[1]))

    def read(ref: Any) -> tuple[Any, Any]:
        example = tasks[ref.task][ref.example]
        return example.source, example.target

    def row(index: int) -> Any:
        return collate(order.rows(index, 1)[0], read, order.shape, index=index)

    return order, row


def random_model(**sizes: int) -> Any:
    """A model of FLAN-T5-small's shape that depends on its source and never ends by itself."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    shape: dict[str, Any] = {"vocab_size": 32_128, "d_model": 512, "d_kv": 64, "d_ff": 1024, "num_layers": 8}
    shape |= {"num_heads": 6, **sizes}
    torch.manual_seed(0)
    options = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "decoder_start_token_id": 0}
    config = T5Config(**(shape | options), dropout_rate=0.0)
    model: Any = T5ForConditionalGeneration(config)
    model.eval().requires_grad_(False)
    head = torch.randn(shape["vocab_size"], shape["d_model"]) * shape["d_model"] ** -0.5
    head[1] = 0  # the logit of the end is 0, and some other one is always above
    model.lm_head.weight = torch.nn.Parameter(head, requires_grad=False)
    for block in model.decoder.block:
        block.layer[1].EncDecAttention.o.weight.mul_(8)
    return model
