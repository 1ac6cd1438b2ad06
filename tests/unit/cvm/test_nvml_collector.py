"""Evidence of GPUs from the driver: reports over their own nonces, and everything a driver can get wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import fake_nvml
import pytest
from fake_nvml import Card, FakeNvml, NVMLError

from palm_torch.cvm import certificate_bytes, nvml_collector
from palm_torch.errors import AttesterError

Vectors = Callable[[str], bytes]

NONCES = (bytes(range(32)), bytes(range(1, 33)))
SAMPLE_NONCE = bytes.fromhex("931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb")
OLD_NONCE = bytes.fromhex("27a328247bf7935c993341cf587be6f05986ccce4fe7ba2c54100bd616a58f66")


def collector(*cards: Card, **changes: Any) -> nvml_collector.NvmlCollector:
    module = FakeNvml(*cards, **changes)
    return nvml_collector.NvmlCollector(load=lambda: module)


def test_each_gpu_answers_its_own_nonce() -> None:
    found = collector().collect(NONCES)
    assert [gpu.evidence for gpu in found] == [fake_nvml.report(nonce) for nonce in NONCES]
    assert {gpu.chain for gpu in found} == {b"".join(fake_nvml.CHAIN)}
    assert collector().name == "nvml"


def test_the_state_is_told_whatever_it_is() -> None:
    assert [state.uuid for state in collector().state()] == ["GPU-0", "GPU-1"]
    assert [state.cc_mode for state in collector(feature=0).state()] == ["off", "off"]
    assert collector(nvmlDeviceGetCount=0).state() == ()


@pytest.mark.parametrize("ending", [b"", b"\n", b"\0", b"\n\0\0"])
def test_a_chain_may_end_in_nothing(ending: bytes) -> None:
    pem = certificate_bytes.encode_pem(fake_nvml.CHAIN).rstrip(b"\n") + ending
    (found,) = collector(Card(chain=pem)).collect(NONCES[:1])
    assert found.chain == b"".join(fake_nvml.CHAIN)


@pytest.mark.parametrize(
    ("report", "chain", "nonce"),
    [
        ("nvtrust/hopperAttestationReport", "nvtrust/hopperCertChain", SAMPLE_NONCE),
        ("attestation-sdk/gpu/hopperAttestationReport", "attestation-sdk/gpu/hopperCertChain", OLD_NONCE),
        (
            "attestation-sdk/gpu/hopperAttestationReportExpired",
            "attestation-sdk/gpu/hopperCertChainExpired",
            SAMPLE_NONCE,
        ),
        (
            "attestation-sdk/gpu/blackwellAttestationReport",
            "attestation-sdk/gpu/blackwellCertChain",
            SAMPLE_NONCE,
        ),
    ],
)
def test_real_reports_and_chains(vectors: Vectors, report: str, chain: str, nonce: bytes) -> None:
    raw = bytes.fromhex(vectors(f"nvidia/{report}.txt").decode())
    pem = vectors(f"nvidia/{chain}.txt")
    real = Card(answer=lambda _: raw, chain=pem)
    (found,) = collector(real).collect([nonce])
    assert found.evidence == raw
    canonical = certificate_bytes.decode_pem(pem.rstrip(b"\n") + b"\n", what="chain", count=5)
    assert found.chain == b"".join(canonical)
    with pytest.raises(AttesterError, match=f"expected a report over nonce {NONCES[0].hex()}"):
        collector(real).collect(NONCES[:1])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"feature": 0}, "confidential computing is off"),
        ({"devtools": 1}, "DevTools"),
        ({"environment": 1}, "expected the production environment, got 'sim'"),
        ({"ready": 0}, "take no work yet"),
        ({"nvmlSystemGetConfComputeState": NVMLError(3)}, "confidential computing is off"),
        ({"nvmlDeviceGetCount": 0}, "the driver knows none"),
        ({"nvmlDeviceGetCount": 1}, "expected 2 GPUs, one for each nonce, got 1"),
        ({"nvmlDeviceGetCount": "many"}, "unexpected answer of the driver"),
    ],
)
def test_gpus_that_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(AttesterError) as caught:
        collector(**changes).collect(NONCES)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("nonces", "said"),
    [
        ((), "got none"),
        ((bytes(31),), "GPU 0: nonce: expected 32 bytes, got 31"),
        ((bytes(32), bytes(32)), "got one twice"),
    ],
)
def test_nonces_that_are_refused(nonces: tuple[bytes, ...], said: str) -> None:
    with pytest.raises(AttesterError, match=said):
        collector().collect(nonces)


@pytest.mark.parametrize("code", fake_nvml.ERRORS)
@pytest.mark.parametrize(
    "function",
    [
        "nvmlDeviceGetCount",
        "nvmlDeviceGetHandleByIndex",
        "nvmlDeviceGetUUID",
        "nvmlDeviceGetConfComputeGpuAttestationReport",
        "nvmlDeviceGetConfComputeGpuCertificate",
    ],
)
def test_every_error_code_of_every_call(function: str, code: int) -> None:
    with pytest.raises(AttesterError) as caught:
        collector(**{function: NVMLError(code)}).collect(NONCES)
    assert fake_nvml.ERRORS[code] in str(caught.value)


REPORT = "nvmlDeviceGetConfComputeGpuAttestationReport"
CHAIN = "nvmlDeviceGetConfComputeGpuCertificate"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({REPORT: SimpleNamespace(attestationReport=bytes(9), attestationReportSize=0)}, "got 0"),
        ({REPORT: SimpleNamespace(attestationReport=bytes(9), attestationReportSize=10)}, "got 10"),
        (
            {REPORT: SimpleNamespace(attestationReport=bytes(9000), attestationReportSize=9000)},
            "report: expected 1 to 8192 bytes, got 9000",
        ),
        ({REPORT: SimpleNamespace(attestationReport=bytes(9), attestationReportSize=9)}, "unusable evidence"),
        ({REPORT: SimpleNamespace()}, "unexpected answer of the driver"),
        ({CHAIN: SimpleNamespace(attestationCertChain=b"", attestationCertChainSize=1)}, "got 1"),
        (
            {CHAIN: SimpleNamespace(attestationCertChain=bytes(6000), attestationCertChainSize=5121)},
            "certificates: expected 1 to 5120 bytes, got 5121",
        ),
        ({CHAIN: SimpleNamespace(attestationCertChain=bytes(9), attestationCertChainSize=9)}, "got 0"),
    ],
)
def test_buffers_that_do_not_hold_what_they_should(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(AttesterError) as caught:
        collector(**changes).collect(NONCES)
    assert said in str(caught.value)


def test_a_chain_without_its_root() -> None:
    short = Card(chain=certificate_bytes.encode_pem(fake_nvml.CHAIN[:4]))
    with pytest.raises(AttesterError, match="expected 5 PEM certificates, got 4"):
        collector(short).collect(NONCES[:1])


def test_a_gpu_that_hangs() -> None:
    left = threading.Event()

    def hang(*_: object) -> None:
        left.wait()

    hanging = nvml_collector.NvmlCollector(load=lambda: FakeNvml(**{REPORT: hang}), timeout_s=0.05)
    try:
        with pytest.raises(AttesterError, match=r"did not answer in 0\.05 seconds"):
            hanging.collect(NONCES)
    finally:
        left.set()
