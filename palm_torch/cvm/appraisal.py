"""The platform part of a policy for TDX: which trust domain, in which state, on which platform.

Unset means reject: rules that name no MRTD or no RTMR0 to RTMR2 accept nothing, because any code could
then have asked for the quote.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from palm_torch.cvm import pck, quote
from palm_torch.encoding import decode_hex
from palm_torch.errors import BindingError, EncodingError, PlatformError, PolicyError

if TYPE_CHECKING:
    from palm_torch.cvm.tdx import VerifiedQuote

TCB_STATUSES: Final = (
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
)
"""Every status a policy may accept, best first; "Revoked" is never accepted."""

SEPT_VE_DISABLE_BIT: Final = 28
"""TD attribute that must be set: the host cannot inject exceptions by taking pages away."""

OPTIONAL_ATTRIBUTE_BITS: Final = frozenset({16, 18, 19, 20, 21, 22, 27, 30, 31, 62, 63})
"""TD attributes that a policy may allow; debugging, profiling, migration, service TDs and reserved bits
can never be allowed."""

IMAGE_REGISTERS: Final = ("mr_td", "rtmr0", "rtmr1", "rtmr2")
"""Fields of a TD report that say which image runs: firmware, its configuration, kernel, file system."""

HOST_REGISTERS: Final = ("mr_config_id", "mr_owner", "mr_owner_config")
"""Fields of a TD report that the host sets when it makes the trust domain."""

_ZERO_REGISTER: Final = "00" * quote.REGISTER_BYTES
_SAME_TD: Final = ("td_attributes", "xfam", *IMAGE_REGISTERS, *HOST_REGISTERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxRules:
    """What a TDX quote must say; each list holds the accepted values in lower-case hex.

    Attributes:
        mr_td: Measurements of the initial memory of the TD; empty rejects.
        rtmr0: Values of runtime register 0 (firmware); empty rejects.
        rtmr1: Values of runtime register 1 (kernel); empty rejects.
        rtmr2: Values of runtime register 2 (command line, initial file system); empty rejects.
        mr_config_id: Accepted configurations; all zero unless listed.
        mr_owner: Accepted owners; all zero unless listed.
        mr_owner_config: Accepted owner configurations; all zero unless listed.
        mr_seam: Measurements of the TDX module; None leaves it to the TCB appraisal.
        xfam: Accepted extended features, 8 bytes each; None accepts any.
        ppid: Accepted platforms, 16 bytes each; None accepts any.
        td_attributes: Numbers of the TD attribute bits that may be set beside bit 28, which must be.
        tcb_statuses: Accepted TCB statuses.
        min_tcb_evaluation_data_number: Least accepted number of the collateral: guards against an old one.

    Raises:
        PolicyError: If a value has another form.
    """

    mr_td: tuple[str, ...] = ()
    rtmr0: tuple[str, ...] = ()
    rtmr1: tuple[str, ...] = ()
    rtmr2: tuple[str, ...] = ()
    mr_config_id: tuple[str, ...] = (_ZERO_REGISTER,)
    mr_owner: tuple[str, ...] = (_ZERO_REGISTER,)
    mr_owner_config: tuple[str, ...] = (_ZERO_REGISTER,)
    mr_seam: tuple[str, ...] | None = None
    xfam: tuple[str, ...] | None = None
    ppid: tuple[str, ...] | None = None
    td_attributes: tuple[int, ...] = (30, 31, 63)
    tcb_statuses: tuple[str, ...] = ("UpToDate",)
    min_tcb_evaluation_data_number: int = 0

    def __post_init__(self) -> None:
        """Checks every value's form."""
        for name in (*IMAGE_REGISTERS, *HOST_REGISTERS, "mr_seam"):
            _check_hex(name, getattr(self, name), quote.REGISTER_BYTES)
        _check_hex("xfam", self.xfam, 8)
        _check_hex("ppid", self.ppid, pck.PPID_BYTES)
        for bit in self.td_attributes:
            if bit not in OPTIONAL_ATTRIBUTE_BITS:
                raise PolicyError(f"td_attributes: bit {bit} can never be allowed")
        for status in self.tcb_statuses:
            if status not in TCB_STATUSES:
                raise PolicyError(
                    f"tcb_statuses: expected some of {', '.join(TCB_STATUSES)}, got {status[:40]!r}"
                )
        if self.min_tcb_evaluation_data_number < 0:
            raise PolicyError(
                f"min_tcb_evaluation_data_number: expected 0 or more, "
                f"got {self.min_tcb_evaluation_data_number}"
            )


