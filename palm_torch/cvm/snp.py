"""Verification of an AMD SEV-SNP report: from bytes to a value that only this module can make.

`verify_report` establishes that a genuine AMD processor, with firmware of the security versions it states,
made the report; `palm_torch.cvm.snp_rules` then says whether it is of the guest that was asked for. AMD,
unlike Intel, has no opinion on security versions: the rules have to name the least that is good enough.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING, Final, Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from palm_torch.cvm import (
    certificate_bytes,
    certificates,
    hierarchies,
    revocation,
    snp_endorsements,
    snp_report,
    vcek,
)
from palm_torch.errors import PlatformError, SignatureError, TrustAnchorError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

SigningKey = Literal["vcek", "vlek"]

_MADE_HERE: Final = object()
_ROOT_PREFIX: Final = "ARK-"
_ISSUER_PREFIXES: Final = {"vcek": "SEV-", "vlek": "SEV-VLEK-"}
_LEAF_NAMES: Final = {"vcek": "SEV-VCEK", "vlek": "SEV-VLEK"}


@dataclass(frozen=True, slots=True)
class VerifiedReport:
    """A report of a genuine (or genuinely simulated) processor; `verify_report` alone makes it.

    Attributes:
        report: The report, every field of it now authentic.
        anchor: The configured root its certificates lead to.
        signing_key: Whose key signed: "vcek", the chip's, or "vlek", the cloud provider's.
        endorsed: What AMD's certificate says about that key.
        revocation_checked: Whether a current revocation list of AMD was at hand.
    """

    report: snp_report.SnpReport
    anchor: certificates.TrustAnchor
    signing_key: SigningKey
    endorsed: vcek.Endorsed
    revocation_checked: bool
    token: InitVar[object]

    def __post_init__(self, token: object) -> None:
        """Refuses to be made elsewhere."""
        if token is not _MADE_HERE:
            raise TypeError("a VerifiedReport is made by verify_report alone")

    @property
    def kind(self) -> Literal["snp"]:
        """Which kind of hardware made it."""
        return "snp"

    @property
    def simulated(self) -> bool:
        """Whether the matching root is one of a simulator; decided by the verifier's configuration."""
        return self.anchor.simulated

    @property
    def report_data(self) -> bytes:
        """The 64 bytes the requester chose."""
        return self.report.report_data

    @property
    def runtime_register(self) -> None:
        """SEV-SNP has no register that a running guest can extend."""
        return

    @property
    def machine(self) -> bytes:
        """Identity of the chip, 64 bytes; zero if the host masks it."""
        return self.report.chip_id

    @property
    def state(self) -> str:
        """The security versions the signing key stands for, for people."""
        return f"TCB {self.report.reported_tcb}"

    @property
    def caveats(self) -> tuple[str, ...]:
        """What was not checked, or cannot be."""
        found = []
        if not self.revocation_checked:
            found.append("no revocation list of AMD was at hand")
        if not any(self.report.chip_id):
            found.append("the host masks the chip's identity: the report does not say which machine made it")
        return tuple(found)


def verify_report(
    raw: bytes,
    endorsements: snp_endorsements.SnpEndorsements,
    *,
    anchors: Sequence[certificates.TrustAnchor],
    now: datetime,
) -> VerifiedReport:
    """Verifies a report against AMD's certificates, at a time, under pinned roots.

    1. The report parses: exact length, known version, reserved areas zero.
    2. Leaf ← ASK or ASVK ← ARK by RSASSA-PSS, the ARK by itself and one of `anchors`; all valid at `now`;
       the leaf's key is on P-384.
    3. AMD's revocation list, if there is one, is signed by the ARK and current, and does not name the
       issuer of the leaf. Its absence is a caveat of the result.
    4. The report's flags say which key signed, and the certificates are of that key: a VCEK is named so, was
       issued by the product's ASK and names a chip; a VLEK is named so, was issued by its ASVK and names a
       cloud provider. One never passes for the other.
    5. The leaf's key signed the report.
    6. The security versions in the leaf are those the report states.
    7. The chip that a VCEK names is the one the report names.

    Args:
        raw: The report, 1184 bytes.
        endorsements: The certificates, and the revocation list if there is one.
        anchors: The roots that the verifier's own configuration admits.
        now: Time of verification, aware.

    Returns:
        The verified report; whether its guest, firmware and chip are good enough is for `snp_rules.appraise`.

    Raises:
        EvidenceError: If the report does not parse (EncodingError: a certificate or list does not).
        TrustAnchorError: If the chain does not lead to an anchor, or is not valid at `now`.
        SignatureError: If a signature, the kind of key or a revocation check fails.
        PlatformError: If the certificate is of another chip or of other security versions.

    Source: AMD 56860, SEV Secure Nested Paging Firmware ABI; AMD 57230, VCEK Certificate and KDS Interface
    Specification; docs/spec, "Hardware evidence".
    """
    report = snp_report.parse_report(raw)  # 1
    if not endorsements.complete:  # 2
        raise TrustAnchorError(
            f"SNP certificate chain: expected {snp_endorsements.CHAIN_CERTIFICATES} certificates, got "
            f"{len(endorsements.chain())}: `palm-torch collateral fetch` gets AMD's others"
        )
    chain = certificates.verify_chain(
        endorsements.chain(),
        anchors=anchors,
        now=now,
        what="SNP certificate chain",
        hierarchy=hierarchies.AMD,
    )
    revocation_checked = _check_revocation(chain, endorsements, now)  # 3
    signing_key, endorsed = _check_kind(report, chain)  # 4
    _check_signature(raw, report, chain.leaf)  # 5
    if endorsed.tcb != report.reported_tcb:  # 6
        raise PlatformError(
            f"SNP report: expected the TCB version of the {signing_key.upper()} certificate "
            f"({endorsed.tcb}), got {report.reported_tcb}"
        )
    if endorsed.hardware_id is not None and endorsed.hardware_id != report.chip_id:  # 7
        raise PlatformError(
            f"SNP report: expected the chip of the VCEK certificate, {endorsed.hardware_id.hex()}, "
            f"got {report.chip_id.hex()}"
        )
    return VerifiedReport(
        report=report,
        anchor=chain.anchor,
        signing_key=signing_key,
        endorsed=endorsed,
        revocation_checked=revocation_checked,
        token=_MADE_HERE,
    )


