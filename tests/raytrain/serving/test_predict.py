import pytest

from data_prep.text.templates import templates_of
from raytrain.config.run_layout import RunLayout
from raytrain.generation.generator import Generator, load_model
from raytrain.generation.requests import GenerationLimits
from raytrain.runs.record import RunRecord, write_record
from raytrain.serving.predict import predict, render_prompts
from raytrain_core.errors import DataError, UsageError


@pytest.fixture
def asking(world):
    def ask(texts=("abc", "xyz q"), *, layout=world.layout, task="echo", which="after", **options):
        return predict(
            texts, store=world.store, layout=layout, task=task, which=which, cache=world.folder / "c", **options
        )

    return ask


def direct(world, ref, prompts):
    options = {"store": world.store, "cache_folder": world.folder / "c", "tokenizer_size": world.tokenizer.size}
    model = load_model(ref, world.base, **options)
    return [a.text for a in Generator(model, world.tokenizer, GenerationLimits(48, 16), device="cpu").generate(prompts)]


def test_before_is_the_base_model_and_after_the_export(world, asking):
    exported = world.export(world.checkpoint(9))
    assert asking(which="after") == direct(world, exported, ["say abc", "say xyz q"])
    assert asking(which="before") == direct(world, world.base, ["say abc", "say xyz q"])
    assert asking(which="before") != asking(which="after")
    assert asking(which="after", template=2) == direct(world, exported, ["repeat abc", "repeat xyz q"])
    assert asking([]) == []


def test_what_is_fetched_goes_where_the_environment_says(world, monkeypatch, tmp_path):
    world.export(world.checkpoint(9))
    monkeypatch.setenv("RAYTRAIN_CACHE", str(tmp_path / "there"))
    predict(["abc"], store=world.store, layout=world.layout, task="echo", which="after")
    assert (tmp_path / "there" / "models").is_dir()


def test_texts_are_put_in_as_they_are(world):
    task = world.job.spec.tasks[0]
    assert render_prompts(task, ["{input} {x} </s>"], None) == ["say {input} {x} </s>"]
    assert len(templates_of(task)) == 3


def test_what_there_is_not_is_said(world, asking):
    with pytest.raises(UsageError, match=r"no task 'ecko', did you mean echo\?"):
        asking(task="ecko")
    with pytest.raises(UsageError, match="task echo has no template 3"):
        asking(template=3)
    with pytest.raises(DataError, match="no tuned model yet"):
        asking()
    with pytest.raises(UsageError, match="there is no run nowhere"):
        asking(layout=RunLayout("nowhere"))
    write_record(world.store, RunLayout("fresh"), RunRecord(world.job, world.folder))
    with pytest.raises(DataError, match="not prepared yet"):
        asking(layout=RunLayout("fresh"))
