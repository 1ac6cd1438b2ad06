"""Real GPU reports and chains, whole or with one bit flipped at a time: which flips are accepted, if any.

The tests try some, ``benchmarks/bitflips_gpu.py`` tries every one.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from palm_torch.cvm import certificate_bytes, certificates, gpu, gpu_certificate
from palm_torch.errors import PalmTorchError

Vectors = Callable[[str], bytes]

NOW = datetime(2026, 11, 21, tzinfo=UTC)
SDK = "nvidia/attestation-sdk"
HEX = {
    "550": ("nvidia/nvtrust/hopperAttestationReport.txt", "nvidia/nvtrust/hopperCertChain.txt"),
    "535": (f"{SDK}/gpu/hopperAttestationReport.txt", f"{SDK}/gpu/hopperCertChain.txt"),
    "570": (f"{SDK}/gpu/hopperAttestationReportExpired.txt", f"{SDK}/gpu/hopperCertChainExpired.txt"),
    "560": (
        f"{SDK}/gpu/hopperAttestationReportInvalidSignature.txt",
        f"{SDK}/gpu/hopperCertChainExpired.txt",
    ),
    "blackwell": (f"{SDK}/gpu/blackwellAttestationReport.txt", f"{SDK}/gpu/blackwellCertChain.txt"),
}
"""Name (mostly the driver's version) → report in hexadecimal, chain in PEM."""

JSON = {"590": f"{SDK}/hopper_evidence.json", "switch": f"{SDK}/switch_evidence_ls10.json"}
"""Name → evidence as NVIDIA's tools serialise it."""

HOPPER = ("550", "535", "570", "590")
"""Those of GPUs of this generation that verify."""

NAMES = (*HEX, *JSON)


@dataclass(frozen=True)
class Sample:
    """One GPU's evidence."""

    evidence: bytes
    chain: bytes

    @property
    def nonce(self) -> bytes:
        return self.evidence[4:36]

    @property
    def certificates(self) -> list[bytes]:
        """Returns the chain in pieces."""
        return list(gpu_certificate.split_chain(self.chain))


def real(vectors: Vectors, name: str) -> Sample:
    """Returns one of the real pieces of evidence."""
    if name in HEX:
        report, chain = HEX[name]
        return Sample(bytes.fromhex(vectors(report).decode("ascii").strip()), _der(vectors(chain)))
    (found,) = json.loads(vectors(JSON[name]))
    raw, pem = (base64.b64decode(found[key]) for key in ("evidence", "certificate"))
    return Sample(raw, _der(pem))


def verify(sample: Sample, **options: Any) -> gpu.VerifiedGpu:
    """Verifies evidence under NVIDIA's root, its nonce taken from itself unless another is given."""
    given = {
        "nonce": sample.nonce,
        "anchors": [certificates.NVIDIA_DEVICE_ROOT],
        "now": NOW,
        "refused_nonces": frozenset(),
    }
    return gpu.verify_gpu(sample.evidence, sample.chain, **{**given, **options})


def flip(sample: Sample, part: str, bit: int) -> str | None:
    """Flips one bit of the "evidence" or the "chain"; returns the class of our error, None if accepted.

    An error that is not ours passes through.
    """
    data = bytearray(getattr(sample, part))
    data[bit // 8] ^= 1 << bit % 8
    flipped = Sample(**{"evidence": sample.evidence, "chain": sample.chain, part: bytes(data)})
    try:
        verify(flipped, nonce=sample.nonce)
    except PalmTorchError as error:
        return type(error).__name__
    return None


def _der(pem: bytes) -> bytes:
    return b"".join(certificate_bytes.decode_pem(pem.rstrip(b"\n") + b"\n", what="chain", count=5))
