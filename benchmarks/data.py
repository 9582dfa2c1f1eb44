"""Preparation and reading compared with their parts and with Hugging Face `datasets`.

    python -m benchmarks.data --out benchmarks/results/data.json

Each cell is a process of its own; the cells of a round follow each other, so that a machine that
slows down slows all of them. What is done is kept in `--work`, and the same command goes on from
there. Times are processor seconds of the process where the ratio is one "per core", else
wall-clock.

The rows are generated dialogues of 150 to 250 words with a summary. Their tokenizer is that of the
folder RAYTRAIN_T5_TOKENIZER (T5's own), else a Unigram one of 8,000 pieces that is learned from
them.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import random
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.output import emit, processor

ROWS = 20_000  # dialogues that are tokenised, prepared and read, unless --rows says otherwise
MANY = 100_000  # short rows of the set that is opened
SHORT = 2_000_000  # rows of a few words that are read and prepared by two processes
BEFORE = "889af3e^"  # the commit before rows were read by the workers
OBJECTS = 1000  # in a bucket
LARGE = 1_000_000_000  # bytes of rows that are prepared within a bounded memory
LIMITS = (512, 128)
BATCH = 32
NAMES = ("Amanda", "Jerry", "Hannah", "Betty", "Olivia", "Leo", "Nora", "Igor", "Sue", "Raj", "Mei", "Omar")


# What is worked on


def dialogues(count: int, seed: int = 0, words: tuple[int, int] = (150, 250)) -> Iterator[dict[str, str]]:
    """Yields rows of `input` and `target` with English words from Python's help texts."""
    from pydoc_data import topics

    bag = [w for w in re.findall(r"[A-Za-z][a-z']+", " ".join(topics.topics.values())) if len(w) < 14]
    rng = random.Random(seed)
    for _ in range(count):
        pair = rng.sample(NAMES, 2)
        missing = rng.randint(*words)
        turns: list[str] = []
        while missing > 0:
            length = min(rng.randint(4, 22), missing)
            turns.append(f"{pair[len(turns) % 2]}: {' '.join(rng.choices(bag, k=length))}{rng.choice('.?!')}")
            missing -= length
        summary = " ".join(rng.choices(bag, k=rng.randint(words[0] // 12, words[1] // 8)))
        yield {"input": "\n".join(turns), "target": f"{pair[0]} tells {pair[1]} {summary}."}


def write_rows(path: Path, rows: Iterator[dict[str, str]], most_bytes: int | None = None) -> None:
    part = path.with_suffix(".part")
    with part.open("w") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")
            if most_bytes is not None and file.tell() > most_bytes:
                break
    part.replace(path)


def make_inputs(work: Path, rows: int) -> None:
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "rows.jsonl").exists():
        write_rows(work / "rows.jsonl", dialogues(rows))
    if not (work / "many.jsonl").exists():
        write_rows(work / "many.jsonl", dialogues(MANY, 1, (20, 40)))
    if not (work / "tokenizer/tokenizer.json").exists():
        (work / "tokenizer").mkdir(exist_ok=True)
        given = os.environ.get("RAYTRAIN_T5_TOKENIZER")
        text = (Path(given) / "tokenizer.json").read_text() if given else learned_tokenizer()
        (work / "tokenizer/tokenizer.json").write_text(text)


def learned_tokenizer() -> str:
    import tokenizers
    from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = tokenizers.Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(tokenizers.Regex("\\s+"), " ")]
    )
    metaspace = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace])
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=8000, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator((f"{row['input']} {row['target']}" for row in dialogues(5000, 2)), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return str(tokenizer.to_str())


def rows_of(work: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (work / "rows.jsonl").open()]


def timed(action: Callable[[], Any]) -> tuple[Any, float, float]:
    """What it gives, its processor seconds and its seconds."""
    processor, wall = time.process_time(), time.perf_counter()
    result = action()
    return result, time.process_time() - processor, time.perf_counter() - wall


def peak_mib(who: int = resource.RUSAGE_SELF) -> float:
    return resource.getrusage(who).ru_maxrss / 1024


def task(name: str, uri: str, **fields: Any) -> Any:
    from data_prep.config import Task

    return Task.model_validate({"name": name, "type": "summarization", "source": {"uri": uri}} | fields)


def preparation(work: Path, store: Path, of_task: Any, **options: Any) -> Callable[[], Any]:
    """The call that prepares a task; modules and tokenizer are loaded already."""
    from data_prep.config import Mixture
    from data_prep.prepare import PrepLimits, prepare
    from data_prep.text.tokenizer_folder import read_tokenizer
    from raytrain_core.storage import open_store

    options |= {"store": open_store(str(store)), "tokenizer": read_tokenizer(work / "tokenizer")}
    return lambda: prepare([of_task], Mixture(), limits=PrepLimits(*LIMITS), base_folder=work, **options)


# The cells: each gives figures


def encode(work: Path) -> dict[str, float]:
    """Encodes every prompt and target with the base tokenizer alone, as fast as its library can."""
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(work / "tokenizer/tokenizer.json"))
    rows = rows_of(work)
    texts = [f"Summarize:\n{row['input']}" for row in rows] + [row["target"] for row in rows]

    def action() -> None:
        for start in range(0, len(texts), 1000):
            for encoding in tokenizer.encode_batch(texts[start : start + 1000]):
                encoding.ids  # noqa: B018 - reading them is part of it

    _, cpu, wall = timed(action)
    return {"cpu": cpu, "wall": wall, "rows": len(rows)}


