"""The GPUs of a session: whether they attest, what is said of them, and which devices nobody vouches for."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import gpu_world
import pytest

from palm_torch.attesting import gpus
from palm_torch.cvm import (
    binding,
    certificates,
    gpu_collector,
    gpu_names,
    simulated_gpu,
    simulated_gpu_authority,
    simulated_rim,
)
from palm_torch.errors import (
    AttesterError,
    EncodingError,
    EvidenceError,
    MissingExtraError,
    PlatformError,
    SignatureError,
    TrustAnchorError,
)
from palm_torch.evidence import GpuEndorsements, GpuEvidence, ReferenceManifest
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
    assert (found.at_begin(), found.look_again()) == (said, said)
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
    assert (found.at_begin(), found.look_again(), found.collect(CTX)) == ((), (), ())
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
        found.look_again()


def test_a_driver_that_does_not_answer_at_the_end() -> None:
    collector = Collector(gpu_world.state())
    found = gpus.SessionGpus(collector)
    found.at_begin()
    collector.failure = AttesterError("NVML: GPU is lost")
    with pytest.raises(AttesterError, match="GPU is lost"):
        found.look_again()


# Files that are given ---------------------------------------------------------------------------------


class Stand(Collector):
    """GPUs that attest, and are not known for simulated ones: they stand for NVIDIA's."""

    def __init__(self, machine: simulated_gpu.SimulatedGpus) -> None:
        super().__init__(*machine.state())
        self.machine = machine

    def collect(self, nonces: Sequence[bytes]) -> tuple[GpuEvidence, ...]:
        return self.machine.collect(nonces)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> simulated_gpu.SimulatedGpus:
    return simulated_gpu.SimulatedGpus(2, directory=tmp_path_factory.mktemp("gpus") / "keys")


@pytest.fixture
def _ours(machine: simulated_gpu.SimulatedGpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """The maker's roots stand for NVIDIA's."""
    for name, root in (
        ("NVIDIA_DEVICE_ROOT", machine.root_certificate()),
        ("NVIDIA_CORIM_ROOT", machine.rim_root_certificate()),
    ):
        anchor = certificates.TrustAnchor.from_certificate(root, name="test")
        monkeypatch.setattr(certificates, name, anchor)


def manifest(
    machine: simulated_gpu.SimulatedGpus, version: str, *, name: str | None = None, **changes: Any
) -> ReferenceManifest:
    golden = changes.pop("golden", {0: (bytes(48),)})
    xml = simulated_rim.make_rim(machine._rims, version=version, golden=golden, **changes)
    return ReferenceManifest(id=name or gpu_names.driver_rim_id("GH100", version), xml=xml)


def checked(
    machine: simulated_gpu.SimulatedGpus, given: GpuEndorsements | None, **changes: Any
) -> gpus.SessionGpus:
    """Begins a session with files that were given, up to what a verifier would say of them."""
    found = gpus.SessionGpus(Stand(machine), endorsements=given and dataclasses.replace(given, **changes))
    found.at_begin()
    found.check(found.collect(CTX), CTX)
    return found


@pytest.mark.usefixtures("_ours")
def test_files_about_the_gpus_travel(machine: simulated_gpu.SimulatedGpus) -> None:
    whole = machine.endorsements()
    lists = (simulated_gpu_authority.make_crl(machine._authority.root, datetime.now(UTC)),)
    for changes in ({}, {"crls": lists}, {"ocsp": ()}, {"rims": (), "ocsp": whole.ocsp[:2]}):
        expected = dataclasses.replace(whole, **changes)
        assert checked(machine, whole, **changes).endorsements() == expected
    assert checked(machine, None).endorsements() is None


@pytest.mark.usefixtures("_ours")
def test_files_that_a_verifier_would_refuse_are_refused_at_begin(
    machine: simulated_gpu.SimulatedGpus,
) -> None:
    whole = machine.endorsements()
    driver, vbios = whole.rims
    stranger = manifest(machine, "560.35.03")
    board = dataclasses.replace(vbios, id="NV_GPU_VBIOS_1010_0200_882_96009F0001")
    wrong = manifest(machine, gpu_world.VBIOS, name=vbios.id)
    revoked = simulated_gpu_authority.make_crl(
        machine._authority.root, datetime.now(UTC), [machine._authority.family.certificate]
    )
    for changes, error, message in (
        ({"rims": (driver, vbios, stranger)}, EvidenceError, r"rims\[2\] is about no GPU"),
        (
            {"rims": (driver,), "ocsp": ()},
            PlatformError,
            f"GPU 0: .* one manifest for vbios .* {vbios.id}, got 0",
        ),
        ({"rims": (driver, board)}, PlatformError, f"{vbios.id}, got 0; at hand: .* name {board.id}"),
        ({"rims": (driver, wrong)}, PlatformError, "GPU measurement 0: expected "),
        (
            {"rims": (dataclasses.replace(driver, id=vbios.id), vbios)},
            PlatformError,
            "RIM 0: kept under the name",
        ),
        ({"rims": (dataclasses.replace(driver, xml=b"x"), vbios)}, EvidenceError, "RIM 0: "),
        ({"rims": ()}, EvidenceError, r"ocsp\[2\] is about no GPU"),
        ({"ocsp": (b"x",)}, EncodingError, "OCSP"),
        ({"crls": (revoked,)}, SignatureError, "revoked"),
    ):
        with pytest.raises(error, match=f"^evidence of GPUs, with the files that .*: .*{message}"):
            checked(machine, whole, **changes)


def test_manifests_of_others_are_refused_at_begin(machine: simulated_gpu.SimulatedGpus) -> None:
    with pytest.raises(TrustAnchorError, match="RIM 0"):  # NVIDIA's own roots count
        checked(machine, machine.endorsements())
    with pytest.raises(TrustAnchorError, match="GPU 0: GPU certificate chain"):
        checked(machine, machine.endorsements(), rims=())


def test_files_for_nothing_are_refused_at_once(machine: simulated_gpu.SimulatedGpus) -> None:
    given = machine.endorsements()
    for changes in ({}, {"rims": ()}, {"ocsp": ()}):
        one = dataclasses.replace(given, **changes)
        found = gpus.SessionGpus(None, endorsements=one)
        with pytest.raises(
            AttesterError, match="there will be no evidence of GPUs: this machine shows no driver"
        ):
            found.at_begin()
        found = gpus.SessionGpus(machine, endorsements=one)
        with pytest.raises(AttesterError, match="simulated GPUs bring their own: give none"):
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
