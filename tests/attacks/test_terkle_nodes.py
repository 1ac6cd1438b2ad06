"""A leaf is shown as a node, a node as a leaf, or a node as one of another level, index or tree."""

from __future__ import annotations

import dataclasses
import hashlib
from unittest import mock

import pytest
from trees import opened, tiles_of, tree_of

from palm_torch.commit import field, kzg, kzg_tree, layout, merkle, terkle
from palm_torch.commit.grid import Grid
from palm_torch.commit.terkle import Context, Opening, Tree
from palm_torch.errors import BindingError, EvidenceError

ONE = [(0,)]


def naive_root(leaves: list[bytes]) -> bytes:
    """A tree as it should not be: no tags, no levels, no number of leaves."""
    while len(leaves) > 1:
        pairs = zip(leaves[::2], leaves[1::2], strict=True)
        leaves = [hashlib.sha256(left + right).digest() for left, right in pairs]
    return leaves[0]


def test_attack_61_a_node_as_a_leaf_of_a_smaller_tree() -> None:
    """Four leaves, or two that happen to be their parents: without tags and a count nobody can tell."""
    leaves = [bytes([number]) * 32 for number in range(4)]
    parents = [naive_root(leaves[:2]), naive_root(leaves[2:])]
    assert naive_root(leaves) == naive_root(parents)
    root = merkle.root(b"".join(leaves))
    inner = merkle.TreeBuilder()
    inner.extend(b"".join(leaves))
    sibling = inner.open([0, 1])  # what stands beside the parent of the first two
    assert len(sibling) == 32
    with pytest.raises(BindingError):
        merkle.verify(root, 2, {0: parents[0]}, sibling)
    nodes = [
        hashlib.sha256(b"palm-torch/merkle-node/v1\1" + b"".join(pair)).digest()
        for pair in (leaves[:2], leaves[2:])
    ]
    assert nodes[1] == sibling
    with pytest.raises(BindingError):  # the level of a node above these would be 1, where it was 2
        merkle.verify(root, 2, {0: nodes[0]}, nodes[1])


def test_attack_61_a_tile_that_spells_a_node() -> None:
    """The tile is the 90 bytes that a node hashes: its leaf is not that node, so it opens to nothing more."""
    spelled = b"palm-torch/merkle-node/v1\1" + bytes(64)
    context = Context("w", "uint8", Grid((180,), (90,)), "hash")
    tree = Tree(context)
    tree.extend([spelled, bytes(90)])
    deeper = dataclasses.replace(context, grid=Grid((360,), (90,)))
    for tiles in ((spelled,), (bytes(90),)):
        for proof in (bytes(32), bytes(64), tree.open([(slice(0, 90),)], lambda _: spelled).proof * 2):
            with pytest.raises((BindingError, EvidenceError)):
                terkle.verify(tree.root(), deeper, [(slice(0, 90),)], Opening(tiles, (), proof))


def two_levels() -> Context:
    """Nine tiles in nodes of four: three levels under `small_nodes`."""
    return Context("w", "uint8", Grid((9,), (1,)), "kzg")


def small_nodes() -> mock._patch[int]:
    return mock.patch.object(layout, "DIGITS", 2)


@pytest.mark.parametrize(("level", "kind"), [(1, kzg_tree.NODE), (2, kzg_tree.LEAF)])
def test_attack_62_the_kind_of_a_child_is_exchanged(level: int, kind: int) -> None:
    """A prover who hashes leaves as nodes, or nodes as leaves, has a tree that opens nowhere."""
    genuine = kzg_tree.child_prefix

    def exchanged(stem: bytes, at: int, node: int) -> bytes:
        prefix = genuine(stem, at, node)
        return prefix[:-9] + bytes((kind,)) + prefix[-8:] if at == level else prefix

    with small_nodes():
        with mock.patch.object(kzg_tree, "child_prefix", exchanged):
            tree = tree_of(two_levels())
            opening, root = opened(tree, ONE), tree.root()
            terkle.verify(root, tree.context, ONE, opening)
        with pytest.raises(BindingError):
            terkle.verify(root, tree.context, ONE, opening)


