"""`raytrain check` foretells what preparation does, and the data commands say what it did."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from data_prep.config import SPLITS
from data_prep.quality.findings import MEANING
from data_prep.shards.manifest import ShardSet
from raytrain.check import check
from raytrain.cli import main
from raytrain.config.load import load_job
from raytrain.datasets.preview import preview
from raytrain.training.data.loader import DataLoader
from raytrain_core.storage import StorageLocation, open_store
from raytrain_core.storage.cache import Cache
from raytrain_core.storage.commit import commit
from tests.support.tiny_job import prepared_data, write_job


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ShardSet:
    """A tiny job whose data is prepared; one row of a task is repeated."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAYTRAIN_STORAGE", raising=False)
    monkeypatch.setenv("RAYTRAIN_CACHE", str(tmp_path / "cache"))
    job_file = write_job(tmp_path)
    echo = Path("echo.jsonl").read_text().splitlines()
    Path("echo.jsonl").write_text("\n".join([*echo, echo[0]]) + "\n")
    return prepared_data(job_file)


def test_check_foretells_preparation(prepared: ShardSet) -> None:
    (job_file,) = Path().glob("*.yaml")
    loaded = load_job(job_file)
    found = check(loaded.job, base_folder=loaded.base_folder)
    for task in found.tasks:
        splits = prepared.task(task.name).splits
        assert task.rows == {s: splits[s].examples for s in SPLITS if s in splits}, task.name
    assert {t.name: t.share for t in found.tasks if t.share is not None} == dict(prepared.rates)
    assert found.lengths_basis == "measured with the model's tokenizer"
    for task in found.tasks:
        first = next(iter(prepared.task(task.name).splits.values())).statistics
        assert task.target_tokens == pytest.approx(first["target_tokens"]["mean"], rel=0.2)
        if first["truncated_sources"] == 0:
            assert task.input_tokens == pytest.approx(first["source_tokens"]["mean"], rel=0.2)
        else:
            assert task.cut is not None
            assert task.input_tokens is not None
            assert task.cut > 0
            assert task.input_tokens <= 48


def test_data_show_has_the_first_template_of_preparation(prepared: ShardSet) -> None:
    from data_prep.shards.text_reader import read_rows

    (job_file,) = Path().glob("*.yaml")
    loaded, store = load_job(job_file), open_store("raytrain-storage")
    cache = Cache(Path("cache"), 1 << 30)
    stored = {row.input for split in SPLITS for row in read_rows(prepared, "echo", split, store, cache, None)}
    (echo,) = preview(loaded.job, base_folder=loaded.base_folder, task="echo", rows=20)
    assert {row.prompt for row in echo.rows} <= stored


