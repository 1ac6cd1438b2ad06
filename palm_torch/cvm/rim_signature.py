"""The signature inside a reference measurement document: one profile of XML signatures, letter by letter.

XML signatures can be written in many ways, and most attacks on them use one that the verifier reads
differently from the reader of the data. Here there is one way: the signature element is compared, as bytes,
with the only spelling its values have, and what was digested is the only thing that is handed on.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from lxml import etree

from palm_torch.cvm import certificates, hierarchies
from palm_torch.encoding import decode_base64, encode_base64
from palm_torch.errors import EncodingError, EvidenceError, SignatureError, TrustAnchorError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

MAX_BYTES: Final = 256 << 10
MAX_CERTIFICATES: Final = 6
"""Longest chain, root included; NVIDIA's have four certificates."""

MAX_LINE_FEEDS: Final = 2
"""Most line feeds after the document: NVIDIA's files end with none, one or two."""

SIGNATURE_BYTES: Final = 96
"""r ‖ s on P-384."""

DSIG: Final = "http://www.w3.org/2000/09/xmldsig#"
_C14N: Final = "http://www.w3.org/2006/12/xml-c14n11"
_XML: Final = "{http://www.w3.org/XML/1998/namespace}"
_LINE_CHARACTERS: Final = 64
_LINE_FEED: Final = "\n"
_COORDINATE_BYTES: Final = SIGNATURE_BYTES // 2
_FORBIDDEN: Final = {
    b"<!": "a document type, a comment or a CDATA section",
    b"<?": "a processing instruction or an XML declaration",
    b"&": "a reference to an entity or a character",
}

_SIGNED_INFO: Final = (
    "<ds:SignedInfo>"
    f'<ds:CanonicalizationMethod Algorithm="{_C14N}"/>'
    '<ds:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"/>'
    '<ds:Reference URI="">'
    "<ds:Transforms>"
    f'<ds:Transform Algorithm="{DSIG}enveloped-signature"/>'
    f'<ds:Transform Algorithm="{_C14N}"/>'
    "</ds:Transforms>"
    '<ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#sha384"/>'
    "<ds:DigestValue>{digest}</ds:DigestValue>"
    "</ds:Reference>"
    "</ds:SignedInfo>"
)
_SIGNATURE: Final = (
    f'<ds:Signature xmlns:ds="{DSIG}">'
    f"{_SIGNED_INFO}"
    "<ds:SignatureValue>{signature}</ds:SignatureValue>"
    "<ds:KeyInfo><ds:X509Data>{certificates}</ds:X509Data></ds:KeyInfo>"
    "</ds:Signature>"
)