def test_attack_62_nothing_in_a_proof_says_a_kind_a_level_or_a_place() -> None:
    """The proof is points: as many as grid and positions ask for, each where they say."""
    with small_nodes():
        tree = tree_of(two_levels())
        opening, root = opened(tree, ONE), tree.root()
        assert len(opening.proof) == 2 * 48 + 96
        parts = [opening.proof[at : at + 48] for at in range(0, len(opening.proof), 48)]
        for order in ((1, 0, 2, 3), (0, 0, 2, 3), (1, 1, 2, 3)):
            shown = dataclasses.replace(opening, proof=b"".join(parts[at] for at in order))
            with pytest.raises((BindingError, EvidenceError)):
                terkle.verify(root, tree.context, ONE, shown)
        shallow = dataclasses.replace(opening, proof=parts[1] + parts[2])  # the lower node as the whole tree
        with pytest.raises(EvidenceError, match="expected a proof of 192 bytes, got 96"):
            terkle.verify(root, tree.context, ONE, shallow)


def test_attack_62_a_subtree_as_a_tree() -> None:
    """The lower node of a large tree is honest, and so is its opening; it is no tree of its own."""
    with small_nodes():
        tree = tree_of(two_levels())
        commitment = opened(tree, ONE).proof[48:96]
        small = Context("w", "uint8", Grid((4,), (1,)), "kzg")
        leaf = kzg_tree.Nodes(small)
        leaf.extend(b"".join(tree._nodes.leaf(position) for position in range(4)))
        proof = leaf.open([0])
        assert proof[:48] == commitment  # one axis: the stem, and so the node, is the same
        shown = Opening((tiles_of(small)[0],), (), proof)
        assert terkle.verify(small.root(commitment), small, ONE, shown)  # a root that nobody trusts
        with pytest.raises(BindingError):
            terkle.verify(tree.root(), small, ONE, shown)


def test_attack_62_a_child_is_moved() -> None:
    """A child's value holds at one place of one node at one level of one tree."""
    here, there = two_levels().stem(), Context("v", "uint8", Grid((9,), (1,)), "kzg").stem()
    child = b"\xc0" + bytes(47)
    values = {
        kzg_tree.child_value(kzg_tree.child_prefix(stem, level, node), place, child)
        for stem, level, node, place in (
            (here, 2, 1, 1),
            (there, 2, 1, 1),
            (here, 3, 1, 1),
            (here, 2, 0, 1),
            (here, 2, 1, 2),
        )
    }
    assert len(values) == 5


def naive_digest(commitment: bytes) -> int:
    """A node's digest as it should not be: its point, read as a number."""
    return int.from_bytes(commitment, "big") % field.MODULUS


def blob(values: dict[int, int]) -> bytes:
    return kzg.packed(values.get(place, 0) for place in range(kzg.WIDTH))


def test_attack_63_a_leaf_whose_bytes_are_the_digest_of_a_node() -> None:
    """Where a digest is the bytes of a point modulo r, a cell can be opened as a node, and below it anything.

    The attacker makes a node of lies first, puts its digest into an ordinary cell, and commits to that.
    """
    lies = blob({5: 666})
    below = kzg.commit(lies)
    cell = naive_digest(below)
    above = blob({0: 1, 3: cell})
    top = kzg.commit(above)
    up, down = kzg.open_point(above, 3), kzg.open_point(lies, 5)
    kzg.verify_point(top, 3, cell, up)  # as a cell: the number that was committed to
    kzg.verify_point(top, 3, naive_digest(below), up)  # as a node: the same proof
    kzg.verify_point(below, 5, 666, down)  # and under it what nobody ever committed to in a cell

    stem = two_levels().stem()
    as_leaf = kzg_tree.child_value(kzg_tree.child_prefix(stem, 1, 0), 3, cell.to_bytes(32, "big"))
    as_node = kzg_tree.child_value(kzg_tree.child_prefix(stem, 2, 0), 3, below)
    assert len({as_leaf, as_node, cell}) == 3
    ours = blob({0: 1, 3: as_leaf})
    top, up = kzg.commit(ours), kzg.open_point(ours, 3)
    kzg.verify_point(top, 3, as_leaf, up)
    with pytest.raises(BindingError):
        kzg.verify_point(top, 3, as_node, up)


def test_attack_63_two_points_with_one_digest() -> None:
    """381 bits modulo r are not injective; 512 bits of SHA-512 modulo r are as good as random."""
    one = 12345
    other = one + field.MODULUS
    assert naive_digest(one.to_bytes(48, "big")) == naive_digest(other.to_bytes(48, "big"))
    prefix = kzg_tree.child_prefix(two_levels().stem(), 2, 0)
    values = {kzg_tree.child_value(prefix, 0, number.to_bytes(48, "big")) for number in (one, other)}
    assert len(values) == 2