def prepare_one(work: Path, variants: int = 1) -> dict[str, float]:
    """The same rows from their file to verified shards, in this process."""
    import shutil

    store = work / f"store-{variants}-{os.getpid()}"
    templates = {"templates": ["Summarize:\n{input}"]} if variants == 1 else {"templatesPerExample": variants}
    _, cpu, wall = timed(preparation(work, store, task("dialogues", "rows.jsonl", **templates)))
    size = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    shutil.rmtree(store)
    return {"cpu": cpu, "wall": wall, "peak_mib": peak_mib(), "stored_bytes": size}


def prepare_three(work: Path) -> dict[str, float]:
    """With three templates for each training row."""
    return prepare_one(work, 3)


def hf(work: Path) -> dict[str, float]:
    """`datasets`: map, shuffle, DataLoader with padding, one epoch over the same rows."""
    import datasets
    import torch
    from transformers import PreTrainedTokenizerFast

    datasets.disable_progress_bars()
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_file=str(work / "tokenizer/tokenizer.json"), pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )

    def tokenised(batch: dict[str, list[str]]) -> dict[str, Any]:
        source = tokenizer([f"Summarize:\n{text}" for text in batch["input"]], truncation=True, max_length=LIMITS[0])
        labels = tokenizer(batch["target"], truncation=True, max_length=LIMITS[1])
        return {"input_ids": source["input_ids"], "labels": labels["input_ids"]}

    cache = str(work / f"hf-{os.getpid()}")

    def make() -> Any:
        data = datasets.load_dataset("json", data_files=str(work / "rows.jsonl"), split="train", cache_dir=cache)
        return data.map(tokenised, batched=True, remove_columns=["input", "target"])

    data, cpu, wall = timed(make)

    def padded(batch: list[dict[str, list[int]]]) -> dict[str, Any]:
        return {
            name: torch.nn.utils.rnn.pad_sequence([torch.tensor(row[name]) for row in batch], batch_first=True)
            for name in ("input_ids", "labels")
        }

    def epoch() -> float:
        loader = torch.utils.data.DataLoader(data.shuffle(seed=17), batch_size=BATCH, collate_fn=padded)
        places = real = 0
        for batch in loader:
            places += batch["input_ids"].numel() + batch["labels"].numel()
            real += int((batch["input_ids"] != 0).sum() + (batch["labels"] != 0).sum())
        return real / places

    fill, read_cpu, read_wall = timed(epoch)
    import shutil

    shutil.rmtree(cache)
    return {
        "cpu": cpu,
        "wall": wall,
        "read_cpu": read_cpu,
        "read_wall": read_wall,
        "fill": fill,
        "peak_mib": peak_mib(),
    }


