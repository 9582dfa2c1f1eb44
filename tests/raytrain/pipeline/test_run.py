"""The whole sentence on a tiny model: real Ray, real workers, real actors, a real folder."""

import json

import pytest

from raytrain.config.run_layout import RunLayout
from raytrain_core.errors import UsageError
from raytrain_core.storage import open_store
from tests.support.running import run_job_file
from tests.support.tiny_job import write_job

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def finished(tmp_path_factory, request):
    """A run that went through undisturbed: (folder of the job file, storage)."""
    folder = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYTRAIN_CACHE", str(tmp_path_factory.mktemp("cache")))
        outcome = run_job_file(write_job(folder), storage=str(folder / "storage"))
    assert not outcome.done_before
    return folder, open_store(str(folder / "storage")), outcome


def test_everything_a_run_promises_lies_in_storage(finished) -> None:
    _, store, outcome = finished
    layout = RunLayout("tiny")
    keys = {stat.key for stat in store.list("")}
    for name in ("index.html", "report.md", "report.json"):
        assert f"{layout.report}/{name}" in keys
    assert store.get(layout.live_report) == store.get(f"{layout.report}/index.html")  # it was there all along
    for task in ("echo", "stars", "first"):
        for stage in ("before", "step-000000", "step-000004", "step-000008", "step-000012", "after"):
            assert f"{layout.scores(stage, task)}/scores.json" in keys
    assert f"{layout.model}/model.safetensors" in keys
    assert f"{layout.model}/tokenizer.json" in keys
    assert any(key.startswith(f"{layout.root}/metrics/a01-") for key in keys)
    assert any(key.startswith(f"{layout.root}/events/a01-") for key in keys)
    log = store.get(f"{layout.root}/logs/a01/driver.log").decode()
    said = ("RunStarted: attempt 1", "scoring the model as it is", "CheckpointCommitted: ", "RunFinished: the report")
    assert [words for words in said if words not in log] == []
    progress = json.loads(store.get(layout.progress))
    assert progress["phase"] == "Complete"
    assert progress["step"] == 12
    assert progress["report"] == f"{store.uri}/{layout.report}/index.html"
    assert {h.task for h in outcome.primary_scores} == {"echo", "stars", "first"}


def test_every_step_left_its_metrics_once(finished) -> None:
    from raytrain.telemetry.segments import read_segments

    _, store, _ = finished
    lines = read_segments(store, RunLayout("tiny"), "metrics")
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert set(lines[0]["loss_by_task"]) <= {"echo", "stars"}


def test_the_exported_model_is_a_plain_one(finished) -> None:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    from data_prep.text.tokenizer_folder import read_tokenizer

    folder, _, _ = finished
    exported = folder / "storage" / RunLayout("tiny").model
    tokenizer, model = AutoTokenizer.from_pretrained(exported), AutoModelForSeq2SeqLM.from_pretrained(exported)
    ours = read_tokenizer(folder / "model")
    text = "say abc def {x} <y>\n\tz"
    assert tokenizer(text)["input_ids"] == ours.encode_batch([text], 100)[0].tolist()
    assert model.get_input_embeddings().weight.shape[0] >= ours.size
    assert model.generate(**tokenizer("say abc", return_tensors="pt"), max_new_tokens=4).shape[0] == 1


def test_a_second_call_finds_it_done(finished) -> None:
    folder, _, outcome = finished
    again = run_job_file(folder / "job.yaml", storage=str(folder / "storage"))
    assert again.done_before
    assert again.primary_scores == outcome.primary_scores


def test_the_same_name_with_another_identity_is_refused_with_a_diff(finished) -> None:
    folder, _, _ = finished
    changed = (folder / "job.yaml").read_text().replace("learningRate: 3.0e-3", "learningRate: 1.0e-3")
    (folder / "other.yaml").write_text(changed)
    with pytest.raises(UsageError, match=r"spec\.training\.learningRate: was 0\.003, is 0\.001"):
        run_job_file(folder / "other.yaml", storage=str(folder / "storage"))


def test_the_model_answers(finished) -> None:
    from raytrain.serving.predict import predict

    _, store, _ = finished
    for which in ("before", "after"):
        answers = predict(["abc def", "xyz"], store=store, layout=RunLayout("tiny"), task="echo", which=which)
        assert len(answers) == 2
        assert all(isinstance(answer.answer, str) for answer in answers)
