"""Attributes of a trust domain: which bits must be set, which may be, and which no policy can allow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from palm_torch.errors import PlatformError

if TYPE_CHECKING:
    from palm_torch.cvm.quote import TdReport

DEBUG_BIT: Final = 0
"""TD attribute: the host can read and write the domain."""

SEPT_VE_DISABLE_BIT: Final = 28
"""TD attribute that must be set: the host cannot inject exceptions by taking pages away."""

OPTIONAL_BITS: Final = frozenset({16, 18, 19, 20, 21, 22, 27, 30, 31, 62, 63})
"""TD attributes that a policy may allow; debugging, profiling, migration, service TDs and reserved bits
can never be allowed."""

_BITS: Final = 64


def set_bits(report: TdReport) -> tuple[int, ...]:
    """Returns the numbers of the bits that are set, least first."""
    attributes = int.from_bytes(report.td_attributes, "little")
    return tuple(bit for bit in range(_BITS) if attributes >> bit & 1)


def check(report: TdReport) -> None:
    """Checks what no policy can waive: no debugging, exceptions off, nothing reserved, no service TD.

    Raises:
        PlatformError: If one of these does not hold.

    Source: Intel TDX Module ABI specification, "ATTRIBUTES"; Intel TDX DCAP Quote Verification Library.
    """
    bits = set_bits(report)
    if DEBUG_BIT in bits:
        raise PlatformError(f"TD attributes: debug mode is on ({report.td_attributes.hex()})")
    refused = [bit for bit in bits if bit != SEPT_VE_DISABLE_BIT and bit not in OPTIONAL_BITS]
    if refused:
        raise PlatformError(
            f"TD attributes: bit {refused[0]} can never be allowed ({report.td_attributes.hex()})"
        )
    if SEPT_VE_DISABLE_BIT not in bits:
        raise PlatformError(f"TD attributes: SEPT_VE_DISABLE is off ({report.td_attributes.hex()})")
    if report.mr_service_td is not None and any(report.mr_service_td):
        raise PlatformError(f"mr_service_td: expected no service TD, got {report.mr_service_td.hex()}")
