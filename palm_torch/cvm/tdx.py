"""Verification of an Intel TDX quote: from bytes to a value that only this module can make.

`verify_quote` establishes that a genuine platform, in a state Intel has an opinion on, made the quote;
`palm_torch.cvm.appraisal` then says whether it is the platform, and the trust domain, that was asked for.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import InitVar, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

import dcap_qvl  # type: ignore[import-untyped]  # ships stubs, but no py.typed marker
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding

from palm_torch.cvm import certificates, collateral, pck, quote, revocation
from palm_torch.errors import PlatformError, SignatureError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509

_COORDINATE_BYTES: Final = 32
_MADE_HERE: Final = object()


@dataclass(frozen=True, slots=True)
class VerifiedQuote:
    """A quote of a genuine (or genuinely simulated) platform; `verify_quote` alone makes it.

    Attributes:
        quote: The quote, every field of it now authentic.
        anchor: The configured root its certificates lead to.
        platform: The physical platform, from the PCK certificate.
        tcb_status: Intel's opinion, the worst of quoting enclave, TDX module and platform: "UpToDate" …
        advisory_ids: Intel's advisories that apply, "INTEL-SA-…".
        tcb_evaluation_data_number: The lesser of the numbers of TCB info and QE identity.
        collateral_issued: When the older of the two was issued.
        collateral_next_update: Until when both hold.
    """

    quote: quote.Quote
    anchor: certificates.TrustAnchor
    platform: pck.Platform
    tcb_status: str
    advisory_ids: tuple[str, ...]
    tcb_evaluation_data_number: int
    collateral_issued: datetime
    collateral_next_update: datetime
    token: InitVar[object]

    def __post_init__(self, token: object) -> None:
        """Refuses to be made elsewhere."""
        if token is not _MADE_HERE:
            raise TypeError("a VerifiedQuote is made by verify_quote alone")

    @property
    def simulated(self) -> bool:
        """Whether the matching root is one of a simulator; decided by the verifier's configuration."""
        return self.anchor.simulated

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

     1. The quote parses: canonical, TDX, every length exact.
     2. PCK certificate ← PCK CA ← root, and the root is one of `anchors`. From here on only that root.
     3. The PCK CA that issued the collateral's revocation list also issued the PCK certificate.
     4. Both revocation lists are signed by their issuers and current; they name neither the PCK
        certificate nor its CA.
     5. The PCK signed the report on the quoting enclave.
     6. That report's data is SHA-256(attestation key ‖ authentication data) ‖ 0³²: the key is the enclave's.
     7. The attestation key signed header and body.
     8. TCB info and QE identity: signer's chain, not revoked, signature over the exact text, current.
     9. FMSPC and PCE-ID of the TCB info are the platform's.
    10. TCB appraisal: QE report against QE identity, TDX module against its identity (twice for TD 1.5),
        TCB level of the platform, TD attributes; the worst status counts. Done by dcap-qvl, under the
        same root.

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
            or nothing good about it.

    Source: Intel TDX DCAP Quoting Library API; docs/spec, "Hardware evidence".
    """
    parsed = quote.parse_quote(raw)  # 1
    chain = certificates.verify_chain(  # 2
        parsed.certificates, anchors=anchors, now=now, what="quote: PCK certificate chain"
    )
    root_crl = _check_revocation(chain, endorsements, now)  # 3, 4
    _check_signatures(parsed, chain.leaf)  # 5, 6, 7
    tcb_text = _verify_text("tcb_info", endorsements, chain, root_crl, now)  # 8
    qe_text = _verify_text("qe_identity", endorsements, chain, root_crl, now)
    tcb_info, fmspc, pce_id = collateral.read_tcb_info(tcb_text)
    qe_identity = collateral.read_qe_identity(qe_text)
    for document, what in ((tcb_info, "TCB info"), (qe_identity, "QE identity")):
        if not document.issued <= now <= document.next_update:
            raise PlatformError(
                f"collateral: {what}: expected {document.issued} ≤ time ≤ {document.next_update}, got {now}"
            )
    platform = pck.read_platform(chain.leaf)  # 9
    if (fmspc, pce_id) != (platform.fmspc, platform.pce_id):
        raise PlatformError(
            f"collateral: TCB info: expected FMSPC {platform.fmspc.hex()} and PCE-ID {platform.pce_id.hex()} "
            f"of the quote's platform, got {fmspc.hex()} and {pce_id.hex()}"
        )
    status, advisories = _appraise_tcb(parsed, endorsements, chain.root, now)  # 10
    return VerifiedQuote(
        quote=parsed,
        anchor=chain.anchor,
        platform=platform,
        tcb_status=status,
        advisory_ids=advisories,
        tcb_evaluation_data_number=min(tcb_info.evaluation_data_number, qe_identity.evaluation_data_number),
        collateral_issued=min(tcb_info.issued, qe_identity.issued),
        collateral_next_update=min(tcb_info.next_update, qe_identity.next_update),
        token=_MADE_HERE,
    )


def _check_revocation(
    chain: certificates.VerifiedChain, endorsements: collateral.Collateral, now: datetime
) -> x509.CertificateRevocationList:
    """Steps 3 and 4; returns the root's list, which the signers of the collateral are also checked against.

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


