"""The comparison of a step with another checkout's, here with itself."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_step_is_compared_with_itself(tmp_path):
    out = tmp_path / "step.json"
    command = [sys.executable, "-m", "benchmarks.step", "--against", ".", "--precision", "fp32"]
    subprocess.run([*command, "--shape", "tiny", "--steps", "2", "--out", str(out)], cwd=ROOT, check=True)
    found = json.loads(out.read_text())
    assert found["ratios"]["fp32"]["median"] > 0
    assert found["figures"]["fp32_loss_differs_by"] == 0
    assert found["machine"]["processor"]
