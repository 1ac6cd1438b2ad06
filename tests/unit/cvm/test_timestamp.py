"""Time-stamp tokens: what an authority of another implementation writes is read, and nothing that is bent."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import stamping
from asn1crypto import algos, cms, core, tsp
from asn1crypto import x509 as asn1
from bits import surviving
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from stamping import CERTIFIES, SIGNS, STAMPED, STAMPING, Authority

from palm_torch import evidence
from palm_torch.cvm import cms as signed_data
from palm_torch.cvm import der, simulated_collateral, timestamp, timestamp_response
from palm_torch.cvm.timestamp import VerifiedTime
from palm_torch.digest import Digest, sha256_digest, tagged_digest
from palm_torch.errors import (
    BindingError,
    EncodingError,
    EvidenceError,
    PalmTorchError,
    SignatureError,
    TrustAnchorError,
)

DIGEST = sha256_digest(b"evidence")
NOT_CA = (x509.BasicConstraints(ca=False, path_length=None), True)
IS_CA = (x509.BasicConstraints(ca=True, path_length=None), True)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return stamping.make_authority()


def check(token: bytes, authority: Authority, *, digest: Digest = DIGEST) -> VerifiedTime:
    return timestamp.verify_token(token, digest=digest, root=authority.root.certificate)


def kept(authority: Authority, **bent: Any) -> bytes:
    """Returns a token in the one spelling that is kept."""
    return timestamp.normalised(authority.token(DIGEST.value, **bent), root=authority.root.pem)


def with_chain(authority: Authority, *chain: stamping.Holder) -> Authority:
    return Authority(authority.root, chain, authority.hash_name)


@pytest.mark.parametrize(
    ("kind", "function"),
    [
        ("p256", "sha256"),
        ("p384", "sha384"),
        ("p256", "sha512"),
        ("rsa", "sha256"),
        ("rsa", "sha512"),
        ("ed25519", "sha512"),
    ],
)
def test_a_token_of_each_kind_of_key(kind: Any, function: Any) -> None:
    authority = stamping.make_authority(kind, function)
    found = check(kept(authority), authority)
    assert found == VerifiedTime(time=STAMPED, accuracy=timedelta(seconds=1.5), authority="CN=TSA", serial=7)
    assert timestamp.verify_token(kept(authority), digest=DIGEST, root=authority.root.pem) == found


def test_the_kept_form_is_a_fixed_point_that_other_readers_read(authority: Authority) -> None:
    token = kept(authority)
    assert timestamp.normalised(token, root=authority.root.certificate) == token
    assert signed_data.encode(signed_data.decode(token, what="token")) == token
    content = cms.ContentInfo.load(token, strict=True)["content"]
    info = content["encap_content_info"]["content"].parsed
    assert info["message_imprint"]["hashed_message"].native == DIGEST.value
    assert info["gen_time"].native == STAMPED
    assert len(content["certificates"]) == 2


def test_the_raw_token_has_another_spelling_and_is_not_kept(authority: Authority) -> None:
    with pytest.raises(EvidenceError, match="not in the one form kept"):
        check(authority.token(DIGEST.value), authority)


@pytest.mark.parametrize("kind", ["p256", "rsa", "ed25519"])
def test_no_bit_of_a_token_is_idle(kind: Any) -> None:
    authority = stamping.make_authority(kind, "sha512" if kind == "ed25519" else "sha256")
    token = kept(authority)
    accepted = surviving(
        token, lambda bent: check(bent, authority), range(0, 8 * len(token), 3 if kind == "rsa" else 1)
    )
    assert accepted == []


def test_twin_a_verifier_that_looks_at_nothing_accepts_every_bit() -> None:
    assert surviving(b"token", lambda _: None, range(40)) == list(range(40))


def test_no_length_but_the_whole(authority: Authority) -> None:
    token = kept(authority)
    for size in range(0, len(token), 7):
        with pytest.raises(EvidenceError):
            check(token[:size], authority)
    with pytest.raises(EvidenceError, match="1 bytes after"):
        check(token + b"\0", authority)
    with pytest.raises(EvidenceError, match="expected at most"):
        check(bytes(evidence.MAX_TIMESTAMP_BYTES + 1), authority)


def test_a_token_over_something_else(authority: Authority) -> None:
    with pytest.raises(BindingError, match="it is over sha256:"):
        check(kept(authority), authority, digest=sha256_digest(b"another"))
    with pytest.raises(EvidenceError, match="expected a digest by sha256"):
        check(kept(authority), authority, digest=tagged_digest("palm-torch/value/v1", b""))


def with_revocation_list(token: bytes, revoked: bytes) -> bytes:
    name, wrapped = der.children(der.read(token, what="token"), what="token")
    (inner,) = der.children(wrapped, what="token")
    parts = [part.encoded for part in der.children(inner, what="token")]
    inner_with_list = der.write(der.SEQUENCE, *parts[:-1], der.write(0xA1, revoked), parts[-1])
    return der.write(der.SEQUENCE, name.encoded, der.write(0xA0, inner_with_list))


def test_what_normalising_leaves_out(authority: Authority) -> None:
    """Order, needless certificates, the root, revocation lists, unsigned attributes: none of it is signed."""
    plain = kept(authority)
    other = stamping.authority_certificate("Another", None)
    unsigned = [cms.CMSAttribute({"type": "1.2.3.4", "values": [core.OctetString(b"x")]})]
    leaf, issuing = authority.chain
    raw = authority.token(
        DIGEST.value,
        certificates=[authority.root, other, issuing, leaf],
        signer={"unsigned_attrs": unsigned},
    )
    raw = with_revocation_list(raw, simulated_collateral.make_crl(authority.root, STAMPED))  # type: ignore[arg-type]
    assert len(raw) > len(plain)
    token = timestamp.normalised(raw, root=authority.root.certificate)
    assert check(token, authority) == check(plain, authority)
    assert len(signed_data.decode(token, what="token").certificates) == 2


def test_the_root_may_travel_if_it_is_the_very_root(authority: Authority) -> None:
    data = signed_data.decode(kept(authority), what="token")
    certificates = (*data.certificates, authority.root.der)
    assert check(encoded(data, certificates=certificates), authority).time == STAMPED
    twin = stamping.authority_certificate("Root of time", None, key=authority.root.key)
    with pytest.raises((TrustAnchorError, SignatureError)):
        check(encoded(data, certificates=(*data.certificates, twin.der)), authority)
    with pytest.raises(PalmTorchError):
        check(encoded(data, certificates=certificates[::-1]), authority)
    with pytest.raises(PalmTorchError):
        check(encoded(data, certificates=(data.certificates[0], *certificates)), authority)
    with pytest.raises(TrustAnchorError, match="expected 1 to 5 certificates below the root, got 0"):
        check(encoded(data, certificates=()), authority)
    with pytest.raises(TrustAnchorError, match="got 6"):
        check(encoded(data, certificates=data.certificates * 3), authority)


def encoded(data: signed_data.SignedData, **changes: Any) -> bytes:
    import dataclasses

    return signed_data.encode(dataclasses.replace(data, **changes))


def test_a_missing_certificate_is_named(authority: Authority) -> None:
    with pytest.raises(EvidenceError, match="certReq"):
        kept(authority, certificates=authority.chain[1:])
    with pytest.raises(TrustAnchorError, match="no certificate in it leads from 'CN=TSA' to the root given"):
        kept(authority, certificates=authority.chain[:1])
    with pytest.raises(TrustAnchorError, match="CN=Root of time"):
        timestamp.normalised(authority.token(DIGEST.value), root=stamping.make_authority().root.pem)


def test_a_root_is_one_certificate(authority: Authority) -> None:
    token = kept(authority)
    for root, message in ((b"", "PEM"), (b"nonsense", "PEM"), (authority.root.pem * 2, "got 2")):
        with pytest.raises(EvidenceError, match=message):
            timestamp.verify_token(token, digest=DIGEST, root=root)


# what the authority signs


BAD_INFO = {
    "another version": {"version": 2},
    "another hash": {
        "message_imprint": {"hash_algorithm": {"algorithm": "sha512"}, "hashed_message": b"x" * 64}
    },
    "an extension": {"extensions": [{"extn_id": "1.2.3.4", "critical": False, "extn_value": b"x"}]},
    "a negative number": {"serial_number": -7},
    "a thousand milliseconds": {"accuracy": {"seconds": 1, "millis": 999, "micros": 0}},
    "a negative accuracy": {"accuracy": {"seconds": -1}},
    "an endless accuracy": {"accuracy": {"seconds": 1 << 80}},
    "a name of another kind": {"tsa": asn1.GeneralName("dns_name", "time.example")},
}


@pytest.mark.parametrize("name", BAD_INFO)
def test_content_that_is_not_read(authority: Authority, name: Any) -> None:
    with pytest.raises(EvidenceError, match="time-stamp token"):
        check(kept(authority, info=BAD_INFO[name]), authority)


GOOD_INFO = {
    "no accuracy": ({"accuracy": None}, None),
    "microseconds": ({"accuracy": {"micros": 1}}, timedelta(microseconds=1)),
    "all of it": (
        {"accuracy": {"seconds": 2, "millis": 3, "micros": 4}, "ordering": True},
        timedelta(seconds=2.003004),
    ),
    "little": ({"accuracy": None, "nonce": None, "tsa": None}, None),
}


@pytest.mark.parametrize("name", GOOD_INFO)
def test_content_that_is_read(authority: Authority, name: Any) -> None:
    bent, accuracy = GOOD_INFO[name]
    assert check(kept(authority, info=bent), authority).accuracy == accuracy


def stamped_at(authority: Authority, text: bytes) -> VerifiedTime:
    content = authority.info(DIGEST.value).replace(
        b"\x18\x0f20261121123000Z", b"\x18" + bytes([len(text)]) + text
    )
    header = len(content) - len(authority.info(DIGEST.value))
    assert content[1] == 0x81 or content[1] < 0x80
    at = 2 if content[1] == 0x81 else 1
    content = content[:at] + bytes([content[at] + header]) + content[at + 1 :]
    return check(kept(authority, content=content), authority)


def test_fractions_of_a_second(authority: Authority) -> None:
    assert stamped_at(authority, b"20261121123000Z").time == STAMPED
    assert stamped_at(authority, b"20261121123000.25Z").time == STAMPED + timedelta(milliseconds=250)
    assert stamped_at(authority, b"20261121123000.0000019Z").time == STAMPED + timedelta(microseconds=1)


@pytest.mark.parametrize(
    "text",
    [
        b"20261121123000",
        b"202611211230Z",
        b"20261121123000.Z",
        b"20261121123000.50Z",
        b"20261121123000.0Z",
        b"20261121123000+0000",
        b"20261321123000Z",
        b"20261121123000,5Z",
        b"20261121123000.+5Z",
        b"2026112112300 Z",
        b"20261121123000.5",
    ],
)
def test_times_in_other_spellings(authority: Authority, text: bytes) -> None:
    with pytest.raises(EvidenceError, match="time"):
        stamped_at(authority, text)


def test_the_authority_named_is_the_one_that_signed(authority: Authority) -> None:
    name = asn1.GeneralName("directory_name", asn1.Name.build({"common_name": "Somebody"}))
    with pytest.raises(SignatureError, match="the authority it names"):
        check(kept(authority, info={"tsa": name}), authority)


# the frame and its signed attributes


def v1(leaf: stamping.Holder, digest: bytes | None = None, **more: Any) -> Any:
    found = hashlib.sha1(leaf.der).digest() if digest is None else digest  # noqa: S324 (as RFC 2634 has it)
    return tsp.SigningCertificate({"certs": [{"cert_hash": found, **more}]})


def v2(*certs: Any, **more: Any) -> Any:
    return tsp.SigningCertificateV2({"certs": list(certs), **more})


def hashed(holder: stamping.Holder, name: str = "sha256", **more: Any) -> Any:
    function = {} if name == "sha256" else {"hash_algorithm": {"algorithm": name}}
    return {"cert_hash": hashlib.new(name, holder.der).digest(), **function, **more}


def issuer_serial(authority: Authority, *, serial: int | None = None) -> Any:
    leaf = asn1.Certificate.load(authority.leaf.der)
    return {
        "issuer": [asn1.GeneralName("directory_name", leaf.issuer)],
        "serial_number": serial or leaf.serial_number,
    }


def test_signing_certificates_that_are_right(authority: Authority) -> None:
    leaf, issuing = authority.chain
    serial = {"issuer_serial": issuer_serial(authority)}
    for attributes in (
        {"signing_certificate": v1(leaf), "signing_certificate_v2": None},
        {"signing_certificate": v1(leaf, **serial)},
        {"signing_certificate_v2": v2(hashed(leaf, "sha512", **serial))},
        {"signing_certificate_v2": v2(hashed(leaf), hashed(issuing), hashed(authority.root))},
        {"signing_time": cms.Time({"utc_time": STAMPED})},
    ):
        assert check(kept(authority, attribute=attributes), authority).time == STAMPED


def test_signing_certificates_that_are_wrong(authority: Authority) -> None:
    leaf, issuing = authority.chain
    other = stamping.make_authority()
    policies = [{"policy_identifier": "1.2.3.4"}]
    for attributes, error in (
        ({"signing_certificate_v2": None}, SignatureError),
        ({"signing_certificate_v2": v2(hashed(issuing))}, SignatureError),
        ({"signing_certificate_v2": v2(hashed(leaf), hashed(other.leaf))}, SignatureError),
        ({"signing_certificate_v2": v2(hashed(leaf), hashed(leaf))}, SignatureError),
        ({"signing_certificate": v1(leaf, bytes(20))}, SignatureError),
        (
            {"signing_certificate_v2": v2(hashed(leaf, issuer_serial=issuer_serial(authority, serial=5)))},
            SignatureError,
        ),
        ({"signing_certificate_v2": v2(hashed(leaf), policies=policies)}, EvidenceError),
        ({"signing_certificate_v2": v2()}, EvidenceError),
        ({"signing_certificate_v2": v2(hashed(leaf, "sha224"))}, EvidenceError),
    ):
        with pytest.raises(error):
            check(kept(authority, attribute=attributes), authority)


def signed_by(algorithm: str) -> dict[str, Any]:
    return {"signature_algorithm": {"algorithm": algorithm}}


def test_signed_attributes_that_are_wrong(authority: Authority) -> None:
    content = authority.info(DIGEST.value)
    good = authority.attributes(content)
    unknown = cms.CMSAttribute({"type": "1.2.3.4", "values": [core.OctetString(b"x")]})
    another = cms.CMSAttribute({"type": "message_digest", "values": [b"x"]})
    two = cms.CMSAttribute({"type": "signing_time", "values": [cms.Time({"utc_time": STAMPED})] * 2})
    cases: list[tuple[dict[str, Any], type[PalmTorchError], str]] = [
        ({"attribute": {"content_type": "data"}}, SignatureError, "another type of content"),
        ({"attribute": {"content_type": None}}, SignatureError, "another type of content"),
        ({"attribute": {"message_digest": bytes(32)}}, SignatureError, "hash was signed"),
        ({"attribute": {"message_digest": None}}, SignatureError, "hash was signed"),
        ({"attributes": [*good, unknown]}, EvidenceError, "unknown type"),
        ({"attributes": [*good, two]}, EvidenceError, "expected 1 DER elements"),
        ({"attributes": [*good, another]}, EvidenceError, "twice"),
        ({"signer": {"signature": bytes(70)}}, SignatureError, "not signed by the key"),
        ({"signer": {"signed_attrs": None}}, EvidenceError, "signer with signed attributes"),
        ({"signer": {"version": "v3"}}, EvidenceError, "version 1 signer"),
        ({"signer": {"digest_algorithm": {"algorithm": "sha512"}}}, EvidenceError, "not the one announced"),
        ({"signer": {"digest_algorithm": {"algorithm": "sha1"}}}, EvidenceError, "expected SHA-256"),
        ({"signer": signed_by("rsassa_pkcs1v15")}, SignatureError, "is not one for"),
        ({"signer": signed_by("sha384_ecdsa")}, SignatureError, "not signed by the key"),
        ({"version": "v1"}, EvidenceError, "version 3"),
        ({"digest_algorithms": []}, EvidenceError, "expected 1 DER elements"),
        ({"signer_infos": []}, EvidenceError, "expected 1 DER elements"),
        ({"encap_content_info": {"content_type": "data", "content": b"x"}}, EvidenceError, "unknown type"),
        ({"certificates": []}, EvidenceError, "certReq"),
    ]  # fmt: skip
    for bent, error, message in cases:
        with pytest.raises(error, match=message):
            check(kept(authority, **bent), authority)
    with pytest.raises(EvidenceError, match="expected CMS signed data"):
        check(cms.ContentInfo({"content_type": "data", "content": b"x"}).dump(), authority)


def test_a_hash_for_the_signature_and_another_for_the_content(authority: Authority) -> None:
    class Mixed(Authority):
        def sign(self, data: bytes) -> bytes:
            signature: bytes = self.leaf.key.sign(data, ec.ECDSA(hashes.SHA384()))
            return signature

    mixed = Mixed(authority.root, authority.chain)
    with pytest.raises(SignatureError, match="signed with sha384, but the content is hashed"):
        check(kept(mixed, signer={"signature_algorithm": {"algorithm": "sha384_ecdsa"}}), mixed)


def protecting(algorithm: str, function: str = "sha256") -> Any:
    return cms.CMSAlgorithmProtection(
        {
            "digest_algorithm": algos.DigestAlgorithm({"algorithm": function}),
            "signature_algorithm": algos.SignedDigestAlgorithm({"algorithm": algorithm}),
        }
    )


def test_algorithms_protected_by_a_signed_attribute(authority: Authority) -> None:
    good = kept(authority, attribute={"cms_algorithm_protection": protecting("sha256_ecdsa")})
    assert check(good, authority).time == STAMPED
    for wrong in (protecting("sha384_ecdsa"), protecting("sha256_ecdsa", "sha512")):
        with pytest.raises(SignatureError, match="RFC 6211"):
            check(kept(authority, attribute={"cms_algorithm_protection": wrong}), authority)


def test_rsa_goes_by_two_names_and_is_kept_under_one() -> None:
    authority = stamping.make_authority("rsa")
    plain = kept(authority)
    named = {"signature_algorithm": {"algorithm": "sha256_rsa"}}
    assert kept(authority, signer=named) == plain
    assert check(plain, authority).time == STAMPED
    protected = {"cms_algorithm_protection": protecting("sha256_rsa")}
    assert check(kept(authority, signer=named, attribute=protected), authority).time == STAMPED
    with pytest.raises(SignatureError, match="not signed by the key"):
        check(kept(authority, signer={"signature_algorithm": {"algorithm": "sha512_rsa"}}), authority)
    with pytest.raises(SignatureError, match="not signed by the key"):
        check(kept(authority, signer={"signature": bytes(256)}), authority)


# certificates


def test_certificates_that_will_do(authority: Authority) -> None:
    issuing = authority.chain[1]
    for extensions in (
        [(STAMPING, True)],
        [NOT_CA, (STAMPING, True)],
        [NOT_CA, (stamping.usage(content_commitment=True), True), (STAMPING, True)],
    ):
        bent = with_chain(authority, stamping.leaf_certificate(issuing, extensions=extensions), issuing)
        assert check(kept(bent), bent).time == STAMPED
    stamps_too = stamping.authority_certificate(
        "Issuer", authority.root, extensions=[IS_CA, CERTIFIES, (STAMPING, False)]
    )
    bent = with_chain(authority, stamping.leaf_certificate(stamps_too), stamps_too)
    assert check(kept(bent), bent).time == STAMPED
    bent = with_chain(authority, stamping.leaf_certificate(authority.root))
    assert check(kept(bent), bent).time == STAMPED


SERVER = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
BOTH = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING, ExtendedKeyUsageOID.SERVER_AUTH])
UNKNOWN = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)
DAY = timedelta(days=1)

BAD_LEAVES: dict[str, tuple[dict[str, Any], str]] = {
    "no purpose": ({"extensions": [NOT_CA, SIGNS]}, "timeStamping and no other"),
    "another purpose": ({"extensions": [NOT_CA, SIGNS, (SERVER, True)]}, "timeStamping and no other"),
    "two purposes": ({"extensions": [NOT_CA, SIGNS, (BOTH, True)]}, "timeStamping and no other"),
    "a purpose that is not critical": (
        {"extensions": [NOT_CA, SIGNS, (STAMPING, False)]},
        "timeStamping and no other",
    ),
    "an unknown extension": ({"extensions": [NOT_CA, SIGNS, (STAMPING, True), UNKNOWN]}, "1.2.3.4"),
    "a CA": ({"extensions": [IS_CA, SIGNS, (STAMPING, True)]}, "expected no CA"),
    "a key that certifies": ({"extensions": [NOT_CA, CERTIFIES, (STAMPING, True)]}, "key usage"),
    "expired": ({"end": STAMPED - timedelta(seconds=1)}, "time of the token"),
    "not yet valid": ({"start": STAMPED + timedelta(seconds=1)}, "time of the token"),
    "a short key": ({"kind": "rsa-1024"}, "of 1024 bits"),
    "another curve": ({"kind": "p521"}, "of 521 bits"),
}


@pytest.mark.parametrize("name", BAD_LEAVES)
def test_leaves_that_will_not_do(authority: Authority, name: Any) -> None:
    made, message = BAD_LEAVES[name]
    issuing = authority.chain[1]
    bent = with_chain(authority, stamping.leaf_certificate(issuing, **made), issuing)
    with pytest.raises(TrustAnchorError, match=message):
        check(kept(bent), bent)


BAD_ISSUERS: dict[str, tuple[dict[str, Any], str]] = {
    "no CA": ({"extensions": [NOT_CA, CERTIFIES]}, "expected a CA"),
    "does not certify": ({"extensions": [IS_CA, SIGNS]}, "key usage"),
    "another purpose": ({"extensions": [IS_CA, CERTIFIES, (SERVER, False)]}, "extended key usage"),
    "expired": ({"end": STAMPED - timedelta(seconds=1)}, "≤ time ≤"),
    "unknown extension": ({"extensions": [IS_CA, CERTIFIES, UNKNOWN]}, "1.2.3.4"),
    "a short key": ({"kind": "rsa-1024"}, "of 1024 bits"),
}


@pytest.mark.parametrize("name", BAD_ISSUERS)
def test_issuers_that_will_not_do(authority: Authority, name: Any) -> None:
    made, message = BAD_ISSUERS[name]
    issuing = stamping.authority_certificate("Issuer", authority.root, **made)
    bent = with_chain(authority, stamping.leaf_certificate(issuing), issuing)
    with pytest.raises(TrustAnchorError, match=message):
        check(kept(bent), bent)


def test_a_root_must_be_valid_then_and_leave_room_for_the_chain() -> None:
    for made in ({"end": STAMPED - DAY}, {"path_length": 0}):
        root = stamping.authority_certificate("Root", None, **made)  # type: ignore[arg-type]
        issuing = stamping.authority_certificate("Issuer", root)
        bent = Authority(root, (stamping.leaf_certificate(issuing), issuing))
        with pytest.raises(TrustAnchorError, match="root"):
            check(kept(bent), bent)


@pytest.mark.parametrize("extensions", [[NOT_CA, SIGNS, (STAMPING, True)], [SIGNS]])
def test_a_root_that_is_no_ca_is_told_which_certificate_is_wanted(
    authority: Authority, extensions: Any
) -> None:
    leaf = stamping.issue("TSA", authority.chain[1], extensions=extensions)
    for use in (
        lambda root: timestamp.verify_token(kept(authority), digest=DIGEST, root=root),
        lambda root: timestamp.normalised(authority.token(DIGEST.value), root=root),
    ):
        with pytest.raises(TrustAnchorError, match=r"^time-stamp root: 'CN=TSA'.*the authority publishes it"):
            use(leaf.pem)


def resigned(leaf: stamping.Holder, issuer: stamping.Holder, old: bytes, new: bytes) -> stamping.Holder:
    """Returns a certificate with bytes of its signed part replaced, signed again by its issuer."""
    signed, algorithm, _ = der.children(der.read(leaf.der, what="x"), what="x")
    assert old in signed.encoded
    body = signed.encoded.replace(old, new)
    signature = issuer.key.sign(body, ec.ECDSA(hashes.SHA256()))
    bits = der.write(der.BIT_STRING, b"\x00", signature)
    whole = der.write(der.SEQUENCE, body, algorithm.encoded, bits)
    return stamping.Holder(leaf.key, x509.load_der_x509_certificate(whole))


UNREADABLE = {
    "a key on a curve that nobody reads": ("2a8648ce3d030107", "2a8648ce3d030101", TrustAnchorError),
    "an extension twice": ("0603551d25", "0603551d13", TrustAnchorError),
    "a name that is no text": ("0c03545341", "0c03ff5341", EvidenceError),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_in_a_certificate(authority: Authority, name: Any) -> None:
    old, new, error = UNREADABLE[name]
    leaf, issuing = authority.chain
    bent = resigned(leaf, issuing, bytes.fromhex(old), bytes.fromhex(new))
    serial = x509.load_der_x509_certificate(bent.der).serial_number
    assert serial == leaf.certificate.serial_number
    data = signed_data.decode(kept(authority, info={"tsa": None}), what="token")
    listed = cms.CMSAttributes(
        authority.attributes(data.content, signing_certificate_v2=v2(hashed(bent)))
    ).dump()
    token = encoded(
        data,
        certificates=(bent.der, issuing.der),
        signed=listed,
        signature=authority.sign(listed),
    )
    with pytest.raises(error):
        check(token, authority)


def test_certificates_in_two_sets_and_attributes_out_of_order(authority: Authority) -> None:
    token = kept(authority)
    name, wrapped = der.children(der.read(token, what="token"), what="token")
    (inner,) = der.children(wrapped, what="token")
    parts = [part.encoded for part in der.children(inner, what="token")]
    twice = der.write(der.SEQUENCE, *parts[:4], *parts[3:])
    with pytest.raises(EvidenceError, match="one set of certificates"):
        check(der.write(der.SEQUENCE, name.encoded, der.write(0xA0, twice)), authority)
    data = signed_data.decode(token, what="token")
    attributes = der.children(der.read(data.signed, what="token"), what="token")
    backwards = der.write(der.SET, *(item.encoded for item in reversed(attributes)))
    with pytest.raises(EvidenceError, match="not in DER order"):
        check(encoded(data, signed=backwards, signature=authority.sign(backwards)), authority)


def test_an_accuracy_that_says_seconds_twice(authority: Authority) -> None:
    content = authority.info(DIGEST.value, accuracy={"seconds": 1, "millis": 5})
    bent = content.replace(b"\x80\x01\x05", b"\x02\x01\x05")
    assert bent != content
    with pytest.raises(EvidenceError, match="unknown or repeated field 0x02"):
        check(kept(authority, content=bent), authority)


def test_a_certificate_signed_with_an_old_hash(authority: Authority) -> None:
    issuing = stamping.authority_certificate("Issuer", authority.root, hash_=hashes.SHA224())
    bent = with_chain(authority, stamping.leaf_certificate(issuing), issuing)
    with pytest.raises(EvidenceError, match="expected a signature by ecdsa-with-SHA256 or"):
        check(kept(bent), bent)


def test_the_first_certificate_is_the_signers(authority: Authority) -> None:
    leaf, issuing = authority.chain
    twin = stamping.leaf_certificate(issuing, key=leaf.key)
    data = signed_data.decode(kept(authority), what="token")
    with pytest.raises(SignatureError, match="first certificate is not the one the signer is named by"):
        check(encoded(data, certificates=(twin.der, issuing.der)), authority)


# queries and responses


def test_a_query_is_read_by_another_implementation(authority: Authority) -> None:
    query = timestamp.make_query(DIGEST, b"\xff" * 8)
    token = timestamp_response.token_of_response(authority.respond(query))
    token = timestamp.normalised(token, root=authority.root.pem)
    assert check(token, authority).time == STAMPED
    for digest, nonce in ((DIGEST, b""), (DIGEST, bytes(21)), (tagged_digest("palm-torch/value/v1"), b"x")):
        with pytest.raises(EncodingError, match="time-stamp query"):
            timestamp.make_query(digest, nonce)


def test_refusals_say_why() -> None:
    for status, failure, message in (
        ("rejection", {"bad_alg"}, "rejection, unknown or unsupported algorithm"),
        ("waiting", set(), "waiting"),
        ("rejection", {"system_failure", "time_not_available"}, "time source not available, system failure"),
    ):
        answer: dict[str, Any] = {"status": status, "status_string": ["so sorry\n"]}
        if failure:
            answer["fail_info"] = failure
        body = tsp.PKIStatusInfo(answer).dump()
        with pytest.raises(EvidenceError) as caught:
            timestamp_response.token_of_response(der.write(der.SEQUENCE, body))
        assert "'so sorry\\n'" in str(caught.value)
        assert all(word in str(caught.value) for word in message.split(", "))


@pytest.mark.parametrize(
    "data",
    [b"", b"\x30\x00", b"\x30\x02\x30\x00", b"\x30\x05\x30\x03\x02\x01\x00", bytes(1 << 19), b"\x04\x00"],
)
def test_responses_that_are_none(data: bytes) -> None:
    with pytest.raises(EvidenceError, match="time-stamp response"):
        timestamp_response.token_of_response(data)


def test_a_refusal_with_something_unknown_in_it() -> None:
    status = der.write(der.SEQUENCE, der.write_integer(2), der.write_integer(7))
    with pytest.raises(EvidenceError, match=r"the authority refused: rejection$"):
        timestamp_response.token_of_response(der.write(der.SEQUENCE, status))


def test_modifications_show_in_the_token(authority: Authority) -> None:
    query = timestamp.make_query(DIGEST, b"n")
    answer = authority.respond(query, status="granted_with_mods")
    token = timestamp.normalised(timestamp_response.token_of_response(answer), root=authority.root.pem)
    assert check(token, authority).time == datetime(2026, 11, 21, 12, 30, tzinfo=UTC)
