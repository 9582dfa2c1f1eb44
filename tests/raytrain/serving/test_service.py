"""The service with a real run: it answers as `predict` does, many at once, and drains."""

import asyncio

import pytest

from raytrain.serving.backend import LocalBackends
from raytrain.serving.errors import RequestError
from raytrain.serving.models import RunModels
from raytrain.serving.predict import predict
from raytrain.serving.service import Service, ServiceLimits

TEXTS = [f"abc {'xyz ' * (n % 5)}q" for n in range(12)]


@pytest.fixture
def models(world):
    world.export(world.checkpoint(9))
    return RunModels(world.store, world.layout, cache=world.folder / "c")


def test_answers_are_those_of_predict(world, models):
    place = {"store": world.store, "layout": world.layout, "cache": world.folder / "c"}
    expected = {
        which: [one.answer for one in predict(TEXTS, task="echo", which=which, **place)]
        for which in ("before", "after")
    }

    async def ask():
        service = Service(models, LocalBackends(models), run="r")
        prompts = service.prompts(TEXTS, TEXTS, task="echo", template=None, truncate=False)

        async def one(which, prompt):
            [answer] = await service.answer([prompt], which=which, new_tokens=service.max_new_tokens)
            return answer.text

        assert await service.answers()
        found = {w: await asyncio.gather(*(one(w, p) for p in prompts)) for w in ("before", "after")}
        await service.close()
        return found

    assert asyncio.run(ask()) == expected


def test_closing_answers_what_was_accepted(models):
    async def ask():
        service = Service(models, LocalBackends(models), run="r")
        prompts = service.prompts(TEXTS, TEXTS, task="echo", template=None, truncate=False)
        await service.answers()
        asked = [asyncio.create_task(service.answer([p], which="after", new_tokens=8)) for p in prompts]
        await asyncio.sleep(0)
        await service.close()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        with pytest.raises(RequestError, match="thread has ended"):
            await service.answer(prompts[:1], which="after", new_tokens=8)
        return answers

    assert all(isinstance(one, list) for one in asyncio.run(ask()))


def test_whoever_leaves_takes_the_place_in_the_queue_along(models):
    async def ask():
        service = Service(models, LocalBackends(models), run="r", limits=ServiceLimits(max_queued=12))
        prompts = service.prompts(TEXTS, TEXTS, task="echo", template=None, truncate=False)
        await service.answers()
        left = asyncio.create_task(service.answer(prompts, which="after", new_tokens=16))
        await asyncio.sleep(0.001)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        assert service.queue.inside == 0
        assert len(await service.answer(prompts, which="after", new_tokens=16)) == 12
        await service.close()

    asyncio.run(ask())


def test_lengths_of_the_service_only_shorten_those_of_the_run(models):
    own = models.limits
    longer = Service(models, LocalBackends(models), run="r", limits=ServiceLimits(max_input_tokens=9999))
    shorter = Service(
        models, LocalBackends(models), run="r", limits=ServiceLimits(max_input_tokens=9, max_new_tokens=2)
    )
    assert (longer.max_input_tokens, longer.max_new_tokens) == (own.max_input_tokens, own.max_new_tokens)
    assert (shorter.max_input_tokens, shorter.max_new_tokens) == (9, 2)
    with pytest.raises(RequestError, match="at most 9"):
        shorter.prompts(["a b c " * 9], ["text"], task=None, template=None, truncate=False)
