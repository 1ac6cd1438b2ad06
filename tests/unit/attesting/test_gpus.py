"""The GPUs of a session: whether they attest, what is said of them, and which devices nobody vouches for."""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import gpu_world
import pytest

from palm_torch.attesting import gpus
from palm_torch.cvm import binding, certificates, gpu_collector, simulated_gpu, simulated_rim
from palm_torch.errors import AttesterError, EvidenceError, MissingExtraError, TrustAnchorError
from palm_torch.evidence import GpuEndorsements, GpuEvidence
from palm_torch.statement import Device

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palm_torch.cvm.gpu_state import GpuState

CTX = bytes(range(32))
H100 = Device(type="cuda", name="NVIDIA H100", uuid="GPU-0")


class Collector:
    """A way to GPUs that say what a test wants, or fail."""

    name = "test"

    def __init__(self, *states: GpuState, failure: Exception | None = None) -> None:
        self.states, self.failure = states, failure
        self.asked: list[bytes] = []

    def state(self) -> tuple[GpuState, ...]:
        if self.failure is not None:
            raise self.failure
        return self.states

    def collect(self, nonces: Sequence[bytes]) -> tuple[GpuEvidence, ...]:
        self.asked += nonces
        return tuple(GpuEvidence(evidence=nonce, chain=b"") for nonce in nonces)


def test_gpus_that_compute_confidentially_attest_over_nonces_of_their_own() -> None:
    states = (gpu_world.state(), gpu_world.state(uuid="GPU-1"))
    collector = Collector(*states)
    found = gpus.SessionGpus(collector)
    assert found.collect(CTX) == ()  # nothing has been looked at yet
    said = tuple(state.to_json() for state in states)
    assert (found.at_begin(), found.at_end()) == (said, said)
    nonces = [binding.gpu_nonce(CTX, index) for index in range(2)]
    assert [item.evidence for item in found.collect(CTX)] == nonces
    assert collector.asked == nonces
    assert (found.simulated, found.simulated_root(), found.endorsements()) == (False, None, None)
    assert found.why_unattested(H100) is None
    assert found.why_unattested(Device(type="cpu", name=None, uuid=None)) is None
    assert found.why_unattested(Device("cuda", "A100", "GPU-2")) == (
        "A100 GPU-2 is none of the GPUs that attest: GPU-0, GPU-1"
    )


@pytest.mark.parametrize(
    ("collector", "why"),
    [
        (None, "this machine shows no driver of NVIDIA's (/dev/nvidiactl)"),
        (Collector(), "the driver knows none"),
        (
            Collector(gpu_world.state(cc_mode="off")),
            "GPU 0 (Simulated GPU, GPU-0): confidential computing is off",
        ),
        (Collector(gpu_world.state(devtools=True)), "with DevTools"),
        (Collector(gpu_world.state(), gpu_world.state(ready=False)), "GPU 1 (Simulated GPU, GPU-0): "),
        (Collector(failure=AttesterError("NVML: Driver Not Loaded")), "NVML: Driver Not Loaded"),
        (Collector(failure=MissingExtraError("pip install 'palm-torch[nvidia]'")), "pip install"),
    ],
)
def test_others_leave_the_reason(collector: Any, why: str) -> None:
    found = gpus.SessionGpus(collector)
    assert (found.at_begin(), found.at_end(), found.collect(CTX)) == ((), (), ())
    assert why in (found.why_unattested(H100) or "")
    assert found.endorsements() is None


def test_only_gpus_of_nvidia_attest() -> None:
    found = gpus.SessionGpus(Collector(gpu_world.state()))
    found.at_begin()
    assert found.why_unattested(Device("xpu", None, "GPU-0")) == (
        "devices of type 'xpu' do not attest, only GPUs of NVIDIA do"
    )


@pytest.mark.parametrize("change", [{"cc_mode": "off"}, {"uuid": "GPU-1"}, {"driver": "550.90.08"}])
def test_gpus_that_are_others_at_the_end(change: dict[str, Any]) -> None:
    collector = Collector(gpu_world.state())
    found = gpus.SessionGpus(collector)
    found.at_begin()
    collector.states = (gpu_world.state(**change),)
    with pytest.raises(AttesterError, match="said something else of them when the run began"):
        found.at_end()


def test_a_driver_that_does_not_answer_at_the_end() -> None:
    collector = Collector(gpu_world.state())
    found = gpus.SessionGpus(collector)
    found.at_begin()
    collector.failure = AttesterError("NVML: GPU is lost")
    with pytest.raises(AttesterError, match="GPU is lost"):
        found.at_end()


# Manifests that are given -----------------------------------------------------------------------------


@functools.cache
def signer() -> simulated_rim.RimAuthority:
    return simulated_rim.make_authority(datetime.now(UTC))


def manifest(version: str, **changes: Any) -> bytes:
    return simulated_rim.make_rim(signer(), version=version, golden={0: (bytes(48),)}, **changes)


def given(*manifests: bytes) -> GpuEndorsements:
    return GpuEndorsements(rims=manifests, ocsp=(), crls=())


@pytest.fixture
def _ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The signer stands for NVIDIA's."""
    root = certificates.TrustAnchor.from_certificate(signer().root.der, name="test")
    monkeypatch.setattr(certificates, "NVIDIA_CORIM_ROOT", root)


