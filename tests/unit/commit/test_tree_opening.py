"""Openings as bytes: the table, and everything else refused."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from palm_torch.commit import tree_opening
from palm_torch.commit.tree_opening import Opening
from palm_torch.errors import EvidenceError

SALT = bytes(range(32))
OPENING = Opening((b"ab", b"c"), (SALT, SALT[::-1]), b"proof")
HEAD = bytes.fromhex("01 00000002 00000002 00000005")
LENGTHS = struct.pack(">2Q", 2, 1)


def test_bytes_of_an_opening() -> None:
    assert OPENING.encode() == HEAD + LENGTHS + b"abc" + SALT + SALT[::-1] + b"proof"
    assert Opening.decode(OPENING.encode()) == OPENING
    bare = Opening((b"ab",), (), b"")
    assert bare.encode() == bytes.fromhex("01 00000001 00000000 00000000") + struct.pack(">Q", 2) + b"ab"
    assert Opening.decode(bare.encode()) == bare


def test_what_is_decoded_is_a_copy() -> None:
    data = bytearray(OPENING.encode())
    opening = Opening.decode(data)
    data[:] = bytes(len(data))
    assert opening == OPENING


def test_any_other_length_is_refused() -> None:
    encoded = OPENING.encode()
    for cut in range(len(encoded)):
        with pytest.raises(EvidenceError, match="opening: expected"):
            Opening.decode(encoded[:cut])
    with pytest.raises(EvidenceError, match="opening: expected"):
        Opening.decode(encoded + b"\0")


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("02 00000002 00000002 00000005", "expected version 1, got 2"),
        ("01 00000000 00000000 00000005", "expected 1 to 1048576 tiles"),
        ("01 00100001 00000000 00000005", "expected 1 to 1048576 tiles"),
        ("01 00000002 00000001 00000005", "no salts or as many, got 2 and 1"),
        ("01 00000002 00000000 00000005", "expected 37 bytes, got 101"),
        ("01 00000002 00000002 00000006", "expected 102 bytes, got 101"),
    ],
)
def test_other_heads(head: str, message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        Opening.decode(bytes.fromhex(head) + OPENING.encode()[len(HEAD) :])


def test_a_tile_of_no_bytes() -> None:
    with pytest.raises(EvidenceError, match="tile 1: expected 1 to 1073741824 bytes, got 0"):
        Opening.decode(HEAD + struct.pack(">2Q", 3, 0) + OPENING.encode()[len(HEAD) + 16 :])


def test_lengths_that_nothing_holds() -> None:
    with pytest.raises(EvidenceError, match=f"expected {2**64 - 1 + 2**64 - 1 + 98} bytes, got"):
        Opening.decode(HEAD + b"\xff" * 16 + OPENING.encode()[len(HEAD) + 16 :])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((bytearray(b"a"),), (), b""), "as bytes, which nobody can change"),
        (((b"a",), (), bytearray()), "as bytes, which nobody can change"),
        (((), (), b""), "expected 1 to 1048576 tiles, got 0"),
        (((b"a", b"b"), (SALT,), b""), "expected no salts or 2, one for each tile, got 1"),
        (((b"a",), (SALT[:31],), b""), "salt 0: expected 32 bytes, got 31"),
        (((b"a", b""), (), b""), "tile 1: expected 1 to"),
    ],
)
def test_parts_without_an_encoding(arguments: Any, message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        Opening(*arguments)


def test_a_proof_that_no_u32_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_opening, "MAX_PROOF_BYTES", 4)
    with pytest.raises(EvidenceError, match="a proof of at most 4 bytes, got 5"):
        Opening((b"a",), (), b"proof")


def test_lists_become_what_nobody_can_change() -> None:
    opening = Opening([b"1"], [bytes(32)], b"")  # type: ignore[arg-type]
    assert opening == Opening((b"1",), (bytes(32),), b"")
    assert isinstance(opening.tiles, tuple)


@pytest.mark.parametrize(("tiles", "salts", "what"), [(None, (), "tiles"), ((b"1",), 5, "salts")])
def test_parts_that_are_not_several(tiles: Any, salts: Any, what: str) -> None:
    with pytest.raises(EvidenceError, match=f"expected {what}, one after the other"):
        Opening(tiles, salts, b"")


def test_a_text_is_no_opening() -> None:
    with pytest.raises(EvidenceError, match="opening: expected bytes, got str"):
        Opening.decode("opening")  # type: ignore[arg-type]
