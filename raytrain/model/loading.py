"""Loads T5 without falling into the traps of tied embeddings.

T5 v1.0 uses one table for the embedding and the output layer and scales the decoder's output; v1.1
and FLAN-T5 have a separate output layer and do not scale. transformers 5 reads both correctly with
`from_pretrained`, but its config then says "tied" for either. As a result, `load_state_dict` into a
fresh model, `tie_weights` and `resize_token_embeddings` silently overwrite one table with the
other. Here an untied model cannot be tied again, rows are added by our own code, and states are
loaded tensor by tensor.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytrain.model import families, vocabulary
from raytrain.model.source import WEIGHTS_FILE, read_config
from raytrain_core.errors import TrainingError

if TYPE_CHECKING:
    import torch
    from transformers import T5ForConditionalGeneration

HEAD = "lm_head.weight"
_ROWS_MULTIPLE = 8  # matrix units are fastest if the vocabulary is a multiple of this


def load(folder: Path, *, tokenizer_size: int) -> T5ForConditionalGeneration:
    """Loads the model in `folder` in fp32 and evaluation mode.

    It has at least `tokenizer_size` embedding rows. TrainingError if files are missing or damaged,
    or if the weights do not fit the configuration.
    """
    import torch

    config = read_config(folder, str(folder))
    families.require_supported(config, str(folder))
    stored = _stored_names(folder)
    _require_head(folder, config, stored)
    try:
        with quiet():
            model, info = families.model_class(config["model_type"]).from_pretrained(
                folder, dtype=torch.float32, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
    except Exception as error:  # transformers, safetensors and huggingface_hub have exceptions of their own
        raise TrainingError(f"model {folder}: cannot load it: {_first_line(error)}") from error
    if wrong := [*info["missing_keys"], *(str(key) for key in info["mismatched_keys"])]:
        raise TrainingError(
            f"model {folder}: its weights do not fit its config.json; missing or of another shape: "
            f"{', '.join(sorted(wrong)[:5])}"
        )
    if HEAD in stored and config.get("tie_word_embeddings") is False and is_tied(model):
        untie(model)  # the tables happen to be equal, which transformers takes for tied
    if not is_tied(model):
        forbid_tying(model)
    if model.config.model_type == "umt5":
        model.config.tie_word_embeddings = is_tied(model)  # by this its forward pass decides whether to scale
    if tokenizer_size > model.shared.num_embeddings:
        add_rows(model, tokenizer_size)
    if not is_tied(model):  # tied rows are the output layer's too, and were trained as such
        vocabulary.initialize_new_rows(model, folder)
    model.eval()
    loaded: T5ForConditionalGeneration = model
    return loaded


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences transformers' warnings about the config of FLAN-T5 and its progress bars."""
    from transformers.utils import logging

    shared: Any = logging
    level, bars = shared.get_verbosity(), shared.is_progress_bar_enabled()
    shared.set_verbosity_error()
    shared.disable_progress_bar()
    try:
        yield
    finally:
        shared.set_verbosity(level)
        if bars:
            shared.enable_progress_bar()


def is_tied(model: T5ForConditionalGeneration) -> bool:
    """Returns whether the output layer shares the embedding table."""
    head, table = (getattr(m.weight, "_local_tensor", m.weight) for m in (model.lm_head, model.shared))  # or sharded
    return bool(head.data_ptr() == table.data_ptr())


def untie(model: T5ForConditionalGeneration) -> None:
    """Gives the output layer a table of its own with the same values."""
    import torch

    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    forbid_tying(model)


def forbid_tying(model: T5ForConditionalGeneration) -> None:
    """Removes the output layer from what transformers ties, so that no later call ties it again."""
    model._tied_weights_keys = {k: v for k, v in model._tied_weights_keys.items() if k != HEAD}
    model.all_tied_weights_keys = {k: v for k, v in model.all_tied_weights_keys.items() if k != HEAD}


def add_rows(model: T5ForConditionalGeneration, rows: int) -> None:
    """Extends embedding and output layer to at least `rows` rows.

    New rows are drawn from the distribution of the old ones, with a fixed seed. Old rows keep their
    values; a tied model stays tied, an untied one untied.
    """
    import torch

    rows = -(-rows // _ROWS_MULTIPLE) * _ROWS_MULTIPLE
    tied = is_tied(model)
    model.shared.weight = torch.nn.Parameter(_extended(model.shared.weight.detach(), rows))
    model.shared.num_embeddings = rows
    for stack in (model.encoder, model.decoder):
        stack.embed_tokens.weight = model.shared.weight
        stack.embed_tokens.num_embeddings = rows
    if tied:
        model.lm_head.weight = model.shared.weight
    else:
        model.lm_head.weight = torch.nn.Parameter(_extended(model.lm_head.weight.detach(), rows))
    model.lm_head.out_features = rows
    for config in (model.config, model.encoder.config, model.decoder.config):
        config.vocab_size = rows


def load_state(model: T5ForConditionalGeneration, tensors: dict[str, torch.Tensor]) -> None:
    """Copies `tensors`, one for each name of `named_parameters()`, into the model.

    Ties stay as they are. TrainingError unless names and shapes are exactly the model's.
    """
    import torch

    own = dict(model.named_parameters())
    require_same(own, tensors)
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(tensors[name])


def require_same(own: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> None:
    """Raises TrainingError unless both have the same names and shapes."""
    if wrong := sorted(own.keys() ^ other.keys()):
        raise TrainingError(f"the state is that of another model: {', '.join(wrong[:5])} on one side only")
    for name, parameter in own.items():
        if parameter.shape != other[name].shape:
            actual, expected = list(other[name].shape), list(parameter.shape)
            raise TrainingError(f"the state is that of another model: {name} is {actual}, not {expected}")


def _require_head(folder: Path, config: Mapping[str, Any], stored: set[str]) -> None:
    """Raises TrainingError if the output layer is missing: transformers would tie it."""
    if config.get("tie_word_embeddings") is False and HEAD not in stored:
        raise TrainingError(
            f"model {folder}: its config.json says that it has an output layer of its own "
            f"(tie_word_embeddings: false), but its weights have no {HEAD}",
            hint="save the model again with the version of transformers that trained it",
        )


def _extended(table: torch.Tensor, rows: int) -> torch.Tensor:
    import torch

    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(rows - table.shape[0], table.shape[1], generator=generator).to(table)
    new = table.mean(0) + drawn * table.std(0)
    return torch.cat([table, new])


def _stored_names(folder: Path) -> set[str]:
    from safetensors import SafetensorError, safe_open

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise TrainingError(f"model {folder}: no {WEIGHTS_FILE} in it")
    names: set[str] = set()
    for path in files:
        try:
            with safe_open(path, framework="pt") as file:
                names.update(file.keys())
        except (SafetensorError, OSError) as error:
            raise TrainingError(
                f"model {folder}: {path.name} is damaged: {_first_line(error)}", hint="download or save the model again"
            ) from None
    return names


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
