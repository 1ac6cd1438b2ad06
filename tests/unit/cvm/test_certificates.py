"""Certificates: their one spelling, the walk from the root, revocation, and the platform they name."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from palm_torch.cvm import (
    certificate_bytes,
    certificates,
    der,
    pck,
    revocation,
    simulated_authority,
    simulated_collateral,
)
from palm_torch.errors import EncodingError, SignatureError, TrustAnchorError

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
CA_USAGE = simulated_authority._key_usage(is_ca=True)
LEAF_USAGE = simulated_authority._key_usage(is_ca=False)


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def issue(
    common_name: str, issuer: simulated_authority.Identity | None = None, **changes: Any
) -> simulated_authority.Identity:
    """Makes an identity; keywords bend one property of its certificate each."""
    key = changes.get("key") or simulated_authority.new_key()
    signing_key = changes.get("signing_key") or (issuer.key if issuer else key)
    is_ca = changes.get("is_ca", False)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(common_name))
        .issuer_name(issuer.certificate.subject if issuer else name(common_name))
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(changes.get("start", NOW - timedelta(days=1)))
        .not_valid_after(changes.get("end", NOW + timedelta(days=1)))
    )
    if changes.get("constraints", True):
        builder = builder.add_extension(
            x509.BasicConstraints(ca=is_ca, path_length=changes.get("path_length")), critical=True
        )
    builder = builder.add_extension(changes.get("usage", CA_USAGE if is_ca else LEAF_USAGE), critical=True)
    if extra := changes.get("extra"):
        builder = builder.add_extension(extra, critical=True)
    certificate = builder.sign(signing_key, changes.get("hash", hashes.SHA256()))
    return simulated_authority.Identity(key, certificate)


ROOT = issue("root", is_ca=True, path_length=1)
CA = issue("ca", ROOT, is_ca=True, path_length=0)
LEAF = issue("leaf", CA)


def walk(
    *chain: simulated_authority.Identity, root: simulated_authority.Identity = ROOT
) -> certificates.VerifiedChain:
    anchor = certificates.TrustAnchor.from_certificate(root.der, name="root")
    return certificates.verify_chain(
        [identity.der for identity in chain], anchors=[anchor], now=NOW, what="chain"
    )


def test_a_sound_chain_leads_to_its_anchor() -> None:
    chain = walk(LEAF, CA, ROOT)
    assert chain.leaf == LEAF.certificate
    assert chain.root == ROOT.certificate
    assert chain.anchor.name == "root"


UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
BROKEN = {
    "not yet valid": issue("leaf", CA, start=NOW + timedelta(hours=1)),
    "expired": issue("leaf", CA, end=NOW - timedelta(hours=1)),
    "a CA": issue("leaf", CA, is_ca=True),
    "without constraints": issue("leaf", CA, constraints=False),
    "no signing": issue("leaf", CA, usage=CA_USAGE),
    "critical unknown": issue("leaf", CA, extra=UNKNOWN),
    "another curve": issue("leaf", CA, key=ec.generate_private_key(ec.SECP384R1())),
    "an RSA key": issue("leaf", CA, key=rsa.generate_private_key(65537, 2048)),
}


@pytest.mark.parametrize("leaf", BROKEN.values(), ids=BROKEN)
def test_leaves_that_are_refused(leaf: simulated_authority.Identity) -> None:
    with pytest.raises(TrustAnchorError, match="chain, certificate 0"):
        walk(leaf, CA, ROOT)


def test_issuers_that_are_refused() -> None:
    not_a_ca = issue("ca", ROOT)
    with pytest.raises(TrustAnchorError, match="certificate 1: expected a CA"):
        walk(issue("leaf", not_a_ca), not_a_ca, ROOT)
    no_usage = issue("ca", ROOT, is_ca=True, usage=LEAF_USAGE)
    with pytest.raises(TrustAnchorError, match="certificate 1: key usage"):
        walk(issue("leaf", no_usage), no_usage, ROOT)
    unlimited = issue("upper", ROOT, is_ca=True)
    lower = issue("lower", unlimited, is_ca=True)
    with pytest.raises(TrustAnchorError, match="root: path length 1 < 2"):
        walk(issue("leaf", lower), lower, unlimited, ROOT)


def test_signatures_that_are_refused() -> None:
    forged = issue("leaf", CA, signing_key=simulated_authority.new_key())
    with pytest.raises(SignatureError, match="certificate 0: not signed by"):
        walk(forged, CA, ROOT)
    misnamed = issue("leaf", issue("someone", key=CA.key, is_ca=True))
    with pytest.raises(SignatureError, match="certificate 0: not signed by"):
        walk(misnamed, CA, ROOT)


def test_a_name_is_no_anchor() -> None:
    """Another key named as the pinned root: such a root exists in the world."""
    impostor = issue("root", is_ca=True, path_length=1)
    leaf = issue("leaf", impostor)
    with pytest.raises(TrustAnchorError, match="is not a configured trust anchor"):
        walk(leaf, impostor)
    assert walk(leaf, impostor, root=impostor)


def test_an_anchor_pins_the_key_as_well() -> None:
    anchor = certificates.TrustAnchor.from_certificate(ROOT.der, name="root")
    with pytest.raises(TrustAnchorError):
        certificates.verify_chain(
            [LEAF.der, CA.der, ROOT.der],
            anchors=[dataclasses.replace(anchor, spki_sha256=bytes(32))],
            now=NOW,
            what="chain",
        )


def test_a_root_alone_is_no_chain() -> None:
    with pytest.raises(TrustAnchorError, match="got 1 certificates"):
        walk(ROOT)


def test_a_simulated_root_cannot_be_configured_as_hardware(vendor: Any) -> None:
    with pytest.raises(TrustAnchorError, match="cannot be trusted as hardware"):
        certificates.TrustAnchor.from_certificate(vendor.authority.root.der, name="mine", simulated=False)
    assert vendor.anchor.simulated
    assert not certificates.INTEL_SGX_ROOT.simulated


def mend(data: bytes, before: bytes, after: bytes) -> bytes:
    assert before in data
    return data.replace(before, after)


def serial(content: bytes) -> bytes:
    """The leaf's certificate with another serial number, outer lengths mended, signature stale."""
    signed, algorithm, signature = der.children(der.read(LEAF.der, what="leaf"), what="leaf")
    version, _, *rest = der.children(signed, what="leaf")
    fields = [version.encoded, der.write(der.INTEGER, content), *(field.encoded for field in rest)]
    return der.write(der.SEQUENCE, der.write(der.SEQUENCE, *fields), algorithm.encoded, signature.encoded)


