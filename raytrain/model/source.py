"""Resolves the model that a job names to a local folder that transformers can read."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from raytrain.config.run_layout import RunLayout
from raytrain.model import hub
from raytrain.model.families import require_supported
from raytrain_core.errors import StorageError, TrainingError, UsageError
from raytrain_core.storage import Store, open_like
from raytrain_core.storage.bucket_uri import is_in_bucket
from raytrain_core.storage.commit import fetch, read_manifest
from raytrain_core.storage.store import sha256_of_file
from raytrain_core.storage.uri import is_hub_model

WEIGHTS_FILE = "model.safetensors"
"""Weights in a model folder, a checkpoint and an exported model."""
_SHARDED_WEIGHTS = "model.safetensors.index.json"
_ADAPTER_CONFIG = "adapter_config.json"
_HUB_FILES = (
    "config.json",
    "generation_config.json",
    _ADAPTER_CONFIG,  # so that a repository with an adapter is recognised
    "*.safetensors",
    _SHARDED_WEIGHTS,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "spiece.model",
)


def resolve(uri: str, *, store: Store | None, base_folder: Path, cache: Path) -> Path:
    """Returns the local folder of the model `uri`, checked by `check_folder`.

    `uri` is a folder (relative to `base_folder`), `file:///folder`, `run://NAME` (the model that
    this run left in `store`), a prefix in a bucket (at the endpoint of `store`, if that is in the
    same cloud), or else a hub id, if needed with `@` and a branch, tag or commit. Downloads go to
    `cache` and are reused. TrainingError if there is no such model, StorageError if its
    store does not answer.
    """
    if uri.startswith("run://"):
        return check_folder(_of_run(uri, store, cache), uri)
    if is_in_bucket(uri):
        return check_folder(_of_bucket(uri, store, cache), uri)
    folder = local_path(uri, base_folder)
    if folder.is_dir():
        return check_folder(folder.resolve(), uri)
    if folder.exists():
        raise TrainingError(
            f"model {uri}: {folder} is a file, not a folder", hint="give the folder that contains config.json"
        )
    name = uri.removeprefix("hf://")
    if uri.startswith((".", "/", "~", "file:")) or not is_hub_model(name):
        raise TrainingError(
            f"model {uri}: there is no folder {folder}", hint="give a folder that contains config.json, or a hub id"
        )
    return check_folder(hub.fetch_model(name, _HUB_FILES, cache=cache, not_a_folder=folder), uri)


def local_path(uri: str, base_folder: Path) -> Path:
    """Returns the folder that `uri` means if it is a local path; it need not exist."""
    local = Path(uri.removeprefix("file://")).expanduser()
    return local if local.is_absolute() else base_folder / local


def check_folder(folder: Path, name: str) -> Path:
    """Returns `folder` if it contains a supported model in safetensors format and its tokenizer.

    Otherwise raises TrainingError with what is missing. Weights are not read here (`load` does).
    Pickled weights are refused: reading them can run code.
    """
    _refuse_adapter(folder, name)
    config = read_config(folder, name)
    require_supported(config, name)
    if config.get("quantization_config"):
        raise TrainingError(
            f"model {name}: its weights are quantized (quantization_config in {folder / 'config.json'}); they cannot "
            "be trained",
            hint="use the model that it was made from, or save it dequantized: model.dequantize().save_pretrained(...)",
        )
    if not any((folder / weights).is_file() for weights in (WEIGHTS_FILE, _SHARDED_WEIGHTS)):
        pickled = sorted(path.name for path in folder.glob("pytorch_model*.bin"))
        hint = "convert it with save_pretrained" if pickled else "save the model there with save_pretrained"
        also = f" ({', '.join(pickled)} is a pickle: raytrain does not read pickles)" if pickled else ""
        raise TrainingError(f"model {name}: no {WEIGHTS_FILE} in {folder}{also}", hint=hint)
    _require_shards(folder, name)
    _require_tokenizer(folder, name)
    return folder


def _require_tokenizer(folder: Path, name: str) -> None:
    from data_prep.text.tokenizer_kind import has_tokenizer

    if has_tokenizer(folder):
        return
    if (folder / "spiece.model").is_file():
        raise TrainingError(
            f"model {name}: {folder} has its tokenizer only as spiece.model, not as tokenizer.json",
            hint="with sentencepiece installed, AutoTokenizer.from_pretrained(...).save_pretrained(...) writes it",
        )
    raise TrainingError(
        f"model {name}: no tokenizer.json in {folder}",
        hint="AutoTokenizer.from_pretrained(...).save_pretrained(...) writes it; ByT5 needs none, but "
        "tokenizer_class ByT5Tokenizer in its tokenizer_config.json",
    )


def _refuse_adapter(folder: Path, name: str) -> None:
    """Raises TrainingError for a folder with an adapter (PEFT), alone or next to full weights.

    transformers would put the adapter into the model while it loads it: other names, a training
    that runs for hours, and an export that fails.
    """
    path = folder / _ADAPTER_CONFIG
    if not path.is_file():
        return
    try:
        base = json.loads(path.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        base = None
    of_base = f" of {base}" if isinstance(base, str) and base else ""
    merge = (
        "merge it first: peft.AutoPeftModelForSeq2SeqLM.from_pretrained(folder).merge_and_unload()"
        ".save_pretrained(...), and save the tokenizer there"
    )
    if (folder / "config.json").is_file():
        raise TrainingError(
            f"model {name}: {folder} holds a full model and an adapter{of_base} ({_ADAPTER_CONFIG}); "
            "it does not say which of the two is meant",
            hint=f"remove the adapter's files, or {merge}",
        )
    raise TrainingError(f"model {name}: {folder} holds only an adapter{of_base}, not a full model", hint=merge)


def _require_shards(folder: Path, name: str) -> None:
    """Raises TrainingError if the index names weight files that are not there."""
    index = folder / _SHARDED_WEIGHTS
    if (folder / WEIGHTS_FILE).is_file() or not index.is_file():
        return
    try:
        files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise TrainingError(f"model {name}: {index} is not an index of weights", hint="save the model again") from None
    if missing := sorted(file for file in files if not (folder / str(file)).is_file()):
        raise TrainingError(
            f"model {name}: {_SHARDED_WEIGHTS} names {missing[0]}, which is not in {folder}"
            + (f", and {len(missing) - 1} more" if len(missing) > 1 else ""),
            hint="copy the missing files",
        )


def read_config(folder: Path, name: str) -> dict[str, Any]:
    """Reads the model's config.json; TrainingError if it is missing or not a JSON object."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TrainingError(f"model {name}: no config.json in {folder}", hint="give the folder of a model") from None
    except (OSError, ValueError) as error:
        raise TrainingError(f"model {name}: cannot read {path}: {error}") from None
    if not isinstance(config, dict):
        raise TrainingError(f"model {name}: {path} is not a JSON object")
    return config


