"""Attack 42: a run on two GPUs sheds the evidence of one of them, or shows the two in another order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from workshop import put, report_data

from palm_torch.cvm import binding, simulated_gpu
from palm_torch.errors import BindingError, PlatformError
from palm_torch.evidence import GpuEvidence

if TYPE_CHECKING:
    from collections.abc import Callable

    from composite_run import CompositeRun
    from workshop import GoodRun

TWO = (GpuEvidence(evidence=b"one", chain=b"1"), GpuEvidence(evidence=b"two", chain=b"2"))
WAYS: dict[str, Callable[[tuple[Any, ...]], tuple[Any, ...]]] = {
    "none": lambda gpus: gpus[:0],
    "the first": lambda gpus: gpus[:1],
    "the second": lambda gpus: gpus[1:],
    "reordered": lambda gpus: gpus[::-1],
    "one twice": lambda gpus: (gpus[0], gpus[0]),
    "one more": lambda gpus: (*gpus, gpus[0]),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("phase", ["begin", "end"])
def test_attack_42_evidence_dropped_or_reordered_after_sealing(
    pair: CompositeRun, phase: str, way: str
) -> None:
    with pytest.raises(BindingError, match=f"^{phase} quote: report data seals other claims"):
        pair.verify(put(pair.bundle, f"{phase}.gpus", WAYS[way]))


@pytest.mark.parametrize(
    ("way", "error", "message"),
    [
        ("none", PlatformError, "GPUs: expected 2, got 0"),
        ("the first", PlatformError, "GPUs: expected 2, got 1"),
        ("the second", PlatformError, "GPUs: expected 2, got 1"),
        ("reordered", BindingError, "GPU 0: GPU report: it answers another nonce"),
        ("one twice", BindingError, "GPU 1: GPU report: it answers another nonce"),
        ("one more", PlatformError, "GPUs: expected 2, got 3"),
    ],
)
@pytest.mark.parametrize("phase", ["begin", "end"])
def test_attack_42_evidence_dropped_or_reordered_before_sealing(
    pair: CompositeRun, phase: str, way: str, error: type[Exception], message: str
) -> None:
    bundle = pair.attested_again(
        pair.bundle, lambda at, ctx: WAYS[way](pair.collect(ctx)) if at == phase else pair.collect(ctx)
    )
    with pytest.raises(error, match=f"^{message}"):
        pair.verify(bundle)


@pytest.mark.parametrize("way", ["none", "the first", "reordered", "one twice"])
@pytest.mark.parametrize("phase", ["begin", "end"])
def test_attack_42_states_dropped_or_reordered(pair: CompositeRun, phase: str, way: str) -> None:
    path, value = ("gpu", pair.begin) if phase == "begin" else ("run.gpu", pair.end)
    bundle = put(pair.bundle, f"{phase}.statement", put(value, path, WAYS[way]).encode())
    with pytest.raises((PlatformError, BindingError), match=r"^GPU( states| \d+)"):
        pair.verify(pair.attested_again(bundle))


def test_attack_42_a_gpu_that_answers_only_once(pair: CompositeRun) -> None:
    """Both chips are there at begin; at end the first answers in the place of both, with the right nonces."""
    chip = pair.gpus._chips[0]

    def collect(phase: str, ctx: bytes) -> tuple[GpuEvidence, ...]:
        if phase == "begin":
            return pair.collect(ctx)
        reports = [simulated_gpu.make_report(binding.gpu_nonce(ctx, number)) for number in range(2)]
        return tuple(
            GpuEvidence(evidence=simulated_gpu.sign_report(chip.key, report), chain=chip.chain)
            for report in reports
        )

    with pytest.raises(PlatformError, match=r"^GPUs: one is there twice"):
        pair.verify(pair.attested_again(pair.bundle, collect))


def test_attack_42_all_evidence_left_out_where_the_policy_asks_for_gpus(
    good: GoodRun, composite: CompositeRun
) -> None:
    rules = rules_of(composite)
    with pytest.raises(PlatformError, match=r"^GPUs: expected 1, got 0"):
        good.verify(policy=good.policy(rules))
    nothing = good.policy({**rules, "platform.gpu": {**rules["platform.gpu"], "count": 0}})
    assert good.verify(policy=nothing).checks


def rules_of(composite: CompositeRun) -> dict[str, Any]:
    rules = composite.policy().platform.gpu
    assert rules is not None
    return {
        "platform.gpu": {
            "count": rules.count,
            "min_driver_version": rules.min_driver_version,
            "min_vbios_version": rules.min_vbios_version,
        }
    }


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
