"""CTranslate2: smaller and faster on CPUs; what that changes in the answers is measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytrain.export.agreement import compare_answers, prompts_of
from raytrain.export.exported_run import REPORT, copy_beside
from raytrain_core.errors import TrainingError

if TYPE_CHECKING:
    from data_prep.text.tokenizer import Tokenizer
    from raytrain.export.exported_run import ExportedRun
    from raytrain.generation.requests import GenerationLimits

QUANTIZATIONS = ("int8", "bfloat16", "float32")
"""How weights can be stored; the first is the default."""


def write_ctranslate2(run: ExportedRun, out: Path, quantization: str) -> list[str]:
    """Converts the model to `out`, compares its answers with the model's own, and says how it went.

    The comparison runs on this machine's CPU in the type that it computes in, which the report
    names: a CPU without bfloat16 computes such weights in float32.

    Raises TrainingError if the conversion fails.
    """
    import ctranslate2 as library

    from raytrain.generation.generator import Generator
    from raytrain.generation.requests import GenerationLimits
    from raytrain.model.loading import load

    prompts, tokenizer, rows = prompts_of(run.store, run.record)
    limits = GenerationLimits.from_job(run.record.job)
    _convert(library, run.model, out, quantization)
    model = load(run.model, tokenizer_size=tokenizer.size)
    original = [one.text for one in Generator(model, tokenizer, limits, device="cpu").generate(prompts)]
    translator = library.Translator(str(out), device="cpu")
    found = compare_answers(original, translate(translator, tokenizer, prompts, limits), rows)
    computed = str(translator.compute_type)
    report = {"format": 1, "quantization": quantization, "computed_in": computed, "decoding": limits.decoding}
    report |= {"max_new_tokens": limits.max_new_tokens, "ctranslate2": library.__version__, **found.as_json()}
    (out / REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    stored = f"Weights are stored as {quantization} by CTranslate2 {library.__version__}"
    return [f"{stored}; compared in {computed} on a CPU.", found.sentence]


def translate(translator: Any, tokenizer: Tokenizer, prompts: Sequence[str], limits: GenerationLimits) -> list[str]:
    """Returns the answers of a CTranslate2 model, decoded as the run's scores were."""
    rows = tokenizer.encode_batch(prompts, limits.max_input_tokens)
    results = translator.translate_batch(
        [tokenizer.tokens(ids) for ids in rows],
        beam_size=limits.beams,
        max_decoding_length=limits.max_new_tokens,
        max_input_length=0,
        max_batch_size=limits.batch_size,
    )
    ids = [[tokenizer.id_of(token) for token in result.hypotheses[0]] for result in results]
    # CTranslate2 names embedding rows without a token; as in our own generation they have no text.
    return [tokenizer.decode(one for one in row if one is not None) for row in ids]


def _convert(library: Any, model: Path, out: Path, quantization: str) -> None:
    from raytrain.model.loading import quiet

    try:
        with quiet():
            converter = library.converters.TransformersConverter(str(model))
            converter.convert(str(out), quantization=quantization, force=True)
    except Exception as error:  # of two libraries, for models that they do not know
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise TrainingError(f"CTranslate2 cannot convert the model: {first}") from None
    copy_beside(model, out)  # not before: the converter empties the folder