def reframed(data: bytes, **changes: bytes) -> bytes:
    signed, algorithm, signature = der.children(der.read(data, what="leaf"), what="leaf")
    parts = {"signed": signed.encoded, "algorithm": algorithm.encoded, "signature": signature.encoded}
    return der.write(der.SEQUENCE, *(parts | changes).values())


def bits(data: bytes) -> bytes:
    return der.children(der.read(data, what="leaf"), what="leaf")[2].content


INNER_SHA384 = mend(LEAF.der, bytes.fromhex("2a8648ce3d040302"), bytes.fromhex("2a8648ce3d040303"))
MALFORMED = {
    "empty": b"",
    "trailing byte": LEAF.der + b"\x00",
    "two parts": der.write(der.SEQUENCE, der.write_integer(1), der.write_integer(1)),
    "sha384": issue("leaf", CA, hash=hashes.SHA384()).der,
    "other inner algorithm": reframed(INNER_SHA384, algorithm=certificate_bytes.ECDSA_SHA256),
    "unused bits": reframed(LEAF.der, signature=der.write(der.BIT_STRING, b"\x01" + bits(LEAF.der)[1:])),
    "padded signature": reframed(LEAF.der, signature=der.write(der.BIT_STRING, bits(LEAF.der) + b"\x00")),
    "no signature": reframed(LEAF.der, signature=der.write(der.BIT_STRING, b"\x00")),
    "signature of another type": reframed(LEAF.der, signature=der.write_integer(1)),
    "zero serial": serial(b"\x00"),
    "negative serial": serial(b"\x80"),
    "empty serial": serial(b""),
    "nothing signed": reframed(LEAF.der, signed=der.write(der.SEQUENCE)),
    "version 2": mend(LEAF.der, bytes.fromhex("a003020102"), bytes.fromhex("a003020101")),
    "garbage inside": reframed(
        LEAF.der,
        signed=der.write(
            der.SEQUENCE,
            bytes.fromhex("a003020102"),
            der.write_integer(1),
            certificate_bytes.ECDSA_SHA256,
        ),
    ),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_certificates_with_another_spelling(data: Any) -> None:
    with pytest.raises(EncodingError, match="leaf"):
        certificate_bytes.load_certificate(data, what="leaf")


def test_pem_has_one_spelling() -> None:
    pem = certificate_bytes.encode_pem([LEAF.der, ROOT.der])
    assert certificate_bytes.decode_pem(pem, what="chain", count=2) == (LEAF.der, ROOT.der)
    for other in (
        pem[:-1],
        pem + b"\n",
        b"\n" + pem,
        pem.replace(b"\n", b"\r\n"),
        pem.replace(b"\nMII", b"\n MII", 1),
        pem.replace(b"BEGIN", b"BEGAN", 1),
        pem.replace(b"=\n", b"?\n", 1).replace(b"A", b"?", 1),
        certificate_bytes.encode_pem([LEAF.der]),
    ):
        with pytest.raises(EncodingError, match="chain"):
            certificate_bytes.decode_pem(other, what="chain", count=2)


def crl(
    issuer: simulated_authority.Identity = CA,
    *,
    extension: x509.ExtensionType | None = None,
    critical: bool = False,
    **changes: Any,
) -> bytes:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(changes.get("start", NOW - timedelta(hours=1)))
        .next_update(changes.get("end", NOW + timedelta(hours=1)))
    )
    if extension:
        builder = builder.add_extension(extension, critical=critical)
    signed = builder.sign(changes.get("key", issuer.key), changes.get("hash", hashes.SHA256()))
    return signed.public_bytes(Encoding.DER)


