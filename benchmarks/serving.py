"""Serving compared with plain Ray Serve: transformers' `generate`, and CTranslate2.

    python -m benchmarks.serving --out benchmarks/results/serving.json

All three are deployments of Ray Serve with one replica on two cores, asked over HTTP by the same
clients on the same machine. The two others batch with `@serve.batch`, as Ray's documentation has
it. Each cell is a process of its own that starts Ray; the cells of a round follow each other, so
that a machine that slows down slows all of them. What is done is kept in `--work`, and the same
command goes on from there.

The model has the shape of FLAN-T5 small and random weights. It never ends by itself, so each
request says how long its answer is to be, 4 to 64 tokens: ours stops there, the others generate a
batch up to its longest answer and cut. Everything is greedy, and in fp32 unless the name says bf16.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.data import dialogues, learned_tokenizer
from benchmarks.output import emit, processor
from raytrain.serving.ray_serve import ServeArgs

SYSTEMS = ("raytrain", "raytrain-bf16", "transformers", "transformers-bf16", "ctranslate2")
CLIENTS = (1, 4, 16, 64)
CORES = 2
SLOTS = 32  # requests decoded together, in all three
WAIT_SECONDS = 0.01  # for which @serve.batch waits until a batch is full
PORT = 18371
MAX_INPUT, MAX_NEW = 256, 64
REQUESTS = 512
SIZES = {
    "small": {"d_model": 512, "d_ff": 1024, "num_layers": 8, "num_heads": 6, "d_kv": 64},
    "tiny": {"d_model": 128, "d_ff": 256, "num_layers": 4, "num_heads": 4, "d_kv": 32},
}


# The model


def make_model(work: Path, size: str) -> Path:
    """Writes tokenizer and model once, for transformers and for CTranslate2."""
    folder = work / size
    if (folder / "ct2/model.bin").exists():
        return folder
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    from data_prep.text.tokenizer_folder import read_tokenizer

    (folder / "tokenizer").mkdir(parents=True, exist_ok=True)
    given = os.environ.get("RAYTRAIN_T5_TOKENIZER")
    text = (Path(given) / "tokenizer.json").read_text() if given else learned_tokenizer()
    (folder / "tokenizer/tokenizer.json").write_text(text)
    tokenizer = read_tokenizer(folder / "tokenizer")
    torch.manual_seed(17)
    shape = SIZES[size] | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "dropout_rate": 0.0}
    shape |= {"vocab_size": -(-tokenizer.size // 64) * 64, "decoder_start_token_id": 0}
    build: Any = T5ForConditionalGeneration
    model = build(T5Config.from_dict(shape)).eval()
    with torch.no_grad():
        model.lm_head.weight[1].zero_()  # it never ends by itself
        for block in model.decoder.block:
            block.layer[1].EncDecAttention.o.weight.mul_(20)  # so that answers depend on prompts
    model.save_pretrained(folder / "model")
    tokenizer.save(folder / "model")
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(folder / "model")).convert(str(folder / "ct2"), force=True)
    return folder


# The three systems


class BenchArgs(ServeArgs):
    """Our application, with the benchmark's model in place of a run's."""

    def models(self) -> Any:
        return _Models(Path(self.storage), self.precision)


class _Models:
    """What the application asks of a run."""

    def __init__(self, folder: Path, precision: str) -> None:
        from data_prep.text.tokenizer_folder import read_tokenizer
        from raytrain.generation.requests import GenerationLimits

        self._folder, self._precision = folder, precision
        self.tasks: list[Any] = []
        self.tokenizer = read_tokenizer(folder / "tokenizer")
        self.limits = GenerationLimits(MAX_INPUT, MAX_NEW, SLOTS)

    def live(self, which: str) -> Any:
        from raytrain.generation.model_thread import model_thread

        return model_thread().call(self._load)

    def _load(self) -> Any:
        import torch
        from transformers import T5ForConditionalGeneration

        from raytrain.generation.generator import Generator

        torch.set_num_threads(CORES)
        build: Any = T5ForConditionalGeneration
        model = build.from_pretrained(self._folder / "model")
        dtype = torch.bfloat16 if self._precision == "bf16" else torch.float32
        return Generator(model, self.tokenizer, self.limits, device="cpu", dtype=dtype).live()


class Transformers:
    """transformers' `generate`, in batches."""

    def __init__(self, folder: Path, precision: str) -> None:
        import torch
        from transformers import AutoTokenizer, T5ForConditionalGeneration

        torch.set_num_threads(CORES)
        model: Any = T5ForConditionalGeneration
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self._model = model.from_pretrained(folder / "model", dtype=dtype).eval()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder / "model")

    def answer(self, texts: list[str], limits: list[int]) -> list[str]:
        import torch

        options = {"return_tensors": "pt", "padding": True, "truncation": True, "max_length": MAX_INPUT}
        encoded = self._tokenizer(texts, **options)
        with torch.inference_mode():
            ids = self._model.generate(
                input_ids=encoded.input_ids,
                attention_mask=encoded.attention_mask,
                max_new_tokens=max(limits),
                do_sample=False,
                num_beams=1,
            )
        cut = [row[1 : limit + 1] for row, limit in zip(ids, limits, strict=True)]
        return list(self._tokenizer.batch_decode(cut, skip_special_tokens=True))


