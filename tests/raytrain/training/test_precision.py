"""`precision: auto`: bf16 where it is native on every worker's device, else fp32."""

import pytest
import torch
from torch import multiprocessing

from raytrain.training.precision import native_bf16, resolved
from tests.support import gloo_worker
from tests.support.tiny_loader import settings, trainer_of

CPU = torch.device("cpu")


@pytest.fixture
def features(monkeypatch):
    """The instructions that the CPU seems to have."""
    has = {}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    return has


@pytest.mark.parametrize("feature", ["amx_bf16", "avx512_bf16", "sve_bf16", "bf16"])
def test_a_cpu_with_instructions_for_bf16_uses_them(features, feature):
    features |= {"avx2": True, feature: True}
    training, why = resolved(settings(precision="auto"), CPU)
    assert (training.precision, why) == ("bf16", f"precision bf16, because this CPU has {feature}")


def test_a_cpu_without_them_uses_fp32(features):
    features |= {"avx512_f": True, "avx512_bf16": False}
    training, why = resolved(settings(precision="auto"), CPU)
    assert (training.precision, why) == ("fp32", "precision fp32, because this CPU lacks native bf16")


@pytest.mark.parametrize(("native", "said"), [(True, "has"), (False, "lacks")])
def test_a_gpu_is_asked_without_emulation(monkeypatch, native, said):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA X")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native and not including_emulation)
    found = native_bf16(torch.device("cuda:0"))
    assert (found.here, found.reason) == (native, f"NVIDIA X {said} native bf16")


@pytest.mark.parametrize("precision", ["fp32", "bf16", "bf16-pure"])
def test_what_the_job_names_stays(features, precision):
    asked = settings(precision=precision)
    assert resolved(asked, CPU) == (asked, "")


def test_one_worker_without_bf16_makes_all_use_fp32(tmp_path):
    multiprocessing.spawn(gloo_worker.choose_precision, (2, str(tmp_path)), nprocs=2)
    assert (tmp_path / "0").read_text() == "fp32: precision fp32, because another worker's device lacks native bf16"
    assert (tmp_path / "1").read_text() == "fp32: precision fp32, because this CPU lacks native bf16"


def test_the_trainer_takes_no_undecided_precision():
    with pytest.raises(ValueError, match="auto"):
        trainer_of(settings(precision="auto"))