def digest(folder: Path) -> str:
    """Returns a sha256 over names and contents of config, weights and tokenizer.json."""
    summary = hashlib.sha256()
    for path in sorted([folder / "config.json", folder / "tokenizer.json", *folder.glob("*.safetensors")]):
        if path.is_file():
            summary.update(f"{path.name}\0{sha256_of_file(path)}\n".encode())
    return summary.hexdigest()


def _of_run(uri: str, store: Store | None, cache: Path) -> Path:
    name = uri.removeprefix("run://").strip("/")
    if store is None:
        raise UsageError(f"model {uri}: the storage of that run is not known", hint="set --storage")
    manifest = read_manifest(store, RunLayout(name).model)
    if manifest is None:
        raise TrainingError(
            f"model {uri}: {store.uri} has no finished model of a run named {name}",
            hint="wait until that run has finished, or use another storage",
        )
    return fetch(store, manifest, cache / "run" / f"{name}-{_short(repr(manifest.files))}")


def _of_bucket(uri: str, like: Store | None, cache: Path) -> Path:
    """Fetches the objects directly under the prefix, again if an etag has changed."""
    store = open_like(like, uri)
    found = [stat for stat in store.list("") if "/" not in stat.key]
    if not any(stat.key == "config.json" for stat in found):
        raise TrainingError(f"model {uri}: no config.json under it", hint="give the prefix that contains config.json")
    needed = [stat for stat in found if stat.key.endswith((".json", ".safetensors", ".model"))]
    folder = cache / "buckets" / _short(uri + repr([(stat.key, stat.etag) for stat in needed]))
    folder.mkdir(parents=True, exist_ok=True)
    for stat in needed:
        target = folder / stat.key
        if not target.is_file() or target.stat().st_size != stat.bytes:
            _require_space(folder, stat.bytes)
            store.download(stat.key, target)
    return folder


def _require_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise StorageError(f"{folder}: the model needs {size:,} bytes, but only {free:,} are free")


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
