"""What a hypervisor hands over with a report, and how it travels."""

from __future__ import annotations

import dataclasses
import uuid

import pytest
import snp_world

from palm_torch import codec
from palm_torch.cvm import certificate_bytes, snp_endorsements
from palm_torch.errors import EncodingError, EvidenceError

VCEK, VLEK, ASK, ARK, CRL = snp_endorsements.GUIDS
OTHER = uuid.UUID(int=7)


def table(*entries: tuple[uuid.UUID, bytes]) -> bytes:
    at = 24 * (len(entries) + 1)
    head = b""
    for kind, content in entries:
        head += kind.bytes + at.to_bytes(4, "little") + len(content).to_bytes(4, "little")
        at += len(content)
    return head + bytes(24) + b"".join(content for _, content in entries)


def entry(kind: uuid.UUID, start: int, size: int) -> bytes:
    return kind.bytes + start.to_bytes(4, "little") + size.to_bytes(4, "little")


def test_identifiers_stand_in_the_order_they_are_spelled() -> None:
    assert VCEK.bytes.hex() == "63da758de6644564adc5f4b93be8accd"
    assert table((VCEK, b"x")).startswith(bytes.fromhex("63da758de6644564adc5f4b93be8accd30000000"))


def test_a_whole_table_becomes_endorsements() -> None:
    vcek, ask, ark = snp_world.authority().chain
    crl = snp_world.crl()
    data = table((VCEK, vcek), (ASK, ask), (ARK, ark), (CRL, crl), (OTHER, b"?")) + bytes(100)
    read = snp_endorsements.read_certificate_table(data)
    assert (read.vcek, read.vlek, read.ask, read.ark, read.crl) == (vcek, None, ask, ark, crl)
    made = read.endorsements(0)
    assert made is not None
    assert (made.chain(), made.revocation_list(), made.complete) == ((vcek, ask, ark), crl, True)
    assert read.endorsements(1) is None
    assert read.endorsements(7) is None


def test_the_leaf_alone_is_kept() -> None:
    leaf, asvk, ark = snp_world.vlek_chain()
    for contents, chain in (
        (((VLEK, leaf),), (leaf,)),
        (((VLEK, leaf), (ARK, ark)), (leaf,)),
        (((VLEK, leaf), (ASK, asvk)), (leaf, asvk)),
    ):
        made = snp_endorsements.read_certificate_table(table(*contents)).endorsements(1)
        assert made is not None
        assert (made.chain(), made.complete, made.revocation_list()) == (chain, False, None)


@pytest.mark.parametrize("data", [b"", bytes(24), bytes(4096), table((VCEK, b""))])
def test_a_table_may_be_empty(data: bytes) -> None:
    assert snp_endorsements.read_certificate_table(data) == snp_endorsements.CertificateTable()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (bytes(131_073), "at most 131072 bytes"),
        (bytes(23), "entry of zeros at the end"),
        (entry(VCEK, 24, 8), "entry of zeros at the end"),
        (entry(VCEK, 24, 8) + b"\x00" * 23, "entry of zeros at the end"),
        (entry(VCEK, 47, 8) + bytes(48), "vcek: expected bytes between 48 and 72, got 47 to 55"),
        (entry(OTHER, 0, 8) + bytes(48), "expected bytes between 48 and 72, got 0 to 8"),
        (entry(VCEK, 48, 25) + bytes(48), "got 48 to 73"),
        (entry(VCEK, 2**32 - 1, 2**32 - 1) + bytes(48), "got 4294967295 to 8589934590"),
        (entry(VCEK, 72, 8) + entry(ASK, 79, 8) + bytes(48), "ask: expected bytes between 80 and 96"),
        (entry(VCEK, 72, 8) + entry(OTHER, 76, 2) + bytes(48), "expected bytes between 80 and 96"),
        (entry(VCEK, 72, 8) + entry(VCEK, 80, 8) + bytes(48), "vcek occurs twice"),
    ],
)
def test_malformed_tables(data: bytes, message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        snp_endorsements.read_certificate_table(data)


def test_endorsements_travel_as_json() -> None:
    made = snp_world.endorsements(crl=snp_world.crl())
    assert snp_endorsements.from_json(codec.to_json(made)) == made
    assert snp_world.endorsements().crl == ""
    with pytest.raises(EvidenceError, match="missing key 'crl'"):
        snp_endorsements.from_json({"certificate_chain": made.certificate_chain})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"certificate_chain": ""}, EvidenceError, "expected 1 to 3 PEM certificates, got 0"),
        ({"certificate_chain": "é"}, EvidenceError, "expected ASCII"),
        ({"certificate_chain": "x" * 32_769}, EvidenceError, "at most 32768 characters"),
        ({"crl": "0" * 524_290}, EvidenceError, "at most 524288 characters"),
        ({"crl": "AB"}, EncodingError, "crl"),
        ({"crl": "a"}, EncodingError, "crl"),
    ],
)
def test_endorsements_with_another_spelling(
    change: dict[str, str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        dataclasses.replace(snp_world.endorsements(), **change)


def test_a_chain_has_one_spelling() -> None:
    pem = snp_world.endorsements().certificate_chain
    for other in (pem.replace("\n", "\r\n"), pem + "\n", "\n" + pem, pem[:-1]):
        with pytest.raises((EncodingError, EvidenceError), match="certificate_chain"):
            snp_endorsements.SnpEndorsements(other)
    four = certificate_bytes.encode_pem([*snp_world.authority().chain, b"x"]).decode()
    with pytest.raises(EvidenceError, match="got 4"):
        snp_endorsements.SnpEndorsements(four)