class CTranslate2:
    """CTranslate2, in batches."""

    def __init__(self, folder: Path, _precision: str) -> None:
        import ctranslate2
        from transformers import AutoTokenizer

        options = {"device": "cpu", "inter_threads": 1, "intra_threads": CORES, "compute_type": "float32"}
        self._translator = ctranslate2.Translator(str(folder / "ct2"), **options)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder / "model")

    def answer(self, texts: list[str], limits: list[int]) -> list[str]:
        tokenizer = self._tokenizer
        rows = tokenizer(texts, truncation=True, max_length=MAX_INPUT).input_ids
        tokens = [tokenizer.convert_ids_to_tokens(ids) for ids in rows]
        found = self._translator.translate_batch(
            tokens, beam_size=1, max_decoding_length=max(limits), max_batch_size=SLOTS, max_input_length=0
        )
        cut = [one.hypotheses[0][:limit] for one, limit in zip(found, limits, strict=True)]
        return [str(tokenizer.decode(tokenizer.convert_tokens_to_ids(one), skip_special_tokens=True)) for one in cut]


def baseline(kind: type[Any], folder: Path, precision: str) -> Any:
    """A model behind `@serve.batch`."""
    from ray import serve
    from starlette.requests import Request

    @serve.deployment(max_ongoing_requests=4 * SLOTS, ray_actor_options={"num_cpus": CORES})
    class Baseline:
        def __init__(self) -> None:
            self._model = kind(folder, precision)

        @serve.batch(max_batch_size=SLOTS, batch_wait_timeout_s=WAIT_SECONDS)
        async def _batch(self, bodies: list[dict[str, Any]]) -> list[str]:
            texts, limits = [b["text"] for b in bodies], [b["max_new_tokens"] for b in bodies]
            return await asyncio.to_thread(self._model.answer, texts, limits)

        async def __call__(self, request: Request) -> dict[str, str]:
            return {"text": await self._batch(await request.json())}

    deployment: Any = Baseline
    return deployment.bind()


def application(system: str, folder: Path) -> Any:
    from raytrain.serving.ray_serve import build

    name, _, precision = system.partition("-")
    precision = precision or "fp32"
    if name == "raytrain":
        sizes = {"cpus": CORES, "target_queue": SLOTS, "max_queued": 1024}
        return build(BenchArgs.model_validate({"run": "bench", "storage": str(folder), "precision": precision} | sizes))
    return baseline({"transformers": Transformers, "ctranslate2": CTranslate2}[name], folder, precision)


# Asking


def requests() -> list[dict[str, Any]]:
    """The same requests for all: texts of 20 to 120 words, answers of 4 to 64 tokens."""
    rng = random.Random(17)
    lengths = [round(4 * (MAX_NEW / 4) ** rng.random()) for _ in range(REQUESTS)]
    texts = [row["input"] for row in dialogues(REQUESTS, seed=5, words=(20, 120))]
    return [{"text": text, "max_new_tokens": n} for text, n in zip(texts, lengths, strict=True)]


async def ask(clients: int, seconds: float) -> dict[str, Any]:
    """Each client sends one request after the other; counts those that end after a warm-up."""
    import aiohttp

    bodies, seen = requests(), {"sent": 0, "errors": 0}
    latencies: list[float] = []
    began = time.perf_counter() + min(5.0, seconds / 4)
    ends = began + seconds

    async def one(session: aiohttp.ClientSession) -> None:
        while time.perf_counter() < ends:
            body = bodies[seen["sent"] % REQUESTS]
            seen["sent"] += 1
            sent = time.perf_counter()
            async with session.post(f"http://127.0.0.1:{PORT}/generate", json=body) as response:
                await response.read()
                seen["errors"] += response.status != 200
            done = time.perf_counter()
            if began <= done <= ends:
                latencies.append(done - sent)

    timeout = aiohttp.ClientTimeout(total=600)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        await asyncio.gather(*(one(session) for _ in range(clients)))
    latencies.sort()
    return {
        "requests_per_second": len(latencies) / seconds,
        "p50": statistics.median(latencies),
        "p99": latencies[min(len(latencies) - 1, int(0.99 * len(latencies)))],
        "requests": len(latencies),
        "errors": seen["errors"],
    }


