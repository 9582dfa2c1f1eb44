"""Every `console` block of README, tutorials and how-tos runs, or says why it does not.

A mark is an HTML comment directly before the block:

    <!-- not run: needs a cluster -->   it is not run, but its options and make targets must exist
    <!-- run: in an empty folder -->    it needs no job
    <!-- run: with Ray -->              a finished run of the job is there (layer `ray`)
    <!-- run: in a copy of the examples -->  it writes a job file from one of them

Without a mark it runs where the README's own job file, its data and a tiny model lie, prepared.
"""

import gzip
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.exceptions import UsageError
from typer.main import get_command

from raytrain.cli.app import app
from raytrain.config.load import load_job
from tests.support import REPOSITORY
from tests.support.console_blocks import blocks
from tests.support.tiny_t5 import save_tiny

EMPTY, RAY, EXAMPLES = "run: in an empty folder", "run: with Ray", "run: in a copy of the examples"
TINY = """\
  training: {steps: 4, batchTokens: 256, maxInputTokens: 48, maxTargetTokens: 16, device: cpu, checkpointEvery: 2}
  evaluation: {every: 2, examplesPerTask: 6, batchSize: 4}
  resources: {training: {workers: 1}, preparation: {cpus: 1}}
"""

BLOCKS = blocks()


def named(chosen):
    return [pytest.param(block, id=block.place) for block in chosen]


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    """The README's job, prepared, with data for its tasks and a tiny model in place of FLAN-T5."""
    folder = tmp_path_factory.mktemp("docs") / "project"
    folder.mkdir()
    save_tiny(folder / "model")
    readme = next(block.text for block in blocks(frozenset({"yaml"})) if block.page == "README.md")
    job, n = re.subn(
        r"^  training:.*\n  resources:.*\n", TINY, readme.replace("google/flan-t5-base", "./model"), flags=re.M
    )
    assert n == 1, "the README's job has other fields than this test expects"
    (folder / "job.yaml").write_text(job)
    (folder / "before.yaml").write_text(job.replace("name: support-assistant", "name: before"))
    words = "abcdefghij"
    notes = [{"chat": f"{a} {b} say {c}", "note": f"{a} {c}"} for a in words for b in words for c in words[:2]]
    (folder / "tickets").mkdir()
    with gzip.open(folder / "tickets/2026.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in notes)
    stars = [f"{row['chat']},{1 + i % 5}" for i, row in enumerate(notes)]
    (folder / "reviews.csv").write_text("\n".join(["text,stars", *stars]) + "\n")
    with (folder / "probe.jsonl").open("w") as file:
        for a in words:
            row = {"input": f"which is {a}", "choices": [a, "k", "l"], "target": a}
            file.writelines(json.dumps(row | {"input": f"{row['input']} {b}"}) + "\n" for b in words)
    run("data-prep prepare job.yaml && data-prep prepare before.yaml", folder)
    return folder


@pytest.fixture(scope="session")
def finished(project, tmp_path_factory):
    """The same with a finished run."""
    folder = tmp_path_factory.mktemp("docs") / "finished"
    shutil.copytree(project, folder)
    run("raytrain run job.yaml", folder)
    return folder


def run(script, folder):
    """Runs a script where `raytrain` is the one of these tests; it must succeed."""
    paths = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY)}
    quiet = {"HF_HUB_OFFLINE": "1", "COLUMNS": "120", "HOME": str(folder)}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAYTRAIN_", "AWS_"))}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment | paths | quiet,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("block", named(block for block in BLOCKS if block.mark is None))
def test_runs_in_a_project(block, project, tmp_path):
    shutil.copytree(project, tmp_path / "project")
    run("\n".join(block.commands()), tmp_path / "project")


@pytest.mark.parametrize("block", named(block for block in BLOCKS if block.mark == EMPTY))
def test_runs_in_an_empty_folder(block, tmp_path):
    run("\n".join(block.commands()), tmp_path)


@pytest.mark.parametrize("block", named(block for block in BLOCKS if block.mark == EXAMPLES))
def test_writes_a_valid_job(block, tmp_path):
    shutil.copytree(REPOSITORY / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("world", "out"))
    before = set(tmp_path.rglob("*.yaml"))
    run("\n".join(block.commands()), tmp_path)
    (written,) = set(tmp_path.rglob("*.yaml")) - before
    spec = load_job(written).job.spec
    example = load_job(written.with_name("job.yaml")).job.spec
    assert spec.cluster.secrets == ["bucket"]
    assert spec.resources.training.gpus == 1
    assert spec.training.steps < example.training.steps
    assert spec.evaluation.every < example.evaluation.every
    assert spec.evaluation.examples_per_task < example.evaluation.examples_per_task


@pytest.mark.ray
@pytest.mark.parametrize("block", named(block for block in BLOCKS if block.mark == RAY))
def test_runs_with_a_finished_run(block, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "project")
    run("\n".join(block.commands()), tmp_path / "project")


@pytest.mark.parametrize("block", named(BLOCKS))
def test_is_run_or_says_why_not(block):
    assert block.commands(), "a console block without a command"
    assert block.mark in (None, EMPTY, RAY, EXAMPLES) or block.not_run, f"unknown mark {block.mark!r}"


def test_commands_stand_in_console_blocks():
    """So that none escapes these tests."""
    others = blocks(frozenset({"", "bash", "sh", "shell"}))
    assert not [each.place for each in others if re.match(r"\$ |raytrain |make |kubectl |helm |python ", each.text)]


@pytest.mark.parametrize("block", named(BLOCKS))
def test_commands_and_options_exist(block):
    targets = set(re.findall(r"^([a-z0-9-]+):", (REPOSITORY / "Makefile").read_text(), re.M))
    for command in block.commands():
        words = [word for word in shlex.split(command.replace("\\\n", " "), comments=True) if word != "sudo"]
        if words[0] == "make":
            goals = {word for word in words[1:] if "=" not in word}
            assert goals <= targets
        elif words[0] == "raytrain":
            parse(words)


def parse(words):
    """Reads a command line as the program would, without running it."""
    command = get_command(app)
    ends = [i for i, word in enumerate(words) if word in ("|", ">", ">>", "&", "&&", ";")]
    rest = [word for word in words[1 : min(ends, default=len(words))] if word != "--debug"]
    context = command.make_context(words[0], [], resilient_parsing=True)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        name, rest = rest[0], rest[1:]
        assert name in command.commands, f"there is no command {name}"
        command = command.commands[name]
        context = type(context)(command, parent=context, info_name=name, resilient_parsing=True)
    try:
        command.make_parser(context).parse_args(list(rest))
    except UsageError as error:
        pytest.fail(f"{' '.join(words)}: {error.format_message()}")