def check(data: bytes, issuer: simulated_authority.Identity = CA) -> x509.CertificateRevocationList:
    return revocation.verify_crl(data, issuer=issuer.certificate, now=NOW, what="list")


def test_a_current_list_names_no_one() -> None:
    revocation.check_not_revoked(LEAF.certificate, check(crl()), what="leaf")


def test_the_list_window_is_half_open() -> None:
    assert len(check(crl(start=NOW))) == 0
    with pytest.raises(SignatureError, match="≤ time <"):
        check(crl(end=NOW))


DELTA = x509.DeltaCRLIndicator(1)
REFUSED_LISTS = {
    "another key": crl(key=simulated_authority.new_key()),
    "another issuer": crl(ROOT),
    "not yet": crl(start=NOW + timedelta(seconds=1)),
    "delta": crl(extension=DELTA, critical=True),
    "RSA": crl(issue("ca", ROOT, is_ca=True)),
}


@pytest.mark.parametrize("data", REFUSED_LISTS.values(), ids=REFUSED_LISTS)
def test_lists_that_are_refused(data: Any) -> None:
    with pytest.raises(SignatureError, match="list"):
        check(data)


def test_an_issuer_that_may_not_sign_lists() -> None:
    with pytest.raises(SignatureError, match="not signed by"):
        check(crl(LEAF), LEAF)
    bare = issue("bare", CA, usage=x509.ExtendedKeyUsage([x509.OID_SERVER_AUTH]))
    with pytest.raises(SignatureError, match="cannot be checked"):
        check(crl(bare), bare)


def test_a_list_without_an_end_is_refused() -> None:
    signed, algorithm, _ = der.children(der.read(crl(), what="list"), what="list")
    version, inner, issuer, start, _ = der.children(signed, what="list")
    endless = der.write(der.SEQUENCE, *(part.encoded for part in (version, inner, issuer, start)))
    signature = CA.key.sign(endless, ec.ECDSA(hashes.SHA256()))
    data = der.write(der.SEQUENCE, endless, algorithm.encoded, der.write(der.BIT_STRING, b"\x00" + signature))
    with pytest.raises(SignatureError, match="time < None"):
        check(data)


def test_a_list_with_one_extension_twice_is_refused() -> None:
    signed, algorithm, _ = der.children(der.read(crl(), what="list"), what="list")
    extension = der.write(
        der.SEQUENCE, der.write_oid("2.5.29.20"), der.write(der.OCTET_STRING, der.write_integer(1))
    )
    extensions = der.write(0xA0, der.write(der.SEQUENCE, extension, extension))
    fields = [part.encoded for part in der.children(signed, what="list")]
    twice = der.write(der.SEQUENCE, *fields, extensions)
    signature = CA.key.sign(twice, ec.ECDSA(hashes.SHA256()))
    data = der.write(der.SEQUENCE, twice, algorithm.encoded, der.write(der.BIT_STRING, b"\x00" + signature))
    with pytest.raises(SignatureError, match="cannot be read"):
        check(data)


def test_a_key_on_an_unknown_curve_is_refused() -> None:
    p256, unknown = bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d030109")
    certificate = certificate_bytes.load_certificate(mend(LEAF.der, p256, unknown), what="leaf")
    with pytest.raises(TrustAnchorError, match="leaf: expected a P-256 key"):
        certificates.p256_key(certificate, what="leaf")


