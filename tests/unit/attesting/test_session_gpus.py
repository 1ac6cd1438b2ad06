"""Sessions on machines with GPUs: sealed with both quotes, resumed, or refused before anything moves."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import gpu_world
import loops
import pytest
import resumable
import torch
from loops import Net, opened, train

from palm_torch import evidence, statement
from palm_torch.appraisal import policy_template, verifier
from palm_torch.attesting import training
from palm_torch.attesting.attested import attested
from palm_torch.attesting.gpus import SessionGpus
from palm_torch.attesting.session import Session
from palm_torch.cvm import gpu_collector, simulated, simulated_gpu
from palm_torch.data.loader import DataLoader
from palm_torch.errors import (
    AttesterError,
    CoverageError,
    EncodingError,
    EvidenceError,
    PlatformError,
    SealError,
    TrustAnchorError,
)
from palm_torch.hooks import environment
from palm_torch.policies import policy
from palm_torch.statement import Device

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module", autouse=True)
def _fresh_process() -> Iterator[None]:
    with loops.fresh_process():
        yield


def step(data: Path) -> None:
    net = Net()
    train(net, torch.optim.SGD(net.parameters(), lr=0.1), DataLoader(opened(data), batch_size=8))


def verify(run: Session) -> Any:
    """Verifies a run under the policy that starts from it."""
    data, gpus = run.evidence.bundle.encode(), simulated_gpu.SimulatedGpus()
    text = policy_template.starting_policy(
        data,
        simulated_root=simulated.SimulatedTdx().root_certificate(),
        simulated_gpu_root=gpus.root_certificate(),
        simulated_rim_root=gpus.rim_root_certificate(),
    )
    return verifier.verify(
        data, policy=policy.parse(text.encode()), at=datetime.now(UTC), freshness_rule="not_checked"
    )


class Failing(simulated_gpu.SimulatedGpus):
    """A GPU that does not answer when it is told so."""

    fails = False

    def collect(self, nonces: Any) -> Any:
        if self.fails:
            raise AttesterError("GPU 0: it does not answer")
        return super().collect(nonces)


def test_both_quotes_seal_what_the_gpu_answered(data: Path, tmp_path: Path) -> None:
    with attested("train", attester="simulated-gpu") as run:
        step(data)
    assert run.evidence.save(tmp_path / "x.palm.json").name == "x.simulated.palm.json"
    bundle = run.evidence.bundle
    assert (len(bundle.begin.gpus), len(bundle.end.gpus)) == (1, 1)
    assert bundle.begin.gpus[0].evidence != bundle.end.gpus[0].evidence
    begin = statement.decode_begin(bundle.begin.statement)
    end = statement.decode(bundle.end.statement)
    assert (
        begin.gpu == end.run.gpu == tuple(state.to_json() for state in simulated_gpu.SimulatedGpus().state())
    )
    assert {"GPUs", "reference manifests"} <= {check.name for check in verify(run).checks}


def test_a_run_is_resumed_with_its_gpus_only(data: Path) -> None:
    file = resumable.saved(data, attester="simulated-gpu")
    run = resumable.finished(data, file, attester="simulated-gpu")
    assert {"GPUs", "reference manifests"} <= {check.name for check in verify(run).checks}
    with pytest.raises(PlatformError, match="evidence of GPUs, of which"):
        resumable.finished(data, file, attester="simulated")


def test_a_run_is_not_resumed_where_other_gpus_attest(data: Path, tmp_path: Path) -> None:
    before = resumable.opened(resumable.saved(data, attester="simulated-gpu"))
    others = simulated_gpu.SimulatedGpus(directory=tmp_path / "other maker")
    session = Session("train", simulated.SimulatedTdx(), gpus=SessionGpus(others), resume=before["palm"])
    with (
        pytest.raises(TrustAnchorError, match=r"^segment 1: GPU 0: .*is not a configured trust anchor"),
        session,
    ):
        pass


def test_gpus_that_fail_at_the_end_can_be_asked_again(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    gpus = Failing()
    run = Session("train", simulated.SimulatedTdx(), gpus=SessionGpus(gpus))

    def loop() -> None:
        with run:
            step(data)
            gpus.fails = True

    with pytest.raises(SealError, match=r"GPU 0: it does not answer; run\.seal\(\) tries again"):
        loop()
    gpus.fails = False
    run.seal()
    assert verify(run).checks


def test_gpus_that_fail_at_begin_begin_nothing() -> None:
    gpus = Failing()
    gpus.fails = True
    run = Session("train", simulated.SimulatedTdx(), gpus=SessionGpus(gpus))
    with pytest.raises(AttesterError, match="it does not answer"), run:
        pass
    assert run.state == "new"


def test_simulated_gpus_make_the_evidence_simulated() -> None:
    class Real(simulated.SimulatedTdx):
        simulated = False  # type: ignore[misc]

    assert Session("train", Real(), gpus=SessionGpus(simulated_gpu.SimulatedGpus()))._sealer.simulated
    assert not Session("train", Real())._sealer.simulated


# Where tensors are stepped ----------------------------------------------------------------------------


@pytest.fixture
def _cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors of type "meta" stand for those on a GPU."""

    def device_of(place: torch.device) -> Device:
        return Device("cuda", "NVIDIA H100", "GPU-0") if place.type == "meta" else Device("cpu", None, None)

    monkeypatch.setattr(environment, "_device", device_of)


