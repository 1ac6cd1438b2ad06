"""Verification of an Intel TDX quote: from bytes to a value that only this module can make.

`verify_quote` establishes that a genuine platform, in a state Intel has an opinion on, made the quote;
`palm_torch.cvm.appraisal` then says whether it is the platform, and the trust domain, that was asked for.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal

from cryptography.hazmat.primitives.serialization import Encoding

from palm_torch.cvm import (
    certificates,
    collateral,
    dcap,
    pck,
    quote,
    quote_signatures,
    revocation,
    tcb,
    tcb_documents,
    td_attributes,
)
from palm_torch.errors import PlatformError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509

_MADE_HERE: Final = object()


@dataclass(frozen=True, slots=True)
class VerifiedQuote:
    """A quote of a genuine (or genuinely simulated) platform; `verify_quote` alone makes it.

    Attributes:
        quote: The quote, every field of it now authentic.
        anchor: The configured root its certificates lead to.
        platform: The physical platform, from the PCK certificate.
        opinion: Intel's opinion of quoting enclave, TDX module and platform, each and together.
        tcb_evaluation_data_number: The lesser of the numbers of TCB info and QE identity.
        verified_at: Time of verification.
        collateral_issued: When the older of the two was issued.
        collateral_next_update: Until when both hold.
    """

    quote: quote.Quote
    anchor: certificates.TrustAnchor
    platform: pck.Platform
    opinion: tcb.Appraisal
    tcb_evaluation_data_number: int
    verified_at: datetime
    collateral_issued: datetime
    collateral_next_update: datetime
    token: InitVar[object]

    def __post_init__(self, token: object) -> None:
        """Refuses to be made elsewhere."""
        if token is not _MADE_HERE:
            raise TypeError("a VerifiedQuote is made by verify_quote alone")

    @property
    def kind(self) -> Literal["tdx"]:
        """Which platform this is."""
        return "tdx"

    @property
    def simulated(self) -> bool:
        """Whether the matching root is one of a simulator; decided by the verifier's configuration."""
        return self.anchor.simulated

    @property
    def report_data(self) -> bytes:
        """The 64 bytes that the quote was asked over."""
        return self.quote.td_report.report_data

    @property
    def runtime_register(self) -> bytes:
        """RTMR[3], 48 bytes: the register that is left to the application."""
        return self.quote.td_report.rtmr3

    @property
    def machine(self) -> bytes:
        """What names the machine: its platform provisioning id, 16 bytes."""
        return self.platform.ppid

    @property
    def state(self) -> str:
        """The platform's state in one line for people."""
        advisories = f" ({', '.join(self.advisory_ids)})" if self.advisory_ids else ""
        return f"TCB {self.tcb_status}{advisories}"

    @property
    def caveats(self) -> tuple[str, ...]:
        """What was not checked: nothing; a quote without collateral or revocation lists is not verified."""
        return ()

    @property
    def tcb_status(self) -> str:
        """Intel's opinion, the worst of quoting enclave, TDX module and platform ("UpToDate" …)."""
        return self.opinion.status

    @property
    def advisory_ids(self) -> tuple[str, ...]:
        """Intel's advisories that apply, "INTEL-SA-…", in alphabetical order."""
        return self.opinion.advisory_ids

    @property
    def ppid(self) -> bytes:
        """Platform provisioning id, 16 bytes."""
        return self.platform.ppid

    @property
    def fmspc(self) -> bytes:
        """Family, model, stepping, platform type and custom SKU, 6 bytes."""
        return self.platform.fmspc


