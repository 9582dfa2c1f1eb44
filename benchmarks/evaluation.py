"""Generation and scoring against transformers' `generate`, rouge_score and a single actor.

    python -m benchmarks.evaluation [--out FILE] [--only PART ...] [--fresh]

Every part is measured in a process of its own (below 90 seconds on two cores), and its result is
kept in FILE's folder until all parts are done, so that an interrupted benchmark can be continued.
Modes of a part are interleaved in one process, with the same threads and the same malloc settings.
The model has FLAN-T5-small's shape and random weights; prompts and generations have the lengths of
a mixture of summaries, ratings, entities and code. A random model never ends by itself: every
generation is ended at its length, for `generate` by a logits processor, for ours by its limit.
"""

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.output import emit, processor
from benchmarks.workload import random_model
from data_prep.config import Split
from raytrain.training.threads import ENVIRONMENT

ROUNDS = 4
SOURCES = 100  # of each round: other ones each time, 400 in all
LONGEST = 128
SLOTS = 64
PAIRS = 5
TIE = 1e-4

# source mean and sigma, target mean and sigma, share of: summarization, rating, named entities,
# code translation
KINDS = [(190, 0.654, 30, 0.55, 0.38), (120, 0.6, 2, 0.0, 0.28), (30, 0.45, 20, 0.5, 0.196), (60, 0.6, 60, 0.6, 0.144)]