def opened(work: Path, name: str, batch_tokens: int) -> Any:
    """The feed of a prepared set, as a training worker opens it."""
    from data_prep.shards.manifest import ShardSet
    from raytrain.config.job import FineTuneJob
    from raytrain.training.data.loader import DataLoader
    from raytrain_core.config.loader import from_mapping
    from raytrain_core.storage import open_store
    from raytrain_core.storage.cache import Cache

    digest = (work / f"{name}.digest").read_text()
    store = open_store(str(work / f"store-{name}"))
    tasks = [{"name": name, "type": "summarization", "source": {"uri": f"{name}.jsonl"}}]
    training = {"steps": 10, "batchTokens": batch_tokens, "maxInputTokens": LIMITS[0], "maxTargetTokens": LIMITS[1]}
    job = from_mapping(
        {
            "apiVersion": "raytrain.dev/v1alpha1",
            "kind": "FineTuneJob",
            "metadata": {"name": "bench"},
            "spec": {"model": "./none", "tasks": tasks, "training": training},
        },
        FineTuneJob,
    )
    return job, DataLoader.open(job, ShardSet.load(store, digest), store, Cache(work / "cache", 1 << 30))


def make_set(work: Path, name: str) -> None:
    """A prepared set that several cells read."""
    if not (work / f"{name}.digest").exists():
        digest = preparation(work, work / f"store-{name}", task(name, f"{name}.jsonl", templatesPerExample=1))().digest
        (work / f"{name}.digest").write_text(digest)


def read(work: Path) -> dict[str, float]:
    """One epoch of the prepared rows: planned, read, packed, assembled."""
    make_set(work, "rows")

    def epoch() -> tuple[float, int]:
        _, loader = opened(work, "rows", 10_000)
        examples = steps = real = 0
        wanted = loader.packed_order.order.streams[0].examples
        with loader.batches(0, 1 << 30, worker=0, workers=1) as rows:
            for _, flat in rows:
                examples += sum(row.examples for row in flat)
                real += sum(row.source_tokens + row.target_tokens for row in flat)
                steps += len(flat)
                if examples >= wanted:
                    break
        return real / (steps * (loader.packed_order.shape.source + loader.packed_order.shape.target)), examples

    (fill, examples), cpu, wall = timed(epoch)
    return {"read_cpu": cpu, "read_wall": wall, "fill": fill, "examples": examples, "peak_mib": peak_mib()}


def start(work: Path) -> dict[str, float]:
    """Measures opening a set of 100,000 examples until its first batch, without imports."""
    make_set(work, "many")
    import raytrain.training.data.loader  # noqa: F401

    def first() -> Any:
        _, loader = opened(work, "many", 10_000)
        with loader.batches(0, 2, worker=0, workers=1) as rows:
            return next(iter(rows))

    _, cpu, wall = timed(first)
    return {"cpu": cpu, "wall": wall, "peak_mib": peak_mib()}


