"""Small inputs of preparation: a T5-like tokenizer, rows, tasks, and a folder with a store."""

import json
import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from data_prep.config import Mixture, Task
from data_prep.prepare import PrepLimits, prepare
from data_prep.shards.manifest import ShardSet
from data_prep.text.tokenizer import Tokenizer
from raytrain_core.storage import Store, open_store
from raytrain_core.storage.cache import Cache

LOST_BY_T5 = "{}<~\\^`"
WORDS = ["the", "a", "of", "to", "is", "in", "summary", "review", "text", "this", "input", "return", "if"]
LIMITS = PrepLimits(64, 16)


def t5_like(*, extra_ids: int = 4) -> tokenizers.Tokenizer:
    """Returns a tokenizer with T5's conventions and losses, but only 200 tokens.

    Unigram, Metaspace after a white-space split, and a normalizer that folds white space.
    """
    special = ["<pad>", "</s>", "<unk>"]
    pieces = [(piece, 0.0) for piece in special] + [("▁", -2.0)]
    pieces += [(f"▁{word}", -4.0 - i / 10) for i, word in enumerate(WORDS)]
    pieces += [(piece, -5.0) for piece in ("ing", "er", "tion", "▁s", "▁t", "▁(", "()", "):")]
    kept = [c for c in string.printable[:94] if c not in LOST_BY_T5]
    pieces += [(c, -6.0 - i / 50) for i, c in enumerate(kept)]
    pieces += [(f"<extra_id_{i}>", 0.0) for i in reversed(range(extra_ids))]
    tokenizer = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    folding = [normalizers.NFKC(), normalizers.Replace(tokenizers.Regex(r"[\n\t\r]"), " ")]
    tokenizer.normalizer = normalizers.Sequence([*folding, normalizers.Replace(tokenizers.Regex(" {2,}"), " ")])
    metaspace = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace])
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.add_special_tokens([*special, *(f"<extra_id_{i}>" for i in range(extra_ids))])
    return tokenizer


def write_jsonl(path: Path, rows: Iterable[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def make_task(**fields: Any) -> Task:
    return Task.model_validate({"name": "notes", "type": "summarization", "source": {"uri": "rows.jsonl"}} | fields)


def numbered(n: int, start: int = 0) -> list[dict[str, str]]:
    return [{"input": f"the text number {i}", "target": f"answer {i % 7}"} for i in range(start, start + n)]


class Workbench:
    """A folder with sources and a store."""

    def __init__(self, folder: Path, tokenizer: Tokenizer) -> None:
        self.folder, self.tokenizer = folder, tokenizer
        self.store = open_store(str(folder / "store"))
        self.cache = Cache(folder / "cache", 1 << 30)

    def write(self, name: str, rows: Iterable[Any]) -> Path:
        return write_jsonl(self.folder / name, rows)

    def prepare(
        self,
        *tasks: Task,
        mixture: Mixture | None = None,
        limits: PrepLimits = LIMITS,
        store: Store | None = None,
        **options: Any,
    ) -> ShardSet:
        return prepare(
            tasks,
            mixture or Mixture(),
            store=store or self.store,
            tokenizer=self.tokenizer,
            limits=limits,
            base_folder=self.folder,
            **options,
        )
