"""The benchmarks of training run, say what they measured, and go on where they stopped."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu, page, workload

FOREIGN = ("ray", "datasets", "evaluate", "boto3", "kubernetes", "pyarrow", "peft", "accelerate", "typer", "rich")


def run(*arguments, block=()):
    """`python -m` of a benchmark, with these packages made unimportable."""
    code = (
        "import sys, runpy\n"
        f"for name in {list(block)!r}: sys.modules[name] = None\n"
        f"sys.argv = {list(arguments)!r}\n"
        "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


SLOW_CELLS = [pytest.param(cell, marks=pytest.mark.slow) for cell in ("eager", "bf16_pure", "checkpointing")]


@pytest.mark.parametrize("cell", ["loop_dynamic_8", *SLOW_CELLS])
def test_a_cell_of_the_gpu_s_runs_on_a_cpu_with_nothing_but_torch_and_transformers(cell):
    arguments = ("--cell", cell, "--shape", "tiny", "--device", "cpu", "--dry", "--seconds", "0")
    done = run("benchmarks.gpu", *arguments, block=FOREIGN)
    assert done.returncode == 0, done.stderr[-2000:]
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["tokens_per_second"] > 0
    assert figures["tflops"] > 0
    assert "mfu" not in figures


def test_cells_that_are_there_are_not_run_again(tmp_path):
    """Every cell is on disk: the whole command only puts them together."""
    for name in gpu.CELLS:
        rate = 100.0 if name.startswith("loop") else 300.0
        (tmp_path / f"cpu-tiny-{name}.json").write_text(json.dumps({"tokens_per_second": rate}))
    command = ("--device", "cpu", "--shapes", "tiny", "--work", str(tmp_path), "--out", str(tmp_path / "out.json"))
    done = run("benchmarks.gpu", *command)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["ratios"]["tiny_vs_loop_dynamic_8"] == {"median": 3.0, "min": 3.0, "max": 3.0}
    assert found["machine"]["torch"]


def test_without_a_gpu_it_says_so():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    done = run("benchmarks.gpu", "--shapes", "tiny")
    assert done.returncode == 1
    assert "there is no GPU here" in done.stderr


@pytest.mark.gpu
def test_a_cell_on_the_gpu():
    import torch

    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    done = run("benchmarks.gpu", "--cell", "eager", "--shape", "small", "--device", "cuda", "--dry")
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1])["peak_gib"] > 0


@pytest.mark.parametrize("cell", ["trainer_dynamic", "trainer_grouped", "ours_fp32", "checkpoint"])
@pytest.mark.slow
def test_a_cell_of_the_comparison_runs(cell):
    pytest.importorskip("accelerate")
    done = run("benchmarks.training", "--cell", cell, "--shape", "tiny", "--dry", "--examples", "200")
    assert done.returncode == 0, done.stderr[-2000:]
    assert all(value >= 0 for value in json.loads(done.stdout.splitlines()[-1]).values())


def test_the_mixture_is_the_one_that_was_described():
    chosen = workload.examples(4_000)
    source, target = (sum(len(getattr(e, side)) for e in chosen) / len(chosen) for side in ("source", "target"))
    assert source == pytest.approx(118, rel=0.03)
    assert target == pytest.approx(24, rel=0.05)
    assert max(len(e.source) for e in chosen) == 512
    assert all(e.source[-1] == e.target[-1] == workload.EOS for e in chosen)


def test_flops_of_one_token_by_hand():
    """A single source or target token: 6 x the parameters it passes, plus its attended pairs."""
    import numpy as np

    one = workload.SyntheticExample(np.array([1], np.uint16), np.array([1], np.uint16), 0)
    d, inner, ff, layers, heads_width = 64, 64, 128, 2, 64
    encoder = layers * (4 * d * inner + 3 * d * ff)
    decoder = layers * (4 * d * inner + 2 * d * inner + 2 * d * inner + 3 * d * ff)
    head = d * workload.VOCABULARY
    pairs = layers * 2 * heads_width * (1 + 0.5 + 1)
    assert workload.training_flops("tiny", [one]) == pytest.approx(6 * (encoder + decoder + head + pairs))


def test_the_page_of_measurements_says_what_was_measured():
    assert page.PAGE.read_text(encoding="utf-8") == page.page(), "run `make generate`"
    known = set(page.SECTIONS) | {"plan"}
    assert {path.name.split(".")[0] for path in page.RESULTS.glob("*.json")} <= known
    for name, figures in page.FIGURES.items():
        path = page.RESULTS / f"{name}.json"
        measured = json.loads(path.read_text())["figures"] if path.exists() else {}
        source = Path(page.__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
        assert [key for key in figures if key not in measured and f'"{key}"' not in source] == [], name