def _check_signatures(parsed: quote.Quote, pck_certificate: x509.Certificate) -> None:
    """Steps 5 to 7."""
    pck_key = certificates.p256_key(pck_certificate, what="PCK certificate")
    _verify_raw(pck_key, parsed.qe_report_signature, parsed.qe_report, "quote: QE report")
    bound = hashlib.sha256(parsed.attestation_key + parsed.qe_authentication_data).digest()
    expected = bound.ljust(quote.REPORT_DATA_BYTES, b"\x00")
    if not hmac.compare_digest(parsed.qe_report_data, expected):
        raise SignatureError(
            f"quote: QE report does not vouch for the attestation key: expected report data "
            f"{expected.hex()}, got {parsed.qe_report_data.hex()}"
        )
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + parsed.attestation_key)
    except ValueError as error:
        raise SignatureError(f"quote: attestation key is not a point of P-256: {error}") from error
    _verify_raw(key, parsed.signature, parsed.signed, "quote: header and body")


def _verify_text(
    name: str,
    endorsements: collateral.Collateral,
    chain: certificates.VerifiedChain,
    root_crl: x509.CertificateRevocationList,
    now: datetime,
) -> bytes:
    """Step 8 for one document: returns its text, signed under the same root by a signer in good standing."""
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
    _verify_raw(certificates.p256_key(signer, what=what), signature, text, what)
    return text


def _verify_raw(key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes, what: str) -> None:
    """Verifies ECDSA with SHA-256, the signature being r ‖ s."""
    r, s = (
        int.from_bytes(half, "big") for half in (signature[:_COORDINATE_BYTES], signature[_COORDINATE_BYTES:])
    )
    try:
        key.verify(utils.encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise SignatureError(f"{what}: signature does not verify") from error


def _appraise_tcb(
    parsed: quote.Quote, endorsements: collateral.Collateral, root: x509.Certificate, now: datetime
) -> tuple[str, tuple[str, ...]]:
    """Step 10, the one door to dcap-qvl: returns status and advisories."""
    try:
        report = dcap_qvl.verify_with_root_ca(
            parsed.raw,
            dcap_qvl.QuoteCollateralV3(
                pck_crl_issuer_chain=endorsements.pck_crl_issuer_chain,
                root_ca_crl=endorsements.der("root_ca_crl"),
                pck_crl=endorsements.der("pck_crl"),
                tcb_info_issuer_chain=endorsements.tcb_info_issuer_chain,
                tcb_info=endorsements.tcb_info,
                tcb_info_signature=endorsements.der("tcb_info_signature"),
                qe_identity_issuer_chain=endorsements.qe_identity_issuer_chain,
                qe_identity=endorsements.qe_identity,
                qe_identity_signature=endorsements.der("qe_identity_signature"),
            ),
            root.public_bytes(Encoding.DER),
            int(now.timestamp()),
        )
    except ValueError as error:
        raise PlatformError(f"TCB appraisal: {error}") from error
    return str(report.status), tuple(map(str, report.advisory_ids))
