"""A Unigram tokenizer with T5's conventions, trained on the world's text.

The trainer of the `tokenizers` library does not fit: its seeds are substrings of two or more
*different* words, so a frequent whole word never becomes a token, and its result differs from call
to call. Here every frequent word becomes a token, scored by its frequency; frequent parts of words
become tokens for words outside the world; and every character is a token, so that no printable text
is unknown.

`data_prep` adds white space tokens to T5 tokenizers. The vocabulary contains them already, so
preparing data for this model adds none.
"""

import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from math import log
from pathlib import Path
from tempfile import TemporaryDirectory

from tokenizers import Tokenizer, models, pre_tokenizers, processors

from data_prep.text.tokenizer_folder import read_tokenizer
from data_prep.text.unigram_document import RUNS_OF_SPACES, SPACE
from examples.quickstart.skills import Lesson

PAD, EOS, UNK = "<pad>", "</s>", "<unk>"
EXTRA_IDS = 100
_PARTS = 400
_MINIMUM_COUNT = 3
# Any whole word (at worst about -13) beats two parts, and parts beat characters.
_PART_SCORE, _CHARACTER_SCORE = -15.0, -20.0
_PART_LENGTHS = (2, 3, 4)
# A word: indentation, words split at capitals and underscores, single digits and punctuation.
_WORD = re.compile(
    rf"{SPACE}+(?={SPACE})|[\n\t]|{SPACE}?_?[A-Z]?[a-zà-ÿ]+|{SPACE}?[A-Z]+(?![a-z])|{SPACE}?[0-9]|{SPACE}?[^\s{SPACE}]"
    rf"|{SPACE}"
)


def train(texts: Iterable[str], size: int, folder: Path) -> Tokenizer:
    """Trains a tokenizer of at most `size` tokens and saves it to `folder`.

    Ids: pad 0, eos 1, unk 2, then words and parts, then `<extra_id_99>` to `<extra_id_0>`.
    """
    words: Counter[str] = Counter()
    for text in texts:
        words.update(_WORD.findall(SPACE + text.replace(" ", SPACE).replace("\n", f"\n{SPACE}")))
    pieces = _pieces(words, size - EXTRA_IDS - 3)
    extra = [f"<extra_id_{k}>" for k in reversed(range(EXTRA_IDS))]
    vocabulary = [*((token, 0.0) for token in (PAD, EOS, UNK)), *pieces.items(), *((token, 0.0) for token in extra)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=2, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {EOS}", special_tokens=[(EOS, 1)])
    tokenizer.add_special_tokens([PAD, EOS, UNK, *extra])
    with TemporaryDirectory() as scratch:
        tokenizer.save(str(Path(scratch) / "tokenizer.json"))
        read_tokenizer(Path(scratch)).save(folder)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


Encoded = tuple[Sequence[int], Sequence[int]]


def encode(tokenizer: Tokenizer, lessons: Sequence[Lesson]) -> list[Encoded]:
    """Returns the token ids of each lesson's prompt and target, both ending in </s>."""
    prompts = tokenizer.encode_batch([lesson.prompt for lesson in lessons])
    targets = tokenizer.encode_batch([lesson.target for lesson in lessons])
    return [(prompt.ids, target.ids) for prompt, target in zip(prompts, targets, strict=True)]


def _pieces(words: Counter[str], room: int) -> dict[str, float]:
    """Returns at most `room` tokens with scores: characters, spaces, parts, frequent words."""
    latin = {chr(code) for code in range(0xC0, 0x100)}
    characters = {*string.printable[:95], "\n", "\t", SPACE, *latin, *(c for word in words for c in word)} - {" "}
    scores = dict.fromkeys(sorted(characters), _CHARACTER_SCORE)
    scores |= {SPACE * run: _CHARACTER_SCORE for run in RUNS_OF_SPACES}

    parts: Counter[str] = Counter()
    for word in words:
        for length in _PART_LENGTHS:
            parts.update(word[k : k + length] for k in range(len(word) - length + 1))
    best = sorted(parts.items(), key=lambda item: (-item[1] * (len(item[0]) - 1), item[0]))[:_PARTS]
    scores |= {part: _PART_SCORE for part, _ in best if part not in scores}
    total = words.total()
    for word, count in sorted(words.items(), key=lambda item: (-item[1], item[0])):
        if count >= _MINIMUM_COUNT and (word in scores or len(scores) < room):
            scores[word] = log(count / total)
    return scores
