"""Minutes of requests: no error, flat memory, and SIGTERM answers what was accepted.

RAYTRAIN_LOAD_SECONDS shortens or lengthens it.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import aiohttp
import psutil
import pytest

from raytrain.config.run_layout import RunLayout
from raytrain.runs.record import RunRecord, write_record

SECONDS = float(os.environ.get("RAYTRAIN_LOAD_SECONDS", "300"))
CLIENTS = 16
BODIES = [
    ("/generate", {"text": "abc xyz", "task": "echo"}, 200),
    ("/generate", {"text": "x " * 40, "truncate": True}, 200),
    ("/v1/completions", {"prompt": ["abc", "q"], "max_tokens": 5}, 200),
    ("/generate/batch", {"texts": ["a", "b c", "xyz"], "task": "echo"}, 200),
    ("/generate", {"text": ""}, 400),
    ("/generate", {"text": "abc", "task": "ecko"}, 400),
]


@pytest.fixture
def process(prepared_world, tmp_path):
    world = replace(prepared_world, layout=RunLayout("loaded"))
    record = RunRecord(world.job, world.folder, world.shard_set.digest, world.base.digest)
    write_record(world.store, world.layout, record)
    world.export(world.checkpoint(9))
    command = [
        sys.executable,
        "-m",
        "raytrain",
        "serve",
        "loaded",
        "--storage",
        str(world.folder / "store"),
        "--port",
        "0",
    ]
    environment = os.environ | {"RAYTRAIN_CACHE": str(tmp_path / "cache")}
    started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    yield started
    started.kill()
    started.wait()


def address(process):
    for line in process.stderr:
        if line.startswith("listening on "):
            return line.split()[-1].rstrip("/")
    raise AssertionError("it did not start")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_error_and_memory_stays_flat(process):
    at, seen = address(process), {}
    resident = psutil.Process(process.pid).memory_info

    async def client(session, number, ends):
        while time.monotonic() < ends:
            path, body, expected = BODIES[number % len(BODIES)]
            number += 1
            async with session.post(at + path, json=body) as response:
                await response.json()
                key = (path, expected, response.status)
                seen[key] = seen.get(key, 0) + 1

    async def load(seconds):
        async with aiohttp.ClientSession() as session:
            ends = time.monotonic() + seconds
            await asyncio.gather(*(client(session, number, ends) for number in range(CLIENTS)))

    asyncio.run(load(SECONDS / 5))  # caches fill
    early = resident().rss
    asyncio.run(load(SECONDS * 4 / 5))
    late = resident().rss
    wrong = {key: count for key, count in seen.items() if key[1] != key[2]}
    print(f"{sum(seen.values())} requests, {early >> 20} MiB then {late >> 20} MiB")
    assert not wrong
    assert late < early * 1.05 + (16 << 20)


@pytest.mark.slow
def test_sigterm_answers_what_was_accepted(process):
    at = address(process)

    async def ask(session):
        async with session.post(f"{at}/generate", json={"text": "abc xyz", "task": "echo"}) as response:
            return response.status

    async def run():
        async with aiohttp.ClientSession() as session:
            assert await ask(session) == 200
            asked = [asyncio.create_task(ask(session)) for _ in range(40)]
            while (await (await session.get(f"{at}/healthz")).json())["waiting"] < 5:
                await asyncio.sleep(0.005)
            process.send_signal(signal.SIGTERM)
            return await asyncio.gather(*asked, return_exceptions=True)

    statuses = asyncio.run(run())
    assert process.wait(90) == 0
    assert statuses.count(200) >= 5
    assert all(one == 200 or isinstance(one, aiohttp.ClientConnectionError) for one in statuses), statuses
