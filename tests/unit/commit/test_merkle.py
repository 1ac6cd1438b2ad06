"""The Merkle tree against ten naive lines, the one valid proof of every opening, and leaves that change."""

from __future__ import annotations

import functools
import hashlib
import itertools
import random

import pytest

from palm_torch.commit import merkle
from palm_torch.errors import BindingError, DataError, EvidenceError


def leaf(n: int) -> bytes:
    return hashlib.sha256(b"leaf %d" % n).digest()


def leaves_of(count: int) -> bytes:
    return b"".join(map(leaf, range(count)))


@functools.cache
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


def naive_open(positions: set[int], level: int, index: int, count: int) -> list[tuple[int, int]]:
    """Level and index of the highest nodes that cover leaves, none of them opened."""
    if index << level >= count:
        return []
    if not any(position >> level == index for position in positions):
        return [(level, index)]
    sides = [naive_open(positions, level - 1, 2 * index + side, count) for side in (0, 1) if level]
    return list(itertools.chain(*sides))


def naive_proof(positions: set[int], count: int) -> bytes:
    nodes = naive_open(positions, (count - 1).bit_length(), 0, count)
    return b"".join(naive_node(level, index, count) for level, index in sorted(nodes))


AROUND_BLOCKS = [1023, 1024, 1025, 2047, 2048, 2049, 3 * 1024 + 1, 5000]


@pytest.mark.parametrize("count", [*range(18), 31, 32, 33, 100, *AROUND_BLOCKS])
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


@pytest.mark.parametrize("count", AROUND_BLOCKS)
def test_proofs_and_changes_are_the_naive_ones(count: int) -> None:
    leaves, chance = leaves_of(count), random.Random(count)
    builder = merkle.TreeBuilder()
    for n in range(count):
        builder.append(leaf(n))
    for size in (1, 2, 3, 50):
        start = chance.randrange(count - 70)
        for positions in (chance.sample(range(count), size), range(start, start + size), [count - 1]):
            proof = naive_proof(set(positions), count)
            assert merkle.open_positions(leaves, positions) == builder.open(positions) == proof
            assert merkle.proof_bytes(count, positions) == len(proof)
            merkle.verify(naive_root(count), count, {p: leaf(p) for p in positions}, proof)
    changed = bytearray(leaves)
    for position in {0, 1023 % count, 1024 % count, count - 1, *chance.sample(range(count), 3)}:
        old, new = changed[32 * position : 32 * position + 32], leaf(-1 - position)
        root, proof = builder.root(), builder.open([position])
        builder.replace(position, new)
        changed[32 * position : 32 * position + 32] = new
        assert builder.leaves() == changed
        assert builder.root() == merkle.root(changed)
        assert merkle.updated_root(root, count, position, bytes(old), new, proof) == builder.root()
        assert builder.open([position]) == proof  # the hashes beside the path do not change


def test_a_builder_without_leaves() -> None:
    assert merkle.TreeBuilder().root() == naive_root(0)
    with pytest.raises(DataError, match=r"positions in \[0, 0\)"):
        merkle.TreeBuilder().open([0])