def step(work: Path) -> dict[str, float]:
    """Reads and packs the rows of a step and runs it on one core (shape of FLAN-T5-small)."""
    make_set(work, "rows")
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    from raytrain.training.trainer import Trainer

    torch.set_num_threads(1)
    job, loader = opened(work, "rows", 8_000)
    shape: dict[str, Any] = {"d_model": 512, "d_kv": 64, "d_ff": 1024, "num_layers": 8, "num_decoder_layers": 8}
    shape |= {"num_heads": 6, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
    config = T5Config(vocab_size=32_128, **shape)
    trainer = Trainer(T5ForConditionalGeneration(config), job.spec.training, loader.tasks)
    reader = loader.batches(0, 10, worker=0, workers=1)
    reader.read_step(0)  # the first look at the plan
    reads, steps = [], []
    for number in range(1, 4):
        rows, _, wall = timed(lambda number=number: reader.read_step(number))  # type: ignore[misc]
        reads.append(wall)
        _, _, wall = timed(lambda number=number, rows=rows: trainer.step(number, rows))  # type: ignore[misc]
        steps.append(wall)
    return {"read": statistics.median(reads), "step": statistics.median(steps)}


def resume(work: Path) -> dict[str, int]:
    """Counts examples lost and repeated when a stream is stopped halfway and resumed."""
    make_set(work, "rows")
    import datasets

    datasets.disable_progress_bars()
    datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0
    count = 8_000

    def stream() -> Any:
        rows = datasets.Dataset.from_dict({"n": range(count)}).to_iterable_dataset(num_shards=8)
        return rows.shuffle(seed=17, buffer_size=1000)

    data, seen = stream(), []
    for row in data:
        seen.append(row["n"])
        if len(seen) == count // 2:
            state = data.state_dict()
            break
    again = stream()
    again.load_state_dict(state)
    seen += [row["n"] for row in again]
    theirs = {"hf_lost": count - len(set(seen)), "hf_repeated": len(seen) - len(set(seen))}

    def placed(worker: int, workers: int, start: int, stop: int) -> list[Any]:
        _, loader = opened(work, "rows", 60_000)
        with loader.batches(start, stop, worker=worker, workers=workers) as rows:
            return [place for _, flat in rows for row in flat for place in row.samples]

    whole = placed(0, 1, 0, 12)
    ours = placed(0, 1, 0, 5) + [place for worker in range(3) for place in placed(worker, 3, 5, 12)]
    lost, twice = len(set(whole) - set(ours)), len(ours) - len(set(ours))
    return theirs | {"lost": lost, "repeated": twice, "examples": len(whole)}


def large(work: Path) -> dict[str, float]:
    """Measures the peak memory of two processes that prepare long rows, and of this one."""
    import shutil

    from data_prep.shards.workers import LocalProcesses

    path = work / "large.jsonl"
    if not path.exists():
        ten = list(dialogues(10_000, 3))
        write_rows(path, ({**row, "input": f"{n}: {row['input']}"} for n in range(10**6) for row in ten), LARGE)
    store = work / "store-large"
    with LocalProcesses(2) as workers:
        action = preparation(work, store, task("large", "large.jsonl", templatesPerExample=1), workers=workers)
        shard_set, _, wall = timed(action)
    rows = sum(split.examples for split in shard_set.tasks[0].splits.values())
    shutil.rmtree(store)
    return {
        "bytes": path.stat().st_size,
        "rows": rows,
        "wall": wall,
        "reader_mib": peak_mib(),
        "worker_mib": peak_mib(resource.RUSAGE_CHILDREN),
    }


def reading(work: Path) -> dict[str, float]:
    """Reads and cleans short rows with one process, then with two; rows a second."""
    from data_prep.prepare import PrepLimits
    from data_prep.shards.progress import ProgressMeter
    from data_prep.shards.read_ahead import read_ahead
    from data_prep.shards.settings import PrepSettings
    from data_prep.shards.task_sources import TaskSources
    from data_prep.shards.workers import LocalProcesses
    from data_prep.sources.task_files import find_sources
    from data_prep.tasks.splits import splitter_of
    from data_prep.text.tokenizer_folder import read_tokenizer
    from raytrain_core.storage import open_store

    make_short(work)
    tokenizer = read_tokenizer(work / "tokenizer")
    settings = PrepSettings(open_store(str(work / "store-reading")), tokenizer, PrepLimits(*LIMITS), 17, verify=False)
    found: dict[str, float] = {}
    for count in (1, 2):
        of_task = task("short", "short.jsonl")
        folder = work / f"reading-{count}-{os.getpid()}"
        sources = TaskSources(of_task, find_sources(of_task, work), splitter_of(of_task, [None]), settings, folder)
        jobs = list(sources.jobs("keys"))
        with LocalProcesses(count) as workers:
            meter = ProgressMeter(lambda progress: None)
            list(read_ahead(jobs[: 2 * count], workers, meter))  # starts the processes
            began = time.perf_counter()
            rows = sum(chunk.rows for _, chunk in read_ahead(jobs, workers, meter))
            found[f"rows_per_second_{count}"] = rows / (time.perf_counter() - began)
        folder.rmdir()
    return found


def short(work: Path) -> dict[str, float]:
    """Prepares short rows with two processes: seconds, processor seconds of this one, memory."""
    import shutil

    from data_prep.shards.workers import LocalProcesses

    make_short(work)
    store = work / f"store-short-{os.getpid()}"
    with LocalProcesses(2) as workers:
        action = preparation(work, store, task("short", "short.jsonl", templatesPerExample=1), workers=workers)
        shard_set, cpu, wall = timed(action)
    shutil.rmtree(store)
    return {
        "rows": sum(split.examples for split in shard_set.tasks[0].splits.values()),
        "driver_cpu": cpu,
        "wall": wall,
        "driver_mib": peak_mib(),
        "worker_mib": peak_mib(resource.RUSAGE_CHILDREN),
    }


def short_before(work: Path) -> dict[str, float]:
    """The same with the code of the commit `BEFORE`; nothing where the history is not there."""
    import shutil

    tree, here = work / "before", Path(__file__).resolve().parent.parent
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir()
    archive = ["git", "-C", str(here), "archive", BEFORE, "data_prep", "raytrain_core", "benchmarks"]
    packed = subprocess.run(archive, stdout=subprocess.PIPE, check=False)
    if packed.returncode:
        return {}
    subprocess.run(["tar", "-x", "-C", str(tree)], input=packed.stdout, check=True)
    # this file as a script: the modules that it imports are those of the other commit
    text = Path(__file__).read_text().replace("import emit, processor", "import emit")
    text = text.replace(
        "    from data_prep.text.tokenizer_folder import read_tokenizer\n",
        "    from data_prep.text.tokenizer import Tokenizer\n    read_tokenizer = Tokenizer.from_folder\n",
    )
    (tree / "cell.py").write_text(text)
    command = [sys.executable, str(tree / "cell.py"), "--cell", "short", "--work", str(work)]
    done = subprocess.run(
        command, cwd=tree, env=os.environ | {"PYTHONPATH": str(tree)}, stdout=subprocess.PIPE, text=True, check=True
    )
    shutil.rmtree(tree)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def ray_data(work: Path) -> dict[str, float]:
    """Reads and cleans the short rows with Ray Data, in order, on two cores; rows a second."""
    import ray
    from ray.data import DataContext

    from data_prep.shards.row_limit import content_keys
    from data_prep.tasks.examples import Example, example_maker

    make_short(work)
    of_task = task("short", "short.jsonl")

    def keys(batch: Any) -> dict[str, Any]:
        make = example_maker(of_task)
        made = [make(row) for row in batch.to_pylist()]
        return {"key": content_keys([one for one in made if isinstance(one, Example)])}

    began = time.perf_counter()
    ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level=logging.ERROR)
    started = time.perf_counter() - began
    context = DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False

    def read() -> int:
        rows = ray.data.read_json(str(work / "short.jsonl"))
        found = rows.map_batches(keys, batch_size=5_000, batch_format="pyarrow")
        return sum(len(batch["key"]) for batch in found.iter_batches(batch_size=5_000, batch_format="numpy"))

    rows, cpu, wall = timed(read)
    ray.shutdown()
    return {"rows_per_second": rows / wall, "rows": rows, "driver_cpu": cpu, "start_seconds": started}


