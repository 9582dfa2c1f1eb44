"""What `raytrain check` and `raytrain data show` say, and that they leave no trace."""

import json
import re
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

from data_prep.tasks.mixture import rates
from raytrain.check import CheckReport, check
from raytrain.check.estimate import memory
from raytrain.check.hub_rows import Hub
from raytrain.check.model_size import count_parameters, size_of
from raytrain.cli import main
from raytrain.config.load import load_job
from raytrain.config.run_layout import RunLayout
from raytrain.config.training import PackingShape, TrainingSpec
from raytrain_core.errors import DataError, ExitCode, TrainingError
from raytrain_core.storage import open_store
from tests.support import REPOSITORY

Captured = pytest.CaptureFixture[str]


def checked(path: str = "job.yaml") -> CheckReport:
    loaded = load_job(path)
    return check(loaded.job, base_folder=loaded.base_folder)


def rewrite(old: str, new: str) -> None:
    text = Path("job.yaml").read_text()
    assert old in text
    Path("job.yaml").write_text(text.replace(old, new))


def traces(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*")}


def test_rows_shares_and_sizes(project: Path) -> None:
    before = traces(project)
    found = checked()
    assert traces(project) == before
    notes, stars, quiz = found.tasks
    assert notes.rows is not None
    assert sum(notes.rows.values()) == 200
    assert notes.rows["train"] > 160 > notes.rows["validation"] > 0 < notes.rows["test"]
    assert stars.rows == {"train": 30, "validation": 10, "test": 12}
    assert quiz.rows is not None
    assert set(quiz.rows) == {"validation", "test"}
    mixture = load_job("job.yaml").job.spec.mixture
    assert {t.name: t.share for t in (notes, stars)} == rates(mixture, {"notes": notes.rows["train"], "stars": 30})
    assert (quiz.share, quiz.epochs) == (None, None)
    assert found.parameters == 76_961_152
    assert found.memory_bytes == sum(found.memory_parts.values())
    assert found.memory_parts["weights"] == found.memory_parts["gradients"] == 4 * 76_961_152
    assert found.memory_note.startswith("each worker: weights 0.29, gradients 0.29")
    assert "GPU" not in found.memory_note  # the job trains on the CPU
    assert found.tokens == found.tokens_per_step * 100 <= 8192 * 100
    assert found.seconds is not None
    assert found.seconds_basis.startswith("rough")
    assert (found.checkpoints, found.scored_checkpoints, found.warnings) == (1, 1, [])


def test_epochs_follow_from_shares_and_lengths(project: Path) -> None:
    """Examples times tokens is what the steps hold, for every task together."""
    found = checked()
    assert found.row is not None
    seen = 0.0
    for task in found.tasks[:2]:
        assert task.rows
        assert task.epochs
        assert task.input_tokens
        assert task.target_tokens
        seen += task.epochs * task.rows["train"] * (task.input_tokens + task.target_tokens)
    assert 0.85 * found.tokens <= seen <= found.tokens


def test_the_speed_of_an_earlier_attempt_is_the_better_basis(project: Path) -> None:
    store = open_store("raytrain-storage")
    progress = {"run": "small", "attempt": 1, "phase": "Interrupted", "tokens_per_second": 1000.0}
    store.put(RunLayout("small").progress, json.dumps(progress).encode())
    found = checked()
    assert found.seconds == found.tokens / 1000
    assert found.seconds_basis.startswith("1,000 tokens/s, measured by this run before")


def test_text_and_json(project: Path, capsys: Captured) -> None:
    assert main(["check", "job.yaml"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[-1] == "The job is valid."
    stars = next(line for line in out.splitlines() if line.startswith("stars"))
    assert stars.split()[:5] == ["stars", "rating", "30", "10", "12"]
    assert main(["check", "job.yaml", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["tasks"][1]["rows"] == {"train": 30, "validation": 10, "test": 12}


def test_what_is_ignored_here_is_named(project: Path) -> None:
    with Path("job.yaml").open("a") as file:
        file.write("  resources: {training: {workers: 2, gpus: 1, memory: 8Gi}}\n  cluster: {queue: q}\n")
    expected = ["spec.resources.training.gpus", "spec.resources.training.memory", "spec.cluster"]
    assert checked().ignored == expected


def test_all_problems_with_model_and_data_at_once(project: Path, capsys: Captured) -> None:
    rewrite("google/flan-t5-small", "./model")
    rewrite("notes.jsonl", "note.jsonl")
    Path("dev.csv").write_text("text,stars\nfine,3\nodd,9\n,2\n")
    assert main(["check", "job.yaml"]) == ExitCode.TRAINING
    assert capsys.readouterr().err.splitlines() == [
        "error: 3 problems with the model and the data:",
        f"model ./model: no folder {project}/model",
        "  give a folder with config.json, or a hub id",
        "task notes: there is no note.jsonl, did you mean notes.jsonl?",
        f"  Looked for {project}/note.jsonl; relative paths are relative to the job file.",
        "task stars: dev.csv:3: label '9' is not one of 1, 2, 3, 4, 5",
        "task stars: dev.csv:4: 'text' is empty",
        "  correct them, or skip bad rows with onBadRow: skip",
    ]


def test_bad_rows_that_are_left_out_are_warned_of(project: Path) -> None:
    rewrite("target: stars}", "target: stars}\n      onBadRow: skip")
    Path("dev.csv").write_text("text,stars\nfine,3\nodd,9\n")
    found = checked()
    assert found.warnings == [
        "task stars: 1 bad rows are skipped, e.g. dev.csv:3: label '9' is not one of 1, 2, 3, 4, 5"
    ]
    assert found.tasks[1].bad_rows == 1


def test_if_every_row_is_bad_the_first_reasons_are_named(project: Path, capsys: Captured) -> None:
    rewrite("target: stars}", "target: stars}\n      onBadRow: skip")
    for name in ("train.csv", "dev.csv", "test.csv"):
        rows = Path(name).read_text().splitlines()
        Path(name).write_text("\n".join([rows[0], *(re.sub(r"\d$", "9", row) for row in rows[1:])]) + "\n")
    assert main(["check", "job.yaml"]) == ExitCode.DATA
    shown = capsys.readouterr().err
    assert "task stars: every row is bad; the first are" in shown
    assert "task stars: train.csv:2: label '9' is not one of 1, 2, 3, 4, 5" in shown


def test_what_was_detected_over_the_whole_column_is_told(project: Path) -> None:
    Path("tags.jsonl").write_text(
        "".join(f'{{"t": ["Ann", "came", "{i}"], "g": ["PER_B", "O", "O"]}}\n' for i in range(60))
    )
    text = Path("job.yaml").read_text()
    start, end = text.index("    - name: stars"), text.index("    - {name: quiz")
    tags = "    - {name: stars, type: ner, source: {uri: tags.jsonl}, columns: {tokens: t, tags: g}}\n"
    Path("job.yaml").write_text(text[:start] + tags + text[end:])
    spelling = "(tags.jsonl: tags of column g: BIO marks behind the type, separated by '_')"
    assert f"what was detected: 1 {spelling}" in checked().tasks[1].events


def test_files_that_are_passed_over_are_told(project: Path, capsys: Captured) -> None:
    Path("moods").mkdir()
    Path("moods/a.jsonl").write_text("".join(f'{{"input": "day {i}", "target": "fine"}}\n' for i in range(60)))
    Path("moods/_b.jsonl").write_text("{}\n")
    text = Path("job.yaml").read_text()
    start, end = text.index("    - name: stars"), text.index("    - {name: quiz")
    Path("job.yaml").write_text(
        f"{text[:start]}    - {{name: stars, type: text, source: {{uri: moods}}}}\n{text[end:]}"
    )
    (told,) = (event for event in checked().tasks[1].events if "passed over" in event)
    assert "1 (moods/_b.jsonl: its name begins with _)" in told
    assert main(["data", "show", "job.yaml", "--rows", "1", "--task", "stars"]) == 0
    assert told in capsys.readouterr().out


def test_a_wrong_column(project: Path) -> None:
    rewrite("target: stars", "target: rating")
    with pytest.raises(DataError, match=r"task stars: (dev|train|test)\.csv has no column 'rating'"):
        checked()


def test_an_empty_task(project: Path) -> None:
    Path("test.csv").write_text("text,stars\n")
    with pytest.raises(DataError, match=r"task stars: no rows for test \(according to the files\)"):
        checked()


def test_limits_that_cut(project: Path) -> None:
    rewrite("device: cpu", "device: cpu, maxInputTokens: 8")
    warnings = checked().warnings
    assert any(
        w.startswith("task notes: 100% of the prompts are too long, and their input is cut (maxInputTokens)")
        for w in warnings
    )


def test_so_little_data_that_an_epoch_is_a_step(project: Path) -> None:
    rewrite("steps: 100, batchTokens: 8192", "epochs: 1")
    (warning,) = checked().warnings
    assert warning.startswith("training.epochs comes to about 1 step of ")
    assert warning.endswith("lower training.batchTokens")
    rewrite("epochs: 1", "epochs: 10, batchTokens: 640")
    assert checked().warnings == []


class TestHub:
    @pytest.fixture
    def hub_job(self, project: Path) -> None:
        rewrite("uri: notes.jsonl", "uri: hf://someone/talks@main")

    def test_unreachable_is_unknown(self, hub_job: None, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
        asked = []

        def refuse(self: Any, name: str, **_: Any) -> None:
            asked.append(name)
            raise OSError("no network")

        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", refuse)
        assert main(["check", "job.yaml"]) == 0
        notes = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("notes  "))
        assert notes.split() == ["notes", "summarization", *["unknown"] * 6]
        assert asked == ["someone/talks"]

    def test_offline_asks_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: pytest.fail("asked"))
        assert Hub().rows("hf://someone/talks") is None

    def test_one_refusal_is_enough(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = []
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda self, name, **_: asked.append(name) or 1 / 0)
        hub = Hub()
        assert [hub.rows("hf://a/b"), hub.rows("hf://c/d")] == [None, None]
        assert asked == ["a/b"]

    @pytest.mark.parametrize(
        ("card", "uri", "rows"),
        [
            ({"dataset_info": {"splits": [{"name": "train", "num_examples": 9}]}}, "hf://a/b", {"train": 9}),
            (
                {"dataset_info": [
                    {"config_name": "x", "splits": [{"name": "train", "num_examples": 1}]},
                    {"config_name": "y", "splits": [{"name": "dev", "num_examples": 2}]},
                ]},
                "hf://a/b:y@refs/convert/parquet",
                {"dev": 2},
            ),
            ({"dataset_info": [{"config_name": "x"}, {"config_name": "y"}]}, "hf://a/b", None),
            ({"license": "mit"}, "hf://a/b", None),
            (None, "hf://a/b", None),
        ],
    )  # fmt: skip
    def test_rows_as_the_card_says(
        self, monkeypatch: pytest.MonkeyPatch, card: Any, uri: str, rows: dict[str, int] | None
    ) -> None:
        seen = {}

        def info(self: Any, name: str, *, revision: str | None, timeout: float) -> Any:
            seen[name] = revision
            return SimpleNamespace(card_data=card)

        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", info)
        assert Hub().rows(uri) == rows
        assert seen == {"a/b": uri.partition("@")[2] or None}

    def test_known_rows_are_used(self, hub_job: None, monkeypatch: pytest.MonkeyPatch) -> None:
        splits = [{"name": n, "num_examples": c} for n, c in (("train", 70), ("validation", 5), ("test", 6))]
        card = {"dataset_info": {"splits": splits}}
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: SimpleNamespace(card_data=card))
        notes, stars, _ = checked().tasks
        assert notes.rows == {"train": 70, "validation": 5, "test": 6}
        assert (notes.share, stars.share) == (0.7, 0.3)
        assert notes.epochs is None  # lengths are unknown


def test_the_example_for_the_hub_can_be_checked_offline(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    example = REPOSITORY / "examples" / "flan-t5-base" / "job.yaml"
    assert main(["check", str(example), "--storage", "store"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "The job is valid."
    assert not Path("store").exists()


class TestModel:
    def folder(self, path: Path) -> Path:
        path.mkdir()
        header = {
            "__metadata__": {"format": "pt"},
            "a": {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]},
            "b": {"dtype": "F32", "shape": [5], "data_offsets": [48, 68]},
        }
        text = json.dumps(header).encode()
        (path / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(68))
        (path / "config.json").write_text('{"model_type": "t5"}')
        (path / "tokenizer.json").write_text("{}")
        return path

    def test_parameters_are_counted_in_the_headers(self, tmp_path: Path) -> None:
        self.folder(tmp_path / "model")
        found = size_of("model", tmp_path)
        assert (found.folder, found.parameters) == (tmp_path / "model", 17)

    def test_a_damaged_file(self, tmp_path: Path) -> None:
        folder = self.folder(tmp_path / "model")
        (folder / "model.safetensors").write_bytes(b"\xff" * 20)
        with pytest.raises(TrainingError, match="not a safetensors file"):
            count_parameters(folder)

    @pytest.mark.parametrize("uri", ["run://earlier", "s3://bucket/model", "someone/their-t5"])
    def test_what_is_fetched_later_is_unknown(self, tmp_path: Path, uri: str) -> None:
        assert size_of(uri, tmp_path).parameters is None


class TestDataShow:
    def test_rows_as_the_model_will_see_them(self, project: Path, capsys: Captured) -> None:
        before = traces(project)
        assert main(["data", "show", "job.yaml", "--rows", "1", "--task", "stars"]) == 0
        assert traces(project) == before
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "== stars (rating, 8 templates)"
        assert lines[2].startswith("-- train.csv:2, template ")
        assert any("train shirt number 0" in line for line in lines)
        assert lines[-2:] == ["   =>", "   1"]

    def test_the_template_is_the_one_that_preparation_uses(self, project: Path, capsys: Captured) -> None:
        from data_prep.config import SPLITS
        from data_prep.text.templates import template_order

        assert "train" in SPLITS
        assert main(["data", "show", "job.yaml", "--task", "quiz", "-o", "json"]) == 0
        (quiz,) = json.loads(capsys.readouterr().out)
        numbers = [template_order(17, f"What follows {i}?", quiz["variants"])[0] for i in range(3)]
        assert [row["template"] for row in quiz["rows"]] == numbers

    def test_bad_rows_on_the_way_are_shown(self, project: Path, capsys: Captured) -> None:
        Path("train.csv").write_text("text,stars\nodd,9\nfine,3\n")
        assert main(["data", "show", "job.yaml", "--task", "stars"]) == 0
        assert "bad row: train.csv:2: label '9' is not one of 1, 2, 3, 4, 5" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "precision", "end"),
    [
        ("flan-t5-xl", "bf16", "; fits a GPU of 80 GiB"),
        ("flan-t5-xxl", "fp32", "; more than a GPU of 180 GiB holds"),
    ],
)
def test_memory_says_which_gpu_holds_it(name: str, precision: str, end: str) -> None:
    training = TrainingSpec.model_validate({"steps": 1, "precision": precision})
    found = memory(size_of(f"google/{name}", Path()), training, PackingShape(source=8192, target=1792))
    assert found.note.endswith(end)
