"""Distinguished encoding, against asn1crypto's strict parser, and the time-stamps that are written in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asn1crypto import parser
from cryptography import x509
from laws import REFUSED, accepted, ours

from palm_torch.cvm import certificate_bytes, cms, der, timestamp, timestamp_info, timestamp_response
from palm_torch.digest import SHA256, Digest

if TYPE_CHECKING:
    from palm_torch.cvm.der import Element

MAX_DEPTH = 8
SOMETHING = Digest(SHA256, bytes(32))


def one_input(data: bytes) -> None:
    element = accepted(data, lambda raw: der.read(raw, what="x"), lambda found: found.encoded)
    if element is not REFUSED:
        check(element)
    ours(timestamp_info.read, data, what="x")
    token = ours(timestamp_response.token_of_response, data)
    stamps(data if token is REFUSED else token)


def check(element: Element, depth: int = 0) -> None:
    """Checks an element, and those inside it, against another reader and our own writer."""
    assert der.write(element.tag, element.content) == element.encoded
    kind, constructed, number, header, content, trailer = parser.parse(element.encoded, strict=True)
    assert (kind << 6 | constructed << 5 | number, content) == (element.tag, element.content)
    assert header + content + trailer == element.encoded
    integer = ours(der.read_integer, element, what="x")
    if integer is not REFUSED:
        assert der.write_integer(integer) == element.encoded
    inside = ours(der.children, element, what="x")
    if inside is not REFUSED and depth < MAX_DEPTH:
        assert b"".join(child.encoded for child in inside) == element.content
        for child in inside:
            check(child, depth + 1)


def stamps(token: bytes) -> None:
    """Checks a token, under whatever root it brings along."""
    accepted(token, lambda raw: cms.decode(raw, what="x"), cms.encode)
    parsed = ours(cms.parse, token, what="x")
    if parsed is REFUSED:
        return
    assert cms.encode(cms.decode(cms.encode(parsed), what="x")) == cms.encode(parsed)
    ours(timestamp_info.read, parsed.content, what="x")
    for certificate in parsed.certificates[-1:]:
        try:
            root = x509.load_der_x509_certificate(certificate)
        except certificate_bytes.FOREIGN_ERRORS:
            continue
        ours(timestamp.verify_token, token, digest=SOMETHING, root=root)
        kept = ours(timestamp.normalised, token, root=root)
        if kept is not REFUSED:
            assert timestamp.normalised(kept, root=root) == kept
            ours(timestamp.verify_token, kept, digest=SOMETHING, root=root)
