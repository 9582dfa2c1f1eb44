"""A model's answers to a benchmark's requests: log-likelihoods of continuations, or generated text.

Each context is encoded once, however many continuations it has; the decoder then reads all
continuations of a prefill batch in packed passes. Values equal those of lm-evaluation-harness
with transformers up to float32 rounding.

Shapes are written as suffixes of tensor names, as in `t5_engine`: C continuations in a pass, T
their length.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from data_prep.text.tokenizer import EOS, Ids
from raytrain.generation.continuous_batching import PrefillBatch, generate_greedy, pad, prefill_batches
from raytrain.generation.plain_tokenizer import PlainTokenizer
from raytrain.generation.requests import BenchmarkRequest, Generation
from raytrain.generation.t5_engine import T5Engine
from raytrain_core.errors import DataError

SCORED_TOKENS = 2048  # continuation tokens scored in one pass
DECODED_TOKENS = 32_768  # tokens that all slots together may generate: it bounds their cache


@dataclass(frozen=True, slots=True)
class _Continuation:
    """A continuation: its request, its place among that request's pairs, its context, its ids."""

    request: int
    place: int
    context: int
    ids: Ids


def answer(
    engine: T5Engine, tokenizer: PlainTokenizer, requests: Sequence[BenchmarkRequest], batch_size: int
) -> list[Generation]:
    """Returns the answers to the requests, in order; DataError for a choice without a token."""
    scored = [i for i, request in enumerate(requests) if request.pairs]
    written = [i for i, request in enumerate(requests) if not request.pairs]
    answers = dict(zip(scored, _score(engine, tokenizer, [requests[i] for i in scored], batch_size), strict=True))
    answers |= zip(written, _write(engine, tokenizer, [requests[i] for i in written], batch_size), strict=True)
    return [answers[i] for i in range(len(requests))]


def _write(
    engine: T5Engine, tokenizer: PlainTokenizer, requests: Sequence[BenchmarkRequest], batch_size: int
) -> Iterator[Generation]:
    """Generates text; the limit is that of the harness for one request at a time.

    Its limit for an encoder-decoder is the context's length plus the task's own limit, start token
    included.
    """
    encoded = [tokenizer.context(request.context, request.max_input_tokens) for request in requests]
    limits = [len(ids) + r.max_new_tokens - 1 for (ids, _), r in zip(encoded, requests, strict=True)]
    slots = max(1, min(batch_size, DECODED_TOKENS // max(limits, default=1)))
    generated = generate_greedy(engine, [ids for ids, _ in encoded], slots=slots, max_new_tokens=limits)
    for request, (context, cut), ids in zip(requests, encoded, generated, strict=True):
        text = tokenizer.decode(ids, request.until)
        ended = EOS in ids
        yield Generation(text, len(ids) - ended, not ended, prompt_tokens=len(context), prompt_cut=cut)


def _score(
    engine: T5Engine, tokenizer: PlainTokenizer, requests: Sequence[BenchmarkRequest], batch_size: int
) -> Iterator[Generation]:
    """Measures log-likelihoods; the text of an answer is the most likely continuation."""
    contexts: dict[tuple[int, ...], int] = {}
    continuations: list[_Continuation] = []
    cut, longest = [False] * len(requests), [0] * len(requests)
    for number, request in enumerate(requests):
        for place, (context, continuation) in enumerate(request.pairs):
            source, ids, was_cut = tokenizer.pair(context, continuation, request.max_input_tokens)
            if not len(ids):
                raise DataError(f"a benchmark's choice {continuation!r} has no token in the model's vocabulary")
            key = contexts.setdefault(tuple(source.tolist()), len(contexts))
            continuations.append(_Continuation(number, place, key, ids))
            cut[number] |= was_cut
            longest[number] = max(longest[number], len(source))
    found = _log_likelihoods(engine, list(contexts), continuations, batch_size)
    for number, request in enumerate(requests):
        values = tuple(found[number, place] for place in range(len(request.pairs)))
        best = max(range(len(values)), key=lambda place: values[place][0])
        yield Generation(
            request.pairs[best][1].strip(),
            0,
            cut_off=False,
            prompt_tokens=longest[number],
            log_likelihoods=values,
            prompt_cut=cut[number],
        )


def _log_likelihoods(
    engine: T5Engine, contexts: Sequence[tuple[int, ...]], continuations: Sequence[_Continuation], batch_size: int
) -> dict[tuple[int, int], tuple[float, bool]]:
    """Maps (request, place) of each continuation to its log-likelihood and whether it is greedy."""
    of_context: dict[int, list[_Continuation]] = {}
    for one in continuations:
        of_context.setdefault(one.context, []).append(one)
    found: dict[tuple[int, int], tuple[float, bool]] = {}
    sources = [np.array(context, np.uint32) for context in contexts]
    with torch.inference_mode():
        for batch in prefill_batches(engine, sources, max_prompts=batch_size):
            texts = [(place, one) for place, number in enumerate(batch.prompts) for one in of_context[number]]
            for some in _passes(texts):
                found.update(_pass(engine, batch, some))
    return found


def _passes(texts: list[tuple[int, _Continuation]]) -> Iterator[list[tuple[int, _Continuation]]]:
    """Divides continuations, longest first, into passes of a bounded number of tokens."""
    texts = sorted(texts, key=lambda text: -len(text[1].ids))
    start = 0
    while start < len(texts):
        some = texts[start : start + max(1, SCORED_TOKENS // len(texts[start][1].ids))]
        start += len(some)
        yield some


def _pass(
    engine: T5Engine, batch: PrefillBatch, texts: Sequence[tuple[int, _Continuation]]
) -> Iterator[tuple[tuple[int, int], tuple[float, bool]]]:
    prompts_C = torch.tensor([place for place, _ in texts], device=engine.device)
    lengths_C = torch.tensor([len(one.ids) for _, one in texts], device=engine.device)
    ids_CT = pad([one.ids for _, one in texts]).to(engine.device)
    losses_C, greedy_C = engine.score_greedy(batch.encoded, prompts_C, ids_CT, lengths_C)
    for (_, one), loss, greedy in zip(texts, losses_C.tolist(), greedy_C.tolist(), strict=True):
        yield (one.request, one.place), (-loss, greedy)
