"""Level of verdicts and coverage of intervals, by simulation.

    python -m benchmarks.verdicts [--trials 1000] [--rows 2 22] [--work FILE] [--out FILE]

For each kind of metric, number of rows n and difficulty p, rows are drawn from a known population.
`coverage` is the share of 95 % intervals that hold the population's score. `level` is the share of
pairs of equally good models that get a verdict other than noise: of two independent models on the
same kind of rows, and (kind `lopsided`) of many small losses that a few large gains make up for.
Cells that come near a limit are measured again with ten times the trials. Every share is a Monte
Carlo estimate; its standard error is in the table. Cells are kept in a work file as they are done,
and a later call goes on from there. Prints figures as JSON.
"""

import argparse
import json
import math
import os
import platform
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.output import emit
from raytrain.evaluation.metrics import METRICS, Floats, Metric
from raytrain.evaluation.metrics.bootstrap import DRAWS, SEED, p_value, quantiles, verdict, weights

ROWS = (2, 3, 5, 6, 8, 10, 22, 50, 100, 200, 1000)
DIFFICULTIES = (0.05, 0.2, 0.5, 0.8, 0.95, 0.99)
POPULATION = 200_000
_SCORES_AT_ONCE = 2_000_000
_AGAIN = 10  # times the trials
_SURE_COVERAGE, _SURE_LEVEL = 0.955, 0.04  # beyond these a cell is measured again

Draw = Callable[[np.random.Generator, float, int], Floats]


def _mean(values: Floats) -> Floats:
    return np.stack([values, np.ones(len(values))], axis=1)


def _binary(draw: np.random.Generator, p: float, n: int) -> Floats:
    return _mean((draw.random(n) < p).astype(np.float64))


def _spread(concentration: float) -> Draw:
    """Returns scores of mean p; the smaller the concentration, the nearer are they to 0 or 1."""

    def draw_rows(draw: np.random.Generator, p: float, n: int) -> Floats:
        return _mean(draw.beta(p * concentration, (1 - p) * concentration, n))

    return draw_rows


def _entities(draw: np.random.Generator, p: float, n: int) -> Floats:
    expected = draw.poisson(1.5, n)
    unparsable = draw.random(n) < 0.02
    correct = np.where(unparsable, 0, draw.binomial(expected, p))
    predicted = np.where(unparsable, 0, correct + draw.poisson(1.5 * (1 - p), n))
    return np.stack([correct, predicted, expected, unparsable, np.ones(n)], axis=1).astype(np.float64)


def _words(draw: np.random.Generator, p: float, n: int) -> Floats:
    """Texts of 3 to 30 words; the share of right words differs from row to row."""
    predicted = draw.integers(3, 31, n)
    expected = np.maximum(1, predicted + draw.integers(-2, 3, n))
    right = draw.beta(8 * p, 8 * (1 - p), n)
    totals = [np.maximum(0, predicted - k) for k in range(4)]
    matching = [draw.binomial(total, right ** (k + 1)) for k, total in enumerate(totals)]
    return np.stack([predicted, expected, *matching, *totals], axis=1).astype(np.float64)


def _characters(draw: np.random.Generator, p: float, n: int) -> Floats:
    predicted = draw.integers(5, 81, n)
    expected = np.maximum(1, predicted + draw.integers(-4, 5, n))
    right = draw.beta(8 * p, 8 * (1 - p), n)
    columns: list[Any] = []
    for k in range(6):
        given, wanted = np.maximum(0, predicted - k), np.maximum(0, expected - k)
        columns += [given, wanted, np.minimum(wanted, draw.binomial(given, right ** math.sqrt(k + 1)))]
    return np.stack(columns, axis=1).astype(np.float64)


def _table(p: float, shares: Sequence[float]) -> Floats:
    """Returns the joint distribution of correct and predicted labels; the last column is none."""
    correct = np.array(shares)[:, None]
    wrong = (1 - p) * correct * np.append(0.97 * correct, 0.03)
    return np.asarray(wrong + p * np.eye(len(shares), len(shares) + 1) * correct, dtype=np.float64)


def _labels(draw: np.random.Generator, p: float, n: int) -> Floats:
    table = _table(p, (0.1, 0.3, 0.6)).ravel()
    rows = np.zeros((n, len(table)))
    rows[np.arange(n), draw.choice(len(table), n, p=table)] = 1
    return rows


