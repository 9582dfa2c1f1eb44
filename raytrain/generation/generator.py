"""Answers of a T5 to prompts, in fp32: greedy ones by our own loop, those of a beam search by transformers' `generate`.

An answer depends on its prompt and the weights alone, with one exception: a batch's shape decides
the order of float additions, so where the two best logits of a step are within about 1e-4 of each
other, another batch may take the other token. Batches are therefore a pure function of the prompts
given in one call (longest first, then by position), and callers make their calls a pure function of
the rows (`examples.chunks`).
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_prep.text.tokenizer import EOS, PAD, Ids, Tokenizer
from raytrain.generation.continuous_batching import Wave, greedy, padded, waves
from raytrain.generation.requests import Answer, Limits, ModelRef, Question
from raytrain.generation.t5_engine import Inference
from raytrain.model.source import WEIGHTS_FILE
from raytrain_core.errors import StorageError
from raytrain_core.storage import Store
from raytrain_core.storage.commit import fetch, read_manifest
from raytrain_core.storage.scratch import scratch

JUDGED_TOKENS = 2048  # of targets that are judged at once


class Decoder:
    """One model that answers prompts. The model given is the decoder's from then on."""

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        limits: Limits,
        *,
        device: str = "auto",
        max_target_tokens: int | None = None,
    ) -> None:
        # Where there is no GPU, answers come from the CPU whatever was wished: they are the same,
        # later.
        device = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
        model = model.to(device=device, dtype=torch.float32).eval()
        self._tokenizer, self._limits = tokenizer, limits
        self._max_target_tokens = max_target_tokens or limits.max_new_tokens
        longest_output = max(limits.max_new_tokens, self._max_target_tokens)
        self._inference = Inference(model, longest_input=limits.max_input_tokens, longest_output=longest_output)
        self._beams = _BeamSearch(model, limits) if limits.beams > 1 else None

    def answer(self, questions: Sequence[Question | str], *, batch_size: int | None = None) -> list[Answer]:
        """One answer for each question, in the same order. Prompts and targets are cut as training cuts them.

        `batch_size` overrides that of the limits; memory that does not suffice is a MemoryError.
        """
        asked = [Question(q) if isinstance(q, str) else q for q in questions]
        sources = self._tokenizer.encode_batch([q.prompt for q in asked], self._limits.max_input_tokens)
        size = batch_size or self._limits.batch_size
        judged: dict[int, tuple[list[float], list[int]]] = {}

        def judge(wave: Wave) -> None:
            judged.update(self._judge(asked, wave))

        try:
            if self._beams is None:
                written = greedy(
                    self._inference, sources, slots=size, max_new_tokens=self._limits.max_new_tokens, on_wave=judge
                )
            else:
                with torch.inference_mode():
                    for wave in waves(self._inference, sources, at_once=size):
                        judge(wave)
                written = self._beams.write(sources, size)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
                raise MemoryError(str(error).strip().splitlines()[0]) from None
            raise
        return [
            self._read(ids, len(source), question, *judged.get(i, ([], [])))
            for i, (ids, source, question) in enumerate(zip(written, sources, asked, strict=True))
        ]

    def _judge(self, asked: Sequence[Question], wave: Wave) -> dict[int, tuple[list[float], list[int]]]:
        """For every text of the wave that has something to be judged: losses and lengths, the target's first."""
        wanted = [(place, text, answer) for place, text in enumerate(wave.texts) for answer in asked[text].judged]
        if not wanted:
            return {}
        ids = self._tokenizer.encode_batch([answer for _, _, answer in wanted], self._max_target_tokens)
        order = sorted(range(len(wanted)), key=lambda i: -len(ids[i]))
        losses = np.zeros(len(wanted))
        start = 0
        while start < len(order):
            some = order[start : start + max(1, JUDGED_TOKENS // len(ids[order[start]]))]
            start += len(some)
            device = self._inference.device
            texts = torch.tensor([wanted[i][0] for i in some], device=device)
            lengths = torch.tensor([len(ids[i]) for i in some], device=device)
            targets = padded([ids[i] for i in some]).to(device)
            losses[some] = self._inference.judge(wave.memory, texts, targets, lengths).cpu().numpy()
        found: dict[int, tuple[list[float], list[int]]] = {}
        for i, (_, text, _) in enumerate(wanted):
            all_losses, lengths_of = found.setdefault(text, ([], []))
            all_losses.append(float(losses[i]))
            lengths_of.append(len(ids[i]))
        return found

    def _read(self, ids: list[int], read: int, question: Question, losses: list[float], lengths: list[int]) -> Answer:
        cut_off = EOS not in ids
        kept = ids if cut_off else ids[: ids.index(EOS)]
        # Rows of the embedding that no piece uses can be generated by an untrained model: they have
        # no text.
        known = [i for i in kept if i < self._tokenizer.size]
        of_target = 0 if question.target is None else 1
        judged = bool(of_target and losses and math.isfinite(losses[0]))
        return Answer(
            self._tokenizer.decode(known),
            len(kept),
            cut_off,
            read=read,
            loss=losses[0] if judged else None,
            loss_tokens=lengths[0] if judged else 0,
            choice_losses=tuple(losses[of_target:]),
        )


class _BeamSearch:
    """transformers' `generate`, in batches of texts of similar length."""

    def __init__(self, model: Any, limits: Limits) -> None:
        from transformers import GenerationConfig

        configured: Any = GenerationConfig
        start = model.config.decoder_start_token_id
        ids = {
            "decoder_start_token_id": PAD if start is None else start,
            "pad_token_id": PAD,
            "eos_token_id": EOS,
        }
        # The model's own generation_config would fill in what is not said here (penalties, length
        # limits).
        model.generation_config = configured(**ids)
        self._model = model
        self._generation = configured(
            do_sample=False, num_beams=limits.beams, max_new_tokens=limits.max_new_tokens, **ids
        )

    def write(self, sources: Sequence[Ids], size: int) -> list[list[int]]:
        """For each source the ids that the model writes."""
        order = sorted(range(len(sources)), key=lambda i: -len(sources[i]))
        written: dict[int, list[int]] = {}
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            ids = padded([sources[i] for i in batch])
            lengths = torch.tensor([len(sources[i]) for i in batch])
            mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
            device = self._model.device
            with torch.inference_mode():
                found = self._model.generate(
                    input_ids=ids.to(device), attention_mask=mask.to(device), generation_config=self._generation
                )
            written.update(zip(batch, found[:, 1:].tolist(), strict=True))  # without the start token
        return [written[i] for i in range(len(sources))]


def load_model(ref: ModelRef, base: ModelRef, *, store: Store, cache_folder: Path, tokenizer_size: int) -> Any:
    """The model that `ref` names, ready to be asked. A checkpoint is its weights in the model `base`.

    StorageError (or CorruptError) where its files are not there or not what was committed,
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
        raise StorageError(f"{store.uri}/{ref.uri}: there is no such {ref.kind} (any more)")
    with scratch("model", folder=cache_folder) as folder:
        if ref.kind == "export":
            return load(fetch(store, manifest, folder), tokenizer_size=tokenizer_size)
        from safetensors.torch import load_file

        fetch(store, manifest, folder, [WEIGHTS_FILE])
        model = load(local(base), tokenizer_size=tokenizer_size)
        load_state(model, load_file(folder / WEIGHTS_FILE))
        return model
