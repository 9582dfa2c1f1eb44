"""Generation with a T5 in fp32: greedy by our own loop, beam search by transformers.

What is generated depends on prompt and weights alone, with one exception: the shape of a batch
decides the order of float additions, so where the two best logits of a step are within about 1e-4
of each other, another batch may take the other token. Batches are therefore a pure function of the
prompts of one call (longest first, then by position), and callers make their calls a pure function
of the rows (`raytrain.evaluation.chunks`).
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_prep.text.tokenizer import EOS, Ids, Tokenizer
from raytrain.generation.benchmark_answers import answer
from raytrain.generation.continuous_batching import PrefillBatch, generate_greedy, pad, prefill_batches
from raytrain.generation.live_batching import LiveBatcher
from raytrain.generation.plain_tokenizer import PlainTokenizer
from raytrain.generation.requests import (
    BenchmarkRequest,
    Generation,
    GenerationLimits,
    GenerationRequest,
    ModelRef,
    Request,
)
from raytrain.generation.t5_engine import T5Engine
from raytrain.model.decoding import decoding_config
from raytrain.model.source import WEIGHTS_FILE
from raytrain_core.errors import StorageError
from raytrain_core.storage import Store
from raytrain_core.storage.commit import fetch, read_manifest
from raytrain_core.storage.scratch import scratch

SCORED_TOKENS = 2048  # target tokens scored at once


@dataclass(slots=True)
class _Scores:
    """Losses in nats and lengths in tokens of a request's `scored_texts`."""

    losses: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)