def _check_revocation(
    chain: certificates.VerifiedChain, endorsements: snp_endorsements.SnpEndorsements, now: datetime
) -> bool:
    """Step 3; the leaves are in no list: AMD retires them by issuing others for newer security versions."""
    data = endorsements.revocation_list()
    if data is None:
        return False
    crl = revocation.verify_crl(
        data, issuer=chain.root, now=now, what="AMD revocation list", hierarchy=hierarchies.AMD
    )
    revocation.check_not_revoked(chain.certificates[1], crl, what="ASK or ASVK certificate")
    return True


def _check_kind(
    report: snp_report.SnpReport, chain: certificates.VerifiedChain
) -> tuple[SigningKey, vcek.Endorsed]:
    """Step 4."""
    signing_key = snp_report.SIGNING_KEYS.get(report.signing_key)
    if signing_key is None:
        raise SignatureError(
            f"SNP report: signing key: expected 0 (VCEK) or 1 (VLEK), got {report.signing_key}"
        )
    leaf, issuer, root = (_common_name(certificate) for certificate in chain.certificates)
    product = root.removeprefix(_ROOT_PREFIX)
    expected = (_LEAF_NAMES[signing_key], _ISSUER_PREFIXES[signing_key] + product, _ROOT_PREFIX + product)
    if (leaf, issuer, root) != expected:
        raise SignatureError(
            f"SNP certificate chain: the report says it was signed by a {signing_key.upper()}: expected "
            f"the names {', '.join(expected)}, got {leaf}, {issuer}, {root}"
        )
    what = f"{signing_key.upper()} certificate"
    endorsed = vcek.read_endorsed(chain.leaf, what=what)
    names_chip, names_provider = endorsed.hardware_id is not None, endorsed.csp_id is not None
    if (names_chip, names_provider) != (signing_key == "vcek", signing_key == "vlek"):
        raise SignatureError(
            f"{what}: expected it to name a {'chip' if signing_key == 'vcek' else 'cloud provider'} only"
        )
    if endorsed.product.partition("-")[0] != product:
        raise SignatureError(f"{what}: expected product {product!r}, got {endorsed.product[:40]!r}")
    return signing_key, endorsed


def _check_signature(raw: bytes, report: snp_report.SnpReport, leaf: x509.Certificate) -> None:
    """Step 5."""
    r, s = (int.from_bytes(number, "little") for number in (report.signature_r, report.signature_s))
    key = certificates.p384_key(leaf, what="SNP certificate chain")
    try:
        key.verify(
            utils.encode_dss_signature(r, s), raw[: snp_report.SIGNED_BYTES], ec.ECDSA(hashes.SHA384())
        )
    except InvalidSignature as error:
        raise SignatureError("SNP report: signature does not verify under the certificate's key") from error


def _common_name(certificate: x509.Certificate) -> str:
    try:
        names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    except certificate_bytes.FOREIGN_ERRORS as error:
        raise SignatureError(f"SNP certificate chain: a subject cannot be read: {error}") from error
    return " + ".join(str(name.value) for name in names)
