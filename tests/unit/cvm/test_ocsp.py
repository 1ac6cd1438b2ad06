"""Answers about the status of certificates: who may give them, how long they hold, what they may say."""

from __future__ import annotations

from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import rim_world
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as foreign
from cryptography.x509.oid import ExtendedKeyUsageOID

from palm_torch.cvm import (
    certificates,
    der,
    hierarchies,
    ocsp,
    ocsp_answer,
    simulated_gpu_authority,
    simulated_ocsp,
    simulated_rim,
)
from palm_torch.errors import EncodingError, EvidenceError, InputError, SignatureError, TrustAnchorError

if TYPE_CHECKING:
    from palm_torch.cvm.simulated_authority import Identity

NOW = rim_world.NOW
AUTHORITY = rim_world.authority
REVOKED, UNKNOWN = foreign.OCSPCertStatus.REVOKED, foreign.OCSPCertStatus.UNKNOWN


def chain() -> certificates.VerifiedChain:
    return rim_world.verify().chain


def answer(**changes: Any) -> bytes:
    certificate = changes.pop("certificate", AUTHORITY().signer.certificate)
    issuer = changes.pop("issuer", AUTHORITY().product)
    return simulated_ocsp.make_answer(certificate, issuer, changes.pop("now", NOW), **changes)


def check(*answers: bytes, now: datetime = NOW) -> ocsp.Standing:
    return ocsp.check_chain(chain(), ocsp.parse(answers), now=now, what="chain")


def build() -> foreign.OCSPResponseBuilder:
    made = NOW - timedelta(hours=1)
    return foreign.OCSPResponseBuilder().add_response(
        AUTHORITY().signer.certificate,
        AUTHORITY().product.certificate,
        hashes.SHA384(),
        foreign.OCSPCertStatus.GOOD,
        this_update=made,
        next_update=made + timedelta(days=1),
        revocation_time=None,
        revocation_reason=None,
    )


def sign(
    builder: foreign.OCSPResponseBuilder,
    encoding: foreign.OCSPResponderEncoding = foreign.OCSPResponderEncoding.NAME,
    *,
    named: Identity | None = None,
) -> bytes:
    """Signs an answer with the issuer's key, whoever is named as the responder."""
    named = named or AUTHORITY().product
    builder = builder.responder_id(encoding, named.certificate)
    unsigned = builder.sign(named.key, hashes.SHA384()).tbs_response_bytes
    dated = simulated_ocsp._dated(unsigned, NOW - timedelta(hours=1))
    return simulated_ocsp.sign(dated, AUTHORITY().product.key)


def test_a_chain_without_answers() -> None:
    standing = check()
    assert (standing.good, standing.unknown, standing.issued) == ((), (0, 1, 2), None)
    assert not standing.complete
    assert standing.used == frozenset()


def test_a_chain_in_good_standing() -> None:
    authority = AUTHORITY()
    above = (authority.product, authority.family, authority.root)
    found = [identity.certificate for identity in (authority.signer, authority.product, authority.family)]
    answers = simulated_ocsp.make_answers(found, above, NOW)
    stranger = answer(certificate=simulated_rim.make_authority(NOW).signer.certificate)
    standing = check(stranger, *answers)
    assert (standing.good, standing.unknown) == ((0, 1, 2), ())
    assert standing.complete
    assert standing.issued == NOW - timedelta(hours=1)
    assert standing.used == {1, 2, 3}


def test_the_oldest_answer_counts() -> None:
    authority = AUTHORITY()
    old = answer(certificate=authority.product.certificate, issuer=authority.family, age=timedelta(days=3))
    assert check(answer(), old).issued == NOW - timedelta(days=3)


@pytest.mark.parametrize("algorithm", [hashes.SHA1, hashes.SHA256, hashes.SHA384, hashes.SHA512])
def test_names_of_issuers(algorithm: type[hashes.HashAlgorithm]) -> None:
    assert check(answer(algorithm=algorithm())).good == (0,)


def test_a_hash_that_is_not_known() -> None:
    with pytest.raises(EvidenceError, match="hash 'sha224' is not known"):
        check(answer(algorithm=hashes.SHA224()))


