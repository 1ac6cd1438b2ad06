"""Raw answers of the provisioning certification service: cut out byte for byte, or refused."""

from __future__ import annotations

import base64
import urllib.parse
from typing import Any

import pytest

from palm_torch.cvm import certificate_bytes, pcs
from palm_torch.errors import EncodingError, EvidenceError, InputError, PalmTorchError

CHAIN = "-----BEGIN%20CERTIFICATE-----%0AAAAA%0A-----END%20CERTIFICATE-----%0A"
INNER = '{"b" : 1,\n"a":"}\\u00e9\\"{"}'
SIGNATURE = "AB" * 64


def wrapped(inner: str = INNER, *, key: str = "tcbInfo", signature: str = f'"{SIGNATURE}"') -> bytes:
    return f'{{"{key}":{inner},"signature":{signature}}}'.encode()


def test_the_signed_text_comes_out_byte_for_byte() -> None:
    assert pcs.cut(wrapped(), pcs.TCB_INFO_KEY) == (INNER, SIGNATURE.lower())
    assert pcs.cut(b"\n " + wrapped() + b"\r\n\t ", pcs.TCB_INFO_KEY)[0] == INNER
    spaced = f'{{ "signature" : "{SIGNATURE}" , "enclaveIdentity" : {INNER} }}'.encode()
    assert pcs.cut(spaced, pcs.QE_IDENTITY_KEY) == (INNER, SIGNATURE.lower())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        wrapped() + b"x",
        wrapped() + wrapped(),
        wrapped()[:-1],
        wrapped()[1:],
        wrapped(key="enclaveIdentity"),
        wrapped(inner='"text"'),
        wrapped(inner="[]"),
        wrapped(inner='{"a":1,"a":1}'),
        wrapped(inner='{"a":NaN}'),
        wrapped(inner="[" * 100_000),
        wrapped(signature="1"),
        wrapped(signature='{"a":1}'),
        wrapped().replace(b'"signature"', b'"tcbInfo"'),
        wrapped().replace(b'"signature"', b"1"),
        wrapped().replace(b'"signature":', b'"signature"='),
        wrapped().replace(b'"}', b'","more":1}'),
        wrapped().replace(b'"signature":', b'"signature":1,"signature":'),
        b'{"tcbInfo":{},"signature":"aa",}',
        b" " * (pcs.MAX_BODY_BYTES + 1),
    ],
)
def test_other_answers_are_refused(body: bytes) -> None:
    with pytest.raises(EvidenceError, match="answer with tcbInfo"):
        pcs.cut(body, pcs.TCB_INFO_KEY)


def test_chains_come_in_a_header() -> None:
    plain = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    for header in (
        CHAIN,
        CHAIN.removesuffix("%0A"),
        CHAIN.replace("%0A", "%0D%0A"),
        CHAIN.lower()[:0] + CHAIN,
    ):
        assert pcs.decode_chain(header, what="chain") == plain
    assert pcs.decode_chain(urllib.parse.quote(plain + "+/="), what="chain") == plain + "+/=\n"
    assert pcs.decode_chain("A+B%2b", what="chain") == "A+B+\n"


@pytest.mark.parametrize(
    "header", ["%", "%4", "%zz", "é", "a\nb", "\x00", "A" * (pcs.MAX_CHAIN_CHARACTERS + 1)]
)
def test_other_headers_are_refused(header: str) -> None:
    with pytest.raises(EvidenceError, match="characters of percent-encoded PEM"):
        pcs.decode_chain(header, what="chain")


def test_lists_come_in_three_forms(vendor: Any) -> None:
    der = vendor.collateral().der("pck_crl")
    text = base64.b64encode(der)
    lines = b"".join(text[at : at + 64] + b"\n" for at in range(0, len(text), 64))
    pem = b"-----BEGIN X509 CRL-----\n" + lines + b"-----END X509 CRL-----\n"
    for body in (
        der,
        der.hex().encode(),
        der.hex().upper().encode() + b"\n",
        pem,
        pem.strip(),
        pem.replace(b"\n", b"\r\n"),
    ):
        assert pcs.read_crl(body, what="list") == der


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", EvidenceError),
        (b"<html>", EvidenceError),
        (b"308", EvidenceError),
        (b"3000", EncodingError),
        (b"0\x00", EncodingError),
        (b"-----BEGIN X509 CRL-----\nA\n-----END X509 CRL-----", EvidenceError),
        (b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\nmore", EvidenceError),
        (b"\x00" * (pcs.MAX_BODY_BYTES + 1), EvidenceError),
    ],
)
def test_other_lists_are_refused(body: bytes, error: type[PalmTorchError]) -> None:
    with pytest.raises(error):
        pcs.read_crl(body, what="list")


def test_answers_about_a_platform_become_its_collateral(vendor: Any) -> None:
    made = vendor.collateral()
    answers: dict[str, Any] = {
        name: pcs.Answer(
            f'{{"{key}":{getattr(made, name)},"signature":"{getattr(made, f"{name}_signature")}"}}'.encode(),
            urllib.parse.quote(getattr(made, f"{name}_issuer_chain")),
        )
        for name, key in (("tcb_info", pcs.TCB_INFO_KEY), ("qe_identity", pcs.QE_IDENTITY_KEY))
    }
    answers["pck_crl"] = pcs.Answer(made.der("pck_crl"), urllib.parse.quote(made.pck_crl_issuer_chain))
    found = pcs.collateral_of(**answers, root_ca_crl=made.der("root_ca_crl").hex().encode())
    assert found == made
    assert vendor.verify(endorsements=found).tcb_status == "UpToDate"
    certificate = certificate_bytes.encode_pem([vendor.authority.root.der]).decode()
    answers["pck_crl"] = pcs.Answer(made.der("pck_crl"), urllib.parse.quote(certificate))
    with pytest.raises(InputError, match="pck_crl_issuer_chain: expected 2 PEM certificates"):
        pcs.collateral_of(**answers, root_ca_crl=made.der("root_ca_crl"))