def workload(count: int, seed: int) -> tuple[list[np.ndarray], list[int]]:
    """Returns sources as token ids, and the length of the generation for each."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice(len(KINDS), size=count, p=np.array([k[-1] for k in KINDS]) / sum(k[-1] for k in KINDS))
    sources, lengths = [], []
    for kind in kinds:
        mean, sigma, target, spread, _ = KINDS[kind]
        length = int(np.clip(np.exp(rng.normal(math.log(mean) - sigma**2 / 2, sigma)), 4, 512))
        sources.append(np.append(rng.integers(3, 32_000, length - 1), 1).astype(np.uint16))
        lengths.append(int(np.clip(np.exp(rng.normal(math.log(target) - spread**2 / 2, spread)), 2, LONGEST)))
    return sources, lengths


def by_generate(
    model: Any, sources: list[np.ndarray], lengths: list[int], size: int, *, by_length: bool
) -> list[list[int]]:
    """Greedy `generate` of transformers, in batches of `size`."""
    import torch
    from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

    class End(LogitsProcessor):
        def __init__(self, ends: list[int]) -> None:
            self.ends = torch.tensor(ends, device=model.device)

        def __call__(self, ids: Any, scores: Any) -> Any:
            scores[:, 1] = torch.where(self.ends == ids.shape[1] - 1, torch.inf, -torch.inf)
            return scores

    order = sorted(range(len(sources)), key=lambda i: -len(sources[i])) if by_length else list(range(len(sources)))
    settings = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=max(lengths) + 1, do_sample=False, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0
    )
    found: dict[int, list[int]] = {}
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        ids = torch.zeros((len(batch), max(len(sources[i]) for i in batch)), dtype=torch.long)
        for row, i in zip(ids, batch, strict=True):
            row[: len(sources[i])] = torch.from_numpy(sources[i].astype(np.int64))
        with torch.inference_mode():
            written = model.generate(
                input_ids=ids.to(model.device),
                attention_mask=(ids != 0).long().to(model.device),
                generation_config=settings,
                logits_processor=LogitsProcessorList([End([lengths[i] for i in batch])]),
            )
        found.update({i: row[1 : 1 + lengths[i]] for i, row in zip(batch, written.tolist(), strict=True)})
    return [found[i] for i in range(len(sources))]


def generation(number: int, *, device: str = "cpu", texts: int = SOURCES, slots: int = SLOTS) -> dict[str, Any]:
    """One round: the same sources in all modes, one after the other."""
    import torch

    from raytrain.generation.continuous_batching import generate_greedy
    from raytrain.generation.t5_engine import T5Engine

    torch.set_num_threads(os.cpu_count() or 1)
    model = random_model().to(device)
    sources, lengths = workload(texts, seed=100 + number)
    ours = T5Engine(model, longest_input=512, longest_output=LONGEST)
    modes: dict[str, Callable[[], list[Any]]] = {
        "ours": lambda: generate_greedy(ours, sources, slots=slots, max_new_tokens=lengths),
        "hf_bs8": lambda: by_generate(model, sources, lengths, 8, by_length=False),
        "hf_bs32": lambda: by_generate(model, sources, lengths, 32, by_length=False),
        "hf_sorted": lambda: by_generate(model, sources, lengths, 32, by_length=True),
    }
    generate_greedy(ours, sources[:8], slots=8, max_new_tokens=2)  # warm
    by_generate(model, sources[:8], [2] * 8, 8, by_length=False)
    names = list(modes)
    seconds, generations = {}, {}
    for name in names[number % len(names) :] + names[: number % len(names)]:
        began = time.perf_counter()
        generations[name] = modes[name]()
        seconds[name] = time.perf_counter() - began
    differ = [i for i in range(len(sources)) if generations["ours"][i] != generations["hf_sorted"][i]]
    ties = [i for i in differ if gap(model, sources[i], generations["ours"][i], generations["hf_sorted"][i]) < TIE]
    return {
        "seconds": seconds,
        "tokens": sum(lengths),
        "texts": len(sources),
        "equal": len(sources) - len(differ),
        "ties": len(ties),
    }


def gap(model: Any, source: np.ndarray, one: list[int], other: list[int]) -> float:
    """Returns the distance of the logits of the first two tokens in which generations differ."""
    import torch

    place = next(i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
    with torch.inference_mode():
        ids = torch.from_numpy(source.astype(np.int64))[None].to(model.device)
        written = torch.tensor([[0, *one[:place]]], device=model.device)
        logits = model(input_ids=ids, decoder_input_ids=written).logits[0, -1]
    return abs(float(logits[one[place]] - logits[other[place]]))


def rouge() -> dict[str, Any]:
    """All four kinds of ROUGE with the stemmer: 2,000 pairs of about 22 words, five times each."""
    from rouge_score.rouge_scorer import RougeScorer

    from raytrain.evaluation.metrics import METRICS
    from raytrain.evaluation.metrics.rouge import clear_cache, split_sentences

    kinds = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    rng = np.random.default_rng(5)
    stems, ends = ("report", "call", "agree", "order", "meet"), ("s", "ed", "ing", "er")
    words = np.array([stem + end for stem in stems for end in ends])

    def text() -> str:
        return " ".join(rng.choice(words, rng.integers(10, 35))) + "."

    predictions, targets = [text() for _ in range(2000)], [[text()] for _ in range(2000)]
    evaluator = RougeScorer(kinds, use_stemmer=True)
    seconds: dict[str, list[float]] = {"ours": [], "rouge_score": []}
    METRICS["rouge1"].stats_many(predictions[:2], targets[:2], [{}] * 2)  # modules are loaded
    for _ in range(5):
        clear_cache()
        began = time.perf_counter()
        ours = [METRICS[kind].stats_many(predictions, targets, [{}] * 2000)[:, 0] for kind in kinds]
        seconds["ours"].append(time.perf_counter() - began)
        began = time.perf_counter()
        theirs = [
            evaluator.score(target, prediction) for prediction, [target] in zip(predictions, targets, strict=True)
        ]
        seconds["rouge_score"].append(time.perf_counter() - began)
    for column, kind in enumerate(kinds):
        if kind != "rougeLsum":  # there the split of sentences is ours
            assert ours[column].tolist() == [score[kind].fmeasure for score in theirs]
    assert split_sentences("a. b") == "a.\nb"
    return {"seconds": seconds}


def overlap() -> dict[str, Any]:
    """BLEU and chrF of 2,000 pairs of code, ROUGE-L of 500 Chinese and Thai ones: three times."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    from raytrain.evaluation.metrics import METRICS
    from raytrain.evaluation.metrics.rouge import clear_cache

    rng = np.random.default_rng(6)
    names = np.array(
        ["rate", "total", "limit", "(", ")", "=", "+", "return", "for", "in", "range", "if", ":", "0", "1"]
    )
    scripts = [np.array(list("城市今天天气很好我们去公园")), np.array(list("กรุงเทพมหานครวันนี้อากาศดี"))]
    code = [" ".join(rng.choice(names, rng.integers(20, 60))) for _ in range(4000)]
    other = ["".join(rng.choice(scripts[i % 2], rng.integers(20, 60))) for i in range(1000)]
    theirs = {"bleu": BLEU(force=True), "chrf": CHRF()}
    seconds: dict[str, list[float]] = defaultdict(list)

    def timed(name: str, work: Callable[[], Any]) -> None:
        began = time.perf_counter()
        work()
        seconds[name].append(time.perf_counter() - began)

    predictions, targets = code[:2000], code[2000:]
    for name in theirs:  # modules are loaded
        METRICS[name].stats_many(predictions[:2], [[t] for t in targets[:2]], [{}] * 2)
    for _ in range(3):
        clear_cache()
        for name, their in theirs.items():
            rows = [[target] for target in targets]
            timed(name, partial(METRICS[name].stats_many, predictions, rows, [{}] * 2000))
            timed(f"sacrebleu-{name}", partial(their.corpus_score, predictions, [targets]))
        timed("rouge", partial(METRICS["rougeL"].stats_many, other[:500], [[text] for text in other[500:]], [{}] * 500))
    return {"seconds": seconds}


