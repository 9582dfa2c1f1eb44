import io
import subprocess
import sys
import tempfile
import time

import pytest

from data_prep.__main__ import main
from data_prep.shards.progress import PrepareProgress, ProgressLine
from tests.support import REPOSITORY
from tests.support.data_prep_bench import numbered, write_jsonl

JOB_YAML = """\
apiVersion: raytrain.dev/v1alpha1
kind: FineTuneJob
metadata: {name: notes}
spec:
  model: ./model
  storage: {uri: store}
  tasks:
    - name: notes
      type: summarization
      source: {uri: rows.jsonl}
      split: {validation: 0.2, test: 0.2}
      onBadRow: skip
  training: {steps: 3, maxInputTokens: 40, maxTargetTokens: 8, optimizer: adamw}
  evaluation: {every: 1}
"""


@pytest.fixture
def job_file(tmp_path, tokenizer):
    tokenizer.save(tmp_path / "model")
    write_jsonl(tmp_path / "rows.jsonl", [*numbered(100), {"input": "x", "target": None}])
    path = tmp_path / "job.yaml"
    path.write_text(JOB_YAML)
    return path


def test_it_prepares_and_says_what(job_file, capsys):
    assert main(["prepare", str(job_file)]) == 0
    out = capsys.readouterr().out
    assert [line.split()[:2] for line in out.splitlines()[:4]] == [
        ["task", "split"], ["notes", "train"], ["notes", "validation"], ["notes", "test"],
    ]  # fmt: skip
    assert "bad rows skipped: 1 (rows.jsonl:101: 'target' is null)" in out
    assert "mixture: notes 100.0%" in out
    digest = out.split()[-1]
    assert (job_file.parent / "store/shards/sets" / f"{digest}.json").is_file()
    began = time.process_time()
    assert main(["prepare", str(job_file)]) == 0
    assert time.process_time() - began < 2
    again = capsys.readouterr()
    assert again.out == out
    assert again.err == "nothing to do: everything is already prepared\n"


def test_another_storage_and_another_tokenizer(job_file, tmp_path, capsys, base_folder):
    job_file.write_text(JOB_YAML.replace("./model", "google/flan-t5-base"))
    assert main(["prepare", str(job_file)]) == 2
    assert "--tokenizer" in capsys.readouterr().err
    command = ["prepare", str(job_file), "--storage", str(tmp_path / "b"), "--tokenizer", str(base_folder)]
    assert main(command) == 0
    assert list((tmp_path / "b/shards/sets").iterdir())
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("old", "new", "code", "message"),
    [
        ("rows.jsonl", "row.jsonl", 3, "there is no row.jsonl, did you mean rows.jsonl?"),
        ("onBadRow", "onBadrow", 2, "job.yaml:12:7: spec.tasks[0].onBadrow: unknown field, did you mean onBadRow"),
        ("onBadRow: skip", "templates: [Hi]", 2, "has no {input}"),
        ("onBadRow: skip", "onBadRow: fail", 3, "rows.jsonl:101: 'target' is null"),
        ("./model", "./rows.jsonl", 2, "not a local folder"),
        ("uri: store", "uri: 'ftp://x'", 2, "ftp"),
    ],
)
def test_mistakes_get_a_sentence_and_an_exit_code(job_file, capsys, old, new, code, message):
    job_file.write_text(JOB_YAML.replace(old, new))
    assert main(["prepare", str(job_file)]) == code
    assert message in capsys.readouterr().err


def test_as_a_module_it_needs_neither_torch_nor_transformers_nor_ray(job_file):
    script = (
        "import sys; from data_prep.__main__ import main; code = main(sys.argv[1:]); "
        "print('heavy:', sorted({'torch', 'transformers', 'ray', 'raytrain', 'datasets'} & set(sys.modules))); "
        "sys.exit(code)"
    )
    command = [sys.executable, "-c", script, "prepare", str(job_file)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=REPOSITORY)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "heavy: []"), done.stderr


def test_what_a_killed_preparation_left_among_temporary_files_goes(job_file, tmp_path, monkeypatch):
    temporary = tmp_path / "temporary"
    (temporary / f"raytrain-preparation-{'0' * 32}.scratch" / "notes").mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    assert main(["prepare", str(job_file)]) == 0
    assert list(temporary.iterdir()) == []


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_one_line_of_a_terminal_with_the_time_that_is_left(monkeypatch):
    now = 100.0
    monkeypatch.setattr("data_prep.shards.progress.time.monotonic", lambda: now)
    stream = Terminal()
    with ProgressLine(stream) as line:
        for done, total in ((0, None), (10, 200), (20, 200), (110, 200), (200, 200)):
            line.show(PrepareProgress("notes", done, total))
            now += 10
    shown = stream.getvalue().split("\r\x1b[K")[1:]
    assert shown == [
        "notes: 10 of 200 examples (5%), 3 min 10 s left",
        "notes: 20 of 200 examples (10%), 3 min 00 s left",
        "notes: 110 of 200 examples (55%), 25 s left",
        "notes: 200 of 200 examples (100%)\n",
    ]


def test_in_a_log_progress_is_a_line_now_and_then(monkeypatch):
    now = 100.0
    monkeypatch.setattr("data_prep.shards.progress.time.monotonic", lambda: now)
    stream = io.StringIO()
    with ProgressLine(stream) as line:
        assert not line.used
        for done in range(31):
            line.show(PrepareProgress("notes", done, None))
            now += 1
        assert line.used
    assert stream.getvalue().splitlines() == [f"notes: {n} examples" for n in (10, 20, 30)]


def test_it_says_what_was_left_out_and_masked(job_file, tmp_path, capsys):
    rows = [row | {"target": f"mail{i}@example.org"} for i, row in enumerate(numbered(100))]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    wishes = "onBadRow: skip\n      where: input != 'the text number 7'\n      mask: {kinds: [email, phone]}"
    job_file.write_text(JOB_YAML.replace("onBadRow: skip", wishes))
    assert main(["prepare", str(job_file)]) == 0
    out = capsys.readouterr().out
    assert "notes: rows left out by where: 1 (rows.jsonl:8)" in out
    assert "notes: values masked (email): 99 (rows.jsonl:1; rows.jsonl:2; rows.jsonl:3)\n" in out
    assert "notes: of 100 rows 99 (99.0%) were changed and 99 (99.0%) were cut: values masked (email) 99, rows " in out
