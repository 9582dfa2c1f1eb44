"""Loading T5 without the traps of tied embeddings.

T5 v1.0 uses one table for the embedding and the output layer and scales the decoder's output; v1.1
and FLAN-T5 have an output layer of their own and do not scale. transformers 5 reads both right with
`from_pretrained`, but its config then says "tied" for either, so that `load_state_dict` into a
fresh model, `tie_weights` and `resize_token_embeddings` silently overwrite one table with the
other. Here a model that came untied can not be tied again, rows are added by hand, and states are
loaded tensor by tensor.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytrain.model import vocabulary
from raytrain.model.source import WEIGHTS_FILE, read_config
from raytrain_core.errors import TrainingError

if TYPE_CHECKING:
    import torch
    from transformers import T5ForConditionalGeneration

HEAD = "lm_head.weight"
_ROWS_MULTIPLE = 8  # matrix units want the vocabulary in multiples of this


def load(folder: Path, *, tokenizer_size: int) -> T5ForConditionalGeneration:
    """The model of `folder` in fp32 with at least `tokenizer_size` embedding rows, in evaluation mode.

    Raises TrainingError where files are missing, broken, or are not the weights of that
    configuration.
    """
    import torch
    from transformers import T5ForConditionalGeneration

    config = read_config(folder, str(folder))
    stored = _stored_names(folder)
    try:
        with quiet():
            loader: Any = T5ForConditionalGeneration
            model, info = loader.from_pretrained(
                folder, dtype=torch.float32, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
    except Exception as error:  # transformers, safetensors and huggingface_hub raise kinds of their own
        raise TrainingError(f"model {folder} cannot be loaded: {_first_line(error)}") from error
    if wrong := [*info["missing_keys"], *(str(key) for key in info["mismatched_keys"])]:
        raise TrainingError(
            f"model {folder}: its weights are not those of its config.json; missing or of another shape: "
            f"{', '.join(sorted(wrong)[:5])}"
        )
    if HEAD in stored and config.get("tie_word_embeddings") is False and is_tied(model):
        untie(model)  # both tables happen to hold the same numbers, which is no reason to make them one
    if not is_tied(model):
        forbid_tying(model)
    if tokenizer_size > model.shared.num_embeddings:
        add_rows(model, tokenizer_size)
    if not is_tied(model):  # tied, the rows are the output layer's too, and trained as such
        vocabulary.start(model, folder)
    model.eval()
    tuned: T5ForConditionalGeneration = model
    return tuned


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Transformers would warn of every FLAN-T5 that its config says "tied", and draw progress bars."""
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
    """Whether the output layer is the embedding table."""
    head, table = (getattr(m.weight, "_local_tensor", m.weight) for m in (model.lm_head, model.shared))  # or sharded
    return bool(head.data_ptr() == table.data_ptr())


def untie(model: T5ForConditionalGeneration) -> None:
    """Give the output layer a table of its own with the same numbers."""
    import torch

    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    forbid_tying(model)


def forbid_tying(model: T5ForConditionalGeneration) -> None:
    """Take the output layer out of what transformers ties, so that no later call of its own ties it again."""
    model._tied_weights_keys = {k: v for k, v in model._tied_weights_keys.items() if k != HEAD}
    model.all_tied_weights_keys = {k: v for k, v in model.all_tied_weights_keys.items() if k != HEAD}


def add_rows(model: T5ForConditionalGeneration, rows: int) -> None:
    """Give embedding and output layer at least `rows` rows; the new ones are drawn like the old ones, seed fixed.

    Old rows keep their numbers, and a tied model stays tied, an untied one untied.
    """
    import torch

    rows = -(-rows // _ROWS_MULTIPLE) * _ROWS_MULTIPLE
    tied = is_tied(model)
    model.shared.weight = torch.nn.Parameter(_longer(model.shared.weight.detach(), rows))
    model.shared.num_embeddings = rows
    for stack in (model.encoder, model.decoder):
        stack.embed_tokens.weight = model.shared.weight
        stack.embed_tokens.num_embeddings = rows
    if tied:
        model.lm_head.weight = model.shared.weight
    else:
        model.lm_head.weight = torch.nn.Parameter(_longer(model.lm_head.weight.detach(), rows))
    model.lm_head.out_features = rows
    for config in (model.config, model.encoder.config, model.decoder.config):
        config.vocab_size = rows


def load_state(model: T5ForConditionalGeneration, tensors: dict[str, torch.Tensor]) -> None:
    """Copy `tensors` (as `state` gives them) into the model's parameters; nothing is tied or untied by it.

    Raises TrainingError unless names and shapes are exactly the model's.
    """
    import torch

    own = dict(model.named_parameters())
    require_same(own, tensors)
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(tensors[name])


def require_same(own: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> None:
    """TrainingError unless both have the same names and shapes."""
    if wrong := sorted(own.keys() ^ other.keys()):
        raise TrainingError(f"the state is that of another model: {', '.join(wrong[:5])} on one side only")
    for name, parameter in own.items():
        if parameter.shape != other[name].shape:
            found, wanted = list(other[name].shape), list(parameter.shape)
            raise TrainingError(f"the state is that of another model: {name} is {found}, not {wanted}")


def _longer(table: torch.Tensor, rows: int) -> torch.Tensor:
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
                f"model {folder}: {path.name} is broken: {_first_line(error)}", hint="fetch or save the model again"
            ) from None
    return names


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
