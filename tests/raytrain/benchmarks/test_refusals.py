"""Benchmarks that do not exist or cannot be probes are refused by name, before anything is read."""

from pathlib import Path

import pytest

from raytrain.benchmarks import catalog
from raytrain.benchmarks.refusals import check, check_all, metric_names
from raytrain.config.benchmark import Benchmark
from raytrain_core.errors import UsageError
from tests.raytrain.benchmarks.conftest import arc_rows, write_rows


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mmluu", "there is no benchmark 'mmluu', did you mean mmlu?"),
        ("humaneval", "runs code that the model writes"),
        ("wikitext", "how likely whole documents are"),
        ("squadv2", "is a Python class"),
        ("gsm8k_cot_self_consistency", "draws answers at random"),
    ],
)
def test_what_cannot_be_a_probe_is_refused_with_its_reason(name: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        check(Benchmark(benchmark=name), "spec.probes[3]")
    assert str(caught.value).startswith("spec.probes[3]: ")
    assert reason in str(caught.value)


def test_a_metric_that_is_not_a_mean_over_rows_is_refused() -> None:
    with pytest.raises(UsageError, match="hellaswag has no metric 'mcc'") as caught:
        check(Benchmark(benchmark="hellaswag", metric="mcc"), "spec.probes[0]")
    assert caught.value.hint == "It has acc, acc_norm."


def test_every_problem_of_a_job_is_listed(tmp_path: Path) -> None:
    write_rows(tmp_path / "arc_easy", {"test": arc_rows(2, 0)})
    (tmp_path / "empty").mkdir()
    probes = [
        Benchmark(benchmark="arc_easy", rows="arc_easy"),
        Benchmark(benchmark="arc_easy", rows="arc_easi"),
        Benchmark(benchmark="arc_easy", rows="empty"),
        Benchmark(benchmark="arc_easy", rows="ftp://bucket/rows"),
        Benchmark(benchmark="nothing-of-the-kind-at-all"),
    ]
    messages = [problem.message for problem in check_all(probes, tmp_path)]
    assert messages == [
        "spec.probes[1]: rows: there is no folder arc_easi, did you mean arc_easy?",
        "spec.probes[2]: rows: no file in empty is named after a split",
        "spec.probes[3]: rows: ftp://bucket/rows is not supported",
        "spec.probes[4]: there is no benchmark 'nothing-of-the-kind-at-all'",
    ]


def test_groups_tags_and_own_definitions_are_known() -> None:
    assert set(catalog.leaves("arc")) == {"arc_easy", "arc_challenge"}
    assert set(catalog.leaves("ai2_arc")) == {"arc_easy", "arc_challenge"}
    assert len(catalog.leaves("mmlu")) == 57
    assert len(catalog.leaves("bbh")) == 27
    assert metric_names("samsum") == ["rougeL", "rouge1", "rouge2"]


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    catalog.folders.cache_clear()
    monkeypatch.setattr(catalog, "find_spec", lambda name: None)
    with pytest.raises(UsageError) as caught:
        check(Benchmark(benchmark="mmlu"), "spec.probes[0]")
    monkeypatch.undo()
    catalog.folders.cache_clear()
    assert caught.value.hint == "pip install 'raytrain[benchmarks]'"
