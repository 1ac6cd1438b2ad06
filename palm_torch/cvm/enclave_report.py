"""Report of an SGX enclave, 384 bytes: what a quoting enclave says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from palm_torch.errors import EvidenceError

REPORT_BYTES: Final = 384
DEBUG_MASK: Final = 0x02
"""Bit of the first attribute byte: the enclave can be read by a debugger."""


@dataclass(frozen=True, slots=True)
class EnclaveReport:
    """The fields that an appraisal looks at, raw bytes unless they are numbers.

    Attributes:
        misc_select: Selected features, 4 bytes.
        attributes: Attributes of the enclave, 16 bytes.
        mr_enclave: Measurement of its code, 32 bytes.
        mr_signer: Its signer, 32 bytes.
        isv_prod_id: The signer's number for the product.
        isv_svn: The product's security version.
        report_data: 64 bytes the enclave chose.
    """

    misc_select: bytes
    attributes: bytes
    mr_enclave: bytes
    mr_signer: bytes
    isv_prod_id: int
    isv_svn: int
    report_data: bytes

    @property
    def debug(self) -> bool:
        """Whether a debugger can read the enclave."""
        return bool(self.attributes[0] & DEBUG_MASK)


def parse(raw: bytes) -> EnclaveReport:
    """Parses a report.

    Raises:
        EvidenceError: If it has another length.

    Source: Intel SGX Programming Reference, "Report structure".
    """
    if len(raw) != REPORT_BYTES:
        raise EvidenceError(f"enclave report: expected {REPORT_BYTES} bytes, got {len(raw)}")
    return EnclaveReport(
        misc_select=raw[16:20],
        attributes=raw[48:64],
        mr_enclave=raw[64:96],
        mr_signer=raw[128:160],
        isv_prod_id=int.from_bytes(raw[256:258], "little"),
        isv_svn=int.from_bytes(raw[258:260], "little"),
        report_data=raw[320:],
    )