MALFORMED_LISTS = {
    "a certificate": LEAF.der,
    "sha384": crl(hash=hashes.SHA384()),
    "other inner algorithm": reframed(crl(hash=hashes.SHA384()), algorithm=certificate_bytes.ECDSA_SHA256),
    "garbage inside": reframed(
        crl(), signed=der.write(der.SEQUENCE, der.write_integer(1), certificate_bytes.ECDSA_SHA256)
    ),
}


@pytest.mark.parametrize("data", MALFORMED_LISTS.values(), ids=MALFORMED_LISTS)
def test_lists_with_another_spelling(data: Any) -> None:
    with pytest.raises(EncodingError, match="list"):
        check(data)


def test_the_simulated_list_names_whom_it_is_told_to(vendor: Any) -> None:
    ca = vendor.authority.pck_ca
    victim = vendor.authority.pck.certificate
    data = simulated_collateral.make_crl(ca, NOW, revoked=[victim])
    with pytest.raises(SignatureError, match=f"{victim.serial_number:x} has been revoked"):
        revocation.check_not_revoked(victim, check(data, ca), what="PCK")


def test_the_platform_is_read_from_the_extension(vendor: Any) -> None:
    platform = pck.read_platform(vendor.authority.pck.certificate)
    assert (platform.fmspc, platform.pce_id) == (b"SIMULA", b"\x00\x00")
    assert len(platform.ppid) == len(platform.platform_instance_id or b"") == 16


def platform_of(*pairs: bytes) -> pck.Platform:
    value = der.write(der.SEQUENCE, *pairs)
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(pck.SGX_EXTENSION), value)
    builder = x509.CertificateBuilder(
        issuer_name=name("x"),
        subject_name=name("x"),
        public_key=LEAF.key.public_key(),
        serial_number=1,
        not_valid_before=NOW,
        not_valid_after=NOW + timedelta(days=1),
    ).add_extension(extension, critical=False)
    return pck.read_platform(builder.sign(LEAF.key, hashes.SHA256()))


def field(oid: str, size: int, tag: int = der.OCTET_STRING) -> bytes:
    return der.write(der.SEQUENCE, der.write_oid(oid), der.write(tag, bytes(size)))


PPID, FMSPC, PCE_ID = field(pck.PPID, 16), field(pck.FMSPC, 6), field(pck.PCE_ID, 2)


def test_a_single_package_platform_has_no_instance_id() -> None:
    assert platform_of(PPID, FMSPC, PCE_ID).platform_instance_id is None


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ((PPID, FMSPC), "is missing"),
        ((PPID, PPID, FMSPC, PCE_ID), "occurs twice"),
        ((field(pck.PPID, 15), FMSPC, PCE_ID), "expected 16 bytes, got 15"),
        ((field(pck.PPID, 16, der.BIT_STRING), FMSPC, PCE_ID), "expected DER tag"),
        ((der.write(der.SEQUENCE, der.write_oid(pck.PPID)),), "expected pairs"),
        ((der.write(der.SEQUENCE, der.write_integer(1), der.write_integer(1)),), "expected DER tag"),
    ],
)
def test_extensions_that_are_refused(pairs: tuple[bytes, ...], message: str) -> None:
    with pytest.raises(EncodingError, match=message):
        platform_of(*pairs)


def test_a_certificate_without_the_extension_names_no_platform() -> None:
    with pytest.raises(EncodingError, match="missing"):
        pck.read_platform(LEAF.certificate)


def test_an_anchor_whose_subject_cannot_be_read() -> None:
    root = issue("root", is_ca=True).der
    subject = root.rindex(b"\x0c\x04root")  # UTF8String, four bytes
    changed = root[:subject] + b"\x8c" + root[subject + 1 :]
    with pytest.raises(EncodingError, match="trust anchor 'x': its subject cannot be read"):
        certificates.TrustAnchor.from_certificate(changed, name="x")


def test_a_list_whose_issuer_has_no_readable_name(vendor: Any) -> None:
    """Whoever holds the key of a simulated root can have it sign such an issuer."""
    ca = vendor.authority.pck_ca
    text = b"Simulated SGX PCK Platform CA"
    old, new = (bytes((tag, len(text))) + text for tag in (0x0C, 0x09))
    issuer = certificate_bytes.load_certificate(ca.der.replace(old, new), what="CA")
    data = simulated_collateral.make_crl(ca, NOW)
    with pytest.raises(SignatureError, match="list: cannot be checked: "):
        revocation.verify_crl(data, issuer=issuer, now=NOW, what="list")
