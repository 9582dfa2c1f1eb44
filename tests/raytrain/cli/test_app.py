"""The commands as a person meets them: what is printed where, and the exit code."""

import errno
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import raytrain
import raytrain.pipeline.run
import raytrain.report
import raytrain.serving.predict
from raytrain.cli import completion, main
from raytrain.cli.app import app
from raytrain.cli.output import columns
from raytrain.config.run_layout import RunLayout
from raytrain.pipeline.outcome import RunOutcome, TaskOutcome
from raytrain.serving.predict import Prediction
from raytrain.serving.prompts import Prompt
from raytrain_core.errors import ClusterError, DataError, ExitCode, StorageError, TrainingError, UsageError, UserError
from raytrain_core.storage import open_store
from tests.support import REPOSITORY

HEAVY = ("torch", "ray", "transformers", "matplotlib", "datasets", "evaluate", "boto3", "pyarrow", "ruamel", "numpy")

IN_CLUSTER = ("submit", "wait", "cancel", "delete", "logs", "doctor")

Captured = pytest.CaptureFixture[str]


def test_help_loads_nothing_heavy() -> None:
    """Half a second for --help cannot be asserted on a busy machine; what it depends on can."""
    code = (
        "import sys\nfrom raytrain.cli import main\n"
        "assert main(['--help']) == 0\nassert main(['run', '--help']) == 0\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "Multitask fine-tuning" in done.stdout


def test_every_command_has_help(capsys: Captured) -> None:
    commands = ("init", "check", "explain", "run", "predict", "evaluate", "compare", "leaderboard", "serve")
    for command in (*commands, "report", "status", "data show", "data check", *IN_CLUSTER):
        assert main([*command.split(), "--help"]) == 0, command
        assert f"raytrain {command}" in capsys.readouterr().out


def test_version(capsys: Captured) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == raytrain.__version__


def test_shell_completion_is_offered(capsys: Captured) -> None:
    assert main(["--help"]) == 0
    assert "--install-completion" in capsys.readouterr().out


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["check"], "error: Missing argument 'JOB_FILE'\n  see `raytrain check --help`\n"),
            (["check", "x", "--stroage", "y"], "error: No such option: --stroage"),
            (["cheque"], "error: No such command 'cheque'"),
            (["check", "job.yaml", "-o", "xml"], "error: Invalid value for '-o' / '--output'"),
            (["check", "nope.yaml"], "error: nope.yaml: there is no such file, did you mean job.yaml?\n"),
            (["init"], "error: job.yaml already exists\n  give another path, or replace it with --force\n"),
            (["status", "s3://bucket/x"], "error: s3://bucket/x is not the name of a run"),
            (["explain", "trainng.steps"], "error: the job has no field trainng.steps, did you mean"),
            (["data", "show", "job.yaml", "--task", "star"], "error: the job has no task star, did you mean"),
        ],
    )  # fmt: skip
    def test_usage(self, project: Path, capsys: Captured, arguments: list[str], message: str) -> None:
        assert main(arguments) == ExitCode.USAGE
        out, err = capsys.readouterr()
        assert err.startswith(message)
        assert out == ""
        assert "Traceback" not in err

    def test_a_job_with_one_problem(self, project: Path, capsys: Captured) -> None:
        Path("job.yaml").write_text(Path("job.yaml").read_text().replace("batchTokens", "batchTokes"))
        assert main(["check", "job.yaml"]) == ExitCode.USAGE
        expected = "error: job.yaml:15:26: spec.training.batchTokes: unknown field, did you mean batchTokens?\n"
        assert capsys.readouterr().err == expected

    def test_a_job_with_several(self, project: Path, capsys: Captured) -> None:
        text = Path("job.yaml").read_text().replace("batchTokens", "batchTokes").replace("rating", "ratings")
        Path("job.yaml").write_text(text)
        assert main(["run", "job.yaml"]) == ExitCode.USAGE
        assert capsys.readouterr().err.splitlines() == [
            "job.yaml:11:13: spec.tasks[1].type: must be one of summarization, rating, sentiment, ner, translation, "
            'code-translation, multiple-choice, question-answering, text; got "ratings", did you mean rating?',
            "job.yaml:15:26: spec.training.batchTokes: unknown field, did you mean batchTokens?",
            "error: 2 problems in the job; nothing was done",
        ]

    @pytest.mark.parametrize("kind", [UsageError, DataError, StorageError, ClusterError, TrainingError])
    def test_each_kind_has_its_code(
        self, project: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch, kind: type[UserError]
    ) -> None:
        def broken(*_: Any, **__: Any) -> None:
            raise kind("it is broken", hint="mend it")

        monkeypatch.setattr(raytrain.pipeline.run, "run", broken)
        assert main(["run", "job.yaml"]) == kind.exit_code
        assert capsys.readouterr().err == "error: it is broken\n  mend it\n"
        assert main(["run", "job.yaml", "--debug"]) == kind.exit_code
        assert "Traceback" in capsys.readouterr().err

    def test_a_bug_is_called_a_bug(self, project: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: Any, **__: Any) -> None:
            raise ZeroDivisionError("one\ntwo")

        monkeypatch.setattr(raytrain.pipeline.run, "run", broken)
        assert main(["run", "job.yaml"]) == ExitCode.BUG
        assert capsys.readouterr().err == (
            "error: ZeroDivisionError: one\n"
            "  this is a bug in raytrain; run the same command with --debug to see where it comes from\n"
        )
        assert main(["--debug", "run", "job.yaml"]) == ExitCode.BUG
        assert "Traceback" in capsys.readouterr().err

    def test_a_full_disk_is_no_bug(self, project: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: Any, **__: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", "/tmp/somewhere")

        monkeypatch.setattr(raytrain.pipeline.run, "run", broken)
        assert main(["run", "job.yaml"]) == ExitCode.STORAGE
        assert capsys.readouterr().err.startswith("error: /tmp/somewhere: No space left on device\n  free space there")

    def test_ctrl_c(self, project: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(raytrain.pipeline.run, "run", interrupted)
        assert main(["run", "job.yaml"]) == ExitCode.INTERRUPTED
        assert capsys.readouterr() == ("", "interrupted\n")

    def test_a_reader_that_has_seen_enough(self, project: Path) -> None:
        command = f"{sys.executable} -m raytrain explain -o json | head -c 10"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
        assert (len(done.stdout), done.stderr) == (10, "")

    def test_the_table_of_exit_codes_is_complete(self) -> None:
        text = (REPOSITORY / "docs" / "reference" / "exit-codes.md").read_text()
        listed = [line.split("|")[1:3] for line in text.splitlines() if line.startswith("| ") and line[2].isdigit()]
        assert [(int(c), n.strip()) for c, n in listed] == [(int(c), c.name.lower()) for c in ExitCode]


class TestInitAndExplain:
    def test_the_starter_can_be_checked_as_far_as_its_data_goes(
        self, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert main(["init"]) == 0
        assert capsys.readouterr() == (
            "",
            "wrote job.yaml; next: fill in your tasks, then run `raytrain check job.yaml`\n",
        )
        assert main(["check", "job.yaml"]) == ExitCode.DATA
        err = capsys.readouterr().err
        for lacking in ("tickets.jsonl", "reviews-train.csv", "questions.jsonl"):
            assert f"there is no {lacking}" in err

    def test_explain(self, capsys: Captured) -> None:
        assert main(["explain", "training.steps", "-o", "json"]) == 0
        assert json.loads(capsys.readouterr().out)["path"] == "spec.training.steps"
        assert main(["explain"]) == 0
        assert "optimizer: adafactor | adamw" in capsys.readouterr().out
        assert main(["explain", "--schema"]) == 0
        assert json.loads(capsys.readouterr().out)["title"] == "FineTuneJob"


class TestRun:
    OUTCOME = RunOutcome(
        name="small",
        storage="file:///here/store",
        report_uri="file:///here/store/runs/small/report/index.html",
        primary_scores=(
            TaskOutcome("notes", False, "rougeL", 0.2, 0.45, 0.2, 0.3, "percent", "better"),
            TaskOutcome("quiz", True, "mean error", 0.5, 0.4, -0.2, 0.0, "raw", "within noise"),
        ),
        done_before=False,
    )

    def test_what_is_handed_on_and_what_comes_out(
        self, project: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: dict[str, Any] = {}

        def run(job: Any, **options: Any) -> RunOutcome:
            seen.update(options, job=job)
            options["console"].line("chatter")
            return self.OUTCOME

        monkeypatch.setattr(raytrain.pipeline.run, "run", run)
        assert main(["run", "job.yaml", "--storage", "elsewhere", "--fresh"]) == 0
        assert seen["job"].metadata.name == "small"
        assert (seen["storage"], seen["fresh"], seen["base_folder"]) == ("elsewhere", True, project)
        out, err = capsys.readouterr()
        assert err == "chatter\n"
        assert out.splitlines() == [
            "small is complete.",
            "",
            "task          metric      before  after  change (95 % interval)",
            "notes         rougeL        20.0   45.0  +25.0 (+20.0 to +30.0), better",
            "quiz (probe)  mean error    0.50   0.40  -0.10 (-0.20 to +0.00), within noise",
            "",
            "report: file:///here/store/runs/small/report/index.html",
            'try it: raytrain predict small --storage file:///here/store --task notes --compare "your text"',
        ]

    def test_json(self, project: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(raytrain.pipeline.run, "run", lambda job, **_: self.OUTCOME)
        assert main(["run", "job.yaml", "-o", "json"]) == 0
        assert json.loads(capsys.readouterr().out)["primary_scores"][1]["task"] == "quiz"


class TestRunsThatExist:
    @pytest.fixture
    def layout(self, project: Path) -> RunLayout:
        store, layout = open_store("raytrain-storage"), RunLayout("small")
        store.put(layout.job, b"{}")
        store.put(layout.attempt(1), b"{}")
        store.put(layout.attempt(2), b"{}")
        progress = {
            "run": "small",
            "attempt": 2,
            "phase": "Training",
            "step": 40,
            "steps": 100,
            "tokens": 320000,
            "tokens_per_second": 1234.5,
            "eta_seconds": 61.0,
            "loss": 1.25,
            "scores": {"notes": {"primary_metric": "rougeL", "before": 0.2, "now": 0.31, "after": None}},
            "message": "training",
            "dashboard": "http://127.0.0.1:8265",
            "updated": "2020-01-01T00:00:00Z",
        }
        store.put(layout.progress, json.dumps(progress).encode())
        store.put(f"{layout.checkpoint(30, 1)}/manifest.json", b"{}")
        store.put(f"{layout.checkpoint(40, 2)}/model.safetensors", b"half")  # no manifest: does not exist
        events = [{"kind": "RunStarted"}, {"kind": "WorkerRestarted"}, {"kind": "WorkerRestarted"}]
        store.put(layout.segment("events", 2, 1), "\n".join(map(json.dumps, events)).encode())
        return layout

    def test_status(self, layout: RunLayout, project: Path, capsys: Captured) -> None:
        assert main(["status", "small"]) == 0
        lines = capsys.readouterr().out.splitlines()
        facts = {line[:12].strip(): line[12:].strip() for line in lines if line[:12].strip()}
        assert facts["run"] == f"small in file://{project}/raytrain-storage"
        assert facts["progress"] == "step 40 of 100 (40%)"
        assert facts["left"] == "1 min 01 s"
        assert facts["checkpoint"] == "step 30"
        assert facts["attempts"] == "2; 2 WorkerRestarted"
        assert facts["next"] == (
            "it has not reported for a while; if it has stopped, `raytrain run` with the same job file "
            "resumes it from step 30"
        )
        assert lines[-1] == "notes  rougeL    20.0  31.0      -"

    @pytest.mark.parametrize(
        "arguments",
        [["small"], ["job.yaml"], ["raytrain-storage/runs/small"], ["small", "--storage", "raytrain-storage"]],
    )
    def test_the_ways_to_name_a_run(
        self, layout: RunLayout, project: Path, capsys: Captured, arguments: list[str]
    ) -> None:
        assert main(["status", *arguments, "-o", "json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["run"], found["step"], found["checkpoint_step"]) == ("small", 40, 30)

    def test_a_run_that_is_not_there(self, layout: RunLayout, project: Path, capsys: Captured) -> None:
        assert main(["status", "smal"]) == ExitCode.USAGE
        assert capsys.readouterr().err.splitlines() == [
            f"error: there is no run smal under file://{project}/raytrain-storage, did you mean small?",
            "  existing runs: small; choose another storage with --storage or RAYTRAIN_STORAGE",
        ]

    def test_looking_at_a_storage_that_is_not_there_makes_none(self, project: Path, capsys: Captured) -> None:
        assert main(["status", "small", "--storage", "nowhere"]) == ExitCode.USAGE
        assert not (project / "nowhere").exists()

    def test_report(self, layout: RunLayout, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
        def write(store: Any, layout: RunLayout) -> str:
            store.put(f"{layout.report}/report.md", b"# The report\n")
            store.put(f"{layout.report}/report.json", b'{"run": "small"}')
            store.put(f"{layout.report}/index.html", b"<html>")
            return "file:///there/index.html"

        monkeypatch.setattr(raytrain.report, "write", write)
        assert main(["report", "small"]) == 0
        assert capsys.readouterr() == ("# The report\n", "report: file:///there/index.html\n")
        assert main(["report", "small", "-o", "json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"run": "small"}
        assert main(["report", "small", "--save", "page.html"]) == 0
        assert capsys.readouterr().err == "report: page.html\n"
        assert Path("page.html").read_bytes() == b"<html>"
        assert main(["report", "small", "--save", "no/such/page.html"]) == ExitCode.USAGE
        assert capsys.readouterr().err == "error: no/such/page.html cannot be written: No such file or directory\n"

    def test_data_check_before_preparation(self, layout: RunLayout, capsys: Captured) -> None:
        text = Path("job.yaml").read_text()
        open_store("raytrain-storage").put(layout.job, text.encode())
        assert main(["data", "check", "small"]) == ExitCode.DATA
        assert capsys.readouterr().err.startswith("error: the data of small is not prepared yet")

    def test_completion_knows_runs_and_fields(self, layout: RunLayout) -> None:
        assert completion.runs("sm") == ["small"]
        assert completion.runs("x") == []
        assert "training.optimizer" in completion.fields("training.opt")
        open_store("raytrain-storage").put(f"{layout.scores('before', 'notes')}/scores.json", b"{}")
        assert completion.tasks("n") == ["notes"]

    def test_completion_never_asks_the_network(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RAYTRAIN_STORAGE", "s3://bucket/prefix")
        assert (completion.runs(""), completion.tasks("")) == ([], [])


class TestPredict:
    @pytest.fixture(autouse=True)
    def a_run(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
        open_store("raytrain-storage").put(RunLayout("small").job, b"{}")
        asked: list[dict[str, Any]] = []

        def predict(texts: list[str], *, which: str, **options: Any) -> list[Prediction]:
            asked.append({"texts": texts, "which": which, **options})
            return [Prediction(f"{which}({text})", Prompt(text, len(text), min(len(text), 9))) for text in texts]

        monkeypatch.setattr(raytrain.serving.predict, "predict", predict)
        return asked

    def test_the_tuned_model(self, capsys: Captured, a_run: list[dict[str, Any]]) -> None:
        assert main(["predict", "small", "--task", "notes", "--template", "2", "one", "two"]) == 0
        assert capsys.readouterr().out == "after(one)\nafter(two)\n"
        assert [(a["texts"], a["which"], a["task"], a["template"]) for a in a_run] == [
            (["one", "two"], "after", "notes", 2)
        ]

    def test_before(self, capsys: Captured) -> None:
        assert main(["predict", "small", "--task", "notes", "--before", "one"]) == 0
        assert capsys.readouterr().out == "before(one)\n"

    def test_compare(self, capsys: Captured) -> None:
        assert main(["predict", "small", "--task", "notes", "--compare", "one"]) == 0
        assert capsys.readouterr().out == "before: before(one)\nafter:  after(one)\n"
        assert main(["predict", "small", "--task", "notes", "--compare", "one", "-o", "json"]) == 0
        expected = {"text": "one", "before": "before(one)", "after": "after(one)", "notice": None}
        assert json.loads(capsys.readouterr().out) == [{**expected, "prompt_tokens": 3, "read_tokens": 3}]

    def test_what_was_left_out_is_said_beside_the_answer(self, capsys: Captured) -> None:
        assert main(["predict", "small", "--task", "notes", "one", "a longer text"]) == 0
        printed = capsys.readouterr()
        assert printed.out == "after(one)\nafter(a longer text)\n"
        assert "text 2: the prompt has 13 tokens, of which the model read 9; the rest was left out" in printed.err

    def test_a_long_text_can_be_refused(self, a_run: list[dict[str, Any]]) -> None:
        assert main(["predict", "small", "--task", "notes", "--refuse-long", "one"]) == 0
        assert a_run[0]["refuse_long"] is True

    def test_both_flags_exclude_each_other(self, capsys: Captured) -> None:
        assert main(["predict", "small", "--task", "notes", "--compare", "--before", "one"]) == ExitCode.USAGE
        assert "exclude each other" in capsys.readouterr().err

    @pytest.mark.parametrize(("flags", "expected"), [([], [["one\ntwo"]]), (["--lines"], [["one", "two"]])])
    def test_standard_input(
        self,
        monkeypatch: pytest.MonkeyPatch,
        a_run: list[dict[str, Any]],
        flags: list[str],
        expected: list[list[str]],
    ) -> None:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: False, read=lambda: "one\ntwo\n"))
        assert main(["predict", "small", "--task", "notes", *flags]) == 0
        assert [a["texts"] for a in a_run] == expected

    def test_nothing_to_answer(self, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: False, read=lambda: " \n"))
        assert main(["predict", "small", "--task", "notes"]) == ExitCode.USAGE
        assert capsys.readouterr().err.startswith("error: no text given")

    def test_what_stands_after_two_dashes_is_text(self, a_run: list[dict[str, Any]]) -> None:
        assert main(["predict", "small", "--task", "notes", "--", "--debug"]) == 0
        assert a_run[0]["texts"] == ["--debug"]


def test_a_terminal_gets_no_control_characters(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    from raytrain.cli.output import print_text

    print_text("plain \x1b[31mred")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    print_text("plain \x1b[31mred\tok\n")
    assert capsys.readouterr().out == "plain \x1b[31mred\nplain \ufffd[31mred\tok\n\n"


def test_columns_are_aligned() -> None:
    assert columns([("a", "n"), ("long", "10")], right=(1,)) == "a      n\nlong  10"


def test_the_app_is_what_the_entry_point_runs() -> None:
    assert app.info.name == "raytrain"
    done = subprocess.run([sys.executable, "-m", "raytrain", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == raytrain.__version__
