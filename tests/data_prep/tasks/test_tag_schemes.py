"""The spelling of tags is found over the whole column, told, or refused."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.config import TagScheme
from data_prep.tasks.tag_schemes import Tags, describe, detect
from data_prep.tasks.task_types import entities_of
from raytrain_core.errors import DataError, RowError

TOKENS = ["Maria", "Lopez", "visited", "Porto", "today"]
RIGHT = [("PER", "Maria Lopez"), ("LOC", "Porto")]


def read(column, tags, labels=None):
    scheme = detect(Counter(" ".join([*column, tags]).split()), labels, "task news: column tags")
    return entities_of(TOKENS, tags.split(), scheme.read)


@pytest.mark.parametrize(
    "tags",
    [
        "B-PER I-PER O B-LOC O",
        "I-PER I-PER O I-LOC O",
        "PER-B PER-I O LOC-B O",
        "B_PER I_PER O B_LOC O",
        "PER_B PER_I O LOC_B O",
        "B:PER I:PER O B:LOC O",
        "B/PER I/PER O B/LOC O",
        "PER.B PER.I O LOC.B O",
        "BPER IPER O BLOC O",
        "b-PER i-PER o b-LOC o",
        "B-PER I-PER 0 B-LOC 0",
        "B-PER I-PER _ B-LOC _",
        "B-PER E-PER O S-LOC O",
        "B-PER L-PER O U-LOC O",
        "B-PER E-PER O W-LOC O",
        "PER-B PER-E O LOC-S O",
        "b_PER e_PER o s_LOC o",
        "PER PER O LOC O",
        "PER PER 0 LOC 0",
        "B__PER I__PER O B__LOC O",
        "PER::B PER::I O LOC::B O",
        "B-PER i-PER O B-LOC o",
    ],
)
def test_every_spelling_gives_the_same_entities(tags):
    assert read([], tags) == RIGHT


def test_marks_inside_in_bmes_continue():
    found = detect(Counter(["B-LOC", "M-LOC", "E-LOC", "S-PER", "O"]), None, "x")
    assert entities_of(list("abcd"), ["B-LOC", "M-LOC", "E-LOC", "S-PER"], found.read) == [
        ("LOC", "a b c"),
        ("PER", "d"),
    ]


def test_types_that_differ_by_case_are_one_type():
    assert read([], "b-per I-PER O B-LOC O", None) in (RIGHT, [("per", "Maria Lopez"), ("LOC", "Porto")])
    assert read([], "b-per i-per o b-loc o", ["PER", "LOC"]) == RIGHT


def test_marks_alone_take_the_only_label_or_are_refused():
    assert read([], "B I O B O", ["PER"]) == [("PER", "Maria Lopez"), ("PER", "Porto")]
    with pytest.raises(DataError, match="marks alone") as caught:
        read([], "B I O B O")
    assert "labels" in str(caught.value.hint)


@pytest.mark.parametrize(
    "tags",
    [
        "B-PER PER O LOC O",
        "B-PER I-PER O LOC O",
        "PER-B PER-I O LOC O",
        "(PER* *) * (LOC*) *",
        "B-PER I_PER O B-LOC O",
        "B-PER I-PER [PAD] B-LOC O",
    ],
)
def test_two_spellings_in_one_column_are_refused(tags):
    with pytest.raises(DataError, match="task news: column tags"):
        read([], tags)


@pytest.mark.parametrize("kinds", ["VITAMIN_B DISEASE", "PLAN-B PLAN-C", "E_MAIL PHONE", "work-of-art event", "I95 B2"])
def test_types_that_look_like_marks_stay_types(kinds):
    first, second = kinds.split()
    scheme = detect(Counter([first, second, "O"]), None, "x")
    assert entities_of(["a", "b", "c"], [first, "O", second], scheme.read) == [(first, "a"), (second, "c")]


def test_the_whole_column_decides_and_not_one_row():
    assert read(["B-ORG I-ORG"], "B-PER I-PER O B-LOC O") == RIGHT
    scheme = detect(Counter({"S-PER": 3, "O": 9, "S-LOC": 1}), None, "x")
    assert entities_of(["a", "b"], ["S-PER", "S-PER"], scheme.read) == [("PER", "a"), ("PER", "b")]


def test_a_spelling_can_be_set():
    scheme = TagScheme.model_validate({"marks": "types", "outside": ["none"]})
    assert Tags(scheme, {}).read("B-PER") == ("I", "B-PER")
    assert Tags(scheme, {}).read("none") is None
    with pytest.raises(RowError, match=r"not spelled as the other tags of the column \(BIO marks before the type"):
        Tags(TagScheme(), {}).read("PER_B")
    assert describe(TagScheme(position="behind", separator="_")) == "BIO marks behind the type, separated by '_'"


@given(
    kinds=st.lists(
        st.sampled_from(["PER", "LOC", "ORG", "work-of-art", "MISC_1"]), min_size=1, max_size=4, unique=True
    ),
    separator=st.sampled_from(["-", "_", ":", "/"]),
    behind=st.booleans(),
    lower=st.booleans(),
)
def test_what_any_spelling_writes_is_read_back(kinds, separator, behind, lower):
    def tag(mark, kind):
        mark = mark.lower() if lower else mark
        return f"{kind}{separator}{mark}" if behind else f"{mark}{separator}{kind}"

    tags = [tag(mark, kind) for kind in kinds for mark in "BI"]
    scheme = detect(Counter([*tags, "O"]), None, "x")
    assert entities_of(tags, tags, scheme.read) == [(kind, f"{tag('B', kind)} {tag('I', kind)}") for kind in kinds]


@pytest.mark.parametrize(
    ("tags", "named"),
    [
        ("B-PER I-PER O B_LOC I_LOC", "B-PER"),
        ("BEGIN-PER INSIDE-PER O BEGIN-LOC O", "written out"),
        ("Beg_PER Int_PER O Beg_LOC Out", "written out"),
        ("PER.start PER.cont O LOC.start O", "written out"),
        ("<PER> </PER> O <LOC> O", "bracket"),
        ("B(PER) I(PER) O B(LOC) O", "bracket"),
    ],
)
def test_marks_of_an_unknown_spelling_never_become_types(tags, named):
    with pytest.raises(DataError, match=named):
        read([], tags)
