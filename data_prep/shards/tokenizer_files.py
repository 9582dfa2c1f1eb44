"""The tokenizer of a shard set: stored with it, and loaded from it."""

from functools import partial
from pathlib import Path

from data_prep.shards.manifest import ShardSet, TokenizerRef
from data_prep.shards.parts import PartWriter
from data_prep.text.tokenizer import Tokenizer
from data_prep.text.tokenizer_folder import read_tokenizer
from raytrain_core.errors import DataError
from raytrain_core.storage import Store
from raytrain_core.storage.scratch import scratch


def store_tokenizer(tokenizer: Tokenizer, store: Store, *, overwrite: bool) -> TokenizerRef:
    """Stores the tokenizer's files as parts."""
    with scratch("preparation") as folder:
        writer = PartWriter(store, folder, overwrite)
        files = {name: writer.put("json", partial(_write, data)) for name, data in tokenizer.files().items()}
    return TokenizerRef(tokenizer.digest, tokenizer.size, files)


def load_tokenizer(shard_set: ShardSet, store: Store, folder: Path | None = None) -> Tokenizer:
    """Returns the tokenizer of a set.

    With `folder`, its files stay there as a Hugging Face tokenizer folder.

    Raises DataError if the tokenizers library now reads them differently.
    """
    if folder is None:
        with scratch("tokenizer") as temporary:
            return load_tokenizer(shard_set, store, temporary)
    for name, part in shard_set.tokenizer.files.items():
        store.download(part.key, folder / name, sha256=part.sha256)
    tokenizer = read_tokenizer(folder)
    if tokenizer.digest != shard_set.tokenizer.digest:
        raise DataError(
            f"the tokenizer of shard set {shard_set.digest[:12]} reads differently now than when it was stored",
            hint="Did the version of the tokenizers library change? Prepare the data again.",
        )
    return tokenizer


def _write(data: bytes, path: Path) -> None:
    path.write_bytes(data)