def actors(number: int) -> dict[str, Any]:
    """Scores the same stages with one actor and with two, of one core each."""
    import ray

    from benchmarks.evaluation_world import World
    from raytrain.evaluation.actor import EvaluationActor
    from raytrain.evaluation.actor_pool import ActorPool, PoolSettings
    from raytrain.evaluation.stage_scorer import StageScorer

    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
        try:
            for count in (1, 2) if number % 2 else (2, 1):
                evaluator = world.evaluator(f"run-{count}")
                settings = PoolSettings(actors=count, environment=ENVIRONMENT)
                pool = ActorPool(EvaluationActor, world.settings(), settings)
                with StageScorer(evaluator, pool) as scorer:
                    splits: tuple[tuple[str, Split], ...] = (("before", "validation"), ("after", "test"))
                    for stage, split in splits:
                        began = time.perf_counter()
                        cards = scorer.score(stage, world.base, split).result(600)
                        assert all(card.error is None for card in cards), cards
                        seconds[f"actors_{count}"] = time.perf_counter() - began
        finally:
            ray.shutdown()
    return {"seconds": seconds}


def slowdown(number: int) -> dict[str, Any]:
    """Times training steps on one core, alone and while the other core generates."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    evaluating = [sys.executable, "-m", "benchmarks.evaluation", "--part", "generating"]
    evaluating += ["--core", str(cores[-1])] if len(cores) > 1 else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    step = training_step()
    pairs = []
    for turn in range(PAIRS):
        alone, beside = 0.0, 0.0
        for busy in (False, True) if turn % 2 == number % 2 else (True, False):
            other = subprocess.Popen(evaluating, env=environment, stdout=subprocess.PIPE) if busy else None
            if other is not None:
                assert other.stdout is not None
                other.stdout.readline()  # it prints a line when it begins
            began = time.perf_counter()
            for _ in range(3):
                step()
            took = time.perf_counter() - began
            if other is not None:
                other.kill()
                other.wait()
                beside = took
            else:
                alone = took
        pairs.append([alone, beside])
    return {"pairs": pairs}


def training_step() -> Callable[[], None]:
    """Returns a training step on one thread: FLAN-T5-small's shape, eight examples."""
    import torch

    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    model = random_model().train().requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    ids, labels = torch.randint(3, 32_000, (8, 96)), torch.randint(3, 32_000, (8, 24))

    def step() -> None:
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    return step


def generate_forever(core: int | None) -> None:
    """Generates forever on one thread of `core`, after printing a line."""
    import torch

    from raytrain.generation.continuous_batching import generate_greedy
    from raytrain.generation.t5_engine import T5Engine

    torch.set_num_threads(1)
    if core is not None:  # not the one that training is bound to, which a child inherits
        os.sched_setaffinity(0, {core})
    ours = T5Engine(random_model(), longest_input=512, longest_output=LONGEST)
    sources, lengths = workload(64, seed=9)
    generate_greedy(ours, sources[:4], slots=4, max_new_tokens=2)
    print("generating", flush=True)
    while True:
        generate_greedy(ours, sources, slots=32, max_new_tokens=lengths)