def test_data_stats(prepared: ShardSet, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["data", "stats", "tiny", "--plots", "pictures"]) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0] == f"tiny: shard set {prepared.digest[:12]}"
    assert lines[2].split()[:3] == ["task", "split", "rows"]
    assert lines[3].split()[:2] == ["echo", "train"]
    assert "mixture: echo 50.0%, stars 50.0%" in lines
    labels = [line.split() for line in lines if line.startswith("stars  train ")]
    assert sorted(labels[-1][2::2]) == ["a", "b", "c"]
    for name in ("lengths", "mixture", "labels"):
        assert f"wrote pictures/{name}.png" in printed.err
        assert Path(f"pictures/{name}.png").read_bytes().startswith(b"\x89PNG")
    assert main(["data", "stats", "tiny", "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {(s["task"], s["split"]): (s["rows"], s["variants"]) for s in found} == {
        (task.name, split): (part.examples, part.variants)
        for task in prepared.tasks
        for split, part in task.splits.items()
    }
    assert sum(s["duplicates"] for s in found if s["task"] == "echo") == 1
    (stars,) = [s for s in found if (s["task"], s["split"]) == ("stars", "train")]
    assert sum(stars["labels"].values()) == stars["rows"]
    assert stars["distinct_targets"] == 3
    assert main(["data", "stats", "tiny", "--task", "star"]) == 3


def test_data_check(prepared: ShardSet, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", "job.yaml", "-o", "json"]) == 0
    (repeated,) = [f for f in json.loads(capsys.readouterr().out) if f["kind"] == "duplicate"]
    assert (repeated["task"], repeated["rows"]) == ("echo", 1)
    (case,) = repeated["examples"]
    assert case["row"]["input"] == case["other"]["input"]
    assert case["row"]["index"] > case["other"]["index"]
    assert main(["data", "check", prepared.digest[:10], "--kind", "duplicate"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"shard set {prepared.digest[:12]}\n")
    assert "== duplicate: rows with the input and target" in text
    assert main(["data", "check", "tiny", "--kind", "duplicates"]) == 2
    assert "unknown kind of finding: duplicates" in capsys.readouterr().err


def test_data_card(prepared: ShardSet, capsys: pytest.CaptureFixture[str]) -> None:
    text = Path("job.yaml").read_text().replace("{uri: stars.csv}", "{uri: stars.csv, licence: 'CC BY 4.0'}")
    Path("job.yaml").write_text(text)
    assert main(["data", "card", "job.yaml", "--check"]) == 0
    card = capsys.readouterr().out
    assert card.startswith("# Data of tiny\n")
    assert prepared.digest in card
    rows = [line for line in card.splitlines() if line.startswith("| stars | rating |")]
    train, validation, test = (prepared.split("stars", split).examples for split in SPLITS)
    assert rows == [f"| stars | rating | {train} | {validation} | {test} | 50.0% | CC BY 4.0 |"]
    sources = prepared.task("echo").provenance["sources"]
    assert f"`{sources[0]['sha256'][:16]}`" in card
    assert "        repeat {input}" in card  # a template
    assert "- labels: a, b, c" in card
    assert "- 60 rows read" in card
    assert f"- {MEANING['duplicate']}: 1 of " in card
    assert f"- {MEANING['lost-text']}: none" in card


def test_data_plan_is_what_training_sees(prepared: ShardSet, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = load_job("job.yaml")
    assert main(["data", "plan", "job.yaml", "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["exact"]
    loader = DataLoader.open(loaded.job, prepared, open_store("raytrain-storage"), Cache(Path("cache"), 1 << 30))
    rows = loader.packed_order.rows(0, 12 * loader.rows_per_step)
    seen = [p for row in rows for p in row]
    tokens = [loader.read_tokens(p) for p in seen]
    assert found["examples"] == len(seen)
    assert found["tokens"] == sum(len(source) + len(target) for source, target in tokens)
    for number, task in enumerate(found["tasks"]):
        counts = Counter(p.example for p in seen if p.task == number)
        assert task["seen"] == counts.total()
        assert task["epochs"] == pytest.approx(counts.total() / task["rows"])
        assert task["times"] == [min(counts[e] for e in range(task["rows"])), max(counts.values())]
    assert main(["data", "plan", "job.yaml"]) == 0
    assert f"known from  shard set {prepared.digest[:12]}" in capsys.readouterr().out


def test_data_plan_of_epochs(prepared: ShardSet, capsys: pytest.CaptureFixture[str]) -> None:
    text = Path("job.yaml").read_text()
    Path("job.yaml").write_text(text.replace("steps: 12", "epochs: 3"))
    assert main(["data", "plan", "job.yaml", "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = sum(task["rows"] for task in found["tasks"])
    assert found["exact"]
    assert 3 * rows <= found["examples"] <= 3 * rows + found["examples"] / found["steps"] + 1


def test_data_plan_of_what_is_not_prepared_says_so(prepared: ShardSet, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "plan", "job.yaml", "-o", "json"]) == 0
    exact = json.loads(capsys.readouterr().out)
    text = Path("job.yaml").read_text().replace("name: tiny", "name: other")
    Path("job.yaml").write_text(text)  # another run, but what was prepared is just what it needs
    assert main(["data", "plan", "job.yaml", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == exact | {"run": "other"}
    Path("job.yaml").write_text(text.replace("seed: 5", "seed: 6"))
    assert main(["data", "plan", "job.yaml", "-o", "json"]) == 0
    guess = json.loads(capsys.readouterr().out)
    assert not guess["exact"]
    assert [task["variants"] for task in guess["tasks"]] == [task["variants"] for task in exact["tasks"]]
    assert [task["share"] for task in guess["tasks"]] == [task["share"] for task in exact["tasks"]]
    assert guess["examples"] == pytest.approx(exact["examples"], rel=0.3)
    assert main(["data", "check", "job.yaml"]) == 3
    assert "the data of job.yaml is not prepared yet" in capsys.readouterr().err


def test_data_show_tokens(prepared: ShardSet, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", "job.yaml", "--task", "echo", "--rows", "1", "--tokens", "-o", "json"]) == 0
    ((echo,),) = [task["rows"] for task in json.loads(capsys.readouterr().out)]
    tokens = echo["prompt_tokens"]["tokens"]
    assert tokens[-1] == "</s>"
    assert "".join(tokens[:-1]).replace("▁", " ").strip() == echo["prompt"]
    assert not echo["prompt_tokens"]["cut"]
    assert main(["data", "show", "job.yaml", "--task", "echo", "--rows", "1", "--tokens"]) == 0
    assert f"{len(tokens)} tokens of the prompt:" in capsys.readouterr().out


def test_data_verify_names_what_is_corrupt(prepared: ShardSet, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "verify", "tiny"]) == 0
    said = capsys.readouterr().out
    assert "all checksums match" in said
    assert "prepare again" not in said
    store = open_store("raytrain-storage")
    one, two = (part.key for part in prepared.task("echo").all_parts()[:2])
    damaged = bytearray(store.get(one))
    damaged[len(damaged) // 2] ^= 1
    Path("raytrain-storage", one).write_bytes(damaged)
    store.delete([two])
    commit(store, "runs/tiny/checkpoints/step-000004-a01", {"weights": b"one"}, {})
    Path("raytrain-storage/runs/tiny/checkpoints/step-000004-a01/weights").write_bytes(b"two")
    assert main(["data", "verify", "job.yaml", "-o", "json"]) == 4
    corrupt = json.loads(capsys.readouterr().out)["corrupt"]
    assert len(corrupt) == 3
    for key in (one, two, "checkpoints/step-000004-a01/weights"):
        assert sum(key in sentence for sentence in corrupt) == 1
    assert main(["data", "verify", prepared.digest]) == 4
    said = capsys.readouterr().out
    assert "2 corrupt or missing" in said
    assert "Delete the corrupt objects below shards/parts and prepare again" in said


def test_data_diff(prepared: ShardSet, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "diff", "tiny", "job.yaml"]) == 0
    assert "The data is the same." in capsys.readouterr().out
    rows = Path("stars.csv").read_text().splitlines()
    changed = rows[5].rpartition(",")[0] + ",c"  # was b
    rows[4], rows[5] = "a new row,a", changed
    Path("stars.csv").write_text("\n".join(rows) + "\n")
    text = Path("job.yaml").read_text().replace("name: tiny", "name: next").replace("steps: 12", "steps: 13")
    Path("next.yaml").write_text(text)
    other = prepared_data("next.yaml")
    assert main(["data", "diff", "tiny", "next.yaml", "-o", "json", "--examples", "9"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["settings"] == ["spec.training.steps: was 12, is 13"]
    assert {t["task"]: t["change"] for t in found["tasks"]} == {"echo": "same", "stars": "changed", "first": "same"}
    (stars,) = [t for t in found["tasks"] if t["change"] == "changed"]
    assert sum(s["added"] for s in stars["splits"]) == sum(s["removed"] for s in stars["splits"]) == 2
    assert sum(s["other_target"] for s in stars["splits"]) == 1
    shown = [(what, row["input"]) for s in stars["splits"] for what, row in s["examples"]]
    assert ("added", "a new row") in shown
    assert sorted(what for what, _ in shown) == ["added", "added", "removed", "removed"]
    assert main(["data", "diff", prepared.digest, other.digest]) == 0
    assert "=> c" in capsys.readouterr().out


@pytest.mark.s3
def test_data_show_reads_sources_at_the_endpoint_of_the_storage(
    tmp_path: Path, s3: Any, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")  # only the job knows where the bucket is
    job_file = write_job(tmp_path)
    open_store(StorageLocation(uri=f"s3://{s3_bucket}", endpoint=s3.endpoint)).upload(
        "rows/echo.jsonl", tmp_path / "echo.jsonl"
    )
    storage = f"  storage: {{uri: 's3://{s3_bucket}/work', endpoint: '{s3.endpoint}'}}\n  tasks:\n"
    text = job_file.read_text().replace("echo.jsonl", f"'s3://{s3_bucket}/rows'").replace("  tasks:\n", storage)
    job_file.write_text(text)
    loaded = load_job(job_file)
    (echo,) = preview(loaded.job, base_folder=loaded.base_folder, task="echo", rows=2)
    assert [row.where for row in echo.rows] == [f"s3://{s3_bucket}/rows/echo.jsonl:{n}" for n in (1, 2)]
    (found, *_) = check(loaded.job, base_folder=loaded.base_folder).tasks
    assert found.note == "unknown: 1 objects in a bucket are read when the run prepares"
