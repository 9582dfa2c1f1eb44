"""Chunks depend on the examples alone."""

from raytrain.evaluation.chunks import split_into_chunks
from raytrain.evaluation.examples import Example


def example(number, raw, target, **meta):
    return Example(f"r{number}", 0, f"Do it: {raw}", (target,), {"input": raw, **meta})


def test_chunks_contain_every_example_once_longest_first():
    examples = [example(i, "x" * ((7 * i) % 23), "t") for i in range(50)]
    chunks = split_into_chunks(examples, 8)
    assert [len(chunk) for chunk in chunks] == [8] * 6 + [2]
    flat = [i for chunk in chunks for i in chunk]
    assert sorted(flat) == list(range(50))
    lengths = [len(examples[i].input) for i in flat]
    assert lengths == sorted(lengths, reverse=True)


def test_chunks_do_not_depend_on_the_order_of_examples():
    examples = [example(i, "x" * (i % 5), "t") for i in range(30)]

    def named(rows):
        return [[rows[i].id for i in chunk] for chunk in split_into_chunks(rows, 4)]

    assert named(examples) == named(examples[::-1])