def appraise(verified: VerifiedQuote, rules: TdxRules) -> None:
    """Checks that a verified quote is of the trust domain and the platform that the rules name.

    1. TCB status and evaluation number.
    2. TD attributes: SEPT_VE_DISABLE set, nothing else but what the rules allow; no service TD.
    3. MRTD and RTMR0 to RTMR2: one of the required values each. RTMR3 is the event log's business.
    4. Configuration and owners set by the host; TDX module, features and platform where restricted.

    Raises:
        PlatformError: At the first of these that does not hold.
    """
    report = verified.quote.td_report
    if verified.tcb_status not in rules.tcb_statuses:  # 1
        advisories = ", ".join(verified.advisory_ids) or "none"
        raise PlatformError(
            f"TCB status: expected {' or '.join(rules.tcb_statuses) or 'nothing'}, "
            f"got {verified.tcb_status} (advisories: {advisories})"
        )
    number = verified.tcb_evaluation_data_number
    if number < rules.min_tcb_evaluation_data_number:
        raise PlatformError(
            f"TCB evaluation data number: expected at least "
            f"{rules.min_tcb_evaluation_data_number}, got {number}"
        )
    _check_attributes(report, rules)  # 2
    for name in IMAGE_REGISTERS:  # 3
        _check_value(name, getattr(report, name), getattr(rules, name))
    for name in HOST_REGISTERS:  # 4
        _check_value(name, getattr(report, name), getattr(rules, name))
    for name, found, accepted in (
        ("mr_seam", report.mr_seam, rules.mr_seam),
        ("xfam", report.xfam, rules.xfam),
        ("ppid", verified.ppid, rules.ppid),
    ):
        if accepted is not None:
            _check_value(name, found, accepted)


def check_same_td(begin: VerifiedQuote, end: VerifiedQuote) -> None:
    """Checks that two verified quotes come from one trust domain on one platform.

    What the platform's owner may update while the TD runs (the TDX module and its security versions) may
    differ, and so may RTMR3 and the report data.

    Raises:
        BindingError: If they do not.
    """
    if (begin.anchor, begin.platform) != (end.anchor, end.platform):
        raise BindingError(
            f"begin and end quotes: expected one platform, got PPID {begin.ppid.hex()} under "
            f"{begin.anchor.name!r} and {end.ppid.hex()} under {end.anchor.name!r}"
        )
    for name in _SAME_TD:
        first, last = getattr(begin.quote.td_report, name), getattr(end.quote.td_report, name)
        if first != last:
            raise BindingError(f"begin and end quotes: {name} differs: {first.hex()} and {last.hex()}")


def _check_attributes(report: quote.TdReport, rules: TdxRules) -> None:
    attributes = int.from_bytes(report.td_attributes, "little")
    if not attributes >> SEPT_VE_DISABLE_BIT & 1:
        raise PlatformError(f"TD attributes: SEPT_VE_DISABLE is off ({report.td_attributes.hex()})")
    allowed = {SEPT_VE_DISABLE_BIT, *rules.td_attributes}
    refused = [bit for bit in range(64) if attributes >> bit & 1 and bit not in allowed]
    if refused:
        raise PlatformError(f"TD attributes: bit {refused[0]} is set and not allowed")
    if report.mr_service_td is not None and any(report.mr_service_td):
        raise PlatformError(f"mr_service_td: expected no service TD, got {report.mr_service_td.hex()}")


def _check_value(name: str, found: bytes, accepted: tuple[str, ...]) -> None:
    if not accepted:
        raise PlatformError(
            f"{name}: the policy names no accepted value, so none is; the quote has {found.hex()}"
        )
    if found.hex() not in accepted:
        raise PlatformError(f"{name}: expected {' or '.join(accepted)}, got {found.hex()}")


def _check_hex(name: str, values: tuple[str, ...] | None, size: int) -> None:
    for index, value in enumerate(values or ()):
        try:
            decode_hex(value, what=f"{name}[{index}]", length_bytes=size)
        except EncodingError as error:
            raise PolicyError(str(error)) from error