async def answers(count: int = 48) -> list[str]:
    """Answers one at a time, to compare the systems' texts."""
    import aiohttp

    found = []
    async with aiohttp.ClientSession() as session:
        for body in requests()[:count]:
            async with session.post(f"http://127.0.0.1:{PORT}/generate", json=body) as response:
                found.append((await response.json())["text"])
    return found


def cell(system: str, clients: int, work: Path, size: str, seconds: float) -> dict[str, Any]:
    """Starts a system and asks it."""
    import ray
    from ray import serve as ray_serve

    serve: Any = ray_serve
    folder = make_model(work, size)
    ray.init(address="local", num_cpus=2 * CORES, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"port": PORT})
    serve.run(application(system, folder))
    texts = asyncio.run(answers())
    found = asyncio.run(ask(clients, seconds)) | {"texts": texts}
    serve.shutdown()
    ray.shutdown()
    return found


# All of it


def measure(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Runs what is missing, in rounds; returns all cells by `system/clients/round`."""
    args.work.mkdir(parents=True, exist_ok=True)
    path = args.work / f"cells-{args.size}-{args.seconds:g}.json"
    done: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
    make_model(args.work, args.size)
    for number in range(args.rounds):
        for clients in args.clients:
            for system in SYSTEMS:
                name = f"{system}/{clients}/{number}"
                if name in done:
                    continue
                own = ["--size", args.size, "--seconds", str(args.seconds), "--work", str(args.work)]
                command = [sys.executable, "-m", "benchmarks.serving", "--cell", system, str(clients), *own]
                output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                done[name] = json.loads(output.splitlines()[-1])
                path.write_text(json.dumps(done))
                print(f"{name}: {done[name]['requests_per_second']:.1f}/s", file=sys.stderr, flush=True)
    return done


def summary(cells: dict[str, dict[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    """Medians over the rounds, and the ratios of each round with 64 clients."""

    def of(system: str, clients: int, key: str) -> list[float]:
        return [float(cells[f"{system}/{clients}/{n}"][key]) for n in range(args.rounds)]

    figures: dict[str, Any] = {"size": args.size, "seconds_per_cell": args.seconds, "rounds": args.rounds}
    for system in SYSTEMS:
        for clients in args.clients:
            keys = ("requests_per_second", "p50", "p99")
            row = {key: round(statistics.median(of(system, clients, key)), 3) for key in keys}
            figures.setdefault(system, {})[f"{clients}_clients"] = row | {"errors": sum(of(system, clients, "errors"))}
    most = max(args.clients)
    first = {system: cells[f"{system}/{most}/0"]["texts"] for system in SYSTEMS}
    for other in SYSTEMS[1:]:
        equal = sum(a == b for a, b in zip(first["raytrain"], first[other], strict=True))
        figures[f"equal_answers_{other}"] = round(equal / len(first["raytrain"]), 3)

    def ratio(ours: str, other: str, key: str) -> dict[str, float]:
        found = [a / b for a, b in zip(of(ours, most, key), of(other, most, key), strict=True)]
        return {name: round(f(found), 2) for name, f in (("median", statistics.median), ("low", min), ("high", max))}

    pairs = {
        "vs_ray_serve_transformers": ("raytrain", "transformers"),
        "bf16_vs_ray_serve_transformers": ("raytrain-bf16", "transformers"),
        "bf16_vs_ray_serve_transformers_bf16": ("raytrain-bf16", "transformers-bf16"),
        "vs_ray_serve_ctranslate2": ("raytrain", "ctranslate2"),
    }
    ratios = {name: ratio(*pair, "requests_per_second") for name, pair in pairs.items()}
    ratios |= {f"p99_{name}": ratio(*pair, "p99") for name, pair in pairs.items()}
    return {
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "versions": {name: version(name) for name in ("ray", "torch", "transformers", "ctranslate2")},
        },
        "ratios": ratios,
        "figures": figures,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--work", type=Path, default=Path("build/bench-serving"))
    parser.add_argument("--size", choices=sorted(SIZES), default="small")
    parser.add_argument("--seconds", type=float, default=30.0, help="measured per cell, after a warm-up")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, nargs="+", default=list(CLIENTS))
    parser.add_argument("--cell", nargs=2, metavar=("SYSTEM", "CLIENTS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.work = args.work.resolve()
    if args.cell:
        print(json.dumps(cell(args.cell[0], int(args.cell[1]), args.work, args.size, args.seconds)))
        return
    emit(summary(measure(args), args), args.out)


if __name__ == "__main__":
    main()
