"""A setting that would change nothing is refused at its line, with what to do."""

import pytest

from data_prep.config import Mixture, Task
from raytrain_core.config.loader import ConfigError, parse_config

TEXT = "name: a\ntype: {type}\nsource: {{uri: {uri}}}\n{more}\n"


def problem(more: str, *, type: str = "text", uri: str = "x.jsonl") -> str:
    try:
        parse_config(TEXT.format(type=type, uri=uri, more=more), Task)
    except ConfigError as error:
        return error.message
    return ""


@pytest.mark.parametrize(
    ("type", "more", "column", "says"),
    [
        ("text", "tagScheme: {marks: BIO}", 1, "tagScheme: has no effect without tags"),
        ("ner", "tagScheme: {marks: BIO}", 1, "tagScheme: has no effect without tags"),
        ("rating", "wholeNumbers: as-written", 1, "wholeNumbers: has no effect: it is for targets of text"),
        ("rating", "numberChoices: text", 1, "numberChoices: has no effect without choices"),
        ("multiple-choice", "numberChoices: text", 1, "numberChoices: has no effect without choices"),
        ("ner", "labelNames: {'0': O}", 1, "labelNames: has no effect on answers written as text"),
        ("multiple-choice", "columns: {choices: c}\nlabels: [a]", 0, "labels: has no effect: the answers are"),
        ("text", "columns: {choices: c}", 11, "columns.choices: is for multiple-choice, not for text"),
        ("text", "columns: {tokens: a, tags: b}", 11, "columns.tokens: is for ner, not for text"),
        ("ner", "columns: {tokens: a, tags: b, input: c}", 31, "columns.input: has no effect: tokens and tags"),
        ("multiple-choice", "columns: {choices: c, references: [d]}", 23, "columns.references: has no effect"),
        ("text", "badRowLimit: 5", 1, "badRowLimit: has no effect: the first bad row ends preparation"),
        ("text", "mask: {kinds: [email], phoneRegions: [IN]}", 24, "mask.phoneRegions: has no effect without"),
        ("text", "probe: true\nnearTwins: drop", 0, "nearTwins: has no effect on a probe"),
        ("text", "templates: ['{input}']\nfields: {to: Go}", 0, "fields.to: is used by no template"),
        (
            "text",
            "templates: ['{input}', '{input}?']\ntemplatesPerExample: 5",
            0,
            "templatesPerExample: is more than the",
        ),
    ],
)
def test_a_setting_without_effect_is_refused_at_its_line(type: str, more: str, column: int, says: str) -> None:
    found = problem(more, type=type)
    assert says in found
    assert found.startswith(f"job:4:{column}:" if column else "job:5:")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("uri: x.jsonl\n  csv: {delimiter: ';'}", "source.csv: has no effect: by their names"),
        ("uri: x.parquet\n  csv: {encoding: cp1252}", "source.csv: has no effect: by their names"),
        ("uri: data/*.json.gz\n  csv: {quote: none}", "source.csv: has no effect: by their names"),
        ("uri: x.csv\n  format: jsonl\n  csv: {escape: none}", "source.csv: has no effect on format jsonl"),
        ("uri: hf://a/b\n  csv: {delimiter: tab}", "source.csv: has no effect: these rows are not read from CSV"),
        ("uri: hf://a/b\n  format: jsonl", "source.format: has no effect on hf://"),
        ("uri: x.bin\n  reader: mine\n  format: csv", "source.format: has no effect with reader"),
        ("splits: {train: a.json, test: b.jsonl}\n  csv: {delimiter: ';'}", "source.csv: has no effect: by their"),
    ],
)
def test_settings_of_a_source_without_effect_are_refused(source: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(f"name: a\ntype: text\nsource:\n  {source}\n", Task)
    assert says in caught.value.message


def test_fractions_of_splits_that_are_given_are_refused() -> None:
    text = "name: a\ntype: text\nsource: {splits: {train: a.csv, test: b.csv}}\nsplit: {%s: 0.2}\n"
    with pytest.raises(ConfigError, match=r"split\.test: has no effect: source.splits has the test rows"):
        parse_config(text % "test", Task)
    parse_config(text % "validation", Task)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("temperature: 3", "job:1:1: temperature: has no effect with strategy proportional"),
        ("strategy: equal\ncap: 9", "job:2:1: cap: has no effect with strategy equal"),
    ],
)
def test_settings_of_a_mixture_without_effect_are_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, Mixture)
    assert says in caught.value.message


def test_defaults_written_out_are_no_setting() -> None:
    """An API server writes them into every document."""
    assert problem("badRowLimit: 1000\nnearTwins: keep\nsplit: {validation: 0.05}\ncolumns: {input: input}") == ""
    assert problem("", uri="folder") == ""
    assert problem("templates: ['{input}']\ntemplatesPerExample: 3") == ""
    assert problem("templates: ['{input}', '{input}?']\ntemplatesPerExample: 2") == ""
    assert problem("templates: ['{input}']\nfields: {to: Go}", type="code-translation") == ""  # scoring reads it
    assert problem("labels: [a]\ncolumns: {tokens: a, tags: b}\ntagScheme: {marks: BIO}", type="ner") == ""
