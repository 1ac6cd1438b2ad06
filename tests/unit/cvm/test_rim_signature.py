"""The one profile of XML signatures: everything else is refused before anything is believed."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import timedelta

import pytest
import rim_world
from cryptography.x509.oid import ExtendedKeyUsageOID
from lxml import etree

from palm_torch.cvm import rim_signature, simulated_rim
from palm_torch.errors import EncodingError, EvidenceError, SignatureError, TrustAnchorError

DSIG = rim_signature.DSIG


def verify(data: bytes) -> rim_signature.Signed:
    return rim_signature.verify(data, anchors=[rim_world.anchor()], now=rim_world.NOW)


def test_what_was_signed_is_handed_on() -> None:
    signed = verify(rim_world.sign(b'<a><b c="d">e<f/>g</b>\n  </a>'))
    inner = rim_signature.Element("b", {"c": "d"}, (rim_signature.Element("f", {}, (), ""),), "eg")
    assert signed.root == rim_signature.Element("a", {}, (inner,), "")
    assert signed.chain.leaf == rim_world.authority().signer.certificate


def test_the_canonical_form_of_signed_info_has_the_namespaces_around_it() -> None:
    """A part cut out of the document would lose them, and its signature would be of other bytes."""
    data = rim_world.manifest()
    signed_info = etree.fromstring(data)[-1][0]
    in_place = etree.tostring(signed_info, method="c14n")
    alone = etree.tostring(etree.fromstring(etree.tostring(signed_info)), method="c14n", exclusive=True)
    assert b'xmlns:ns0="http://standards.iso.org' in in_place
    assert in_place != alone


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<a>" + b" " * (256 << 10) + b"</a>", "expected at most 262144 bytes, got 262151"),
        ("<a>é</a>".encode(), "expected ASCII characters alone"),
        (b"<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>", "byte 0: a document type, a comment or a CDATA"),
        (b"<a><!-- x --></a>", "byte 3: a document type, a comment or a CDATA section is not allowed"),
        (b"<a><![CDATA[x]]></a>", "byte 3: a document type, a comment or a CDATA section is not allowed"),
        (b"<?xml version='1.0'?><a/>", "byte 0: a processing instruction or an XML declaration"),
        (b"<a><?x y?></a>", "byte 3: a processing instruction"),
        (b"<a>&lt;</a>", "byte 3: a reference to an entity or a character"),
        (b"<a>&#65;</a>", "byte 3: a reference"),
        (b"", "not an XML document"),
        (b"<a>", "not an XML document"),
        (b"<a/><b/>", "not an XML document"),
        (b"<a\x00/>", "not an XML document"),
        (b"<a>" * 300 + b"</a>" * 300, "not an XML document"),
        (b"<a b='c'/>", "XML is not spelled as it is written out again"),
        (b"<a ></a>", "XML is not spelled as it is written out again"),
        (b" <a/>", "XML is not spelled as it is written out again"),
        (b"<a>\r\n</a>", "XML is not spelled as it is written out again"),
        (b"<a/>\n\n\n", "XML is not spelled as it is written out again, or something follows it"),
        (b"<a/> ", "or something follows it"),
        (b"<a/>", "expected one signature, got 0"),
        (b"<a><Signature/><Signature/></a>", "expected one signature, got 2"),
        (b"<Signature/>", "expected the signature to be the last thing"),
        (b"<a><Signature/><b/></a>", "expected the signature to be the last thing"),
        (b"<a><b><Signature/></b></a>", "expected the signature to be the last thing"),
        (b"<a><Signature/>x</a>", "expected the signature to be the last thing"),
        (b'<a Id="x"><Signature/></a>', "attribute 'Id' is not allowed"),
        (b'<a><b ID="x"/><Signature/></a>', "attribute 'ID' is not allowed"),
        (b'<a xml:base="x"><Signature/></a>', "attribute '{http://www.w3.org/XML/1998/namespace}base'"),
        (b'<a xml:id="x"><Signature/></a>', "}id' is not allowed"),
    ],
)
def test_not_in_the_profile(data: bytes, message: str) -> None:
    with pytest.raises(EvidenceError, match=re.escape(message)):
        verify(data)


def test_a_document_that_has_no_canonical_form() -> None:
    with pytest.raises(EvidenceError, match="XML has no canonical form"):
        rim_world.sign(b'<a xmlns:x="relative"/>')


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('URI=""', 'URI="#x"', "not in the one form that is accepted"),
        ("xml-c14n11", "xml-exc-c14n#", "not in the one form that is accepted"),
        ("more#ecdsa-sha384", "more#ecdsa-sha512", "not in the one form that is accepted"),
        ("<ds:KeyInfo>", '<ds:KeyInfo xmlns:x="urn:x">', "not in the one form that is accepted"),
        ("<ds:KeyInfo>", "<ds:KeyInfo>\n", "not in the one form that is accepted"),
        ("<ds:SignatureValue>", "<ds:SignatureValue> ", "not base64"),
        ("ds:DigestValue>", "ds:DigestValues>", "expected a digest of 48 bytes"),
    ],
)
def test_another_form_of_signature(old: str, new: str, message: str) -> None:
    data = rim_world.edited(rim_world.manifest(), old, new, count=2)
    with pytest.raises((EvidenceError, EncodingError), match=message):
        verify(data)


def test_an_empty_signature_element() -> None:
    with pytest.raises(
        EncodingError, match="expected a digest of 48 bytes and a signature of 96, got 0 and 0"
    ):
        verify(b"<a><Signature/></a>")


def test_line_breaks_of_certificates_have_their_place() -> None:
    data = rim_world.manifest()
    at = data.index(b"X509Certificate>") + len(b"X509Certificate>") + 64
    moved = data[:at] + data[at + 1 : at + 2] + b"\n" + data[at + 2 :]
    with pytest.raises(EvidenceError, match="not in the one form that is accepted"):
        verify(moved)


def test_too_many_certificates() -> None:
    chain = (*rim_world.authority().chain[:-1], *(rim_world.authority().root.der for _ in range(4)))
    data = rim_signature.sign(rim_world.document(), key=rim_world.authority().signer.key, chain=chain)
    with pytest.raises(TrustAnchorError, match="expected at most 6 certificates, got 7"):
        verify(data)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_too_few_certificates(count: int) -> None:
    chain = rim_world.authority().chain[:count]
    data = rim_signature.sign(rim_world.document(), key=rim_world.authority().signer.key, chain=chain)
    with pytest.raises(TrustAnchorError):
        verify(data)


def test_a_digest_of_another_length() -> None:
    data = rim_world.manifest()
    digest = re.search(rb"DigestValue>(.*?)<", data)
    assert digest
    short = base64.b64encode(hashlib.sha256(b"").digest())
    with pytest.raises(EncodingError, match="got 32 and 96"):
        verify(data.replace(digest[1], short))


def test_a_signature_by_another_key() -> None:
    other = simulated_rim.make_authority(rim_world.NOW).signer.key
    data = rim_signature.sign(rim_world.document(), key=other, chain=rim_world.authority().chain)
    with pytest.raises(SignatureError, match="RIM: signature does not verify"):
        verify(data)


def test_a_document_changed_after_it_was_signed() -> None:
    data = rim_world.edited(rim_world.manifest(), 'index="1" active="False"', 'index="1" active="True"')
    with pytest.raises(SignatureError, match=r"RIM: expected the digest .* of its signature"):
        verify(data)


def test_whoever_answers_about_revocation_does_not_sign_measurements() -> None:
    authority = rim_world.authority()
    start = rim_world.NOW - timedelta(days=1)
    uses = [ExtendedKeyUsageOID.OCSP_SIGNING]
    responder = simulated_rim.make_signer("Responder", authority.product, start, uses=uses)
    data = rim_signature.sign(
        rim_world.document(), key=responder.key, chain=(responder.der, *authority.chain[1:])
    )
    with pytest.raises(TrustAnchorError, match="its signer's certificate was issued for another use"):
        verify(data)
