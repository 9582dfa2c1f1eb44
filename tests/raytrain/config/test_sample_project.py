import pytest
from transformers import AutoTokenizer, T5ForConditionalGeneration

from raytrain.check import check
from raytrain.config.load import load_job
from raytrain.config.sample_model import CONFIG
from raytrain.config.sample_project import write_sample
from raytrain_core.errors import UsageError


def test_its_job_is_valid_and_complete(tmp_path):
    job_file = write_sample(tmp_path / "new")
    loaded = load_job(job_file)
    report = check(loaded.job, base_folder=loaded.base_folder)
    assert report.lengths_basis == "measured with the model's tokenizer"
    assert [task.cut for task in report.tasks] == [0.0, 0.0]
    assert all(sum(task.rows.values()) > 70 for task in report.tasks)
    assert report.warnings == []


def test_transformers_loads_the_model_that_was_written_without_torch(tmp_path):
    write_sample(tmp_path)
    model, notes = T5ForConditionalGeneration.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not notes["missing_keys"]
    assert not notes["unexpected_keys"]
    assert 0.9 < float(model.shared.weight.std()) < 1.1
    assert len(AutoTokenizer.from_pretrained(tmp_path / "model")) <= CONFIG["vocab_size"]


def test_overwrites_nothing_unless_told(tmp_path):
    write_sample(tmp_path)
    (tmp_path / "reviews.csv").write_text("mine")
    with pytest.raises(UsageError, match="already exists"):
        write_sample(tmp_path)
    assert (tmp_path / "reviews.csv").read_text() == "mine"
    write_sample(tmp_path, force=True)
    assert (tmp_path / "reviews.csv").read_text().startswith("text,stars")