@pytest.mark.usefixtures("_ours")
def test_manifests_of_what_the_gpus_run_travel() -> None:
    both = given(manifest(gpu_world.DRIVER), manifest(gpu_world.VBIOS))
    found = gpus.SessionGpus(Collector(gpu_world.state()), endorsements=both)
    found.at_begin()
    assert found.endorsements() == both


@pytest.mark.usefixtures("_ours")
@pytest.mark.parametrize("version", ["550.90.08", "96.00.9F.00.02"])
def test_manifests_of_something_else_are_refused_at_once(version: str) -> None:
    found = gpus.SessionGpus(Collector(gpu_world.state()), endorsements=given(manifest(version)))
    with pytest.raises(
        AttesterError,
        match=rf"rims\[0\]: .* {version}, which no GPU here runs: expected driver 550\.90\.07 or vbios",
    ):
        found.at_begin()


@pytest.mark.usefixtures("_ours")
def test_half_of_what_a_gpu_needs_is_refused_at_once() -> None:
    driver, vbios = manifest(gpu_world.DRIVER), manifest(gpu_world.VBIOS)
    other = manifest(gpu_world.VBIOS, product="GB100")
    for manifests, message in (
        ((driver,), rf"rims: none is of vbios {gpu_world.VBIOS}, which GPU 0 \(.*\) runs: give that one"),
        ((vbios,), f"rims: none is of driver {gpu_world.DRIVER}, which GPU 0"),
        ((driver, vbios, driver + b"\n"), "rims: two are of driver .* for one chip: give one"),
        ((driver, other), "driver 550.90.07 is for GH100, that of vbios .* for GB100: GPU 0"),
    ):
        found = gpus.SessionGpus(Collector(gpu_world.state()), endorsements=given(*manifests))
        with pytest.raises(AttesterError, match=message):
            found.at_begin()
    newer = gpu_world.state(vbios="96.00.9F.00.09", uuid="GPU-2")
    found = gpus.SessionGpus(Collector(gpu_world.state(), newer), endorsements=given(driver, vbios))
    with pytest.raises(AttesterError, match=r"rims: none is of vbios 96\.00\.9F\.00\.09, which GPU 1"):
        found.at_begin()
    three = given(driver, vbios, other)
    gpus.SessionGpus(Collector(gpu_world.state()), endorsements=three).at_begin()
    status = GpuEndorsements(rims=(), ocsp=(b"answer",), crls=())
    gpus.SessionGpus(Collector(gpu_world.state()), endorsements=status).at_begin()


def test_manifests_of_others_are_refused_at_once() -> None:
    found = gpus.SessionGpus(Collector(gpu_world.state()), endorsements=given(manifest(gpu_world.DRIVER)))
    with pytest.raises(TrustAnchorError, match=r"rims\[0\]"):
        found.at_begin()
    found = gpus.SessionGpus(Collector(gpu_world.state()), endorsements=given(b"x"))
    with pytest.raises(EvidenceError, match=r"rims\[0\]"):
        found.at_begin()


def test_manifests_for_nothing_are_refused_at_once() -> None:
    found = gpus.SessionGpus(None, endorsements=given(b"x"))
    with pytest.raises(
        AttesterError, match="there will be no evidence of GPUs: this machine shows no driver"
    ):
        found.at_begin()
    found = gpus.SessionGpus(simulated_gpu.SimulatedGpus(), endorsements=given(b"x"))
    with pytest.raises(AttesterError, match="simulated GPUs bring manifests of their own"):
        found.at_begin()


# Which GPUs ------------------------------------------------------------------------------------------


def test_simulated_gpus_bring_everything() -> None:
    machine = gpus.collector_for("simulated-gpu")
    assert isinstance(machine, simulated_gpu.SimulatedGpus)
    found = gpus.SessionGpus(machine)
    assert found.endorsements() is None  # before the session has begun
    assert [state["name"] for state in found.at_begin()] == ["Simulated GPU"]
    endorsements = found.endorsements()
    assert endorsements is not None
    assert (len(endorsements.rims), len(endorsements.ocsp), endorsements.crls) == (2, 5, ())
    root = found.simulated_root()
    assert root is not None
    assert (found.simulated, root.simulated) == (True, True)


def test_other_attesters_have_those_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_collector, "select", lambda kind: f"the machine's: {kind}")
    for attester in ("auto", "simulated", "tdx"):
        assert gpus.collector_for(attester) == "the machine's: auto"  # type: ignore[comparison-overlap]
        assert gpus.collector_for(attester, "nvml") == "the machine's: nvml"  # type: ignore[comparison-overlap]


def test_collectors_that_are_asked_for_by_name() -> None:
    found = gpus.collector_for("simulated", "nvml")
    assert found is not None
    assert found.name == "nvml"
    with pytest.raises(AttesterError, match="expected one of auto, nvml, nvattest, nv-sdk, got 'nvidia-smi'"):
        gpus.collector_for("auto", "nvidia-smi")
    with pytest.raises(AttesterError, match="'nvml' asks GPUs of this machine, and attester 'simulated-gpu'"):
        gpus.collector_for("simulated-gpu", "nvml")