def many_objects(work: Path) -> dict[str, float]:
    """Prepares a bucket of 1,000 small objects; a folder stands for the bucket."""
    import shutil

    from data_prep.shards.workers import LocalProcesses
    from data_prep.sources import task_files
    from raytrain_core.storage import open_store

    bucket, rows = work / "bucket", dialogues(20 * OBJECTS, 5, (12, 16))
    for number in range(OBJECTS):
        path = bucket / f"{number:04}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(next(rows)) + "\n" for _ in range(20)))
    store = work / f"store-objects-{os.getpid()}"
    of_task = task("objects", "s3://bucket/", templatesPerExample=1)
    a_folder = mock.patch.object(task_files, "open_like", return_value=open_store(str(bucket)))
    with a_folder, LocalProcesses(2) as workers:
        _, cpu, wall = timed(preparation(work, store, of_task, workers=workers))
    shutil.rmtree(store)
    shutil.rmtree(bucket)
    return {"objects": OBJECTS, "wall": wall, "driver_cpu": cpu, "driver_mib": peak_mib()}


def make_short(work: Path) -> None:
    """Rows of 6 to 12 words, each another; RAYTRAIN_BENCH_SHORT rows, else `SHORT`."""
    path = work / "short.jsonl"
    if path.exists():
        return
    ten = list(dialogues(10_000, 4, (12, 16)))
    count = int(os.environ.get("RAYTRAIN_BENCH_SHORT", SHORT))
    numbered = (ten[n % len(ten)] | {"input": f"{n}: {ten[n % len(ten)]['input']}"} for n in range(count))
    write_rows(path, numbered)


