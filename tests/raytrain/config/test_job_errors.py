"""Messages for invalid job files."""

import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raytrain.config.job import FineTuneJob
from raytrain_core.config.loader import ConfigError, from_mapping, load_config, parse_config
from raytrain_core.config.yaml_source import MAX_NODES

GOOD = """\
apiVersion: raytrain.dev/v1alpha1
kind: FineTuneJob
metadata: {name: a-run}
spec:
  model: google/flan-t5-base
  tasks:
    - name: dialogs
      type: summarization
      source: {uri: dialogs.jsonl}
  training:
    steps: 10
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, FineTuneJob, name="job.yaml")
    return caught.value.lines


def with_line(after: str, *lines: str) -> str:
    """GOOD with lines inserted after the one that starts with `after`."""
    out = []
    for line in GOOD.splitlines():
        out.append(line)
        if line.strip().startswith(after):
            out += lines
    return "\n".join(out) + "\n"


def test_a_good_job_loads() -> None:
    job = parse_config(GOOD, FineTuneJob)
    assert job.metadata.name == "a-run"
    assert job.spec.tasks[0].source.uri == "dialogs.jsonl"
    assert job.spec.training.steps == 10


def test_every_problem_at_once_in_the_order_of_the_text() -> None:
    text = textwrap.dedent(
        """\
        apiVersion: raytrain.dev/v1alpha1
        kind: FineTuneJob
        metadata: {name: Bad_Name}
        spec:
          model: google/flan-t5-base
          learningRate: 3
          tasks:
            - name: a
              name: b
              type: summarisation
              source: {splits: {trian: x, test: 3}}
              labels: [1]
              probe: "true"
            - type: ner
          mixture: {strategy: weights}
          training:
            lerningRate: 0.1
            batchTokens: 0
            steps: "30"
            betas: [1]
            gradientClip: .inf
            max_input_tokens: 7
          evaluation:
          fooBar: 1
        """
    )
    assert problems(text) == [
        "job.yaml:3:18: metadata.name: must be a lower-case letter, then lower-case letters, digits or dashes, "
        'at most 40 characters, got "Bad_Name"',
        "job.yaml:6:3: spec.learningRate: unknown field here, did you mean spec.training.learningRate?",
        "job.yaml:9:7: spec.tasks[0].name: given twice, first on line 8",
        "job.yaml:10:13: spec.tasks[0].type: must be one of summarization, rating, sentiment, ner, translation, "
        'code-translation, multiple-choice, question-answering, text; got "summarisation", did you mean summarization?',
        "job.yaml:11:25: spec.tasks[0].source.splits.trian: must be one of train, validation, test; "
        'got "trian", did you mean train?',
        "job.yaml:11:41: spec.tasks[0].source.splits.test: must be a string, got 3; put it in quotes",
        "job.yaml:12:16: spec.tasks[0].labels[0]: must be a string, got 1; put it in quotes",
        'job.yaml:13:14: spec.tasks[0].probe: must be true or false, got "true"; remove the quotes',
        "job.yaml:14:7: spec.tasks[1].name: is required but missing",
        "job.yaml:14:7: spec.tasks[1].source: is required but missing",
        "job.yaml:15:3: spec.mixture: weights must be given exactly when strategy is weights",
        "job.yaml:17:5: spec.training.lerningRate: unknown field, did you mean learningRate?",
        "job.yaml:18:18: spec.training.batchTokens: must be at least 16, got 0",
        'job.yaml:19:12: spec.training.steps: must be an integer, got "30"; remove the quotes',
        "job.yaml:20:5: spec.training.betas[1]: is required but missing",
        "job.yaml:21:19: spec.training.gradientClip: must be a finite number, got inf",
        "job.yaml:22:5: spec.training.max_input_tokens: unknown field, did you mean maxInputTokens?",
        "job.yaml:23:3: spec.evaluation: must be a mapping, got nothing",
        "job.yaml:24:3: spec.fooBar: unknown field; the known ones are model, storage, tasks, probes, mixture, "
        "training, evaluation, resources, cluster, serving",
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("learningRate: 0", "job.yaml:12:19: spec.training.learningRate: must be more than 0, got 0"),
        ("dropout: 1.5", "job.yaml:12:14: spec.training.dropout: must be less than 1, got 1.5"),
        ("steps2: 1", "job.yaml:12:5: spec.training.steps2: unknown field, did you mean steps?"),
        ("warmupSteps: 2.5", "job.yaml:12:18: spec.training.warmupSteps: must be an integer, got 2.5"),
        ("warmupSteps: true", "job.yaml:12:18: spec.training.warmupSteps: must be an integer, got true"),
        ("warmupSteps: [1]", "job.yaml:12:18: spec.training.warmupSteps: must be an integer, got a list"),
        ("optimizer: 3", "job.yaml:12:16: spec.training.optimizer: must be one of adafactor, adamw; got 3"),
        (
            "schedule: step",
            "job.yaml:12:15: spec.training.schedule: must be one of constant, linear, cosine, inverse-square-root; "
            'got "step"',
        ),
        ("betas: [1, 2, 3]", "job.yaml:12:12: spec.training.betas: must have at most 2 entries, got a list"),
        ("packing: 7", "job.yaml:12:14: spec.training.packing: must be a mapping, got 7"),
        (
            "packing: {source: 8, target: 4}",
            "job.yaml:10:3: spec.training: packing is too small for an example: it needs at least maxInputTokens and "
            "maxTargetTokens",
        ),
    ],
)
def test_one_wrong_value(line: str, expected: str) -> None:
    assert problems(with_line("steps", f"    {line}")) == [expected]


def test_rules_between_fields() -> None:
    task = "    - {name: dialogs, type: ner, source: {uri: x}}"
    assert problems(with_line("source", task)) == ["job.yaml:4:1: spec: two tasks are named dialogs"]
    assert problems(with_line("source", "      probe: true")) == [
        "job.yaml:4:1: spec: every task is a probe: nothing would be trained"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "job.yaml: the file is empty"),
        (
            "# only a comment\n---\n",
            "job.yaml:1:1: must be a mapping with the fields apiVersion, kind, metadata, spec;",
        ),
        ("- a\n", "job.yaml:1:1: must be a mapping with the fields apiVersion, kind, metadata, spec; got a list"),
        ("a: 1\n---\nb: 2\n", "job.yaml:3:1: a second YAML document begins here; a file may hold only one"),
        ("a:\n\tb: 1\n", "job.yaml:2:1: a tab is used here; YAML is indented with spaces"),
        (
            "a: b: c\n",
            "job.yaml:1:5: not valid YAML: a colon where no field can begin; check the indentation, or "
            "put the text in quotes",
        ),
        (
            "a: [1, 2\n",
            "job.yaml:2:1: not valid YAML: expected ',' or ']', but got '<stream end>' (while parsing a flow sequence)",
        ),
        ("a: 'x\n", "job.yaml:2:1: not valid YAML: a quoted text is never closed"),
        ("a: *x\n", "job.yaml:1:4: not valid YAML: no anchor has the name 'x'"),
        ("a: @x\n", "job.yaml:1:4: not valid YAML: the character '@' cannot start any token; put the text in quotes"),
        ("a: \x07\n", "job.yaml:1:4: the character U+0007 is not allowed in YAML"),
        ("? [a]\n: 1\n", "job.yaml:1:3: a list or a mapping cannot be the name of a field"),
        ("b: {<<: {a: 1}}\n", "job.yaml:1:5: b: merge keys (<<) are not part of YAML 1.2; write the fields out"),
        ("a: !!python/object:os.system x\n", "job.yaml:1:4: a: the tag !!python/object:os.system is not allowed"),
        ("[" * 3000, "job.yaml: nested too deeply for a job file"),
        ("a: &x [*x]\n", f"job.yaml: expands to more than {MAX_NODES:,} values or 60 levels"),
    ],
)
def test_text_that_is_not_a_job(text: str, expected: str) -> None:
    assert [line for line in problems(text) if line.startswith(expected)]


def test_a_small_text_cannot_expand_into_a_large_one() -> None:
    levels = [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 12)]
    text = "\n".join(["l0: &l0 [x, x, x, x, x, x, x, x, x]", *levels])
    assert problems(text) == [
        f"job.yaml: expands to more than {MAX_NODES:,} values or 60 levels; do anchors repeat each other?"
    ]


def test_anchors_of_a_reasonable_size_are_fine() -> None:
    text = with_line("source", "      columns: &c {input: a, target: b}", "    - name: more", "      type: text")
    text = text.replace("  training:", "      source: {uri: y}\n      columns: *c\n  training:")
    job = parse_config(text, FineTuneJob)
    assert job.spec.tasks[1].columns.input == "a"


def test_yaml_1_2_scalars() -> None:
    text = with_line("steps", "    learningRate: 1e-3", "    batchTokens: 65_536", "    gradientClip: ~")
    text = text.replace("dialogs.jsonl", "2024-01-01").replace("google/flan-t5-base", "yes")
    job = parse_config(text, FineTuneJob)
    assert (job.spec.training.learning_rate, job.spec.training.batch_tokens) == (1e-3, 65536)
    assert job.spec.training.gradient_clip is None
    assert (job.spec.tasks[0].source.uri, job.spec.model) == ("2024-01-01", "yes")


class TestFiles:
    def error(self, path: Path) -> str:
        with pytest.raises(ConfigError) as caught:
            load_config(path, FineTuneJob)
        return caught.value.message

    def test_a_missing_file_with_a_similar_name_nearby(self, tmp_path: Path) -> None:
        (tmp_path / "job.yaml").write_text(GOOD)
        path = tmp_path / "jop.yaml"
        assert self.error(path) == f"{path}: there is no such file, did you mean {tmp_path / 'job.yaml'}?"

    def test_missing(self, tmp_path: Path) -> None:
        assert self.error(tmp_path / "no" / "x") == f"{tmp_path}/no/x: there is no such file"

    def test_folder(self, tmp_path: Path) -> None:
        expected = f"{tmp_path}: is a folder; name the job file in it, e.g. {tmp_path}/job.yaml"
        assert self.error(tmp_path) == expected

    def test_not_utf8(self, tmp_path: Path) -> None:
        path = tmp_path / "job.yaml"
        path.write_bytes(b"a: 1\nb: caf\xe9\n")
        assert self.error(path) == f"{path}:2:7: not UTF-8 (byte 0xE9); save the file as UTF-8"

    def test_too_large(self, tmp_path: Path) -> None:
        path = tmp_path / "job.yaml"
        path.write_bytes(b"#" * (5 << 20))
        assert self.error(path) == f"{path}: is larger than 4 MiB, too large for a job file"

    def test_byte_order_mark_is_fine(self, tmp_path: Path) -> None:
        path = tmp_path / "job.yaml"
        path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
        assert load_config(path, FineTuneJob).metadata.name == "a-run"

    def test_the_message_begins_with_the_path_as_given(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path("job.yaml").write_text(GOOD.replace("steps", "stepps"))
        assert self.error(Path("job.yaml")).splitlines() == [
            "job.yaml:11:5: spec.training.stepps: unknown field, did you mean steps?",
        ]


DATA = {
    "apiVersion": "raytrain.dev/v1alpha1",
    "kind": "FineTuneJob",
    "metadata": {"name": "a-run"},
    "spec": {
        "model": Path("models/tiny"),
        "tasks": [{"name": "a", "type": "text", "source": {"uri": "a.csv"}}],
        "training": {"steps": 3, "batch_tokens": 32768, "betas": (0.9, 0.98)},
    },
}


class TestMapping:
    def test_snake_case_tuples_and_paths_are_fine_in_python(self) -> None:
        job = from_mapping(DATA, FineTuneJob)
        assert job.spec.training.batch_tokens == 32768
        assert job.spec.training.betas == (0.9, 0.98)
        assert job.spec.model == "models/tiny"

    def test_problems_without_positions(self) -> None:
        with pytest.raises(ConfigError) as caught:
            from_mapping({**DATA, "spec": {"training": {"steps": -1}}, "extra": 1}, FineTuneJob, name="job")
        assert caught.value.lines == [
            "job: spec.model: is required but missing",
            "job: spec.tasks: is required but missing",
            "job: spec.training.steps: must be at least 0, got -1",
            "job: extra: unknown field; the known ones are apiVersion, kind, metadata, spec",
        ]

    def test_values_that_a_job_cannot_hold(self) -> None:
        with pytest.raises(ConfigError, match="holds a value that a job file cannot hold"):
            from_mapping({"spec": {1, 2}}, FineTuneJob)


@settings(max_examples=150)
@given(st.text(alphabet=st.sampled_from("ab:{}[]&*!|>-#'\"%@`,?\n\t \\01.e~<\x00é"), max_size=60))
def test_any_text_is_an_error_or_a_job(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, FineTuneJob, name="job.yaml")
    assert all(line.startswith("job.yaml:") for line in caught.value.lines)


def test_a_folded_block_contains_only_its_text() -> None:
    from raytrain_core.config.yaml_source import parse_yaml

    text = 'note: >-\n  one line\n  and another\n\n  a paragraph\nquoted: "a\\ab"\n'
    assert parse_yaml(text).value == {"note": "one line and another\na paragraph", "quoted": "a\ab"}


def test_adapters_are_not_sharded() -> None:
    text = with_line("steps:", "    method: lora") + "  resources: {training: {workers: 2, sharding: fsdp}}\n"
    (problem,) = problems(text)
    assert "resources.training.sharding is fsdp, but training.method is lora" in problem


def test_weights_that_leave_nothing_to_learn_are_refused():
    spec = {
        "model": "t5-small",
        "tasks": [{"name": "notes", "type": "text", "source": {"uri": "notes.jsonl"}}],
        "training": {"steps": 1, "taskWeights": {"notes": 0}},
    }
    job = {"apiVersion": "raytrain.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "a"}, "spec": spec}
    with pytest.raises(ConfigError, match="taskWeights is 0 for every trained task"):
        from_mapping(job, FineTuneJob)
    spec["training"]["taskWeights"]["notes"] = 0.5
    from_mapping(job, FineTuneJob)