def _distances(draw: np.random.Generator, p: float, n: int) -> Floats:
    """Of one to five stars, mostly five."""
    cells = draw.choice(30, n, p=_table(p, (0.1, 0.05, 0.1, 0.2, 0.55)).ravel())
    correct, predicted = cells // 6, cells % 6
    distance = np.where(predicted == 5, np.maximum(correct, 4 - correct), abs(correct - predicted))
    return np.stack([distance, np.ones(n), np.full(n, 4)], axis=1).astype(np.float64)


def _losses(draw: np.random.Generator, p: float, n: int) -> Floats:
    """Losses per token of mean -log p, as skewed as a gamma distribution of shape 2."""
    tokens = draw.integers(2, 41, n)
    return np.stack([draw.gamma(2, -math.log(p) / 2, n) * tokens, tokens], axis=1).astype(np.float64)


KINDS: Mapping[str, tuple[str, Draw]] = {
    "binary": ("exact_match", _binary),
    "continuous": ("rougeL", _spread(5)),
    "continuous, nearly binary": ("rougeL", _spread(0.5)),
    "continuous, narrow": ("rougeL", _spread(50)),
    "entity F1": ("f1", _entities),
    "BLEU": ("bleu", _words),
    "chrF": ("chrf", _characters),
    "mean error": ("mae", _distances),
    "correlation": ("spearman", _labels),
    "macro F1": ("macro_f1", _labels),
    "perplexity": ("perplexity", _losses),
}
LOPSIDED = "lopsided"


def lopsided(draw: np.random.Generator, p: float, n: int) -> tuple[Floats, Floats]:
    """Returns scorings of equal means: a share p of the rows gains what the others lose."""
    up, down = (0.5, 0.5 * p / (1 - p)) if p < 0.5 else (0.5 * (1 - p) / p, 0.5)
    return _mean(np.full(n, 0.5)), _mean(np.where(draw.random(n) < p, 0.5 + up, 0.5 - down))


def covered(metric: Metric, samples: Sequence[Floats], truth: float) -> int:
    """Counts samples whose interval holds the truth; as `interval`, for many samples at once."""
    seen, unseen = next(weights(len(samples[0]), DRAWS, SEED))
    ends = [metric.extremes(sample) for sample in samples]
    sums = np.stack([seen @ sample for sample in samples], axis=1)  # draws, samples, columns
    low, high = (_combined(metric, sums + unseen[:, :, None] * np.stack([e[i] for e in ends])) for i in (0, 1))
    lower, upper = quantiles(low, high)
    values = np.array([metric.score(sample) for sample in samples])
    slack = 1e-9  # of sums in another order
    return int(((np.minimum(lower, values) <= truth + slack) & (truth - slack <= np.maximum(upper, values))).sum())


def different(metric: Metric, pairs: Sequence[tuple[Floats, Floats]]) -> int:
    """Counts pairs that are called better or worse; as `paired`, for many pairs at once."""
    seen, unseen = next(weights(len(pairs[0][0]), DRAWS, SEED))
    ends = [metric.extremes(np.concatenate(pair)) for pair in pairs]
    lowest, highest = (np.stack([e[i] for e in ends]) for i in (0, 1))
    before, after = (np.stack([seen @ pair[i] for pair in pairs], axis=1) for i in (0, 1))
    last = unseen[:, :, None]
    loss = _combined(metric, after + last * lowest) - _combined(metric, before + last * highest)
    gain = _combined(metric, after + last * highest) - _combined(metric, before + last * lowest)
    found = 0
    for i, (first, second) in enumerate(pairs):
        difference = metric.score(second) - metric.score(first)
        found += verdict(metric, difference, p_value(loss[:, i], gain[:, i]), len(first)) in ("better", "worse")
    return found


def _combined(metric: Metric, sums: Floats) -> Floats:
    return metric.combine_many(sums.reshape(-1, sums.shape[2])).reshape(sums.shape[:2])


