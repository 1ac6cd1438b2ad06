"""The platform part of a policy for SEV-SNP: which guest, on which firmware, on which chip.

Unset means reject: rules that name no measurement accept nothing, because any code could then have asked for
the report; rules that name no least TCB version accept nothing either, because AMD, unlike Intel, publishes
no opinion that could take its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from palm_torch.cvm import snp_report
from palm_torch.encoding import decode_hex
from palm_torch.errors import BindingError, EncodingError, PlatformError, PolicyError

if TYPE_CHECKING:
    from palm_torch.cvm.snp import VerifiedReport

SMT_BIT: Final = 16
RESERVED_ONE_BIT: Final = 17
MIGRATION_AGENT_BIT: Final = 18
DEBUG_BIT: Final = 19
SINGLE_SOCKET_BIT: Final = 20
CXL_BIT: Final = 21
HARDENING_BITS: Final = frozenset({SINGLE_SOCKET_BIT, 22, 23, 24, 25})
"""Bits of the guest's policy that only ask more of the host: one socket, AES-256-XTS, no power readings,
hidden ciphertext, no page swapping. Debugging and migration can never be allowed."""

POLICY_VERSION_BITS: Final = 16
"""The lowest bits of the guest's policy are the least firmware ABI it accepts, minor and major."""

ALIAS_CHECK_BIT: Final = 5
"""Of the platform info: memory was checked for aliases after the last boot."""

MAX_VMPL: Final = 3
NO_MIGRATION_AGENT: Final = b"\xff" * 32
TCB_FIELDS: Final = ("reported_tcb", "committed_tcb", "current_tcb", "launch_tcb")