CELLS: dict[str, Callable[[Path], Mapping[str, float]]] = {
    "encode": encode,
    "prepare": prepare_one,
    "prepare_three": prepare_three,
    "hf": hf,
    "read": read,
    "start": start,
    "step": step,
    "resume": resume,
    "reading": reading,
    "ray_data": ray_data,
    "short": short,
    "short_before": short_before,
    "many_objects": many_objects,
    "large": large,
}
ONCE = ("resume", "reading", "ray_data", "short", "short_before", "many_objects", "large")


# Running them


def run_cell(name: str, work: Path) -> dict[str, float]:
    """In a process of its own, with one core where a ratio is per core."""
    threads = {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.data", "--cell", name, "--work", str(work)]
    done = subprocess.run(command, env=os.environ | threads, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def spread(values: Sequence[float]) -> dict[str, float]:
    rounded = [round(value, 4) for value in values]
    return {"median": statistics.median(rounded), "min": min(rounded), "max": max(rounded)}


def summary(rounds: list[dict[str, dict[str, float]]], plan: dict[str, Any]) -> dict[str, Any]:
    def ratios(top: Callable[[dict[str, dict[str, float]]], float]) -> dict[str, float]:
        return spread([top(cells) for cells in rounds])

    def middle(cell: str, name: str) -> float:
        return round(statistics.median(cells[cell][name] for cells in rounds if cell in cells), 3)

    once = rounds[0]
    rows = middle("encode", "rows")
    figures: dict[str, Any] = {
        "plan_seconds_15m": plan["plan_seconds_15m"],
        "plan": plan,
        "start_seconds": middle("start", "wall"),
        "start_mib": middle("start", "peak_mib"),
        "encode_batch_ms_per_example": round(1e3 * middle("encode", "cpu") / rows, 4),
        "prepare_ms_per_example": round(1e3 * middle("prepare", "cpu") / rows, 4),
        "prepare_three_wordings_ms_per_example": round(1e3 * middle("prepare_three", "cpu") / rows, 4),
        "prepare_mib": middle("prepare", "peak_mib"),
        "prepared_bytes_per_example": round(middle("prepare", "stored_bytes") / rows),
        "step_ms": round(1e3 * middle("step", "step"), 1),
        "read_step_ms": round(1e3 * middle("step", "read"), 2),
        "side_by_side": {
            "ours": {
                "prepare_seconds": middle("prepare", "wall"),
                "epoch_seconds": middle("read", "read_wall"),
                "fill": middle("read", "fill"),
                "reading_mib": middle("read", "peak_mib"),
                "resume_lost": once["resume"]["lost"],
                "resume_repeated": once["resume"]["repeated"],
            },
            "datasets_map_shuffle_dataloader": {
                "prepare_seconds": middle("hf", "wall"),
                "epoch_seconds": middle("hf", "read_wall"),
                "fill": middle("hf", "fill"),
                "reading_mib": middle("hf", "peak_mib"),
                "resume_lost_streaming": once["resume"]["hf_lost"],
                "resume_repeated_streaming": once["resume"]["hf_repeated"],
            },
        },
    }
    if "reading" in once:
        figures["reading"] = {name: round(value) for name, value in once["reading"].items()}
    for cell in ("short", "short_before", "ray_data", "many_objects", "large"):
        if cell in once:
            figures[cell] = {name: round(value, 2) for name, value in once[cell].items()}
    return {
        "machine": {
            "cores": os.cpu_count(),
            "processor": processor(),
            "machine": platform.machine(),
            "python": platform.python_version(),
            **{name: version(name) for name in ("tokenizers", "pyarrow", "datasets", "torch")},
            "tokenizer": "T5's own" if os.environ.get("RAYTRAIN_T5_TOKENIZER") else "Unigram, 8,000 pieces",
            "rows": rows,
        },
        "ratios": {
            "prepare_vs_encode_batch": ratios(lambda c: c["encode"]["cpu"] / c["prepare"]["cpu"]),
            "read_vs_step": ratios(lambda c: c["step"]["read"] / c["step"]["step"]),
            "prepare_vs_datasets_map": ratios(lambda c: c["hf"]["cpu"] / c["prepare"]["cpu"]),
            "epoch_vs_dataloader": ratios(lambda c: c["read"]["read_wall"] / c["hf"]["read_wall"]),
        },
        "bars": bars(rounds, plan),
        "figures": figures,
    }


def bars(rounds: list[dict[str, dict[str, float]]], plan: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Figures that are held to a limit, each with it."""
    once = rounds[0]

    def bar(value: float, limit: str) -> dict[str, Any]:
        return {"value": round(value, 2), "bar": limit}

    encoded = statistics.median(cells["encode"]["cpu"] / cells["prepare"]["cpu"] for cells in rounds)
    found = {"plan_seconds_15m": bar(plan["plan_seconds_15m"], "at most 5")}
    found["prepare_vs_encode_batch"] = bar(encoded, "at least 1.3")
    if "reading" in once:
        one, two = (once["reading"][f"rows_per_second_{count}"] for count in (1, 2))
        found["reading_two_processes_vs_one"] = bar(two / one, "at least 1.8")
    if "short" in once:
        of, before = once["short"], once.get("short_before")
        found["driver_cpu_seconds_per_million_rows"] = bar(1e6 * of["driver_cpu"] / of["rows"], "at most 3")
        found["short_peak_mib"] = bar(max(of["driver_mib"], of["worker_mib"]), "at most 600")
        if before:
            found["short_wall_vs_before"] = bar(of["wall"] / before["wall"], "at most 0.6")
    return found


def plan_figures(work: Path) -> dict[str, Any]:
    """The plan and packing at the scale of FLAN: `benchmarks.plan`."""
    path = work / "plan.json"
    if not path.exists():
        subprocess.run([sys.executable, "-m", "benchmarks.plan", "--out", str(path)], check=True, stdout=sys.stderr)
    return dict(json.loads(path.read_text())["figures"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--work", type=Path, default=Path("build/bench-data"), help="folder for rows and what is done")
    parser.add_argument("--rows", type=int, default=ROWS, help="dialogues that are made for a new --work")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without", nargs="*", default=[], choices=ONCE[1:], help="cells to leave out")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no further cell after so long")
    parser.add_argument("--cell", choices=CELLS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    work: Path = options.work.resolve()
    if options.cell:
        print(json.dumps(CELLS[options.cell](work)))
        return
    began = time.monotonic()
    make_inputs(work, options.rows)
    rounds: list[dict[str, dict[str, float]]] = []
    for number in range(options.rounds):
        path = work / f"round-{number}.json"
        done = json.loads(path.read_text()) if path.exists() else {}
        for name in CELLS:
            if name in done or (name in ONCE and number) or name in options.without:
                continue
            if time.monotonic() - began > options.seconds:
                print("not done yet: run the same command again", file=sys.stderr)
                sys.exit(75)
            done[name] = run_cell(name, work)
            print(f"round {number + 1}, {name}: {done[name]}", file=sys.stderr, flush=True)
            path.write_text(json.dumps(done))
        rounds.append(done)
    emit(summary(rounds, plan_figures(work)), options.out)


if __name__ == "__main__":
    main()
