"""The Merkle tree against ten naive lines, and the one valid proof of every opening."""

from __future__ import annotations

import hashlib
import itertools

import pytest

from palm_torch.commit import merkle
from palm_torch.errors import BindingError, DataError, EvidenceError


def leaf(n: int) -> bytes:
    return hashlib.sha256(b"leaf %d" % n).digest()


def leaves_of(count: int) -> bytes:
    return b"".join(map(leaf, range(count)))


def naive_node(level: int, index: int, count: int) -> bytes:
    if index << level >= count:
        return merkle.MISSING
    if level == 0:
        return leaf(index)
    left, right = (naive_node(level - 1, 2 * index + side, count) for side in (0, 1))
    return hashlib.sha256(b"palm-torch/merkle-node/v1" + bytes((level,)) + left + right).digest()


def naive_root(count: int) -> bytes:
    depth = (count - 1).bit_length() if count else 0
    n = count.to_bytes(8, "big")
    parts = b"\x00\x00\x00\x08" + n + b"\x00\x00\x00\x20" + naive_node(depth, 0, count)
    return hashlib.sha256(b"palm-torch/merkle-root/v1" + parts).digest()


@pytest.mark.parametrize("count", [*range(18), 31, 32, 33, 100])
def test_root_is_the_naive_one(count: int) -> None:
    assert merkle.root(leaves_of(count)) == naive_root(count)


def test_missing_is_the_tag_alone() -> None:
    assert hashlib.sha256(b"palm-torch/merkle-missing/v1").digest() == merkle.MISSING


def test_known_answer() -> None:
    assert (
        merkle.root(leaves_of(5)).hex() == "327c95a1e90ecc721d01c52eed61b8bf5f2479b87a552ea48620ced909427ace"
    )


def test_builder_collects_what_root_takes() -> None:
    builder = merkle.TreeBuilder()
    for n in range(11):
        assert builder.append(leaf(n)) == n
    assert len(builder) == 11
    assert builder.leaves() == leaves_of(11)
    assert builder.root() == merkle.root(leaves_of(11))
    assert builder.open([2, 9]) == merkle.open_positions(leaves_of(11), [2, 9])


@pytest.mark.parametrize("count", range(1, 8))
def test_every_set_of_positions_opens(count: int) -> None:
    leaves, root = leaves_of(count), merkle.root(leaves_of(count))
    for size in range(1, count + 1):
        for positions in itertools.combinations(range(count), size):
            proof = merkle.open_positions(leaves, reversed(positions))
            merkle.verify(root, count, {p: leaf(p) for p in positions}, proof)


def test_proof_holds_only_what_cannot_be_derived() -> None:
    leaves = leaves_of(4096)
    assert len(merkle.open_positions(leaves, [77])) == 12 * 32
    assert len(merkle.open_positions(leaves, range(64, 128))) == 6 * 32  # an aligned run is a subtree
    assert merkle.open_positions(leaves, range(4096)) == b""
    assert (
        merkle.open_positions(leaves_of(5), [4]) == merkle_node_of_first_four()
    )  # missing siblings are free


def merkle_node_of_first_four() -> bytes:
    return naive_node(2, 0, 5)


@pytest.mark.parametrize(
    ("count", "positions"), [(1, [0]), (5, [4]), (6, [1, 4]), (8, [0, 1, 7]), (13, [12])]
)
def test_every_change_to_a_statement_is_rejected(count: int, positions: list[int]) -> None:
    leaves, root = leaves_of(count), merkle.root(leaves_of(count))
    proof = merkle.open_positions(leaves, positions)
    opened = {p: leaf(p) for p in positions}
    merkle.verify(root, count, opened, proof)
    with pytest.raises(BindingError, match="not the leaves under root"):
        merkle.verify(bytes(32), count, opened, proof)
    for position in positions:
        with pytest.raises(BindingError):
            merkle.verify(root, count, opened | {position: bytes(32)}, proof)
        for other in set(range(count)) - set(positions):
            moved = {p: d for p, d in opened.items() if p != position} | {other: opened[position]}
            with pytest.raises((BindingError, EvidenceError)):
                merkle.verify(root, count, moved, proof)
    for other_count in set(range(positions[-1] + 1, 2 * count + 2)) - {count}:
        with pytest.raises((BindingError, EvidenceError)):
            merkle.verify(root, other_count, opened, proof)
    for at in range(len(proof)):
        changed = proof[:at] + bytes((proof[at] ^ 1,)) + proof[at + 1 :]
        with pytest.raises(BindingError):
            merkle.verify(root, count, opened, changed)
    for wrong in (proof + bytes(32), proof[:-32] if proof else bytes(1), proof + b"\0"):
        with pytest.raises(EvidenceError, match="expected a proof of"):
            merkle.verify(root, count, opened, wrong)


def test_a_node_is_no_leaf() -> None:
    root, inner = merkle.root(leaves_of(4)), naive_node(1, 0, 4) + naive_node(1, 1, 4)
    assert merkle.root(inner) != root
    with pytest.raises(BindingError):
        merkle.verify(root, 2, {0: inner[:32], 1: inner[32:]}, b"")


def test_padding_is_no_leaf() -> None:
    assert merkle.root(leaves_of(3)) != merkle.root(leaves_of(3) + merkle.MISSING)


@pytest.mark.parametrize(
    ("count", "opened", "message"),
    [
        (0, {0: bytes(32)}, "expected 1 to"),
        (merkle.MAX_LEAVES + 1, {0: bytes(32)}, "expected 1 to"),
        (4, {}, "at least one position"),
        (4, {4: bytes(32)}, r"positions in \[0, 4\), got \[4\]"),
        (4, {-1: bytes(32)}, r"positions in \[0, 4\), got \[-1\]"),
        (4, {0: bytes(31)}, "merkle leaf 0: expected 32 bytes, got 31"),
    ],
)
def test_malformed_openings(count: int, opened: dict[int, bytes], message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        merkle.verify(bytes(32), count, opened, b"")


@pytest.mark.parametrize(
    ("positions", "message"),
    [([], "at least one"), ([4], "positions in"), ([-1], "positions in"), ([1, 2, 1], "repeated")],
)
def test_malformed_requests(positions: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        merkle.open_positions(leaves_of(4), positions)


def test_many_positions_make_a_short_message() -> None:
    with pytest.raises(DataError, match="… 20 in all"):
        merkle.open_positions(leaves_of(4), range(20))


def test_ragged_leaves() -> None:
    with pytest.raises(DataError, match="got 33"):
        merkle.root(bytes(33))
    with pytest.raises(DataError, match="expected 32 bytes, got 31"):
        merkle.TreeBuilder().append(bytes(31))