@pytest.mark.parametrize("delegated", [False, True])
def test_nonces_are_passed_over(delegated: bool) -> None:  # noqa: FBT001 (a parameter)
    responder = simulated_ocsp.make_responder(AUTHORITY().product, NOW) if delegated else None
    assert check(answer(nonce=b"\x01" * 32, responder=responder)).good == (0,)
    assert check(sign(build())).good == (0,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"status": REVOKED}, "says REVOKED$"),
        ({"status": REVOKED, "reason": x509.ReasonFlags.key_compromise}, r"says REVOKED \(keyCompromise\)"),
        (
            {"status": REVOKED, "reason": x509.ReasonFlags.certificate_hold},
            r"says REVOKED \(certificateHold\)",
        ),
        ({"status": UNKNOWN}, "says UNKNOWN"),
        ({"life": None}, "does not say until when it holds"),
        ({"life": timedelta(hours=1)}, r"expected .* ≤ time < .*, got"),
        ({"age": timedelta(seconds=-1)}, r"expected .* ≤ time < .*, got"),
        ({"age": timedelta(days=7)}, r"expected .* ≤ time < .*, got"),
    ],
)
def test_no_good_answer(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SignatureError, match=f"chain, certificate 0: its OCSP answer:? ?{message}"):
        check(answer(**changes))


def test_an_answer_that_was_made_later() -> None:
    unsigned = parts(answer())[0]
    later = simulated_ocsp._dated(unsigned, NOW + timedelta(seconds=1))
    data = simulated_ocsp.sign(later, AUTHORITY().product.key)
    with pytest.raises(SignatureError, match=r"its OCSP answer: expected .*12:00:01.* ≤ time"):
        check(data)
    assert check(data, now=NOW + timedelta(seconds=1)).good == (0,)


@pytest.mark.parametrize("delta", [timedelta(hours=-1), timedelta(days=7) - timedelta(hours=1, seconds=1)])
def test_the_edges_of_its_time(delta: timedelta) -> None:
    assert check(answer(), now=NOW + max(delta, timedelta())).good == (0,)


def test_two_answers_about_one_certificate() -> None:
    with pytest.raises(EvidenceError, match="certificate 0: expected one OCSP answer, got 2"):
        check(answer(), answer(status=REVOKED))


def test_too_many_answers() -> None:
    with pytest.raises(EvidenceError, match="expected at most 64 OCSP answers, got 65"):
        check(*[b""] * 65)


def test_a_naive_time() -> None:
    parsed = ocsp_answer.parse_answer(answer(), what="x")
    with pytest.raises(InputError, match="aware"):
        ocsp.verify_answer(
            parsed,
            certificate=AUTHORITY().signer.certificate,
            issuer=AUTHORITY().product.certificate,
            now=NOW.replace(tzinfo=None),
            what="x",
        )


def test_about_another_certificate() -> None:
    parsed = ocsp_answer.parse_answer(answer(), what="x")
    for certificate, issuer in [
        (AUTHORITY().product.certificate, AUTHORITY().family.certificate),
        (AUTHORITY().signer.certificate, AUTHORITY().family.certificate),
    ]:
        with pytest.raises(SignatureError, match="about another certificate"):
            ocsp.verify_answer(parsed, certificate=certificate, issuer=issuer, now=NOW, what="x")


def test_signed_by_another() -> None:
    data = simulated_ocsp.sign(parts(answer())[0], AUTHORITY().family.key)
    with pytest.raises(SignatureError, match="signature of its OCSP answer does not verify"):
        check(data)


@pytest.mark.parametrize("encoding", list(foreign.OCSPResponderEncoding))
def test_names_another_responder(encoding: foreign.OCSPResponderEncoding) -> None:
    data = sign(build(), encoding, named=AUTHORITY().family)
    with pytest.raises(SignatureError, match="names another responder than who signed it"):
        check(data)
    assert check(sign(build(), encoding)).good == (0,)


@pytest.mark.parametrize("critical", [False, True])
def test_unknown_extensions(critical: bool) -> None:  # noqa: FBT001 (a parameter)
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\x05\x00")
    data = sign(build().add_extension(unknown, critical=critical))
    if not critical:
        assert check(data).good == (0,)
        return
    with pytest.raises(SignatureError, match=r"critical extension 1\.2\.3 of its OCSP answer"):
        check(data)