@contextlib.contextmanager
def _out_of_memory() -> Iterator[None]:
    """Turns torch's ways to say that memory does not suffice into MemoryError."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise MemoryError(str(error).strip().splitlines()[0]) from None
        raise


class Generator:
    """Generates with one model. Takes over the model that it is given.

    `device` "cpu" stays on the CPU; any other value uses a GPU where there is one, and else the
    CPU: results are the same. `plain` returns the model folder's own tokenizer and `positions` is
    the longest text in tokens, both for benchmarks only.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        limits: GenerationLimits,
        *,
        device: str = "auto",
        max_target_tokens: int | None = None,
        plain: Callable[[], PlainTokenizer] | None = None,
        positions: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        device = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
        model = model.to(device=device, dtype=torch.float32).eval()
        self._tokenizer, self._limits = tokenizer, limits
        self._max_target_tokens = max_target_tokens or limits.max_new_tokens
        self._plain = plain
        self._engine = T5Engine(
            model,
            longest_input=max(limits.max_input_tokens, positions),
            longest_output=max(limits.max_new_tokens, self._max_target_tokens, positions),
            dtype=dtype,
        )
        self._beam_search = _BeamSearch(model, limits) if limits.beams > 1 else None

    def generate(self, requests: Sequence[Request | str], *, batch_size: int | None = None) -> list[Generation]:
        """Returns one generation per request, in the same order; a string is a prompt alone.

        Prompts and targets are truncated as in training. All requests of a call are a benchmark's,
        or none is. `batch_size` overrides that of the limits. Raises MemoryError where memory does
        not suffice.
        """
        size = batch_size or self._limits.batch_size
        benchmark = [request for request in requests if isinstance(request, BenchmarkRequest)]
        with _out_of_memory():
            if benchmark:
                return answer(self._engine, self._plain_tokenizer, benchmark, size)
            given = [GenerationRequest(r) if isinstance(r, str) else r for r in requests]
            return self._generate([r for r in given if isinstance(r, GenerationRequest)], size)

    @cached_property
    def _plain_tokenizer(self) -> PlainTokenizer:
        if self._plain is None:
            raise ValueError("benchmarks need the tokenizer of the model's folder")
        return self._plain()

    def _generate(self, given: Sequence[GenerationRequest], batch_size: int) -> list[Generation]:
        sources = self._tokenizer.encode_batch([r.prompt for r in given], self._limits.max_input_tokens)
        generated, scores = self._run(given, sources, batch_size)
        return [
            self._generation(request, len(source), ids, scores.get(i, _Scores()))
            for i, (request, source, ids) in enumerate(zip(given, sources, generated, strict=True))
        ]

    def live(self, *, slots: int | None = None) -> LiveBatcher:
        """Returns this model answering requests as they arrive; greedy, whatever the beams."""
        return LiveBatcher(
            self._engine,
            slots=slots or self._limits.batch_size,
            longest_input=self._limits.max_input_tokens,
            longest_output=self._limits.max_new_tokens,
        )

    def _run(
        self, requests: Sequence[GenerationRequest], sources: Sequence[Ids], batch_size: int
    ) -> tuple[list[list[int]], dict[int, _Scores]]:
        """Returns the generated ids of each request, and the scores of those that have targets."""
        scores: dict[int, _Scores] = {}

        def score(batch: PrefillBatch) -> None:
            scores.update(self._score(requests, batch))

        if self._beam_search is None:
            limit = self._limits.max_new_tokens
            generated = generate_greedy(self._engine, sources, slots=batch_size, max_new_tokens=limit, on_prefill=score)
            return generated, scores
        with torch.inference_mode():
            for batch in prefill_batches(self._engine, sources, max_prompts=batch_size):
                score(batch)
        return self._beam_search.generate(sources, batch_size), scores

    def _score(self, requests: Sequence[GenerationRequest], batch: PrefillBatch) -> dict[int, _Scores]:
        """Scores the texts of a batch's requests, a bounded number of tokens at once."""
        texts = [
            (place, number, text)
            for place, number in enumerate(batch.prompts)
            for text in requests[number].scored_texts
        ]
        if not texts:
            return {}
        ids = self._tokenizer.encode_batch([text for _, _, text in texts], self._max_target_tokens)
        order = sorted(range(len(texts)), key=lambda i: -len(ids[i]))
        losses = np.zeros(len(texts))
        start = 0
        while start < len(order):
            some = order[start : start + max(1, SCORED_TOKENS // len(ids[order[start]]))]
            start += len(some)
            device = self._engine.device
            prompts_C = torch.tensor([texts[i][0] for i in some], device=device)
            lengths_C = torch.tensor([len(ids[i]) for i in some], device=device)
            ids_CT = pad([ids[i] for i in some]).to(device)
            losses_C = self._engine.score_targets(batch.encoded, prompts_C, ids_CT, lengths_C)
            losses[some] = losses_C.cpu().numpy()
        scores: dict[int, _Scores] = {}
        for i, (_, number, _) in enumerate(texts):
            of_request = scores.setdefault(number, _Scores())
            of_request.losses.append(float(losses[i]))
            of_request.lengths.append(len(ids[i]))
        return scores

    def _generation(
        self, request: GenerationRequest, prompt_tokens: int, ids: list[int], scores: _Scores
    ) -> Generation:
        cut_off = EOS not in ids
        kept = ids if cut_off else ids[: ids.index(EOS)]
        # An untrained model can generate ids of unused embedding rows, which have no text.
        known = [i for i in kept if i < self._tokenizer.size]
        targets = 0 if request.target is None else 1
        has_loss = bool(targets and scores.losses and math.isfinite(scores.losses[0]))
        return Generation(
            self._tokenizer.decode(known),
            len(kept),
            cut_off,
            prompt_tokens=prompt_tokens,
            loss=scores.losses[0] if has_loss else None,
            loss_tokens=scores.lengths[0] if has_loss else 0,
            choice_losses=tuple(scores.losses[targets:]),
        )


class _BeamSearch:
    """Beam search by transformers' `generate`, in batches of prompts of similar length."""

    def __init__(self, model: Any, limits: GenerationLimits) -> None:
        # The model's own generation_config would fill in whatever is not set here (penalties,
        # length limits).
        model.generation_config = decoding_config(model.config, max_new_tokens=None, beams=1)
        self._model = model
        self._config = decoding_config(model.config, max_new_tokens=limits.max_new_tokens, beams=limits.beams)

    def generate(self, sources: Sequence[Ids], batch_size: int) -> list[list[int]]:
        """Returns the generated ids for each source."""
        order = sorted(range(len(sources)), key=lambda i: -len(sources[i]))
        generated: dict[int, list[int]] = {}
        device = self._model.device
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            ids_BS = pad([sources[i] for i in batch])
            lengths_B = torch.tensor([len(sources[i]) for i in batch])
            mask_BS = (torch.arange(ids_BS.shape[1]) < lengths_B[:, None]).long()
            with torch.inference_mode():
                ids_BT = self._model.generate(
                    input_ids=ids_BS.to(device),
                    attention_mask=mask_BS.to(device),
                    generation_config=self._config,
                    past_key_values=_empty_cache(),
                )
            generated.update(zip(batch, ids_BT[:, 1:].tolist(), strict=True))  # without the start token
        return [generated[i] for i in range(len(sources))]


def _empty_cache() -> Any:
    """A cache that grows by layers as they come.

    The one that transformers 5.23 makes has as many layers as the encoder, and T5-efficient models
    have decoders with more.
    """
    from transformers.cache_utils import DynamicCache, EncoderDecoderCache

    cache: Any = EncoderDecoderCache
    layers: Any = DynamicCache
    return cache(layers(), layers())


def plain_tokenizer(ref: ModelRef, tokenizer: Tokenizer, *, store: Store, cache_folder: Path) -> PlainTokenizer:
    """Returns the tokenizer that belongs to a model's folder.

    A base model has its own; a trained one, checkpoint or export, has that of the run.
    """
    from raytrain.model.source import resolve

    if ref.kind == "base":
        uri = ref.named if ref.named and not Path(ref.uri).is_dir() else ref.uri
        return PlainTokenizer(resolve(uri, store=store, base_folder=Path(), cache=cache_folder))
    with scratch("tokenizer", folder=cache_folder) as folder:
        tokenizer.save(folder)
        return PlainTokenizer(folder)


def load_model(ref: ModelRef, base: ModelRef, *, store: Store, cache_folder: Path, tokenizer_size: int) -> Any:
    """Loads the model that `ref` refers to; a checkpoint's weights are loaded into `base`.

    Raises StorageError where files are missing, CorruptError where they are not what was committed,
    TrainingError where they are not those of a T5.
    """
    from raytrain.model.loading import load, load_state
    from raytrain.model.source import resolve

    def local(model: ModelRef) -> Path:
        uri = model.named if model.named and not Path(model.uri).is_dir() else model.uri
        return resolve(uri, store=store, base_folder=Path(), cache=cache_folder)

    if ref.kind == "base":
        return load(local(ref), tokenizer_size=tokenizer_size)
    manifest = read_manifest(store, ref.uri)
    if manifest is None:
        raise StorageError(f"{store.uri}/{ref.uri}: no such {ref.kind}; it may have been deleted")
    with scratch("model", folder=cache_folder) as folder:
        if ref.kind == "export":
            return load(fetch(store, manifest, folder), tokenizer_size=tokenizer_size)
        from safetensors.torch import load_file

        fetch(store, manifest, folder, [WEIGHTS_FILE])
        model = load(local(base), tokenizer_size=tokenizer_size)
        load_state(model, load_file(folder / WEIGHTS_FILE))
        return model
