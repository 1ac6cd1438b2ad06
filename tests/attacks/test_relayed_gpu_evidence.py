"""Attack 41: evidence of a genuine GPU, from another run, phase or place, is laid beside a CPU's quotes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import composite_run
import pytest
from workshop import put, report_data

from palm_torch.cvm import simulated_gpu
from palm_torch.errors import BindingError, PlatformError, TrustAnchorError
from palm_torch.evidence import GpuEvidence
from palm_torch.sessions import seals
from palm_torch.statement import Device

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from composite_run import CompositeRun
    from workshop import GoodRun

    from palm_torch.evidence import Bundle

RELAYED = GpuEvidence(evidence=b"a genuine report of somebody's H100", chain=b"NVIDIA's own certificates")
CUDA = Device(type="cuda", name="NVIDIA H100", uuid="GPU-1")
OTHER_NONCE = "it answers another nonce"


@pytest.mark.parametrize("phase", ["begin", "end"])
def test_attack_41_evidence_that_no_quote_seals(composite: CompositeRun, good: GoodRun, phase: str) -> None:
    relayed = getattr(composite.bundle, phase).gpus
    with pytest.raises(BindingError, match=f"^{phase} quote: report data seals other claims"):
        good.verify(put(good.bundle, f"{phase}.gpus", relayed))
    again = composite.collect(seals.begin_context(composite.bundle.opening))  # well signed, over its nonces
    with pytest.raises(BindingError, match=f"^{phase} quote: report data seals other claims"):
        composite.verify(put(composite.bundle, f"{phase}.gpus", again))


@pytest.mark.parametrize("phase", ["begin", "end"])
def test_attack_41_evidence_of_another_run(composite: CompositeRun, tmp_path: Path, phase: str) -> None:
    other = composite_run.make_composite_run(tmp_path, gpus=composite.gpus)  # the same GPU, a moment later
    relayed = getattr(other.bundle, phase).gpus
    bundle = composite.attested_again(
        composite.bundle, lambda at, ctx: relayed if at == phase else composite.collect(ctx)
    )
    with pytest.raises(BindingError, match=f"^GPU 0: GPU report: {OTHER_NONCE}"):
        composite.verify(bundle)


def test_attack_41_evidence_of_the_other_phase(composite: CompositeRun) -> None:
    at_begin = composite.bundle.begin.gpus
    kept = composite.attested_again(composite.bundle, lambda *_: at_begin, phases=("end",))
    with pytest.raises(BindingError, match=f"^GPU 0: GPU report: {OTHER_NONCE}"):
        composite.verify(kept)


def changed_claim(run: CompositeRun) -> Bundle:
    return run.with_end(put(run.end, "claims.steps.taken", 3).encode())


def changed_log(run: CompositeRun) -> Bundle:
    return put(run.bundle, "log", lambda log: log[:-1])


def another_begin_quote(run: CompositeRun) -> Bundle:
    return run.resealed(run.bundle, phases=("begin",))


@pytest.mark.parametrize("change", [changed_claim, changed_log, another_begin_quote])
def test_attack_41_evidence_from_before_the_claims(
    composite: CompositeRun, change: Callable[[CompositeRun], Bundle]
) -> None:
    bundle = composite.resealed(change(composite), phases=("end",))  # the quote is new, the report is not
    with pytest.raises(BindingError, match=f"^GPU 0: GPU report: {OTHER_NONCE}"):
        composite.verify(bundle)


def test_attack_41_answer_to_another_challenge(composite: CompositeRun) -> None:
    other = put(composite.bundle, "challenge.nonce", bytes(range(32)))
    answered = composite.collect(seals.end_context(other))
    bundle = composite.attested_again(composite.bundle, lambda *_: answered, phases=("end",))
    with pytest.raises(BindingError, match=f"^GPU 0: GPU report: {OTHER_NONCE}"):
        composite.verify(bundle)


def test_attack_41_a_gpu_that_was_swapped_in_between(pair: CompositeRun) -> None:
    """A machine of one GPU shows another chip at the end, with everything else as it was."""
    first = {"platform.gpu.count": 1}
    begin = put(pair.begin, "gpu", lambda states: states[:1]).encode()
    end = put(pair.end, "run.gpu", lambda states: states[:1]).encode()
    bundle = put(put(pair.bundle, "begin.statement", begin), "end.statement", end)
    chips = pair.gpus._chips

    def collect(phase: str, ctx: bytes) -> list[GpuEvidence]:
        chip = chips[0] if phase == "begin" else chips[1]
        nonce = simulated_gpu.make_report(composite_run.binding.gpu_nonce(ctx, 0))
        return [GpuEvidence(evidence=simulated_gpu.sign_report(chip.key, nonce), chain=chip.chain)]

    with pytest.raises(BindingError, match=r"^GPUs at end: expected those at begin"):
        pair.verify(pair.attested_again(bundle, collect), policy=pair.policy(first))


def test_attack_41_gpus_of_another_maker(composite: CompositeRun, tmp_path: Path) -> None:
    theirs = dataclasses.replace(composite, gpus=composite_run.machine_gpus(tmp_path / "gpus"))
    with pytest.raises(TrustAnchorError, match=r"^GPU 0: GPU certificate chain"):
        composite.verify(theirs.attested_again(composite.bundle))


def test_gpu_evidence_where_the_policy_accepts_none(good: GoodRun, composite: CompositeRun) -> None:
    for phase in ("begin", "end"):
        with pytest.raises(PlatformError, match=r"of which the policy accepts none: no platform\.gpu"):
            good.verify(good.resealed(put(good.bundle, f"{phase}.gpus", (RELAYED,))))
    roots = dict.fromkeys(("platform.simulated_gpu_root", "platform.simulated_rim_root"))
    with pytest.raises(PlatformError, match=r"of which the policy accepts none: no platform\.gpu"):
        composite.verify(policy=composite.policy({"platform.gpu": None, **roots}))


def test_gpu_evidence_is_part_of_what_the_quote_seals(good: GoodRun) -> None:
    relayed = put(good.bundle, "end.gpus", (RELAYED,))
    assert report_data(relayed, "end") != report_data(good.bundle, "end")


def test_a_gpu_without_evidence_is_refused_whatever_the_policy_says(
    good: GoodRun, composite: CompositeRun
) -> None:
    for run in (good, composite):
        bundle = run.sealed_end("run.devices", (CUDA,))
        if run is composite:
            bundle = composite.attested_again(bundle, phases=("end",))
        with pytest.raises(PlatformError, match="no GPU evidence vouches for it"):
            run.verify(bundle, policy=run.policy({"code": {"unreviewed": True}}))


def test_hiding_the_gpu_breaks_the_seal(good: GoodRun) -> None:
    honest = good.sealed_end("run.devices", (CUDA,))
    with pytest.raises(BindingError):
        good.verify(put(honest, "end.statement", good.bundle.end.statement))


def test_the_good_composite_is_accepted(composite: CompositeRun, pair: CompositeRun) -> None:
    for run in (composite, pair):
        assert run.verify().co_location == "unproven"
        assert run.verify(run.attested_again(run.bundle)).simulated