def test_an_extension_that_is_there_twice() -> None:
    unknown = [x509.UnrecognizedExtension(x509.ObjectIdentifier(f"1.2.{arc}"), b"\x05\x00") for arc in (3, 4)]
    builder = build().add_extension(unknown[0], critical=False).add_extension(unknown[1], critical=False)
    unsigned = parts(sign(builder))[0]
    doubled = unsigned.replace(der.write_oid("1.2.4"), der.write_oid("1.2.3"))
    with pytest.raises(SignatureError, match="its OCSP answer cannot be read: Duplicate"):
        check(simulated_ocsp.sign(doubled, AUTHORITY().product.key))


def responder(
    issuer: Identity | None = None, *, start: datetime = NOW - timedelta(days=1), **changes: Any
) -> Identity:
    uses = changes.pop("uses", [ExtendedKeyUsageOID.OCSP_SIGNING])
    return simulated_rim.make_signer("R", issuer or AUTHORITY().product, start, uses=uses, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"uses": []}, r"expected the one extended key usage OCSPSigning, got \[\]"),
        ({"uses": [ExtendedKeyUsageOID.SERVER_AUTH]}, "expected the one extended key usage OCSPSigning"),
        (
            {"uses": [ExtendedKeyUsageOID.OCSP_SIGNING, ExtendedKeyUsageOID.CODE_SIGNING]},
            "expected the one extended key usage OCSPSigning",
        ),
        ({"life": timedelta(hours=1)}, r"OCSP responder: expected .* ≤ time"),
        ({"start": NOW + timedelta(hours=1)}, r"OCSP responder: expected .* ≤ time"),
    ],
)
def test_a_delegate_that_may_not_answer(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TrustAnchorError, match=message):
        check(answer(responder=responder(**changes)))


def test_a_delegate_of_another_issuer() -> None:
    other = simulated_rim.make_authority(NOW).product
    with pytest.raises(TrustAnchorError, match="OCSP responder: not signed by the issuer"):
        check(answer(responder=responder(other)))


def test_a_delegate_above_the_issuer() -> None:
    with pytest.raises(TrustAnchorError, match="OCSP responder: not signed by the issuer"):
        check(answer(responder=responder(AUTHORITY().family)))


def test_a_delegate_that_is_a_ca() -> None:
    start = NOW - timedelta(days=1)
    other = simulated_gpu_authority.make_issuer("CA", AUTHORITY().product, start)
    with pytest.raises(TrustAnchorError, match="OCSP responder: expected no CA certificate"):
        check(answer(responder=other))


@pytest.mark.parametrize("data", [b"", b"\x30\x00", b"\x30\x03\x0a\x01\x00", b"\x05\x00", b"x"])
def test_no_answer(data: bytes) -> None:
    with pytest.raises((EncodingError, EvidenceError)):
        check(data)


def test_an_error_of_the_service() -> None:
    refused = foreign.OCSPResponseBuilder.build_unsuccessful(foreign.OCSPResponseStatus.TRY_LATER)
    with pytest.raises(EvidenceError, match="the service gave no answer, but an error: 30030a0103"):
        check(refused.public_bytes(Encoding.DER))


def test_a_large_answer() -> None:
    with pytest.raises(EvidenceError, match="expected at most 16384 bytes"):
        check(bytes(16385))


def parts(data: bytes) -> list[bytes]:
    """Returns what the basic answer in an answer consists of."""
    _, wrapped = der.children(der.read(data, what="x"), what="x")
    (inner,) = der.children(wrapped, what="x")
    _, basic = der.children(inner, what="x")
    return [part.encoded for part in der.children(der.read(basic.content, what="x"), what="x")]


def whole(*inner: bytes, kind: str = "1.3.6.1.5.5.7.48.1.1") -> bytes:
    """Returns the answer that has these parts."""
    basic = der.write(der.OCTET_STRING, der.write(der.SEQUENCE, *inner))
    wrapped = der.write(0xA0, der.write(der.SEQUENCE, der.write_oid(kind), basic))
    return der.write(der.SEQUENCE, der.write_integer(0, tag=der.ENUMERATED), wrapped)


