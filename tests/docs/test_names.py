"""Paths, commands and fields that the documentation names in code spans exist."""

import re

import pytest
from ruamel.yaml import YAML
from typer.main import get_command

from raytrain.cli.app import app
from raytrain.config.explain import all_fields
from raytrain.config.job import API_VERSION
from raytrain.config.sweep import Sweep
from raytrain_core.config.fields import walk
from tests.support import REPOSITORY
from tests.support.console_blocks import blocks

PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "examples/*/README.md", ".github/*.md")
    for path in REPOSITORY.glob(pattern)
    if path.name != "CHANGELOG.md"  # names what is gone
)
FOLDERS = "raytrain|raytrain_core|data_prep|tests|benchmarks|examples|helm|k8s|docs|requirements"
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_PATH = re.compile(rf"(?:{FOLDERS})/[\w./-]*")
_FILE = re.compile(r"[\w/]+\.py")
_MODULE = re.compile(r"(?:raytrain|raytrain_core|data_prep|tests|benchmarks|examples)(?:\.\w+)+")
_FIELD = re.compile(r"(?:spec\.)?(?:storage|mixture|training|evaluation|resources|cluster)(?:\.[a-z][A-Za-z]*)+")


def spans():
    for page in PAGES:
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            for span in _SPAN.findall(line):
                yield f"{page.relative_to(REPOSITORY)}:{number}", span


def check(pattern, exists):
    missing = [f"{place} {span}" for place, span in spans() if pattern.fullmatch(span) and not exists(span)]
    assert not missing, "\n".join(missing)


def test_paths_exist():
    written = re.compile(r"/out/|NAME")  # by a run, or a placeholder
    check(_PATH, lambda path: written.search(path) or (REPOSITORY / path).exists())


def test_python_files_exist():
    """By their whole path or the end of it, such as `training/trainer.py` or `test_trainer.py`."""
    folders = ("raytrain", "raytrain_core", "data_prep", "tests", "benchmarks", "examples", "docs")
    known = [path.as_posix() for folder in folders for path in (REPOSITORY / folder).rglob("*.py")]
    examples = {"run_summarization.py"}  # of transformers
    check(_FILE, lambda name: name in examples or any(path.endswith(f"/{name}") for path in known))


def test_modules_exist():
    def exists(name):
        path = REPOSITORY / name.replace(".", "/")
        return (
            path.is_dir()
            or path.with_suffix(".py").is_file()
            or (path.parent.is_dir() and re.search(rf"\b{path.name}\b", _source(path.parent)))
            or (path.parent.with_suffix(".py").is_file() and path.name in path.parent.with_suffix(".py").read_text())
        )

    check(_MODULE, lambda name: name.startswith("raytrain.dev") or name in ENTRY_POINTS or exists(name))


ENTRY_POINTS = {"raytrain.metrics", "raytrain.readers", "raytrain.rows", "raytrain.test"}


def _source(package):
    init = package / "__init__.py"
    return init.read_text() if init.is_file() else ""


def test_fields_exist():
    known = {field.path.replace("[]", "").removeprefix("spec.") for field in all_fields()}
    status = {"storage.endpoint"}
    check(_FIELD, lambda path: path.removeprefix("spec.") in known | status)


@pytest.mark.parametrize("word", ["raytrain", "make"])
def test_commands_exist(word):
    commands = set(get_command(app).commands)
    targets = set(re.findall(r"^([a-z0-9-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    known = {"raytrain": commands, "make": targets | {"bench-NAME"}}[word]
    check(
        re.compile(rf"{word} [a-z].*"),
        lambda span: all(part in known or "=" in part for part in span.split()[1:2]),
    )


def test_the_picture_shows_the_rooms():
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    room = r"(?:raytrain|data_prep|raytrain_core)\.\w+"
    layers = re.findall(rf'^    "({room}(?: \| {room})*)",$', text, re.MULTILINE)  # a layer may have several rooms
    rooms = [one.rpartition(".")[2] for layer in layers for one in layer.split(" | ")]
    picture = re.findall(
        r'monospace" fill="#1f2937">(\w+)</text>', (REPOSITORY / "docs/images/architecture.svg").read_text()
    )
    assert sorted(picture) == sorted(rooms)


def test_yaml_blocks_use_fields_that_exist():
    fields = [*all_fields(), *walk(Sweep)]
    names = {field.name for field in fields}
    free = {field.name for field in fields if field.type_words.startswith("mapping of")} | {"splits"}

    def unknown(value):
        if isinstance(value, list):
            return [name for item in value for name in unknown(item)]
        if not isinstance(value, dict):
            return []
        inside = [name for key, item in value.items() if key not in free for name in unknown(item)]
        return [key for key in value if key not in names] + inside

    def ours(document):
        """The document, or the job in a ConfigMap; of other kinds of Kubernetes nothing is ours."""
        if not isinstance(document, dict) or document.get("apiVersion", API_VERSION) == API_VERSION:
            return document
        return [yaml.load(text) for text in document.get("data", {}).values()]

    yaml = YAML(typ="safe")
    yaml.allow_duplicate_keys = True  # alternatives, one per line
    wrong = {
        block.place: found
        for block in blocks(frozenset({"yaml"}))
        if not block.text.startswith("resources: [")  # a kustomization
        if (found := [name for document in list(yaml.load_all(block.text)) for name in unknown(ours(document))])
    }
    assert not wrong


def test_words_in_code_spans_occur_in_the_code():
    """Classes, constants, event kinds, reasons, findings: whatever a rename would leave behind."""
    folders = ("raytrain", "raytrain_core", "data_prep", "tests", "helm", "k8s", "benchmarks", "examples")
    paths = (path for folder in folders for path in (REPOSITORY / folder).rglob("*"))
    kinds = (".py", ".yaml", ".json", ".tpl", ".txt")
    text = "\n".join(path.read_text(encoding="utf-8") for path in paths if path.suffix in kinds and _is_code(path))
    known = set(re.findall(r"[\w-]+", text)) | set(re.findall(r"\w+", text)) | ELSEWHERE
    word = re.compile(r"_?[A-Za-z][\w-]+")
    unknown = [f"{place} {span}" for place, span in spans() if word.fullmatch(span) and span not in known]
    assert not unknown, "\n".join(unknown)


ELSEWHERE = {
    *("copy_files", "TrainController", "DescribeRequest", "TagQueueRequest", "actionlint"),  # elsewhere
    *("x_BLD", "NAME-raytrain", "NAME-rayhead", "quickstart-a01", "operator-sbom"),  # made of parts
}


def _is_code(path):
    return path.is_file() and not {"world", "out", "docs"} & set(path.relative_to(REPOSITORY).parts)
