import pytest

from data_prep.text.templates import templates_of
from raytrain.config.run_layout import RunLayout
from raytrain.generation.generator import Generator, load_model
from raytrain.generation.requests import GenerationLimits
from raytrain.runs.record import RunRecord, write_record
from raytrain.serving.predict import predict
from raytrain.serving.prompts import make_prompts, template_of
from raytrain_core.errors import DataError, UsageError


@pytest.fixture
def generate(world):
    def run(texts=("abc", "xyz q"), *, layout=world.layout, task="echo", which="after", **options):
        found = predict(
            texts, store=world.store, layout=layout, task=task, which=which, cache=world.folder / "c", **options
        )
        return [prediction.answer for prediction in found]

    return run


def direct(world, ref, prompts):
    options = {"store": world.store, "cache_folder": world.folder / "c", "tokenizer_size": world.tokenizer.size}
    model = load_model(ref, world.base, **options)
    return [a.text for a in Generator(model, world.tokenizer, GenerationLimits(48, 16), device="cpu").generate(prompts)]


def test_before_is_the_base_model_and_after_the_export(world, generate):
    exported = world.export(world.checkpoint(9))
    assert generate(which="after") == direct(world, exported, ["say abc", "say xyz q"])
    assert generate(which="before") == direct(world, world.base, ["say abc", "say xyz q"])
    assert generate(which="before") != generate(which="after")
    assert generate(which="after", template=2) == direct(world, exported, ["repeat abc", "repeat xyz q"])
    assert generate([]) == []


def test_downloads_go_to_the_cache_folder_of_the_environment(world, monkeypatch, tmp_path):
    world.export(world.checkpoint(9))
    monkeypatch.setenv("RAYTRAIN_CACHE", str(tmp_path / "there"))
    predict(["abc"], store=world.store, layout=world.layout, task="echo", which="after")
    assert (tmp_path / "there" / "models").is_dir()


def test_texts_are_inserted_unchanged(world):
    task = world.job.spec.tasks[0]
    [prompt] = make_prompts(world.tokenizer, task, None, ["{input} {x} </s>"], limit=48)
    assert prompt.text == "say {input} {x} </s>"
    assert prompt.notice is None
    assert len(templates_of(task)) == 3


def test_missing_things_are_reported(world, generate):
    with pytest.raises(UsageError, match=r"no task 'ecko', did you mean echo\?"):
        generate(task="ecko")
    with pytest.raises(UsageError, match="task echo has no template 3"):
        generate(template=3)
    with pytest.raises(DataError, match="no tuned model yet"):
        generate()
    with pytest.raises(UsageError, match="there is no run nowhere"):
        generate(layout=RunLayout("nowhere"))
    write_record(world.store, RunLayout("fresh"), RunRecord(world.job, world.folder))
    with pytest.raises(DataError, match="not prepared yet"):
        generate(layout=RunLayout("fresh"))


def test_a_text_that_is_too_long_is_cut_and_its_instruction_stays(world):
    task = world.job.spec.tasks[0]
    template = template_of(task, 2)
    long = " ".join(f"word{number}" for number in range(200))
    fits, cut = make_prompts(world.tokenizer, task, 2, ["abc", long], limit=48)
    assert (fits.text, fits.read) == (template.render("abc"), fits.tokens)
    assert cut.text.startswith("repeat word0")
    assert cut.read <= 48 < cut.tokens
    assert f"the prompt has {cut.tokens:,} tokens, of which the model read {cut.read}" in cut.notice
    with pytest.raises(UsageError, match="but the model reads at most 48"):
        make_prompts(world.tokenizer, task, 2, ["abc", long], limit=48, refuse_long=True)
    assert make_prompts(world.tokenizer, task, 2, ["abc"], limit=48, refuse_long=True) == [fits]


def test_an_instruction_that_is_too_long_alone_is_said_too(world):
    [prompt] = make_prompts(world.tokenizer, world.job.spec.tasks[0], 0, ["abc"], limit=2)
    assert prompt.read == 2
    assert prompt.notice is not None


def test_the_options_of_a_question_stay_as_in_training(world):
    task = world.job.spec.tasks[0].model_copy(update={"type": "multiple-choice", "templates": ["Q: {input} A:"]})
    options = "\nOptions:\n(A) yes\n(B) no"
    [cut] = make_prompts(world.tokenizer, task, None, ["word " * 200 + options], limit=48)
    assert cut.text.startswith("Q: word")
    assert cut.text.endswith(options + " A:")
    assert cut.read <= 48 < cut.tokens
