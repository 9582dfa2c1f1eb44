"""An edited ConfigMap takes effect: the operator starts again, unless the edit is invalid."""

import asyncio

from raytrain.operator import settings_watch


def test_a_change_that_can_be_used_ends_the_wait_and_an_invalid_one_is_told(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(settings_watch, "POLL_SECONDS", 0.01)
    path = tmp_path / "settings.yaml"
    path.write_text("retry: {firstSeconds: 10}\n")

    async def steps():
        waiting = asyncio.ensure_future(settings_watch.until_changed(path))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        path.write_text("retry: {firstSecond: 10}\n")
        while "firstSecond" not in caplog.text:
            await asyncio.sleep(0.01)
        assert not waiting.done()
        path.write_text("retry: {firstSeconds: 20}\n")
        await waiting

    asyncio.run(steps())
    assert caplog.text.count("is invalid") == 1