def test_the_frame_taken_apart_and_put_together() -> None:
    data = answer(responder=responder())
    assert whole(*parts(data)) == data


def test_another_frame() -> None:
    signed, algorithm, signature, listed = parts(answer(responder=responder()))
    bits = der.read(signature, what="x").content
    certificate = der.children(der.children(der.read(listed, what="x"), what="x")[0], what="x")[0].encoded
    twice = der.write(0xA0, der.write(der.SEQUENCE, certificate, certificate))
    padded = der.write(der.BIT_STRING, b"\x00", bits[1:-1] + bytes([bits[-1]]), b"\x00")
    cases = [
        (whole(signed, algorithm, signature, listed, kind="1.2.3"), "expected a basic OCSP answer"),
        (whole(signed, algorithm), "expected 3 or one more DER parts, got 2"),
        (whole(signed, algorithm, signature, listed, listed), "expected 3 or one more DER parts, got 5"),
        (whole(signed, der.write(der.SEQUENCE, der.write_oid("1.2.3")), signature), "by ecdsa-with-SHA384"),
        (whole(signed, algorithm, signature, twice), "certificates: expected 1 DER elements, got 2"),
        (whole(signed, algorithm, der.write(der.BIT_STRING, b"\x00abc")), "is not an ECDSA signature"),
        (whole(signed, algorithm, der.write(der.BIT_STRING, b"\x01", bits[1:])), "not in canonical DER"),
        (whole(signed, algorithm, padded), "signature is not an ECDSA signature"),
        (whole(signed, algorithm, signature) + b"\x00", "1 bytes after the DER element"),
    ]
    for data, message in cases:
        with pytest.raises(EncodingError, match=message):
            check(data)


def test_content_that_does_not_parse() -> None:
    _, algorithm, signature = parts(answer())
    data = whole(der.write(der.SEQUENCE, b"\x05\x00"), algorithm, signature)
    with pytest.raises(EvidenceError, match="OCSP answer 0: not an OCSP answer"):
        check(data)


def test_several_certificates_in_one_answer() -> None:
    signed, algorithm, signature = parts(answer())
    version_or_responder, produced, listed = der.children(der.read(signed, what="x"), what="x")
    (one,) = der.children(listed, what="x")
    for count in (0, 2):
        many = der.write(der.SEQUENCE, *[one.encoded] * count)
        inner = der.write(der.SEQUENCE, version_or_responder.encoded, produced.encoded, many)
        with pytest.raises(EvidenceError, match=f"expected one certificate, got {count}"):
            check(whole(inner, algorithm, signature))


def test_a_certificate_without_a_service_has_no_status() -> None:
    authority = AUTHORITY()
    assert ocsp.has_status(authority.signer.certificate)
    assert not ocsp.has_status(authority.root.certificate)
    start = NOW - timedelta(days=1)
    key = ec.generate_private_key(ec.SECP384R1())
    place = x509.AccessDescription(
        x509.oid.AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier("http://x.invalid")
    )
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    builder = (
        x509.CertificateBuilder(subject, subject, key.public_key(), 5, start, NOW)
        .add_extension(x509.AuthorityInformationAccess([place]), critical=False)
        .sign(key, hashes.SHA384())
    )
    assert not ocsp.has_status(builder)


def test_the_vendor_says_which_keys() -> None:
    with pytest.raises(EncodingError, match="expected a signature by ecdsa-with-SHA256"):
        ocsp.check_chain(
            chain(),
            ocsp.parse([answer()], hierarchy=hierarchies.INTEL),
            now=NOW,
            what="x",
            hierarchy=hierarchies.INTEL,
        )


def test_an_answer_whose_words_cannot_be_read_is_about_nobody() -> None:
    class Unreadable:
        @property
        def serial_number(self) -> int:
            raise ValueError("no such number")

    parsed: Any = SimpleNamespace(about=Unreadable())
    certificate, issuer = AUTHORITY().signer.certificate, AUTHORITY().product.certificate
    with pytest.raises(EvidenceError, match=r"^OCSP answer: cannot be read: no such number$"):
        ocsp_answer.is_about(parsed, certificate, issuer)
