"""A Unigram tokenizer with T5's conventions, trained on the world's own text.

The library's Unigram trainer alone is unfit here: its seeds are substrings of two or more *different* words, so a
frequent whole word never becomes a piece. So its pieces serve for parts of words, and every word that occurs often
enough is added as a piece of its own; every single character stays, so that nothing printable is ever unknown.

Text -> ids -> text is lossless for printable ASCII, Western European letters, tabs, newlines and runs of spaces: a space is put before the text
and after every newline (so that a word is the same piece at the start of a line as inside it), and taken away again
when decoding.
"""

import json
import string
from collections import Counter
from collections.abc import Iterable
from math import log
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

PAD, EOS, UNK = "<pad>", "</s>", "<unk>"
EXTRA_IDS = 100
_SPACE = "▁"
_SUBWORDS = 500
_MINIMUM_COUNT = 3
_CHARACTER_SCORE = -20.0


def train(texts: Iterable[str], size: int) -> Tokenizer:
    """A tokenizer of at most `size` pieces (fewer if there are not so many words), <extra_id_...> included.

    Order of the ids: pad 0, eos 1, unk 2, pieces, `<extra_id_99>` ... `<extra_id_0>` last.
    """
    texts = list(texts)
    normalizer, pre_tokenizer = _normalizer(), _pre_tokenizer()
    words: Counter[str] = Counter()
    for text in texts:
        words.update(word for word, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(text)))
    total = words.total()
    latin = {chr(code) for code in range(0xC0, 0x100)}
    characters = {*string.printable[:95], "\n", "\t", _SPACE, *latin, *(c for word in words for c in word)} - {" "}

    scratch = Tokenizer(models.Unigram())
    scratch.normalizer, scratch.pre_tokenizer = normalizer, pre_tokenizer
    scratch.train_from_iterator(
        texts, trainers.UnigramTrainer(vocab_size=_SUBWORDS, special_tokens=[UNK], unk_token=UNK, show_progress=False)
    )
    scores: dict[str, float] = dict.fromkeys(sorted(characters), _CHARACTER_SCORE)
    for piece, score in json.loads(scratch.to_str())["model"]["vocab"]:
        if piece != UNK and len(piece) > 1:
            scores[piece] = score
    room = size - EXTRA_IDS - 3
    frequent = sorted(words.items(), key=lambda item: (-item[1], item[0]))
    for word, count in frequent:
        if count < _MINIMUM_COUNT or (word not in scores and len(scores) >= room):
            continue
        scores[word] = log(count / total)

    pieces = [(PAD, 0.0), (EOS, 0.0), (UNK, 0.0), *scores.items()]
    extra = [f"<extra_id_{k}>" for k in reversed(range(EXTRA_IDS))]
    tokenizer = Tokenizer(models.Unigram([*pieces, *((token, 0.0) for token in extra)], unk_id=2, byte_fallback=False))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(_SPACE, " "),
            decoders.Fuse(),
            decoders.Replace("\n ", "\n"),
            decoders.Strip(content=" ", left=1, right=0),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {EOS}", pair=f"$A {EOS} $B {EOS}", special_tokens=[(EOS, 1)]
    )
    tokenizer.add_special_tokens([PAD, EOS, UNK, *extra])
    return tokenizer


def _normalizer() -> normalizers.Normalizer:
    return normalizers.Sequence(
        [normalizers.Replace("\n", "\n "), normalizers.Prepend(_SPACE), normalizers.Replace(" ", _SPACE)]
    )


def _pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    """Line breaks with their indentation, words cut at capitals and underscores, single digits, punctuation."""
    alternatives = (
        rf"\n{_SPACE}+(?={_SPACE})|\n",  # a line break and its indentation, but for the space of the next word
        rf"{_SPACE}?_?[A-Z]?[a-zà-ÿ]+",
        rf"{_SPACE}?[A-Z]+(?![a-z])",
        rf"{_SPACE}?[0-9]",
        rf"{_SPACE}?[^\s{_SPACE}]",
        rf"{_SPACE}+",
    )
    return pre_tokenizers.Split(Regex("|".join(alternatives)), behavior="isolated")


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json and the two configuration files by which plain `AutoTokenizer` loads it."""
    extra = [f"<extra_id_{k}>" for k in range(EXTRA_IDS)]
    special = {"pad_token": PAD, "eos_token": EOS, "unk_token": UNK, "additional_special_tokens": extra}
    # Not T5Tokenizer: that class builds its own normalizer and would fold line breaks.
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 512,
        "clean_up_tokenization_spaces": False,
        "extra_ids": EXTRA_IDS,
        **special,
    }
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
