"""What a root binds beside the tiles: its bytes, and that every part of it counts."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import pytest

from palm_torch.commit import ceremony
from palm_torch.commit.grid import Grid
from palm_torch.commit.tree_context import Context
from palm_torch.errors import DataError

GRID = Grid((5, 7), (2, 3), ("token", "channel"))
CONTEXT = Context("w", "int8", GRID, "hash")


def lp(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def test_bytes_of_a_context() -> None:
    numbers = b"".join(n.to_bytes(8, "big") for n in (5, 7, 2, 3))
    end = lp(b"w") + lp(b"int8") + b"\x02" + numbers + b"\x02" + lp(b"token") + lp(b"channel")
    assert CONTEXT.encode() == b"\x01" + lp(b"hash") + lp(b"") + b"\x00" + end
    kzg = dataclasses.replace(CONTEXT, scheme="kzg", salted=True)
    assert kzg.encode() == b"\x01" + lp(b"kzg") + lp(ceremony.SRS_ID) + b"\x01" + end
    unnamed = dataclasses.replace(CONTEXT, grid=Grid((5, 7), (2, 3)))
    assert unnamed.encode().endswith(numbers + b"\x00")


def test_digests_are_tagged() -> None:
    def tagged(tag: bytes, *parts: bytes) -> bytes:
        return hashlib.sha256(tag + b"".join(map(lp, parts))).digest()

    empty = dataclasses.replace(CONTEXT, grid=Grid((0, 7), (2, 3), GRID.axes))
    assert CONTEXT.digest() == tagged(b"palm-torch/terkle-context/v1", CONTEXT.encode())
    assert CONTEXT.stem() == tagged(b"palm-torch/terkle-stem/v1", empty.encode())
    assert CONTEXT.root(b"top") == tagged(b"palm-torch/terkle-root/v1", CONTEXT.encode(), b"top")


OTHERS: list[dict[str, Any]] = [
    {"tree_id": "v"},
    {"dtype": "uint8"},
    {"scheme": "kzg"},
    {"salted": True},
    {"grid": Grid((5, 8), (2, 3), GRID.axes)},
    {"grid": Grid((5, 7), (1, 3), GRID.axes)},
    {"grid": Grid((5, 7), (2, 4), GRID.axes)},
    {"grid": Grid((5, 7), (2, 3), ("channel", "token"))},
    {"grid": Grid((5, 7), (2, 3))},
    {"grid": Grid((5, 7, 1), (2, 3, 1))},
]


@pytest.mark.parametrize("other", OTHERS)
def test_everything_counts(other: dict[str, Any]) -> None:
    changed = dataclasses.replace(CONTEXT, **other)
    assert changed.digest() != CONTEXT.digest()
    assert changed.stem() != CONTEXT.stem()
    assert changed.root(b"top") != CONTEXT.root(b"top")


def test_a_stem_outlives_growth_along_axis_0_and_a_root_does_not() -> None:
    longer = dataclasses.replace(CONTEXT, grid=Grid((6, 7), (2, 3), GRID.axes))
    assert longer.stem() == CONTEXT.stem()
    assert longer.digest() != CONTEXT.digest()
    assert longer.root(b"top") != CONTEXT.root(b"top")


def test_bytes_of_tiles() -> None:
    context = dataclasses.replace(CONTEXT, dtype="float32")
    assert [context.tile_bytes(position) for position in (0, 2, 8)] == [24, 8, 4]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tree_id": ""}, "name of 1 to 4096 bytes, got 0"),
        ({"tree_id": "ß" * 2049}, "name of 1 to 4096 bytes, got 4098"),
        ({"tree_id": "\ud800"}, "name '.*' is not valid Unicode"),
        ({"tree_id": b"w"}, "expected a name as text, got bytes"),
        ({"dtype": ["int8"]}, "expected a dtype's name, got list"),
        ({"grid": (5, 7)}, "expected a Grid, got tuple"),
        ({"dtype": "int7"}, "unknown dtype 'int7'"),
        ({"scheme": "ipa"}, "expected a scheme of"),
        ({"salted": 1}, "expected salted to be a truth value, got 1"),
        ({"grid": Grid((1,), (1,), ("",))}, "name of an axis of 1 to 255 bytes, got 0"),
        ({"grid": Grid((1 << 30, 9), (1 << 28, 8))}, "tiles of at most 1073741824 bytes, got 2147483648"),
    ],
)
def test_malformed_contexts(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        dataclasses.replace(CONTEXT, **changes)


def test_a_tile_is_as_large_as_the_array_lets_it_be() -> None:
    Context("w", "int8", Grid((1, 4), (1 << 40, 4)), "hash")