def verify_quote(
    raw: bytes,
    endorsements: collateral.Collateral,
    *,
    anchors: Sequence[certificates.TrustAnchor],
    now: datetime,
) -> VerifiedQuote:
    """Verifies a quote against collateral, at a time, under pinned roots.

    Structure
     1. Header: version 4 or 5, ECDSA P-256 attestation key, TDX, Intel's quoting enclave.
     2. Body by its exact type and size; lengths nest down to the last byte.
     3. Certification data of types 6 and 5; nothing follows the quote.
     4. The PCK chain is three certificates in canonical PEM. (1 to 4: `quote.parse_quote`.)
    Signatures
     5. PCK certificate ← PCK CA ← root, and the root is one of `anchors`. From here on only that root.
     6. The PCK CA that issued the collateral's revocation list also issued the PCK certificate; both lists
        are signed by their issuers and current, and name neither the PCK certificate nor its CA.
     7. The PCK signed the report on the quoting enclave.
     8. That report's data is SHA-256(attestation key ‖ authentication data) ‖ 0³²: the key is the enclave's.
     9. The attestation key is a point of P-256 and signed header and body.
    Collateral
    10. TCB info and QE identity: signer's chain, not revoked, signature over the exact text, id and version,
        current.
    11. FMSPC and PCE-ID of the TCB info are the platform's.
    12. The quoting enclave is the one of the QE identity, at one of its levels.
    13. The TDX module is one of the TCB info, at one of its levels.
    14. The platform is at one of the TCB info's levels.
    15. TD 1.5: 13 and 14 for both sets of the module's security versions.
    16. The worst status counts; nothing is revoked. (12 to 16: `tcb.appraise`.)
    Trust domain
    17. TD attributes that no policy may waive, and no service TD: `td_attributes.check`.

    Whether the rest of the trust domain is the one asked for (18 to 20) is for `appraisal.appraise`. The
    second opinion: dcap-qvl verifies all of this once more under the same root. It must refuse what steps
    12 to 17 refuse, accept what they accept, and name the same status and advisories. (What it leaves
    unchecked in steps 1 to 11 was refused before it is asked.)

    Args:
        raw: The canonical quote (`quote.canonical` removes what machines append).
        endorsements: Collateral for its platform.
        anchors: The roots that the verifier's own configuration admits.
        now: Time of verification, aware.

    Returns:
        The verified quote, with Intel's opinion of the platform; whether that is good enough is for
        `appraisal.appraise` to say.

    Raises:
        EvidenceError: If quote or collateral do not parse (EncodingError: are not in canonical form).
        TrustAnchorError: If a chain does not lead to an anchor, or is not valid at `now`.
        SignatureError: If a signature, a key binding or a revocation check fails.
        PlatformError: If the collateral is not this platform's or not current, or Intel's data say nothing
            or nothing good about it, or dcap-qvl is of another opinion; the message then has both verdicts.

    Source: Intel TDX DCAP Quoting Library API; docs/spec, "Hardware evidence".
    """
    parsed = quote.parse_quote(raw)  # 1, 2, 3, 4
    chain = certificates.verify_chain(  # 5
        parsed.certificates, anchors=anchors, now=now, what="quote: PCK certificate chain"
    )
    root_crl = _check_revocation(chain, endorsements, now)  # 6
    quote_signatures.check(parsed, chain.leaf)  # 7, 8, 9
    tcb_info = tcb_documents.read_tcb_info(  # 10
        _verify_text("tcb_info", endorsements, chain, root_crl, now)
    )
    qe_identity = tcb_documents.read_qe_identity(
        _verify_text("qe_identity", endorsements, chain, root_crl, now)
    )
    for document, what in ((tcb_info, "TCB info"), (qe_identity, "QE identity")):
        if not document.issued <= now <= document.next_update:
            raise PlatformError(
                f"collateral: {what}: expected {document.issued} ≤ time ≤ {document.next_update}, got {now}"
            )
    platform = pck.read_platform(chain.leaf)  # 11
    if (tcb_info.fmspc, tcb_info.pce_id) != (platform.fmspc, platform.pce_id):
        raise PlatformError(
            f"collateral: TCB info: expected FMSPC {platform.fmspc.hex()} and PCE-ID {platform.pce_id.hex()} "
            f"of the quote's platform, got {tcb_info.fmspc.hex()} and {tcb_info.pce_id.hex()}"
        )
    second = dcap.verify(raw, endorsements, root=chain.root.public_bytes(Encoding.DER), now=now)
    appraised = _appraise(parsed, chain.leaf, tcb_info, qe_identity, second)  # 12, 13, 14, 15, 16, 17
    return VerifiedQuote(
        quote=parsed,
        anchor=chain.anchor,
        platform=platform,
        opinion=appraised,
        tcb_evaluation_data_number=min(tcb_info.evaluation_data_number, qe_identity.evaluation_data_number),
        verified_at=now,
        collateral_issued=min(tcb_info.issued, qe_identity.issued),
        collateral_next_update=min(tcb_info.next_update, qe_identity.next_update),
        token=_MADE_HERE,
    )


