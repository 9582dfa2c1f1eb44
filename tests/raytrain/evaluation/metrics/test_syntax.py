"""Whether code parses: methods as data sets contain them, complete files, and invalid code."""

import pytest

from data_prep.config import Source, Task
from raytrain.evaluation.baselines import references_score
from raytrain.evaluation.examples import Example
from raytrain.evaluation.metrics import METRICS, metrics_for
from raytrain.evaluation.metrics.syntax import language_of, parses
from raytrain_core.errors import DataError

JAVA_METHOD = "public static int add(int a, int b) { return a + b; }"
CSHARP_METHOD = 'public override string ToString() { return $"{x}"; }'
PYTHON = "def add(a, b):\n    return a + b\n"


@pytest.mark.parametrize(
    ("code", "language", "right"),
    [(JAVA_METHOD, "java", True), (f"import java.util.List;\npublic class A {{ {JAVA_METHOD} }}", "java", True),
     (JAVA_METHOD[:-1], "java", False), ("int add(int a { return a; }", "java", False),
     (CSHARP_METHOD, "c#", True), (f"using System;\nnamespace N {{ class A {{ {CSHARP_METHOD} }} }}", "c#", True),
     (CSHARP_METHOD.replace("(", "", 1), "c#", False), (PYTHON, "python", True), ("def f(:\n  pass", "python", False),
     ("x = (1, 2", "python", False), ("", "python", False), ("  \n", "java", False), ("x = 'é\ud800'", "python", True),
     ("}\nclass B {", "java", False), ("}\nclass B {", "c#", False)],
)  # fmt: skip
def test_code_that_parses_and_code_that_does_not(code, language, right):
    assert parses(code, language) is right


@pytest.mark.parametrize(
    ("name", "language"),
    [("Java", "java"), (" C# ", "c#"), ("csharp", "c#"), ("Python3", "python"), ("COBOL", None), (None, None)],
)
def test_names_of_languages(name, language):
    assert language_of(name) == language


def test_the_share_of_references_that_parse():
    metric = METRICS["parses"]
    meta = {"language": "Java"}
    targets = [[JAVA_METHOD], ["int broken("], [JAVA_METHOD, "x"], [JAVA_METHOD]]
    stats = metric.stats_many(["int f( {", JAVA_METHOD, "", JAVA_METHOD], targets, [meta] * 4)
    assert metric.score(stats) == 0.5
    rows = [Example(str(i), 0, "", tuple(row), meta) for i, row in enumerate(targets)]
    assert references_score(metric, rows) == 0.75
    assert "tree-sitter-java" in metric.protocol


def test_a_language_without_a_grammar_is_reported():
    with pytest.raises(DataError, match="no grammar for 'COBOL'"):
        METRICS["parses"].stats("x", ["y"], {"language": "COBOL"})


def test_a_translation_gets_the_metric_if_the_language_is_known():
    task = Task(name="t", type="code-translation", source=Source(uri="x"), fields={"from": "Java", "to": "C#"})
    assert [m.name for m in metrics_for(task)] == ["chrf", "exact_code", "bleu", "parses", "perplexity"]
    other = task.model_copy(update={"fields": {"to": "COBOL"}})
    assert "parses" not in [m.name for m in metrics_for(other)]
