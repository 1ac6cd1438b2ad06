"""Evidence of a genuine GPU, taken from another machine or another run, is laid beside a CPU's quotes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from workshop import put, report_data

from palm_torch.errors import BindingError, PlatformError
from palm_torch.evidence import GpuEvidence
from palm_torch.statement import Device

if TYPE_CHECKING:
    from workshop import GoodRun

RELAYED = GpuEvidence(evidence=b"a genuine report of somebody's H100", chain=b"NVIDIA's own certificates")


@pytest.mark.parametrize("phase", ["begin", "end"])
def test_gpu_evidence_is_never_left_unchecked(good: GoodRun, phase: str) -> None:
    relayed = put(good.bundle, f"{phase}.gpus", (RELAYED,))
    with pytest.raises(PlatformError, match="cannot appraise it"):
        good.verify(relayed)
    with pytest.raises(PlatformError, match="cannot appraise it"):
        good.verify(good.resealed(relayed))


def test_gpu_evidence_is_part_of_what_the_quote_seals(good: GoodRun) -> None:
    relayed = put(good.bundle, "end.gpus", (RELAYED,))
    assert report_data(relayed, "end") != report_data(good.bundle, "end")


def test_a_gpu_without_evidence_is_refused_whatever_the_policy_says(good: GoodRun) -> None:
    cuda = Device(type="cuda", name="NVIDIA H100", uuid="GPU-1")
    with pytest.raises(PlatformError, match="no GPU evidence vouches for it"):
        good.verify(
            good.sealed_end("run.devices", (cuda,)), policy=good.policy({"code": {"unreviewed": True}})
        )


def test_hiding_the_gpu_breaks_the_seal(good: GoodRun) -> None:
    cuda = Device(type="cuda", name="NVIDIA H100", uuid="GPU-1")
    honest = good.sealed_end("run.devices", (cuda,))
    with pytest.raises(BindingError):
        good.verify(put(honest, "end.statement", good.bundle.end.statement))
