"""The platform part of a policy for TDX: which trust domain, in which state, on which platform.

Unset means reject: rules that name no MRTD or no RTMR0 to RTMR2 accept nothing, because any code could
then have asked for the quote.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from palm_torch.cvm import pck, quote, tcb, td_attributes
from palm_torch.encoding import decode_hex
from palm_torch.errors import BindingError, EncodingError, PlatformError, PolicyError

if TYPE_CHECKING:
    from palm_torch.cvm.tdx import VerifiedQuote

TCB_STATUSES: Final = tcb.STATUSES
"""Every status a policy may accept, best first; "Revoked" is never accepted."""

SEPT_VE_DISABLE_BIT: Final = td_attributes.SEPT_VE_DISABLE_BIT
OPTIONAL_ATTRIBUTE_BITS: Final = td_attributes.OPTIONAL_BITS

IMAGE_REGISTERS: Final = ("mr_td", "rtmr0", "rtmr1", "rtmr2")
"""Fields of a TD report that say which image runs: firmware, its configuration, kernel, file system."""

HOST_REGISTERS: Final = ("mr_config_id", "mr_owner", "mr_owner_config")
"""Fields of a TD report that the host sets when it makes the trust domain."""

MAX_AGE_DAYS: Final = 36_500
"""The greatest age that a rule can allow, in days."""

_DAY_S: Final = 86_400
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
        max_collateral_age_days: Days that the collateral may have been issued before the time of
            verification, at most 36500; None accepts any that still holds.

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
    max_collateral_age_days: int | None = None

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
        age = self.max_collateral_age_days
        if age is not None and not 0 <= age <= MAX_AGE_DAYS:
            raise PolicyError(
                f"max_collateral_age_days: expected a number from 0 to {MAX_AGE_DAYS}, got {age}"
            )


def appraise(verified: VerifiedQuote, rules: TdxRules) -> None:
    """Checks that a verified quote is of the trust domain and the platform that the rules name.

    The numbers go on where those of `tdx.verify_quote` end; 10, 16 and 17 are taken up again.

    10. The evaluation number of TCB info and QE identity is not below the least; neither was issued longer
        ago than allowed.
    16. The TCB status is an accepted one.
    17. Of the TD attributes that may be set at all, only those that the rules allow are; no service TD.
    18. MRTD and RTMR0 to RTMR2: one of the required values each (RTMR3 is the event log's business);
        configuration and owners set by the host; TDX module and features where restricted.
    20. The platform, where restricted. (19, the report data, is the binding's business.)

    Raises:
        PlatformError: At the first of these that does not hold.
    """
    report = verified.quote.td_report
    if verified.tcb_status not in rules.tcb_statuses:  # 16
        advisories = ", ".join(verified.advisory_ids) or "none"
        raise PlatformError(
            f"TCB status: expected {' or '.join(rules.tcb_statuses) or 'nothing'}, "
            f"got {verified.tcb_status} (advisories: {advisories})"
        )
    number = verified.tcb_evaluation_data_number  # 10
    if number < rules.min_tcb_evaluation_data_number:
        raise PlatformError(
            f"TCB evaluation data number: expected at least "
            f"{rules.min_tcb_evaluation_data_number}, got {number}"
        )
    _check_age(verified, rules.max_collateral_age_days)
    _check_attributes(report, rules)  # 17
    for name in (*IMAGE_REGISTERS, *HOST_REGISTERS):  # 18
        _check_value(name, getattr(report, name), getattr(rules, name))
    for name, found, accepted in (
        ("mr_seam", report.mr_seam, rules.mr_seam),
        ("xfam", report.xfam, rules.xfam),
        ("ppid", verified.ppid, rules.ppid),  # 20
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


def _check_age(verified: VerifiedQuote, most: int | None) -> None:
    age = verified.verified_at - verified.collateral_issued
    if most is not None and age.total_seconds() > most * _DAY_S:
        raise PlatformError(
            f"collateral: expected it to be issued {most} days before {verified.verified_at} at most, got "
            f"{verified.collateral_issued}: `palm-torch collateral fetch` gets a newer one"
        )


def _check_attributes(report: quote.TdReport, rules: TdxRules) -> None:
    td_attributes.check(report)
    allowed = {SEPT_VE_DISABLE_BIT, *rules.td_attributes}
    refused = [bit for bit in td_attributes.set_bits(report) if bit not in allowed]
    if refused:
        raise PlatformError(f"TD attributes: bit {refused[0]} is set and not allowed")


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
