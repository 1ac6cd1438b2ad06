"""The kinds of machines whose evidence can be appraised: one door, whatever signed.

Whoever reads evidence asks here for the kind that the evidence says it is of. That word decides nothing:
under another kind's parser, root and rules the same bytes are refused.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from palm_torch.cvm import (
    appraisal,
    certificate_bytes,
    certificates,
    collateral,
    eventlog,
    pck,
    quote,
    snp,
    snp_endorsements,
    snp_report,
    snp_rules,
    tdx,
)
from palm_torch.cvm.appraisal import TdxRules
from palm_torch.cvm.certificates import TrustAnchor
from palm_torch.cvm.collateral import Collateral
from palm_torch.cvm.gpu_rules import GpuRules
from palm_torch.cvm.snp_rules import SnpRules
from palm_torch.errors import BindingError, EncodingError, PlatformError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

_Rules = TypeVar("_Rules")

Kind = Literal["tdx", "snp"]
Endorsements = Collateral | snp_endorsements.SnpEndorsements
Verified = tdx.VerifiedQuote | snp.VerifiedReport
"""Genuine evidence of a platform; what can be asked of one can be asked of the other."""

_ANCHORS: Final[dict[Kind, TrustAnchor]] = {
    "tdx": certificates.INTEL_SGX_ROOT,
    "snp": certificates.AMD_ARK_MILAN,
}
_SHOWN_OF_TDX: Final = (*appraisal.IMAGE_REGISTERS, "rtmr3", "report_data")
_SHOWN_OF_SNP: Final = ("measurement", "host_data", "id_key_digest", "report_id", "chip_id", "report_data")


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """What a verifier demands of machines: per kind the rules, and the one root that counts.

    Attributes:
        tdx: Rules for Intel TDX; None accepts no such machine.
        snp: Rules for AMD SEV-SNP; None accepts no such machine.
        simulated_root: The root of a simulated TEE, to be accepted *instead of* the vendors'.
        gpu: Rules for NVIDIA GPUs; None accepts no evidence of any.
        simulated_gpu_root: The root of simulated GPUs, to be accepted *instead of* NVIDIA's.
        simulated_rim_root: The root of a simulated signer of reference measurements, to be accepted
            *instead of* NVIDIA's.
    """

    tdx: TdxRules | None = None
    snp: SnpRules | None = None
    simulated_root: TrustAnchor | None = None
    gpu: GpuRules | None = None
    simulated_gpu_root: TrustAnchor | None = None
    simulated_rim_root: TrustAnchor | None = None

    def anchor(self, kind: Kind) -> TrustAnchor:
        """Returns the one root that evidence of a kind must lead to."""
        return self.simulated_root or _ANCHORS[kind]

    @property
    def gpu_anchor(self) -> TrustAnchor:
        """The one root that the certificates of GPUs must lead to."""
        return self.simulated_gpu_root or certificates.NVIDIA_DEVICE_ROOT

    @property
    def rim_anchor(self) -> TrustAnchor:
        """The one root that the signers of reference measurements must lead to."""
        return self.simulated_rim_root or certificates.NVIDIA_CORIM_ROOT


def read_endorsements(kind: Kind, fields: Mapping[str, str]) -> Endorsements:
    """Reads what travels as a bundle's collateral.

    Args:
        kind: Kind of the platform that it is about.
        fields: The fields by name, spelled as they travel.

    Raises:
        EvidenceError: If a field is missing, unknown, or not in canonical form.
    """
    read = collateral.from_json if kind == "tdx" else snp_endorsements.from_json
    return read(dict(fields))


def fields_of(endorsements: Endorsements) -> dict[str, str]:
    """Returns endorsements as they travel in a bundle."""
    return dataclasses.asdict(endorsements)


def report_data_of(kind: Kind, raw: bytes) -> bytes:
    """Returns the 64 bytes that a quote or report says it was asked over; nothing is verified.

    Raises:
        EvidenceError: If it does not parse.
    """
    if kind == "tdx":
        return quote.parse_quote(raw).td_report.report_data
    return snp_report.parse_report(raw).report_data


def shown(kind: Kind, raw: bytes) -> dict[str, bytes]:
    """Returns the fields that say which machine and which image it is; nothing is verified.

    Raises:
        EvidenceError: If it does not parse.
    """
    if kind == "tdx":
        report = quote.parse_quote(raw).td_report
        return {name: getattr(report, name) for name in _SHOWN_OF_TDX}
    parsed = snp_report.parse_report(raw)
    return {name: getattr(parsed, name) for name in _SHOWN_OF_SNP}


def verify(
    kind: Kind, raw: bytes, endorsements: Endorsements, *, requirements: Requirements, now: datetime
) -> Verified:
    """Verifies that a genuine platform made a quote or report; see `tdx.verify_quote`, `snp.verify_report`.

    Args:
        kind: Kind of platform that the evidence says it is of.
        raw: The canonical quote, or the report.
        endorsements: Of the same kind, from `read_endorsements`.
        requirements: What names the root.
        now: Time of verification, aware.

    Raises:
        InputError: If a part does not parse.
        RejectedError: Of the class that fits, if a step fails.
    """
    anchors = (requirements.anchor(kind),)
    if kind == "tdx" and isinstance(endorsements, Collateral):
        return tdx.verify_quote(raw, endorsements, anchors=anchors, now=now)
    if kind == "snp" and isinstance(endorsements, snp_endorsements.SnpEndorsements):
        return snp.verify_report(raw, endorsements, anchors=anchors, now=now)
    raise PlatformError(f"evidence of {kind!r} with collateral of another kind of platform")


def appraise(verified: Verified, requirements: Requirements) -> None:
    """Checks that a machine is the one, and in the state, that is demanded.

    Raises:
        PlatformError: If it is not, or no machine of its kind is accepted.
    """
    if isinstance(verified, tdx.VerifiedQuote):
        appraisal.appraise(verified, _required(requirements.tdx, "tdx"))
    else:
        snp_rules.appraise(verified, _required(requirements.snp, "snp"))


def check_same_machine(begin: Verified, end: Verified) -> None:
    """Checks that two quotes come from one trust domain, or one guest, on one machine.

    Raises:
        BindingError: If they do not.
    """
    if isinstance(begin, tdx.VerifiedQuote) and isinstance(end, tdx.VerifiedQuote):
        appraisal.check_same_td(begin, end)
    elif isinstance(begin, snp.VerifiedReport) and isinstance(end, snp.VerifiedReport):
        snp_rules.check_same_guest(begin, end)
    else:
        raise BindingError("begin and end come from machines of different kinds")


def check_boot_log(log: bytes, verified: Verified) -> tuple[bytes, ...]:
    """Checks that a boot log replays to the registers of a machine; see `eventlog.check_boot_log`.

    Returns:
        What the boot extended RTMR[3] with, 48 bytes each.

    Raises:
        EvidenceError: If the log does not parse.
        BindingError: If it leads to other registers, or the machine has none.
    """
    if not isinstance(verified, tdx.VerifiedQuote):
        raise BindingError("a boot log, but a machine of this kind has no registers that it could lead to")
    return eventlog.check_boot_log(log, verified.quote.td_report)


def requirements_of(kind: Kind, raw: bytes, *, simulated_root: TrustAnchor | None) -> Requirements:
    """Returns requirements that the machine which made a quote meets, and others in the same image.

    Args:
        kind: Kind of the platform.
        raw: Its quote or report; nothing in it is verified.
        simulated_root: Its root, if it is a simulated one.

    Raises:
        EvidenceError: If it does not parse.
    """
    if kind == "snp":
        rules = snp_rules.rules_of(snp_report.parse_report(raw))
        return Requirements(snp=rules, simulated_root=simulated_root)
    report = quote.parse_quote(raw).td_report
    pinned: dict[str, Any] = {
        name: (getattr(report, name).hex(),)
        for name in (*appraisal.IMAGE_REGISTERS, *appraisal.HOST_REGISTERS)
    }
    return Requirements(
        tdx=appraisal.TdxRules(
            **pinned,
            td_attributes=tuple(sorted(appraisal.OPTIONAL_ATTRIBUTE_BITS)),
            tcb_statuses=appraisal.TCB_STATUSES,
        ),
        simulated_root=simulated_root,
    )


def endorsed_by(kind: Kind, raw: bytes) -> object:
    """Returns what endorsements depend on: quotes that agree in it can share theirs; nothing is verified.

    Of TDX, what Intel publishes by: platform family and CA; a quote brings its PCK certificate itself, which
    may be issued anew while a trust domain runs. Of SEV-SNP, whose certificate AMD issues: the signing key's.

    Raises:
        EvidenceError: If the quote or report does not parse.
    """
    if kind == "tdx":
        leaf = certificate_bytes.load_certificate(
            quote.parse_quote(raw).certificates[0], what="PCK certificate"
        )
        platform = pck.read_platform(leaf)
        try:
            return leaf.issuer.public_bytes(), platform.fmspc, platform.pce_id
        except certificate_bytes.FOREIGN_ERRORS as error:
            raise EncodingError(f"PCK certificate: its issuer cannot be read: {error}") from error
    report = snp_report.parse_report(raw)
    return report.signing_key, report.chip_id, report.reported_tcb


def _required(rules: _Rules | None, kind: Kind) -> _Rules:
    if rules is None:
        raise PlatformError(
            f"evidence of {kind!r}, of which the policy accepts no machine: no platform.{kind}"
        )
    return rules