PARTS: dict[str, Callable[[], Any]] = {
    **{f"generation-{i}": partial(generation, i) for i in range(ROUNDS)},
    "rouge": rouge,
    "overlap": overlap,
    **{f"actors-{i}": partial(actors, i) for i in range(3)},
    "slowdown": lambda: slowdown(0),
}


def ratio(values: list[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """Returns ratios and figures of all parts."""
    rounds = [found[name] for name in PARTS if name.startswith("generation")]
    ratios = {
        f"vs_{mode}": ratio([r["seconds"][mode] / r["seconds"]["ours"] for r in rounds])
        for mode in ("hf_bs8", "hf_bs32", "hf_sorted")
    }
    scoring = found["rouge"]["seconds"]
    pairs = zip(scoring["rouge_score"], scoring["ours"], strict=True)
    ratios["rouge_vs_rouge_score"] = ratio([theirs / ours for theirs, ours in pairs])
    texts_of = found["overlap"]["seconds"]
    for name in ("bleu", "chrf"):
        timed = zip(texts_of[f"sacrebleu-{name}"], texts_of[name], strict=True)
        ratios[f"{name}_vs_sacrebleu"] = ratio([theirs / ours for theirs, ours in timed])
    shared = [found[name]["seconds"] for name in PARTS if name.startswith("actors")]
    ratios["two_actors_vs_one"] = ratio([s["actors_1"] / s["actors_2"] for s in shared])
    ratios["training_slowdown"] = ratio([beside / alone - 1 for alone, beside in found["slowdown"]["pairs"]])
    tokens, texts = sum(r["tokens"] for r in rounds), sum(r["texts"] for r in rounds)
    figures = {
        "texts": texts,
        "texts_equal_to_generate": sum(r["equal"] for r in rounds),
        "texts_that_differ_at_a_tie": sum(r["ties"] for r in rounds),
        "tie": TIE,
        "slots": SLOTS,
        "tokens_per_second": {
            mode: tokens / sum(r["seconds"][mode] for r in rounds)
            for mode in ("ours", "hf_bs8", "hf_bs32", "hf_sorted")
        },
        "other_scripts_rouge_pairs_per_second": 500 / statistics.median(texts_of["rouge"]),
        "rouge_pairs_per_second": {who: 2000 / statistics.median(s) for who, s in scoring.items()},
    }
    return {"machine": machine(), "ratios": ratios, "figures": figures}


def machine() -> dict[str, Any]:
    """Describes the machine."""
    import torch
    import transformers

    return {
        "cores": os.cpu_count(),
        "processor": processor(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "precision": "fp32",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/evaluation.json"))
    parser.add_argument("--only", nargs="+", choices=list(PARTS), metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--fresh", action="store_true", help="measure again what was measured already")
    parser.add_argument("--wrap", default="", help="a command that every part is started with")
    parser.add_argument("--part", help=argparse.SUPPRESS)  # the part that a child process measures
    parser.add_argument("--core", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part == "generating":
        generate_forever(options.core)
    if options.part:
        print(json.dumps(PARTS[options.part]()))
        return
    kept = options.out.parent / f".{options.out.stem}"
    kept.mkdir(parents=True, exist_ok=True)
    for name in options.only or PARTS:
        path = kept / f"{name}.json"
        if path.exists() and not options.fresh:
            continue
        command = [*options.wrap.split(), sys.executable, "-m", "benchmarks.evaluation", "--part", name]
        print(name, flush=True)
        done = subprocess.run(command, env={**os.environ, **ENVIRONMENT}, stdout=subprocess.PIPE, text=True, check=True)
        path.write_text(done.stdout.strip().splitlines()[-1] + "\n")
    found = {path.stem: json.loads(path.read_text()) for path in kept.glob("*.json")}
    if missing := [name for name in PARTS if name not in found]:
        print(f"not measured yet: {', '.join(missing)}")
        return
    emit(summary(found), options.out)
    for path in kept.glob("*.json"):
        path.unlink()
    kept.rmdir()


if __name__ == "__main__":
    main()