def _check_revocation(
    chain: certificates.VerifiedChain, endorsements: collateral.Collateral, now: datetime
) -> x509.CertificateRevocationList:
    """Step 6; returns the root's list, which the signers of the collateral are also checked against.

    Walking PCK certificate → PCK CA of the collateral → root proves that the two CAs have one key, even
    where the vendor has since given that key a newer certificate.
    """
    issuers = certificates.verify_chain(
        (chain.leaf.public_bytes(Encoding.DER), *endorsements.chain("pck_crl_issuer_chain")),
        anchors=(chain.anchor,),
        now=now,
        what="collateral: PCK CRL issuer chain",
    )
    root_crl = revocation.verify_crl(
        endorsements.der("root_ca_crl"), issuer=chain.root, now=now, what="collateral: root CA CRL"
    )
    pck_crl = revocation.verify_crl(
        endorsements.der("pck_crl"), issuer=issuers.certificates[1], now=now, what="collateral: PCK CRL"
    )
    for authority in (chain.certificates[1], issuers.certificates[1]):
        revocation.check_not_revoked(authority, root_crl, what="PCK CA certificate")
    revocation.check_not_revoked(chain.leaf, pck_crl, what="PCK certificate")
    return root_crl


def _verify_text(
    name: str,
    endorsements: collateral.Collateral,
    chain: certificates.VerifiedChain,
    root_crl: x509.CertificateRevocationList,
    now: datetime,
) -> bytes:
    """Step 10 for one document: returns its text, signed under the same root by a signer in good standing."""
    what = f"collateral: {name}"
    signer = certificates.verify_chain(
        endorsements.chain(f"{name}_issuer_chain"),
        anchors=(chain.anchor,),
        now=now,
        what=f"{what}: issuer chain",
    ).leaf
    revocation.check_not_revoked(signer, root_crl, what=f"{what}: signing certificate")
    text = endorsements.signed_text(name)
    signature = endorsements.der(f"{name}_signature")
    quote_signatures.verify_raw(certificates.p256_key(signer, what=what), signature, text, what)
    return text


def _appraise(
    parsed: quote.Quote,
    pck_certificate: x509.Certificate,
    tcb_info: tcb_documents.TcbInfo,
    qe_identity: tcb_documents.QeIdentity,
    second: dcap.Verdict,
) -> tcb.Appraisal:
    """Steps 12 to 17, and the comparison with the second opinion."""
    versions = pck.read_security_versions(pck_certificate)
    try:
        appraised = tcb.appraise(parsed, versions, tcb_info=tcb_info, qe_identity=qe_identity)
        td_attributes.check(parsed.td_report)
    except PlatformError as error:
        if second.status is None:
            raise PlatformError(f"TCB appraisal: {error}") from error
        raise _disagreement(dcap.Verdict(None, reason=str(error)), second) from error
    first = dcap.Verdict(appraised.status, appraised.advisory_ids)
    if first.opinion != second.opinion:
        raise _disagreement(first, second)
    return appraised


def _disagreement(first: dcap.Verdict, second: dcap.Verdict) -> PlatformError:
    return PlatformError(f"TCB appraisal: two verifiers disagree: palm-torch: {first}; dcap-qvl: {second}")
