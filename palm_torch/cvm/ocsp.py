"""Answers about the status of certificates (OCSP), from files: signed, current, and about our certificates.

Nothing is asked here. An answer was fetched by somebody earlier, so a nonce in it means nothing and is passed
over; what bounds its age is the time until which it says that it holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from palm_torch.cvm import certificate_bytes, certificates, hierarchies, ocsp_answer
from palm_torch.errors import EvidenceError, SignatureError, TrustAnchorError

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_ANSWERS: Final = 64

_KNOWN_CRITICAL: Final = certificates.KNOWN_CRITICAL | {x509.ExtendedKeyUsage.oid}
_MAY_LACK: Final = frozenset({x509.BasicConstraints.oid, x509.KeyUsage.oid})


@dataclass(frozen=True, slots=True)
class Standing:
    """What answers say about a chain.

    Attributes:
        good: Positions of the certificates that an answer vouches for.
        unknown: Positions of those that name an OCSP service, but that no answer is about.
        issued: When the oldest status was known to be right (thisUpdate); None without answers.
        used: Positions of the answers that are about this chain.
    """

    good: tuple[int, ...]
    unknown: tuple[int, ...]
    issued: datetime | None
    used: frozenset[int]

    @property
    def complete(self) -> bool:
        """Whether all certificates that have a status are known to be good."""
        return not self.unknown


def parse(
    answers: Sequence[bytes], *, hierarchy: hierarchies.Hierarchy = hierarchies.NVIDIA
) -> tuple[ocsp_answer.Answer, ...]:
    """Reads answers, for any number of chains; see `check_chain`.

    Args:
        answers: Answers, DER.
        hierarchy: How their vendor signs.

    Raises:
        EvidenceError: If one does not parse (EncodingError: is not in canonical form), or there are too many.
    """
    if len(answers) > MAX_ANSWERS:
        raise EvidenceError(f"expected at most {MAX_ANSWERS} OCSP answers, got {len(answers)}")
    return tuple(
        ocsp_answer.parse_answer(answer, what=f"OCSP answer {position}", hierarchy=hierarchy)
        for position, answer in enumerate(answers)
    )


def check_chain(
    chain: certificates.VerifiedChain,
    answers: Sequence[ocsp_answer.Answer],
    *,
    now: datetime,
    what: str,
    hierarchy: hierarchies.Hierarchy = hierarchies.NVIDIA,
) -> Standing:
    """Says which certificates of a chain are known to be good; one that is not is an error.

    Answers about certificates of other chains are passed over: the caller sees in `Standing.used` whether
    one was for nobody.

    Args:
        chain: A chain already verified.
        answers: Answers, from `parse`.
        now: Time of verification, aware.
        what: Name of the chain, for messages.
        hierarchy: How its vendor signs.

    Raises:
        EvidenceError: If one certificate has two.
        TrustAnchorError: If an answer about the chain was signed by one who may not.
        SignatureError: If its signature is wrong, if it is not current, or if the certificate is revoked,
            on hold or unknown to its issuer.
    """
    good: list[int] = []
    unknown: list[int] = []
    used: dict[int, datetime] = {}
    for position, (certificate, issuer) in enumerate(
        zip(chain.certificates, chain.certificates[1:], strict=False)  # the root has no issuer
    ):
        name = f"{what}, certificate {position}"
        found = [at for at, answer in enumerate(answers) if ocsp_answer.is_about(answer, certificate, issuer)]
        if len(found) > 1:
            raise EvidenceError(f"{name}: expected one OCSP answer, got {len(found)}")
        for at in found:
            used[at] = verify_answer(
                answers[at], certificate=certificate, issuer=issuer, now=now, what=name, hierarchy=hierarchy
            )
            good.append(position)
        if not found and has_status(certificate):
            unknown.append(position)
    return Standing(tuple(good), tuple(unknown), min(used.values(), default=None), frozenset(used))


def verify_answer(
    answer: ocsp_answer.Answer,
    *,
    certificate: x509.Certificate,
    issuer: x509.Certificate,
    now: datetime,
    what: str,
    hierarchy: hierarchies.Hierarchy = hierarchies.NVIDIA,
) -> datetime:
    """Checks that a certificate is in good standing, by the answer of its issuer.

    1. The answer is about the certificate, and names its issuer.
    2. It is signed by the issuer, or by one whose certificate, in the answer, the issuer signed for this
       purpose (id-kp-OCSPSigning). Whether the delegate was revoked is not
       asked: nobody would answer for the answer.
    3. It names that signer as the responder.
    4. Nothing critical in it is unknown here; a nonce is passed over.
    5. It was made before now and holds now: thisUpdate ≤ now < nextUpdate, which must be there.
    6. The status is "good": revoked for whatever reason, a hold included, and unknown are not.

    Args:
        answer: The answer.
        certificate: A certificate of a chain already verified.
        issuer: The next certificate of that chain.
        now: Time of verification, aware.
        what: Name of the certificate, for messages.
        hierarchy: How its vendor signs.

    Returns:
        When the status was known to be right (thisUpdate).

    Raises:
        EncodingError: If the delegate's certificate does not parse.
        TrustAnchorError: If it was signed by one who may not.
        SignatureError: If one of the other checks fails.

    Source: RFC 6960 sections 2.2, 3.2, 4.2.1 and 4.2.2.
    """
    certificates.check_time(now)
    try:
        if not ocsp_answer.is_about(answer, certificate, issuer):  # 1
            raise SignatureError(f"{what}: its OCSP answer is about another certificate")
        signer = _signer(answer, issuer, now, what, hierarchy)  # 2
        key = hierarchies.public_key(signer, hierarchy.authority_key, what=f"{what}: OCSP responder")
        _check_signature(answer, key, what)
        _check_responder(answer, signer, what)  # 3
        _check_extensions(answer, what)  # 4
        return _check_status(answer, now, what)  # 5, 6
    except certificate_bytes.FOREIGN_ERRORS as error:
        raise SignatureError(f"{what}: its OCSP answer cannot be read: {error}") from error


def has_status(certificate: x509.Certificate) -> bool:
    """Returns whether a certificate, already verified, names a service that knows its status."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess)
    except x509.ExtensionNotFound:
        return False
    return any(entry.access_method == AuthorityInformationAccessOID.OCSP for entry in found.value)