@dataclass(frozen=True, slots=True)
class Element:
    """An element of a document whose signature was verified.

    Attributes:
        tag: Its name, "{namespace}name".
        attributes: Name → value; names in a namespace are spelled like tags.
        children: The elements in it.
        text: What else is in it, without white space at either end.
    """

    tag: str
    attributes: Mapping[str, str]
    children: tuple[Element, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Signed:
    """A document that `verify` has verified, without its signature element.

    Attributes:
        root: The element that was digested.
        sha256: SHA-256 of its canonical form, 32 bytes: what names the document, for its bytes do not
            (attributes may stand in another order).
        chain: The certificates of its signer.
    """

    root: Element
    sha256: bytes
    chain: certificates.VerifiedChain


def verify(
    data: bytes, *, anchors: Sequence[certificates.TrustAnchor], now: datetime, what: str = "RIM"
) -> Signed:
    """Verifies a signed document and returns what was signed.

    1. At most 256 KiB of ASCII without document type, comment, CDATA section, processing instruction or
       entity, so that a parser has nothing to resolve; at most two line feeds after it.
    2. It parses, and written out again it is the same bytes.
    3. One Signature element, the last thing in the root; no attribute that could be an identifier or, like
       xml:base, be inherited by a part of the document.
    4. That element is, byte for byte, the profile with the digest, signature and certificates it holds:
       one reference, to the whole document; two transforms; canonical base64.
    5. The root without it, in canonical form (inclusive, without comments), has the digest.
    6. The certificates lead to one of `anchors`. The signer's has no extended key usage: whoever may sign
       revocation answers may not sign measurements.
    7. The signer's key signed SignedInfo, in canonical form as it stands in the document.

    Args:
        data: The document, XML.
        anchors: The roots that the verifier's own configuration admits.
        now: Time of verification, aware.
        what: Name of the document, for messages.

    Raises:
        EvidenceError: If it is not in the profile (EncodingError: certificates or base64 are not).
        TrustAnchorError: If the certificates do not lead to an anchor, or not at that time.
        SignatureError: If digest or signature are wrong.

    Source: W3C XML Signature Syntax and Processing 1.1; W3C Canonical XML 1.1, which equals 1.0 where no
    attribute is in the XML namespace; RFC 6931 for the names of the algorithms.
    """
    root = _parse(data, what)  # 1, 2
    signature = _signature_element(root, what)  # 3
    digest, value, chain = _read_profile(data, signature, what)  # 4
    signed_info = _canonical(signature[0], what)  # where it stands: cut out, it would lose namespaces
    root.remove(signature)
    canonical = _canonical(root, what)  # 5
    found = hashlib.sha384(canonical).digest()
    if not hmac.compare_digest(found, digest):
        raise SignatureError(
            f"{what}: expected the digest {digest.hex()} of its signature, got {found.hex()}"
        )
    verified = certificates.verify_chain(  # 6
        chain, anchors=anchors, now=now, what=f"{what}: certificate chain", hierarchy=hierarchies.CORIM
    )
    _check_purpose(verified.leaf, what)
    key = certificates.p384_key(verified.leaf, what=f"{what}: signer")
    _verify_raw(key, value, signed_info, what)  # 7
    return Signed(_element(root), hashlib.sha256(canonical).digest(), verified)


def sign(unsigned: bytes, *, key: ec.EllipticCurvePrivateKey, chain: Sequence[bytes]) -> bytes:
    """Signs a document with a key of the simulated vendor.

    Args:
        unsigned: The document, in the spelling that parsing and writing gives.
        key: The signer's key, P-384.
        chain: Its certificates, DER, leaf first, root last.

    Raises:
        EvidenceError: If the document is not one that `verify` reads.
    """
    what = "document to sign"
    before, _, end = unsigned.rstrip(b"\n").rpartition(b"</")
    digest = hashlib.sha384(_canonical(_parse(unsigned, what), what)).digest()

    def whole(signature: bytes) -> bytes:
        return before + _spell(digest, signature, chain) + b"</" + end

    unfinished = _parse(whole(bytes(SIGNATURE_BYTES)), what)
    signed_info = _canonical(unfinished[-1][0], what)
    r, s = utils.decode_dss_signature(key.sign(signed_info, ec.ECDSA(hashes.SHA384())))
    return whole(b"".join(number.to_bytes(_COORDINATE_BYTES, "big") for number in (r, s)))


def _parse(data: bytes, what: str) -> Any:  # noqa: ANN401 (lxml has no types)
    """Steps 1 and 2."""
    if len(data) > MAX_BYTES:
        raise EvidenceError(f"{what}: expected at most {MAX_BYTES} bytes, got {len(data)}")
    if not data.isascii():
        raise EvidenceError(f"{what}: expected ASCII characters alone")
    for characters, meaning in _FORBIDDEN.items():
        if characters in data:
            raise EvidenceError(f"{what}: byte {data.index(characters)}: {meaning} is not allowed")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(data, parser)
        written = etree.tostring(root, with_tail=False)
    except (etree.LxmlError, ValueError) as error:
        raise EvidenceError(f"{what}: not an XML document: {error}") from error
    if not data.startswith(written) or data[len(written) :] not in (b"", b"\n", b"\n" * MAX_LINE_FEEDS):
        raise EvidenceError(f"{what}: XML is not spelled as it is written out again, or something follows it")
    return root


def _canonical(element: Any, what: str) -> bytes:  # noqa: ANN401
    """Returns an element's canonical form, with the namespaces that are in scope where it stands."""
    try:
        form: bytes = etree.tostring(element, method="c14n", exclusive=False, with_comments=False)
    except (etree.LxmlError, ValueError) as error:
        raise EvidenceError(f"{what}: XML has no canonical form: {error}") from error
    return form


def _signature_element(root: Any, what: str) -> Any:  # noqa: ANN401
    """Step 3."""
    for element in root.iter():
        for name in element.attrib:
            if name.startswith(_XML) or etree.QName(name).localname.lower() == "id":
                raise EvidenceError(f"{what}: attribute {name!r} is not allowed")
    found = list(root.iter("{*}Signature"))
    if len(found) != 1:
        raise EvidenceError(f"{what}: expected one signature, got {len(found)}")
    if found[0].getparent() is not root or found[0].getnext() is not None or found[0].tail:
        raise EvidenceError(f"{what}: expected the signature to be the last thing in the document")
    return found[0]


def _read_profile(
    data: bytes,
    signature: Any,  # noqa: ANN401
    what: str,
) -> tuple[bytes, bytes, tuple[bytes, ...]]:
    """Step 4: digest, signature and certificates, leaf first."""
    chain = tuple(
        decode_base64((node.text or "").replace("\n", ""), what=f"{what}: certificate {position}")
        for position, node in enumerate(signature.iter(f"{{{DSIG}}}X509Certificate"))
    )
    if len(chain) > MAX_CERTIFICATES:
        raise TrustAnchorError(f"{what}: expected at most {MAX_CERTIFICATES} certificates, got {len(chain)}")
    digest, value = (
        decode_base64(signature.findtext(f".//{{{DSIG}}}{name}") or "", what=f"{what}: {name}")
        for name in ("DigestValue", "SignatureValue")
    )
    if len(digest) != hashlib.sha384().digest_size or len(value) != SIGNATURE_BYTES:
        raise EncodingError(
            f"{what}: expected a digest of 48 bytes and a signature of {SIGNATURE_BYTES}, "
            f"got {len(digest)} and {len(value)}"
        )
    if not data[: data.rindex(b"</")].endswith(_spell(digest, value, chain)):
        raise EvidenceError(f"{what}: its signature is not in the one form that is accepted")
    return digest, value, chain


def _spell(digest: bytes, signature: bytes, chain: Sequence[bytes]) -> bytes:
    """Returns the signature element with these values in it."""
    blocks = []
    for certificate in chain:
        text = base64.b64encode(certificate).decode("ascii")
        lines = (text[at : at + _LINE_CHARACTERS] for at in range(0, len(text), _LINE_CHARACTERS))
        blocks.append(
            f"<ds:X509Certificate>{''.join(line + _LINE_FEED for line in lines)}</ds:X509Certificate>"
        )
    return _SIGNATURE.format(
        digest=encode_base64(digest), signature=encode_base64(signature), certificates="".join(blocks)
    ).encode("ascii")


def _check_purpose(signer: x509.Certificate, what: str) -> None:
    """Step 6, last sentence."""
    if any(extension.oid == x509.ExtendedKeyUsage.oid for extension in signer.extensions):
        raise TrustAnchorError(f"{what}: its signer's certificate was issued for another use")


def _verify_raw(key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes, what: str) -> None:
    r, s = (
        int.from_bytes(half, "big") for half in (signature[:_COORDINATE_BYTES], signature[_COORDINATE_BYTES:])
    )
    try:
        key.verify(utils.encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature as error:
        raise SignatureError(f"{what}: signature does not verify") from error


def _element(node: Any) -> Element:  # noqa: ANN401 (lxml has no types)
    text = "".join([node.text or "", *(child.tail or "" for child in node)])
    return Element(node.tag, dict(node.attrib), tuple(_element(child) for child in node), text.strip())
