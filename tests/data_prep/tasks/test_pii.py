import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from data_prep.config import Mask
from data_prep.shards.text_reader import read_rows
from data_prep.tasks.examples import example_maker
from data_prep.tasks.pii import Masker, is_card_number
from tests.support.data_prep_bench import make_task

ALL = Mask(kinds=["email", "phone", "card"], patterns={"order": r"ORD-\d{4}"})


def masked(text, mask=ALL):
    row, counts = Masker(mask).mask({"text": text}, ["text"])
    return row["text"], counts


@pytest.mark.parametrize(
    "address",
    ["ann@example.org", "Ann.B+spam@mail.example.co.uk", "a_b@xn--bcher-kva.example", "jürgen@bücher.example"],
)
def test_addresses(address):
    assert masked(f"Write to <{address}>, or ({address}).") == ("Write to <[EMAIL_1]>, or ([EMAIL_1]).", {"email": 2})


@pytest.mark.parametrize("text", ["ann@", "@ann said", "a @ b.com", "ann@localhost", "4@5", "see user@2x.1"])
def test_no_addresses(text):
    assert masked(text) == (text, {})


@pytest.mark.parametrize(
    "number",
    ["+49 30 1234567", "+1 (415) 555-0132", "+442079460958", "0044 20 7946 0958", "(415) 555-0132", "415-555-0132",
     "1-800-555-0199", "030 1234567", "0171/1234567", "(030) 123 4567", "01 42 68 53 00", "01711234567",
     "020 7946 0958"],
)  # fmt: skip
def test_phone_numbers(number):
    assert masked(f"Call {number}, please") == ("Call [PHONE_1], please", {"phone": 1})
    assert masked(number) == ("[PHONE_1]", {"phone": 1})


@pytest.mark.parametrize(
    "text",
    ["2024-01-15 10:30", "01/02/2024", "15.01.2024", "192.168.1.100", "order 12345678", "3.14159265358979",
     "1,234,567,890", "10-12 items", "ISBN 978-3-16-148410-0", "version 1.2.3.4", "0.12345678", "2019-2020",
     "a room of 20 x 30", "$1200 - 1500", "12345678901234567890"],
)  # fmt: skip
def test_numbers_that_are_no_phone(text):
    assert masked(text) == (text, {})


@pytest.mark.parametrize(
    "number",
    ["4111111111111111", "4111 1111 1111 1111", "5500-0000-0000-0004", "3782 822463 10005", "6011000990139424"],
)
def test_card_numbers(number):
    assert masked(f"My card {number} 12/26 123") == ("My card [CARD_1] 12/26 123", {"card": 1})


@pytest.mark.parametrize("number", ["4111111111111112", "4111 1111 1111 1112", "1234 5678 9012 3456", "411111111111"])
def test_numbers_that_are_no_card(number):
    assert masked(f"number {number}.", Mask(kinds=["card"])) == (f"number {number}.", {})


@given(digits=st.lists(st.integers(0, 9), min_size=12, max_size=18), wrong=st.integers(1, 9))
def test_only_one_check_digit_is_right(digits, wrong):
    doubled = [sum(divmod(2 * d, 10)) if i % 2 == 0 else d for i, d in enumerate(reversed(digits))]
    check = -sum(doubled) % 10
    number = "".join(map(str, digits))
    assert is_card_number(f"{number}{check}")
    assert not is_card_number(f"{number}{(check + wrong) % 10}")


def test_the_same_value_is_the_same_placeholder_all_over_a_row():
    task = make_task(mask=ALL.model_dump(), columns={"references": ["other"], "id": "who"})
    row = {
        "input": "ann@x.org: my order ORD-1234\nbob@x.org: call +49 30 1234567",
        "target": "Bob (BOB@x.org) asks Ann@X.org about ORD-1234 on +49-30-1234567.",
        "other": ["eve@x.org has nothing to do with it"],
        "who": "ann@x.org",
    }
    example = example_maker(task)(row)
    assert example.input == "[EMAIL_1]: my order [ORDER_1]\n[EMAIL_2]: call [PHONE_1]"
    assert example.targets == [
        "Bob ([EMAIL_2]) asks [EMAIL_1] about [ORDER_1] on [PHONE_1].",
        "[EMAIL_3] has nothing to do with it",
    ]
    assert example.id == "[EMAIL_1]"
    assert example.meta["input"] == example.input
    masked = {event.kind: event.times for event in example.events}
    assert masked == {"masked:order": 2, "masked:email": 6, "masked:phone": 2}


def test_tokens_keep_their_tags():
    task = make_task(type="ner", columns={"tokens": "w", "tags": "t"}, mask={"kinds": ["email"]})
    row = {"w": ["Mail", "ann@x.org", "in", "Rome"], "t": ["O", "B-PER", "O", "B-LOC"]}
    assert example_maker(task)(row).targets == ["PER: [EMAIL_1] | LOC: Rome"]


def test_choices_and_answer_stay_the_same():
    task = make_task(type="multiple-choice", columns={"choices": "c"}, mask={"kinds": ["email"]})
    row = {"input": "Who?", "c": ["ann@x.org", "bob@x.org"], "target": "bob@x.org"}
    assert example_maker(task)(row).targets == ["(B)"]


def test_nothing_of_it_reaches_the_store_and_counts_stand_in_the_manifest(bench):
    rows = [
        {"input": f"user{i}@secret.example wrote {i}", "target": f"user{i}@secret.example wants it"} for i in range(60)
    ]
    rows += [{"input": f"number {i}", "target": "4111111111111111"} for i in range(5)]
    bench.write("rows.jsonl", rows)
    shard_set = bench.prepare(make_task(mask={"kinds": ["email", "card"]}))
    assert shard_set.task("notes").tally["kinds"]["masked:email"]["count"] == 120
    assert shard_set.task("notes").tally["kinds"]["masked:card"]["count"] == 5
    stored = [
        row
        for split in ("train", "validation", "test")
        for row in read_rows(shard_set, "notes", split, bench.store, bench.cache)
    ]
    assert len(stored) == 65
    assert not any("secret.example" in str(row) or "4111" in str(row) for row in stored)
    assert bench.prepare(make_task()).digest != shard_set.digest


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        ({}, "nothing to mask"),
        ({"patterns": {"a": "("}}, r"patterns\.a is not a valid regular expression"),
        ({"patterns": {"a": "x*"}}, r"patterns\.a matches the empty string"),
        ({"patterns": {"A b": "x"}}, "pattern"),
        ({"kinds": ["name"]}, "'email', 'phone' or 'card'"),
    ],
)
def test_a_mask_that_cannot_be_used(mask, reason):
    with pytest.raises(ValidationError, match=reason):
        make_task(mask=mask)


@pytest.mark.parametrize("text", ["a" * 300_000, "1 " * 150_000, "+" + "1" * 300_000, "a@" * 150_000, "a." * 150_000,
                                  "x@" + "a." * 150_000, "4111 " * 60_000, "(0" * 150_000])  # fmt: skip
def test_a_long_text_takes_time_in_proportion(text):
    start = time.process_time()
    masked(text)
    assert time.process_time() - start < 5