def _signer(
    answer: ocsp_answer.Answer,
    issuer: x509.Certificate,
    now: datetime,
    what: str,
    hierarchy: hierarchies.Hierarchy,
) -> x509.Certificate:
    """Step 2: the issuer, or its delegate."""
    if answer.delegate is None:
        return issuer
    name = f"{what}: OCSP responder"
    delegate = certificate_bytes.load_certificate(answer.delegate, what=name, algorithms=hierarchy.algorithms)
    try:
        delegate.verify_directly_issued_by(issuer)
    except (InvalidSignature, *certificate_bytes.FOREIGN_ERRORS) as error:
        raise TrustAnchorError(f"{name}: not signed by the issuer of the certificate") from error
    certificates.check_certificate(
        delegate,
        now,
        is_ca=False,
        below=0,
        what=name,
        known_critical=_KNOWN_CRITICAL,
        may_lack=_MAY_LACK,
    )
    uses = [
        use
        for extension in delegate.extensions
        if isinstance(extension.value, x509.ExtendedKeyUsage)
        for use in extension.value
    ]
    if uses != [ExtendedKeyUsageOID.OCSP_SIGNING]:
        raise TrustAnchorError(f"{name}: expected the one extended key usage OCSPSigning, got {uses}")
    return delegate


def _check_signature(answer: ocsp_answer.Answer, key: hierarchies.PublicKey, what: str) -> None:
    """Step 2, last part."""
    try:
        cast("ec.EllipticCurvePublicKey", key).verify(
            answer.parsed.signature, answer.parsed.tbs_response_bytes, ec.ECDSA(hashes.SHA384())
        )
    except InvalidSignature as error:
        raise SignatureError(f"{what}: signature of its OCSP answer does not verify") from error


def _check_responder(answer: ocsp_answer.Answer, signer: x509.Certificate, what: str) -> None:
    """Step 3."""
    name, key = answer.parsed.responder_name, answer.parsed.responder_key_hash
    own = x509.SubjectKeyIdentifier.from_public_key(signer.public_key()).digest
    if name != signer.subject if key is None else key != own:
        raise SignatureError(f"{what}: its OCSP answer names another responder than who signed it")


def _check_extensions(answer: ocsp_answer.Answer, what: str) -> None:
    """Step 4."""
    unknown = [
        extension.oid.dotted_string
        for extension in (*answer.parsed.extensions, *answer.parsed.single_extensions)
        if extension.critical and extension.oid != x509.OCSPNonce.oid
    ]
    if unknown:
        raise SignatureError(f"{what}: critical extension {unknown[0]} of its OCSP answer is not understood")


def _check_status(answer: ocsp_answer.Answer, now: datetime, what: str) -> datetime:
    """Steps 5 and 6."""
    about, made = answer.about, answer.parsed.produced_at_utc
    starts, ends = about.this_update_utc, about.next_update_utc
    if ends is None:
        raise SignatureError(f"{what}: its OCSP answer does not say until when it holds")
    if not starts <= now < ends or made > now:
        raise SignatureError(
            f"{what}: its OCSP answer: expected {max(starts, made)} ≤ time < {ends}, got {now}"
        )
    if about.certificate_status is not ocsp.OCSPCertStatus.GOOD:
        reason = f" ({about.revocation_reason.value})" if about.revocation_reason else ""
        raise SignatureError(f"{what}: its OCSP answer says {about.certificate_status.name}{reason}")
    return starts