_SIZES: Final = {
    "measurement": snp_report.MEASUREMENT_BYTES,
    "host_data": snp_report.HOST_DATA_BYTES,
    "id_key_digest": 48,
    "author_key_digest": 48,
    "family_id": snp_report.ID_BYTES,
    "image_id": snp_report.ID_BYTES,
    "chip_id": snp_report.CHIP_ID_BYTES,
}
_MODEL: Final = "cpuid"
_SAME_GUEST: Final = (
    "guest_svn",
    "policy",
    "family_id",
    "image_id",
    "vmpl",
    "measurement",
    "host_data",
    "id_key_digest",
    "author_key_digest",
    "report_id",
    "report_id_ma",
    "launch_tcb",
    _MODEL,
    "chip_id",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpRules:
    """What an SNP report must say; each list of text holds the accepted values in lower-case hex.

    Attributes:
        measurement: Launch digests of the guest, 48 bytes each; empty rejects.
        min_tcb: Least security versions, component by component, of the firmware the report was signed
            under, of that committed, running, and running when the guest was launched; None rejects.
        host_data: Values the host may have set at launch, 32 bytes each; all zero unless listed.
        id_key_digest: Accepted keys of identity blocks, 48 bytes each; None accepts any, and none.
        author_key_digest: Accepted author keys, 48 bytes each; None accepts any, and none.
        family_id: Accepted families of images, 16 bytes each; None accepts any.
        image_id: Accepted images, 16 bytes each; None accepts any.
        chip_id: Accepted chips, 64 bytes each; None accepts any, masked ones included.
        csp_id: Accepted cloud providers where a VLEK signed, as in its certificate; None accepts any.
        vmpl: Privilege levels that may have asked for the report.
        versions: Accepted versions of the report.
        signing_keys: Accepted kinds of signing keys.
        allow_smt: Whether the guest's policy may admit simultaneous multithreading.
        allow_cxl: Whether it may admit memory and devices on CXL.
        require_single_socket: Whether it must confine the guest to one socket.
        require_alias_check: Whether the platform must have checked its memory for aliases.
        require_revocation_list: Whether a current revocation list of AMD must have been at hand.

    Raises:
        PolicyError: If a value has another form.
    """

    measurement: tuple[str, ...] = ()
    min_tcb: snp_report.TcbVersion | None = None
    host_data: tuple[str, ...] = ("00" * snp_report.HOST_DATA_BYTES,)
    id_key_digest: tuple[str, ...] | None = None
    author_key_digest: tuple[str, ...] | None = None
    family_id: tuple[str, ...] | None = None
    image_id: tuple[str, ...] | None = None
    chip_id: tuple[str, ...] | None = None
    csp_id: tuple[str, ...] | None = None
    vmpl: tuple[int, ...] = (0,)
    versions: tuple[int, ...] = snp_report.VERSIONS
    signing_keys: tuple[Literal["vcek", "vlek"], ...] = ("vcek", "vlek")
    allow_smt: bool = True
    allow_cxl: bool = False
    require_single_socket: bool = False
    require_alias_check: bool = False
    require_revocation_list: bool = False

    def __post_init__(self) -> None:
        """Checks every value's form."""
        for name, size in _SIZES.items():
            for index, value in enumerate(getattr(self, name) or ()):
                try:
                    decode_hex(value, what=f"{name}[{index}]", length_bytes=size)
                except EncodingError as error:
                    raise PolicyError(str(error)) from error
        for level in self.vmpl:
            if not 0 <= level <= MAX_VMPL:
                raise PolicyError(f"vmpl: expected numbers from 0 to {MAX_VMPL}, got {level}")
        for version in self.versions:
            if version not in snp_report.VERSIONS:
                known = ", ".join(map(str, snp_report.VERSIONS))
                raise PolicyError(f"versions: expected some of {known}, got {version}")
        for name in snp_report.TcbVersion.__slots__ if self.min_tcb is not None else ():
            if not 0 <= getattr(self.min_tcb, name) <= snp_report.MAX_SVN:
                raise PolicyError(f"min_tcb.{name}: expected a number from 0 to {snp_report.MAX_SVN}")


def appraise(verified: VerifiedReport, rules: SnpRules) -> None:
    """Checks that a verified report is of the guest and the platform that the rules name.

    1. Version of the report, kind of signing key, revocation list.
    2. The guest's policy: no debugging, no migration, no unknown bit; threads, CXL and sockets as the rules
       say. No migration agent is bound to it.
    3. Privilege level, and the measurement: one of the required values.
    4. Least security versions of the firmware: reported, committed, running, and at launch.
    5. What the host set, identity block, chip and cloud provider, where restricted.

    Raises:
        PlatformError: At the first of these that does not hold.
    """
    report = verified.report
    _check_listed("report version", report.version, rules.versions)  # 1
    _check_listed("signing key", verified.signing_key, rules.signing_keys)
    if rules.require_revocation_list and not verified.revocation_checked:
        raise PlatformError("AMD revocation list: the policy requires one, and none was at hand")
    _check_guest_policy(report, rules)  # 2
    _check_listed("vmpl", report.vmpl, rules.vmpl)  # 3
    _check_listed("measurement", report.measurement.hex(), rules.measurement)
    _check_tcb(report, rules.min_tcb)  # 4
    if rules.require_alias_check and not report.platform_info >> ALIAS_CHECK_BIT & 1:
        raise PlatformError(
            f"platform info: expected the check for memory aliases (bit {ALIAS_CHECK_BIT}) to be done, "
            f"got {report.platform_info:#x}"
        )
    _check_listed("host_data", report.host_data.hex(), rules.host_data)  # 5
    for name in ("id_key_digest", "author_key_digest", "family_id", "image_id", "chip_id"):
        accepted = getattr(rules, name)
        if accepted is not None:
            _check_listed(name, getattr(report, name).hex(), accepted)
    if rules.csp_id is not None and verified.signing_key == "vlek":
        _check_listed("csp_id", verified.endorsed.csp_id, rules.csp_id)


def check_same_guest(begin: VerifiedReport, end: VerifiedReport) -> None:
    """Checks that two verified reports come from one guest on one chip.

    Firmware that runs or was committed may differ, and the report's version, which follows it; so may the
    report data. A report of version 2 names no model of processor, and is not compared in that. The firmware
    that the signing keys stand for may differ as well, but then no one chain of certificates is of both keys.

    Raises:
        BindingError: If they do not.
    """
    for name, first, last in (
        ("root", begin.anchor, end.anchor),
        ("kind of signing key", begin.signing_key, end.signing_key),
        ("cloud provider", begin.endorsed.csp_id, end.endorsed.csp_id),
    ):
        if first != last:
            raise BindingError(f"begin and end reports: {name} differs: {first} and {last}")
    for name in _SAME_GUEST:
        first, last = getattr(begin.report, name), getattr(end.report, name)
        if first != last and not (name == _MODEL and None in (first, last)):
            raise BindingError(f"begin and end reports: {name} differs: {_text(first)} and {_text(last)}")


def rules_of(report: snp_report.SnpReport) -> SnpRules:
    """Returns rules that pin the image a report is of, and leave chip and firmware open.

    For comparing reports among each other; nothing in the report needs to have been verified. A verifier's
    own rules would name the least security versions as well.
    """
    return SnpRules(
        measurement=(report.measurement.hex(),),
        min_tcb=snp_report.TcbVersion(boot_loader=0, tee=0, snp=0, microcode=0),
        host_data=(report.host_data.hex(),),
        id_key_digest=(report.id_key_digest.hex(),),
        author_key_digest=(report.author_key_digest.hex(),),
        family_id=(report.family_id.hex(),),
        image_id=(report.image_id.hex(),),
        vmpl=tuple(level for level in (report.vmpl,) if level <= MAX_VMPL),
        allow_cxl=True,
    )


def _check_guest_policy(report: snp_report.SnpReport, rules: SnpRules) -> None:
    policy = report.policy
    set_bits = {bit for bit in range(POLICY_VERSION_BITS, 64) if policy >> bit & 1}
    for bit, name in ((DEBUG_BIT, "debugging"), (MIGRATION_AGENT_BIT, "a migration agent")):
        if bit in set_bits:
            raise PlatformError(f"guest policy: {name} is allowed (bit {bit} of {policy:#x})")
    required = {RESERVED_ONE_BIT} | ({SINGLE_SOCKET_BIT} if rules.require_single_socket else set())
    for bit in sorted(required - set_bits):
        raise PlatformError(f"guest policy: expected bit {bit} to be set, got {policy:#x}")
    allowed = required | HARDENING_BITS
    allowed |= ({SMT_BIT} if rules.allow_smt else set()) | ({CXL_BIT} if rules.allow_cxl else set())
    for bit in sorted(set_bits - allowed):
        raise PlatformError(f"guest policy: bit {bit} is set and not allowed ({policy:#x})")
    if report.report_id_ma != NO_MIGRATION_AGENT:
        raise PlatformError(
            f"report_id_ma: expected no migration agent ({NO_MIGRATION_AGENT.hex()}), "
            f"got {report.report_id_ma.hex()}"
        )


def _check_tcb(report: snp_report.SnpReport, least: snp_report.TcbVersion | None) -> None:
    if least is None:
        raise PlatformError(
            f"TCB version: the policy names no min_tcb, so none is good enough; the report has "
            f"{report.reported_tcb}"
        )
    for name in TCB_FIELDS:
        found: snp_report.TcbVersion = getattr(report, name)
        for component in snp_report.TcbVersion.__slots__:
            if getattr(found, component) < getattr(least, component):
                raise PlatformError(f"{name}: expected at least {least}, got {found}")


def _check_listed(name: str, found: object, accepted: tuple[object, ...]) -> None:
    if not accepted:
        raise PlatformError(f"{name}: the policy names no accepted value, so none is; the report has {found}")
    if found not in accepted:
        raise PlatformError(f"{name}: expected {' or '.join(map(str, accepted))}, got {found}")


def _text(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
