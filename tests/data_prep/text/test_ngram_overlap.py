"""8-grams: what a row trained on shares with rows that are held out."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.text.ngram_overlap import COMMON, LEAST, WORDS, HeldOut

TEXT = "the quick brown fox jumps over the lazy dog and then goes home to sleep well"  # 9 runs of 8 words


def shared(held, texts, least=1):
    index = HeldOut([held], least=least)
    return {(int(t), int(h)): float(s) for t, h, s in zip(*index.shared(texts), strict=True)}


def test_a_text_inside_another_is_found_whatever_its_case_and_signs():
    wrapped = f"He said: {TEXT.upper().replace(' ', ', ')}!"
    assert shared([TEXT], [wrapped]) == {(0, 0): 1.0}
    assert shared([TEXT], [f"{TEXT} {TEXT}"]) == {(0, 0): 1.0}  # a run that comes twice counts once


def test_the_share_is_that_of_the_held_out_text():
    beginning = " ".join(TEXT.split()[:10])  # 3 of its 9 runs
    assert shared([TEXT], [beginning]) == {(0, 0): pytest.approx(3 / 9)}
    assert shared([beginning], [TEXT]) == {(0, 0): 1.0}


def test_less_than_eight_words_in_a_row_are_nothing():
    words = TEXT.split()
    assert shared([TEXT], [" ".join(words[:7]), " ".join(words[::-1]), "", "!?"]) == {}
    assert shared(["too short to say"], [TEXT]) == {}
    assert shared([], [TEXT]) == {}


def test_a_short_text_is_not_found_by_the_few_runs_it_has():
    assert shared([" ".join(TEXT.split()[: LEAST + WORDS - 2]), TEXT], [TEXT], LEAST) == {(0, 1): 1.0}
    assert shared([" ".join(TEXT.split()[: LEAST + WORDS - 1])], [TEXT], LEAST) == {(0, 0): 1.0}


def test_a_run_does_not_reach_into_the_next_text():
    words = TEXT.split()
    assert shared([TEXT], [" ".join(words[:5]), " ".join(words[5:12])]) == {}


def test_what_many_held_out_texts_have_counts_for_none():
    formula = "this is the formula with which every single one begins"
    held = [f"{formula} and then says number {i} in its own words entirely {i}" for i in range(COMMON + 1)]
    assert shared(held, [formula]) == {}
    assert len(shared(held[:COMMON], [formula])) == COMMON


@given(data=st.data())
def test_it_is_what_sets_of_words_say(data):
    words = st.lists(st.sampled_from("abc"), min_size=0, max_size=30).map(" ".join)
    held, texts = data.draw(st.lists(words, min_size=1, max_size=6)), data.draw(st.lists(words, max_size=6))
    cut = data.draw(st.integers(0, len(held)))

    def runs(text):
        found = text.split()
        return {tuple(found[i : i + WORDS]) for i in range(len(found) - WORDS + 1)}

    index = HeldOut([held[:cut], held[cut:]], least=1)
    found = {(int(t), int(h)): float(s) for t, h, s in zip(*index.shared(texts), strict=True)}
    expected = {
        (t, h): len(runs(text) & runs(other)) / len(runs(other))
        for t, text in enumerate(texts)
        for h, other in enumerate(held)
        if runs(text) & runs(other)
    }
    assert found == pytest.approx(expected)
    assert Counter(t for t, _ in found) == Counter(t for t, _ in expected)
    assert all(isinstance(side, np.ndarray) for side in index.shared(texts))