def cell(kind: str, rows: int, p: float, trials: int) -> dict[str, Any]:
    """Returns level and coverage of one cell, with their standard errors."""
    found = _measure(kind, rows, p, trials)
    if found.get("coverage", 1) < _SURE_COVERAGE or found.get("level", 0) > _SURE_LEVEL:
        found = _measure(kind, rows, p, _AGAIN * trials)
    return found


def _measure(kind: str, rows: int, p: float, trials: int) -> dict[str, Any]:
    draw = np.random.default_rng([zlib.crc32(kind.encode()), rows, int(1000 * p), trials])
    name, draw_rows = KINDS.get(kind, ("rougeL", _binary))
    metric = METRICS[name]
    truth = metric.score(draw_rows(np.random.default_rng(1), p, POPULATION)) if kind in KINDS else 0.0
    hits = false = 0
    portion = max(1, _SCORES_AT_ONCE // (DRAWS * draw_rows(draw, p, 1).shape[1]))
    for start in range(0, trials, portion):
        count = min(portion, trials - start)
        if kind == LOPSIDED:
            false += different(metric, [lopsided(draw, p, rows) for _ in range(count)])
            continue
        samples = [draw_rows(draw, p, rows) for _ in range(2 * count)]
        hits += covered(metric, samples[:count], truth)
        false += different(metric, list(zip(samples[:count], samples[count:], strict=True)))
    found = {"kind": kind, "metric": name, "rows": rows, "p": p, "trials": trials, "level": false / trials}
    found["level_error"] = _error(false / trials, trials)
    if kind in KINDS:
        found |= {"coverage": hits / trials, "coverage_error": _error(hits / trials, trials)}
    return found


def _error(share: float, trials: int) -> float:
    return round(math.sqrt(share * (1 - share) / trials), 5)


def summary(table: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the worst level and coverage, where they are, and the worst of each kind."""
    level = max(table, key=lambda one: one["level"])
    known = [one for one in table if "coverage" in one]
    coverage = min(known, key=lambda one: one["coverage"])
    kinds = {one["kind"]: one for one in table}
    return {
        "worst_level": level["level"],
        "worst_level_error": level["level_error"],
        "worst_level_at": {key: level[key] for key in ("kind", "rows", "p")},
        "worst_coverage": coverage["coverage"],
        "worst_coverage_error": coverage["coverage_error"],
        "worst_coverage_at": {key: coverage[key] for key in ("kind", "rows", "p")},
        "worst_level_by_kind": {k: max(one["level"] for one in table if one["kind"] == k) for k in kinds},
        "worst_coverage_by_kind": {
            k: min(one["coverage"] for one in known if one["kind"] == k) for k in kinds if k != LOPSIDED
        },
    }


def _done(work: Path | None) -> dict[str, dict[str, Any]]:
    if work is None or not work.exists():
        return {}
    return {one["key"]: one for one in map(json.loads, work.read_text().splitlines())}


def measure_all(cells: Sequence[tuple[str, int, float, int]], work: Path | None, workers: int) -> list[dict[str, Any]]:
    """Returns the table, and appends to `work` what was not there yet."""
    done = _done(work)
    missing = [one for one in cells if str(one) not in done]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for one, found in zip(missing, pool.map(cell, *zip(*missing, strict=True)) if missing else (), strict=True):
            done[str(one)] = found | {"key": str(one)}
            if work is not None:
                work.parent.mkdir(parents=True, exist_ok=True)
                with work.open("a") as lines:
                    lines.write(json.dumps(done[str(one)]) + "\n")
    return [{key: value for key, value in done[str(one)].items() if key != "key"} for one in cells]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--rows", type=int, nargs="*", default=list(ROWS))
    parser.add_argument("--kinds", nargs="*", default=[*KINDS, LOPSIDED])
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--work", type=Path, help="keep finished cells here, and go on from them")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    start = time.perf_counter()
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # one process a core instead
    cells = [(k, n, p, options.trials) for n in options.rows for k in options.kinds for p in DIFFICULTIES]
    table = measure_all(cells, options.work, options.workers)
    found, seconds = summary(table), round(time.perf_counter() - start)
    machine = {"cores": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()}
    figures = {**found, "cells": len(table), "trials_per_cell": options.trials, "seconds": seconds}
    emit({"machine": machine, "ratios": {}, "figures": figures, **found, "table": table}, options.out)


if __name__ == "__main__":
    main()