def stepped(gpus: SessionGpus) -> None:
    gpus.at_begin()
    measured = training.Training(lambda *_: None, counts_data=False, why_unattested=gpus.why_unattested)
    net = Net().to("meta")
    measured._before_first_step(torch.optim.SGD(net.parameters(), lr=0.1), tuple(net.parameters()))


class Stand:
    """A collector of GPUs in a given state."""

    name = "stand-in"

    def __init__(self, **state: Any) -> None:
        self._state = gpu_world.state(**state)

    def state(self) -> Any:
        return (self._state,)

    def collect(self, nonces: Any) -> Any:
        raise NotImplementedError


@pytest.mark.usefixtures("_cuda")
@pytest.mark.parametrize(
    ("collector", "why"),
    [
        (None, "this machine shows no driver of NVIDIA's"),
        (Stand(cc_mode="off"), "confidential computing is off, so it cannot attest"),
        (Stand(uuid="GPU-1"), "NVIDIA H100 GPU-0 is none of the GPUs that attest: GPU-1"),
    ],
)
def test_stepping_on_a_gpu_that_does_not_attest_is_refused(collector: Any, why: str) -> None:
    with pytest.raises(
        CoverageError, match=f"SGD steps tensors on 'cuda', of which there is no evidence.*{why}"
    ):
        stepped(SessionGpus(collector))


@pytest.mark.usefixtures("_cuda")
def test_stepping_on_a_gpu_that_attests_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    reached: list[str] = []

    def introduce(*_: Any) -> tuple[()]:
        reached.append("introduced")
        return ()

    monkeypatch.setattr("palm_torch.attesting.training_model.TrainedModel.introduce", introduce)
    stepped(SessionGpus(Stand()))
    assert reached == ["introduced"]


def test_torch_and_the_driver_spell_a_gpu_in_two_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    for uuid in ("28dac09f-1c6d-7e2c-5c5f-d2f5cdc77e81", "GPU-28dac09f-1c6d-7e2c-5c5f-d2f5cdc77e81"):

        def properties(_: Any, uuid: str = uuid) -> Any:
            return type("Properties", (), {"name": "NVIDIA H100", "uuid": uuid})

        monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
        found = environment._device(torch.device("cuda", 0))
        assert found == Device("cuda", "NVIDIA H100", "GPU-28dac09f-1c6d-7e2c-5c5f-d2f5cdc77e81")


# What a script can say ------------------------------------------------------------------------------


def test_manifests_are_read_before_the_session(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="the reference manifest"):
        attested("train", rims=[tmp_path / f"{simulated_gpu.VBIOS_RIM_ID}.swidtag"])
    path = tmp_path / "x.swidtag"
    path.write_bytes(b"x")
    with pytest.raises(
        EvidenceError, match=r"call the file so, or give NAME=FILE, such as NV_GPU_.*=x.swidtag"
    ):
        attested("train", rims=[path])
    run = attested("train", attester="simulated-gpu", rims=[f"{simulated_gpu.VBIOS_RIM_ID}={path}"])
    assert isinstance(run, Session)
    with pytest.raises(AttesterError, match="simulated GPUs bring their own"), run:
        pass
    run = attested("train", attester="simulated", ocsp=[path], gpu_crls=[path])
    with pytest.raises(AttesterError, match="there will be no evidence of GPUs"), run:
        pass
    with pytest.raises(EvidenceError, match="at most 16"):
        attested("train", rims=[f"{simulated_gpu.VBIOS_RIM_ID}={path}"] * 17)


def test_files_that_are_not_about_the_gpus_end_the_session_where_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = Stand()
    monkeypatch.setattr(stand, "collect", lambda _: (evidence.GpuEvidence(evidence=b"", chain=b""),))
    monkeypatch.setattr(gpu_collector, "select", lambda _: stand)
    (tmp_path / "answer.der").write_bytes(b"x")
    run = attested("train", attester="simulated", ocsp=[tmp_path / "answer.der"])
    with (
        pytest.raises(EncodingError, match=r"^evidence of GPUs, with the files that .*: OCSP"),
        run,
    ):
        pytest.fail("a session began")


def test_the_machines_own_gpus_are_taken(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def select(kind: str) -> simulated_gpu.SimulatedGpus:
        asked.append(kind)
        return simulated_gpu.SimulatedGpus()

    monkeypatch.setattr(gpu_collector, "select", select)
    with attested("train", attester="simulated", gpu_collector="nv-sdk") as run:
        step(data)
    assert isinstance(run.evidence, evidence.Evidence)
    assert len(run.evidence.bundle.end.gpus) == 1
    assert asked == ["nv-sdk"]
