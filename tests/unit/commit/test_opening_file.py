"""The file of an opening: exactly what is written is read, and what it can say is bounded."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
import weights_at_hand as at_hand

from palm_torch.codec import to_json
from palm_torch.commit import opening_file, weights_opening
from palm_torch.digest import Digest
from palm_torch.encoding import encode_json
from palm_torch.errors import EvidenceError, InputError, RejectedError

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.commit.opening_file import WeightsOpening


@pytest.fixture
def made(tmp_path: Path) -> WeightsOpening:
    return at_hand.opened(at_hand.write(tmp_path / "m.safetensors"), "conv.weight", rows=(1, 2))


def test_round_trip(made: WeightsOpening, tmp_path: Path) -> None:
    (tmp_path / "o.json").write_bytes(made.encode())
    assert opening_file.read(tmp_path / "o.json") == made


def test_every_byte_counts(made: WeightsOpening) -> None:
    """A changed file is refused, or shows other rows or columns of the same proven tile."""
    good = made.encode()
    for at in range(len(good)):
        bent = bytearray(good)
        bent[at] ^= 1
        try:
            read = opening_file.decode(bytes(bent), what="opening")
            shown = weights_opening.verify(read, made.root)
        except (InputError, RejectedError):
            continue
        assert shown.block != made.block, at
        assert dataclasses.replace(read, rows=made.rows, columns=made.columns) == made


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"media_type": "application/json"}, "media_type: expected 'application/vnd"),
        ({"root": Digest("sha256", bytes(32))}, "root: expected a palm-sha256 root"),
        ({"index": 6}, "index: expected one of at most 2.40 tensors, got 6 of 6"),
        ({"index": -1}, "got -1 of 6"),
        ({"count": 2**40 + 1}, "of at most 2.40 tensors"),
        ({"rows": (1,)}, "rows: expected two numbers, got 1"),
        ({"columns": (0, 20, 3)}, "columns: expected two numbers, got 3"),
        ({"rows": (1, 4)}, "expected rows A:B within 0:3, got 1:4"),
        ({"tiles": b""}, "tiles: expected 120 bytes for rows 1:2, columns 0:20, got 0"),
    ],
)
def test_what_nobody_can_have_opened(made: WeightsOpening, changes: Any, says: str) -> None:
    with pytest.raises(EvidenceError, match=says):
        dataclasses.replace(made, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": "z", "aliases": ("a",)},
        {"dtype": "float33"},
        {"shape": (-1, 3)},
        {"shape": (2**53, 2**53)},
        {"root": Digest("sha256", bytes(32))},
    ],
)
def test_what_is_no_tensor(made: WeightsOpening, changes: Any) -> None:
    with pytest.raises(EvidenceError):
        dataclasses.replace(made, tensor=dataclasses.replace(made.tensor, **changes))


@pytest.mark.parametrize(
    ("key", "value"),
    [("scheme", "md5"), ("rows", [1, "2"]), ("tiles", "!"), ("count", 6.5), ("more", 1), ("tensor", None)],
)
def test_what_is_no_opening(made: WeightsOpening, key: str, value: Any) -> None:
    document: Any = to_json(made)
    with pytest.raises(EvidenceError):
        opening_file.decode(encode_json({**document, key: value}), what="opening")


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b" {}"])
def test_what_is_no_document(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "o.json").write_bytes(data)
    with pytest.raises(EvidenceError):
        opening_file.read(tmp_path / "o.json")
    with pytest.raises(EvidenceError, match="cannot read the opening"):
        opening_file.read(tmp_path / "missing.json")


def test_a_claim_of_very_many_tiles_is_refused_before_they_are_counted(made: WeightsOpening) -> None:
    huge = dataclasses.replace(made.tensor, dtype="uint8", shape=(2**30, (1 << 20) + 1))
    with pytest.raises(EvidenceError, match="an opening holds at most"):
        dataclasses.replace(made, tensor=huge, rows=(0, 2**30), columns=(1 << 20, (1 << 20) + 1))


def test_the_limit_holds_the_largest_opening() -> None:
    proofs = opening_file.MAX_COVER_BYTES + opening_file.MAX_PROOF_BYTES
    assert proofs * 4 / 3 < opening_file.MAX_BYTES