def test_replacing_and_appending_take_turns() -> None:
    builder, leaves = merkle.TreeBuilder(), bytearray()
    for n in range(2100):
        builder.append(leaf(n))
        leaves += leaf(n)
        if n % 300 == 299:
            builder.replace(n // 2, leaf(-n))
            leaves[32 * (n // 2) : 32 * (n // 2) + 32] = leaf(-n)
            assert builder.root() == merkle.root(leaves)


@pytest.mark.parametrize(
    "pieces", [(0,), (1,), (1023, 1), (5, 1018, 1), (5, 3000, 1043), (1024, 1024), (2049,)]
)
def test_leaves_at_once_are_leaves_one_by_one(pieces: tuple[int, ...]) -> None:
    builder, leaves = merkle.TreeBuilder(), leaves_of(sum(pieces))
    for piece in pieces:
        at = 32 * len(builder)
        builder.extend(leaves[at : at + 32 * piece])
        assert builder.root() == merkle.root(builder.leaves())
    assert builder.leaves() == leaves
    assert [builder.leaf(n) for n in range(len(builder))] == [leaf(n) for n in range(sum(pieces))]


@pytest.mark.parametrize("kept", [0, 1, 1023, 1024, 1025, 2047, 2048, 4095, 4096, 4097, 5000])
def test_dropped_leaves_leave_no_trace(kept: int) -> None:
    builder = merkle.TreeBuilder()
    builder.extend(leaves_of(5000))
    builder.truncate(kept)
    assert len(builder) == kept
    assert builder.root() == naive_root(kept)
    for n in range(kept, kept + 1030):
        builder.append(leaf(n))
    assert builder.root() == naive_root(kept + 1030)


def test_what_a_builder_refuses() -> None:
    builder = merkle.TreeBuilder()
    builder.extend(leaves_of(3))
    with pytest.raises(DataError, match="got 33"):
        builder.extend(bytes(33))
    for count in (-1, 4):
        with pytest.raises(DataError, match=f"expected to keep at most 3, got {count}"):
            builder.truncate(count)
    for position in (-1, 3):
        with pytest.raises(DataError, match=r"positions in \[0, 3\)"):
            builder.leaf(position)
    assert builder.root() == naive_root(3)


def test_the_root_that_an_opening_makes() -> None:
    opened, proof = {p: leaf(p) for p in (1, 4)}, naive_proof({1, 4}, 6)
    assert merkle.opened_root(6, opened, proof) == naive_root(6)
    assert merkle.opened_root(6, opened | {1: leaf(4)}, proof) != naive_root(6)
    with pytest.raises(EvidenceError, match="expected a proof of"):
        merkle.opened_root(6, opened, proof[1:])


def test_updates_of_what_is_not_there() -> None:
    builder = merkle.TreeBuilder()
    builder.append(leaf(0))
    with pytest.raises(DataError, match=r"positions in \[0, 1\), got \[1\]"):
        builder.replace(1, leaf(1))
    with pytest.raises(DataError, match="expected 32 bytes, got 33"):
        builder.replace(0, bytes(33))
    assert builder.root() == naive_root(1)
    root, proof = naive_root(6), merkle.open_positions(leaves_of(6), [4])
    with pytest.raises(BindingError):
        merkle.updated_root(root, 6, 4, leaf(3), bytes(32), proof)
    with pytest.raises(BindingError):
        merkle.updated_root(bytes(32), 6, 4, leaf(4), bytes(32), proof)
    with pytest.raises(EvidenceError, match="merkle leaf 4: expected 32 bytes, got 31"):
        merkle.updated_root(root, 6, 4, leaf(4), bytes(31), proof)
    with pytest.raises(EvidenceError, match="expected a proof of"):
        merkle.updated_root(root, 6, 4, leaf(4), bytes(32), proof[:-1])


@pytest.mark.parametrize(("count", "position"), [(2, 0), (5, 1), (5, 4), (6, 5), (7, 6)])
def test_of_all_proofs_made_of_the_trees_own_hashes_one_is_accepted(count: int, position: int) -> None:
    height = (count - 1).bit_length()
    hashes = {
        naive_node(level, at, count) for level in range(height + 1) for at in range(1 << height - level)
    }
    hashes |= {merkle.MISSING, naive_root(count), bytes(32)}
    proof = naive_proof({position}, count)
    accepted = []
    for pieces in itertools.product(sorted(hashes), repeat=len(proof) // 32):
        try:
            merkle.verify(naive_root(count), count, {position: leaf(position)}, b"".join(pieces))
        except BindingError:
            continue
        accepted.append(b"".join(pieces))
    assert accepted == [proof]


def test_every_other_length_is_malformed() -> None:
    root, positions = naive_root(13), {3, 4, 12}
    proof, opened = naive_proof(positions, 13), {p: leaf(p) for p in positions}
    for length in set(range(2 * len(proof) + 65)) - {len(proof)}:
        with pytest.raises(EvidenceError, match="expected a proof of"):
            merkle.verify(root, 13, opened, (proof * 3)[:length])


def test_every_flipped_bit_is_refused() -> None:
    root, proof, opened = naive_root(13), naive_proof({3, 12}, 13), {p: leaf(p) for p in (3, 12)}
    for bit in range(8 * len(proof)):
        changed = bytearray(proof)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BindingError):
            merkle.verify(root, 13, opened, bytes(changed))


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
    for ask in (
        lambda: merkle.open_positions(leaves_of(4), positions),
        lambda: merkle.proof_bytes(4, positions),
    ):
        with pytest.raises(DataError, match=message):
            ask()


def test_many_positions_make_a_short_message() -> None:
    with pytest.raises(DataError, match="… 20 in all"):
        merkle.open_positions(leaves_of(4), range(20))


def test_ragged_leaves() -> None:
    with pytest.raises(DataError, match="got 33"):
        merkle.root(bytes(33))
    with pytest.raises(DataError, match="expected 32 bytes, got 31"):
        merkle.TreeBuilder().append(bytes(31))
