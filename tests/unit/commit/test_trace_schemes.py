"""The trees of groups: what they cost, what they accept, and what is missed in time."""

from __future__ import annotations

import hashlib
import sys
from typing import TYPE_CHECKING

import pytest

from palm_torch.commit import proving, trace_groups, trace_schemes
from palm_torch.commit.trace_schemes import Tree
from palm_torch.digest import TAGGED_SHA256, Digest
from palm_torch.errors import BindingError, DataError, EvidenceError, MissingExtraError

if TYPE_CHECKING:
    from palm_torch.commit.grid import Grid

SCHEMES = pytest.mark.parametrize("scheme", trace_schemes.SCHEMES)
LARGE = trace_groups.tiles_of(24, 1024, "float32", 768)
SMALL = trace_groups.tiles_of(3, 5, "float32", 768)


def leaf(position: int) -> bytes:
    return hashlib.sha256(position.to_bytes(8, "big")).digest()


def tree(scheme: trace_schemes.Name, tiles: Grid = SMALL) -> Tree:
    return Tree(scheme, "float32", tiles, b"".join(map(leaf, range(tiles.tiles))))


@pytest.mark.parametrize(
    ("scheme", "positions", "expected"),
    [
        ("hash", [12 * 1024 + 700], 15 * 32),
        ("hash", range(1024), 5 * 32),
        ("kzg", [12 * 1024 + 700], 2 * 48 + 96),
        ("kzg", range(1024), 9 * 48 + 96),
        ("kzg", range(7, 24 * 1024, 1024), 2 * 48 + 96),
    ],
)
def test_what_a_proof_takes(scheme: trace_schemes.Name, positions: range, expected: int) -> None:
    """A row, a layer, and one token of all layers, out of 24 layers of 1,024 tokens."""
    assert trace_schemes.proof_bytes(scheme, "float32", LARGE, positions) == expected


@SCHEMES
def test_trees_open_to_their_leaves_and_no_others(scheme: trace_schemes.Name) -> None:
    made = tree(scheme)
    assert len(made) == SMALL.tiles == 15
    for positions in ([0], [14], [3, 4, 9], list(range(15))):
        proof = made.open(positions)
        leaves = {position: made.leaf(position) for position in positions}
        assert len(proof) == trace_schemes.proof_bytes(scheme, "float32", SMALL, positions)
        trace_schemes.verify(scheme, "float32", SMALL, made.root, leaves, proof)
        for position in positions:
            with pytest.raises(BindingError):
                trace_schemes.verify(
                    scheme, "float32", SMALL, made.root, {**leaves, position: leaf(99)}, proof
                )
        for bent in (proof + bytes(1), proof[:-1] if proof else bytes(32)):
            with pytest.raises(EvidenceError, match=f"expected a proof of {len(proof)} bytes, got"):
                trace_schemes.verify(scheme, "float32", SMALL, made.root, leaves, bent)
        other = Digest(TAGGED_SHA256, b"\1" * 32)
        with pytest.raises(BindingError, match="not the leaves under root 0101"):
            trace_schemes.verify(scheme, "float32", SMALL, other, leaves, proof)


@SCHEMES
def test_the_root_binds_type_and_shape_and_scheme(scheme: trace_schemes.Name) -> None:
    leaves = b"".join(map(leaf, range(15)))
    made = {
        Tree(scheme, dtype, trace_groups.tiles_of(sites, rows, dtype, channels), leaves).root
        for dtype, sites, rows, channels in (
            ("float32", 3, 5, 768),
            ("int32", 3, 5, 768),
            ("float32", 5, 3, 768),
            ("float32", 15, 1, 768),
            ("float32", 3, 5, 767),
        )
    }
    assert len(made) == 5
    assert tree("hash").root != tree("kzg").root


@SCHEMES
def test_a_tree_without_tiles_has_a_root_and_nothing_to_show(scheme: trace_schemes.Name) -> None:
    none = trace_groups.tiles_of(2, 0, "float32", 4)
    made = Tree(scheme, "float32", none, b"")
    assert made.root != tree(scheme).root
    with pytest.raises(DataError):
        made.open([0])
    with pytest.raises(DataError):
        trace_schemes.verify(scheme, "float32", none, made.root, {0: leaf(0)}, b"")


def test_too_much_for_one_proof() -> None:
    vast = trace_groups.tiles_of(1, 1 << 21, "float32", 768)  # each node on the way counts, too
    with pytest.raises(DataError, match="open fewer tiles at a time"):
        trace_schemes.proof_bytes("kzg", "float32", vast, range(1 << 20))


@pytest.mark.parametrize("missing", ["ckzg", "gmpy2"])
def test_what_is_missing_is_missed_in_time(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    if missing == "ckzg":  # what was loaded before is kept
        monkeypatch.setattr(proving, "settings", proving.settings.__wrapped__)
    trace_schemes.prepare("hash")
    with pytest.raises(MissingExtraError, match=r"palm-torch\[kzg\]"):
        trace_schemes.prepare("kzg")


def test_twin_what_is_there_is_not_missed() -> None:
    for scheme in trace_schemes.SCHEMES:
        trace_schemes.prepare(scheme)
