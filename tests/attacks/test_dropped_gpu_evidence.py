"""A run on two GPUs sheds the evidence of one of them, or shows the two in another order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from workshop import put, report_data

from palm_torch.cvm import binding
from palm_torch.errors import BindingError
from palm_torch.evidence import GpuEvidence

if TYPE_CHECKING:
    from workshop import GoodRun

TWO = (GpuEvidence(evidence=b"one", chain=b"1"), GpuEvidence(evidence=b"two", chain=b"2"))


def test_gpu_evidence_cannot_be_dropped(good: GoodRun) -> None:
    sealed = good.resealed(put(good.bundle, "end.gpus", TWO))
    with pytest.raises(BindingError, match="end quote: report data seals other claims"):
        good.verify(put(sealed, "end.gpus", ()))


def test_fewer_others_and_another_order_are_other_seals(good: GoodRun) -> None:
    moved = (GpuEvidence(evidence=b"one1", chain=b""), TWO[1])
    ways = [(), TWO[:1], TWO[1:], TWO, TWO[::-1], (*TWO, TWO[1]), moved]
    assert len({report_data(put(good.bundle, "end.gpus", gpus), "end") for gpus in ways}) == len(ways)


def test_each_gpu_and_each_phase_has_a_nonce_of_its_own(good: GoodRun) -> None:
    contexts = [
        binding.context(nonce=bytes(32), challenged=True, run_id="run", phase=phase, claims_root=bytes(32))
        for phase in ("begin", "end")
    ]
    assert len({binding.gpu_nonce(ctx, index) for ctx in contexts for index in range(8)}) == 16
    assert good.bundle.end.gpus == ()
