"""Small random T5s of both kinds, and a tokenizer with T5's conventions."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, T5Config, T5ForConditionalGeneration

from raytrain.model.families import model_class
from raytrain.model.loading import quiet

VOCABULARY = 96


def tiny_model(
    *,
    tied: bool = False,
    feed_forward: str = "gated-gelu",
    seed: int = 0,
    dropout: float = 0.0,
    vocabulary: int = VOCABULARY,
    width: int = 32,
    head: int = 8,
    layers: int = 2,
    decoder_layers: int | None = None,
    kind: str = "t5",
) -> T5ForConditionalGeneration:
    """Returns a model built by transformers; a T5 is v1.0 if tied, FLAN otherwise."""
    torch.manual_seed(seed)
    options: dict[str, Any] = {
        "vocab_size": vocabulary,
        "d_model": width,
        "d_kv": head,
        "d_ff": 2 * width,
        "num_layers": layers,
        "num_decoder_layers": layers if decoder_layers is None else decoder_layers,
        "num_heads": 4,
        "feed_forward_proj": feed_forward,
        "dropout_rate": dropout,
        "tie_word_embeddings": tied,
        "decoder_start_token_id": 0,
    }
    built = T5Config(**options) if kind == "t5" else AutoConfig.for_model(kind, **options)
    model: T5ForConditionalGeneration = model_class(kind)(built)
    if kind == "umt5":
        model.config.tie_word_embeddings = tied
    if not tied:
        model.lm_head.weight = torch.nn.Parameter(torch.randn(vocabulary, width) * width**-0.5)
        model.all_tied_weights_keys.pop("lm_head.weight")
    model.eval()  # type: ignore[no-untyped-call]
    return model


def tiny_tokenizer(folder: Path, *, vocabulary: int = VOCABULARY) -> Path:
    """tokenizer.json (Unigram, pad 0, eos 1, unk 2) and tokenizer_config.json in `folder`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    pieces = ["<pad>", "</s>", "<unk>", "▁", *letters, *("▁" + c for c in letters)]
    pieces += [a + b for a in "aeiou" for b in letters][: vocabulary - len(pieces)]
    tokenizer = Tokenizer(models.Unigram([(p, -float(i)) for i, p in enumerate(pieces)], unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "pad_token": "<pad>",
                "eos_token": "</s>",
                "unk_token": "<unk>",
                "model_max_length": 512,
            }
        )
    )
    return folder


def save_tiny(folder: Path, **options: Any) -> Path:
    """Saves a model as on the hub, with the tying flag of v1.0/v1.1 checkpoints."""
    model = tiny_model(**options)
    with quiet():
        model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["tie_word_embeddings"] = bool(options.get("tied"))
    config.pop("scale_decoder_outputs", None)  # missing in the hub's older files
    (folder / "config.json").write_text(json.dumps(config))
    return tiny_tokenizer(folder)


def state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Returns every parameter by name, without copies."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def logits(model: torch.nn.Module, seed: int = 1) -> torch.Tensor:
    """Returns the logits of a fixed small batch."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 90, (2, 11), generator=generator)
    labels = torch.randint(3, 90, (2, 7), generator=generator)
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=ids, labels=labels).logits
    return found
