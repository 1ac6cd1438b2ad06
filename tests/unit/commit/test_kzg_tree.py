"""Trees of commitments: the definition in naive lines, what growth and updates spare, and forged nodes."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
from trees import opened, tile, tiles_of, tree_of

from palm_torch.commit import kzg, kzg_tree, layout, shplonk, terkle, tree_leaves
from palm_torch.commit.grid import Grid
from palm_torch.commit.terkle import Context, Opening
from palm_torch.errors import BindingError, DataError, EvidenceError

Coordinates = tuple[int, ...]


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes that take 3 digits, so that a few tiles make a deep tree."""
    monkeypatch.setattr(layout, "DIGITS", 3)


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What `kzg.commit` was asked for."""
    asked: list[bytes] = []
    commit = kzg.commit
    monkeypatch.setattr(kzg, "commit", lambda blob: asked.append(blob) or commit(blob))
    return asked


def context_of(*counts: int, tree_id: str = "w") -> Context:
    return Context(tree_id, "int8", Grid(counts, (1,) * len(counts)), "kzg")


def naive_top(context: Context) -> bytes:
    """The top by its definition: coordinates, digits and one dictionary for each level."""
    counts = context.grid.counts
    level: dict[Coordinates, bytes] = {}
    for position, at in enumerate(itertools.product(*map(range, counts))):
        level[at] = tree_leaves.leaf(context, position, tile(context, position), b"")
    left = [(count - 1).bit_length() for count in counts]
    number = 0
    while number == 0 or any(left):
        number += 1
        taken = [0] * len(left)
        for axis in [*reversed(range(len(left)))] * layout.DIGITS:
            if sum(taken) < layout.DIGITS and taken[axis] < left[axis]:
                taken[axis] += 1
        left = [have - took for have, took in zip(left, taken, strict=True)]
        nodes: dict[Coordinates, dict[int, bytes]] = {}
        for at, child in level.items():
            node = tuple(a >> t for a, t in zip(at, taken, strict=True))
            place = 0
            for a, t in zip(at, taken, strict=True):
                place = place * 2**t + a % 2**t
            nodes.setdefault(node, {})[place] = child
        level = {}
        kind = 0 if number == 1 else 1
        for index, node in enumerate(sorted(nodes)):
            head = b"\0\0\0\x17palm-torch/kzg-child/v1" + context.stem() + bytes((number, kind))
            values = [0] * 4096
            for place, child in nodes[node].items():
                values[place] = kzg.hash_to_field(
                    head + index.to_bytes(8, "big") + place.to_bytes(2, "big") + child
                )
            level[node] = kzg.commit(kzg.packed(values))
    ((_, top),) = level.items()
    return top


@pytest.mark.parametrize("counts", [(1,), (5,), (3, 4), (100, 1), (2, 3, 2, 2), (9, 9, 9, 2)])
def test_the_top_is_what_the_definition_says(counts: tuple[int, ...]) -> None:
    context = context_of(*counts)
    assert tree_of(context).root() == context.root(naive_top(context))


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("counts", [(8,), (9,), (70,), (5, 5), (3, 1, 5), (3, 2, 2, 3)])
def test_deep_tops_are_what_the_definition_says(counts: tuple[int, ...]) -> None:
    context = context_of(*counts)
    assert tree_of(context).root() == context.root(naive_top(context))


def test_one_value_is_the_value_of_many() -> None:
    prefix = kzg_tree.child_prefix(bytes(32), 1, 7)
    assert len(prefix) == 4 + 23 + 32 + 1 + 1 + 8
    children = bytes(range(96))
    assert [int.from_bytes(value, "big") for value in kzg_tree._values(prefix, 5, children, 32)] == [
        kzg_tree.child_value(prefix, 5 + at, children[32 * at : 32 * at + 32]) for at in range(3)
    ]


SHAPES: list[tuple[tuple[int, ...], list[tuple[Any, ...]], int]] = [
    ((100,), [(7,)], 96),  # a point
    ((128,), [(slice(64, 128),)], 96),  # a row
    ((64, 64), [(5, slice(None))], 96),
    ((128,), [(slice(63, 127),)], 144),  # 64 places, and no row
    ((65,), [(slice(64, 65),), (slice(0, 1),)], 144),
    ((64, 64), [(slice(None), 5)], 144),  # a column
    ((64, 64), [(slice(3, 7), slice(1, 9))], 144),  # a block
    ((65, 65), [(64, 64)], 192),  # two levels
    ((65, 65), [(slice(None), 0)], 240),
    ((65, 65), [(0, 0), (64, 64), (0, 64), (64, 0)], 336),
]


@pytest.mark.parametrize(("counts", "regions", "proof_bytes"), SHAPES)
def test_any_shape_opens(counts: tuple[int, ...], regions: Any, proof_bytes: int) -> None:
    context = context_of(*counts)
    tree = tree_of(context)
    opening = opened(tree, regions)
    assert len(opening.proof) == terkle.proof_bytes(context, regions) == proof_bytes
    terkle.verify(tree.root(), context, regions, opening)
    for at in (0, 47, 48, proof_bytes - 48, proof_bytes - 1):
        changed = bytearray(opening.proof)
        changed[at] ^= 1
        with pytest.raises((BindingError, EvidenceError)):
            terkle.verify(tree.root(), context, regions, dataclasses.replace(opening, proof=bytes(changed)))


@pytest.mark.usefixtures("narrow")
def test_growth_commits_only_to_what_changed(commits: list[bytes]) -> None:
    def grown(tree: terkle.Tree, extent: int) -> int:
        old = tree.context.grid.tiles
        larger = context_of(extent, 2)
        tree.append(extent, [tile(larger, position) for position in range(old, larger.grid.tiles)])
        commits.clear()
        tree.root()
        made = len(commits)
        assert tree.root() == tree_of(larger).root()
        return made

    tree = tree_of(context_of(16, 2))  # nodes of 4 × 2 tiles: 4 below 1
    tree.root()
    assert len(commits) == 5
    assert grown(tree, 17) == 2  # one more, and the top
    assert grown(tree, 20) == 2
    assert grown(tree, 32) == 4
    assert grown(tree, 33) == 3  # the level above is there for the first time
    assert grown(tree, 33) == 3  # nothing new: the last node of each level is made again


@pytest.mark.usefixtures("narrow")
def test_growth_that_moves_places_commits_anew(commits: list[bytes]) -> None:
    tree, larger = tree_of(context_of(2, 8)), context_of(3, 8)  # 1 × 2 digits become 2 × 1
    tree.root()
    tree.append(3, [tile(larger, position) for position in range(16, 24)])
    commits.clear()
    assert tree.root() == larger.root(naive_top(larger))
    assert len(commits) > 3


@pytest.mark.usefixtures("narrow")
def test_an_update_commits_to_nothing(commits: list[bytes]) -> None:
    context = context_of(70)
    tree, tiles = tree_of(context), tiles_of(context)
    tree.root()
    commits.clear()
    tiles[69] = tile(context, 69, seed=1)
    tree.update(69, tiles[69])
    tree.update(69, tiles[69])
    root = tree.root()
    assert not commits
    fresh = terkle.Tree(context)
    fresh.extend(tiles)
    assert fresh.root() == root


@pytest.mark.usefixtures("narrow")
def test_an_update_after_growth_reaches_nodes_that_are_not_there_yet() -> None:
    larger = context_of(40)
    tree, tiles = tree_of(context_of(16)), tiles_of(larger)
    tree.root()
    tree.append(40, tiles[16:])
    for position in (0, 39):
        tiles[position] = tile(larger, position, seed=1)
        tree.update(position, tiles[position])
    fresh = terkle.Tree(larger)
    fresh.extend(tiles)
    assert tree.root() == fresh.root()


@pytest.mark.usefixtures("narrow")
def test_point_inputs_lead_from_the_top_to_the_tile() -> None:
    context = context_of(70)
    tree = tree_of(context)
    inputs = tree.point_inputs(37)
    assert [len(data) for data in inputs] == [192, 192, 192]
    child = tree_leaves.leaf(context, 37, tile(context, 37), b"")
    for number, data in enumerate(reversed(inputs), 1):
        node = 37 >> 3 * number
        place = 37 >> 3 * (number - 1) & 7
        prefix = kzg_tree.child_prefix(context.stem(), number, node)
        value, commitment, proof = data[64:96], data[96:144], data[144:]
        assert int.from_bytes(value, "big") == kzg_tree.child_value(prefix, place, child)
        kzg.verify_point(commitment, place, int.from_bytes(value, "big"), proof)
        child = commitment
    assert context.root(child) == tree.root()
    with pytest.raises(DataError, match=r"expected a position in \[0, 70\)"):
        tree.point_inputs(70)


def test_a_row_that_is_shown_as_a_set_is_refused() -> None:
    context = context_of(128)
    tree, region = tree_of(context), [(slice(64, 128),)]
    nodes = kzg_tree.Nodes(context)
    leaves = [tree_leaves.leaf(context, p, tile(context, p), b"") for p in range(128)]
    nodes.extend(b"".join(leaves))
    blob = nodes._blob(layout.levels((128,))[0], 0)
    proof = shplonk.open_sets([(kzg.commit(blob), blob, tuple(range(64, 128)))], context.digest())
    good = opened(tree, region)
    with pytest.raises(EvidenceError, match="expected a proof of 96 bytes, got 144"):
        terkle.verify(tree.root(), context, region, dataclasses.replace(good, proof=nodes.top() + proof))


# Nodes made by one who may put anything anywhere: the verifier asks for the kind, level, node and place that
# the question implies, so a value made for another is another value.


def forged(context: Context, value_of_top: bytes, leaf_node: bytes) -> tuple[bytes, Opening]:
    """A tree of two levels whose top holds a chosen value at place 0, opened at tile 0 as if all was well."""
    below = [0] * 4096
    below[0] = int.from_bytes(leaf_node, "big")
    above = [0] * 4096
    above[0] = int.from_bytes(value_of_top, "big")
    blobs = [kzg.packed(above), kzg.packed(below)]
    commitments = [kzg.commit(blob) for blob in blobs]
    sets = [(commitment, blob, (0,)) for commitment, blob in zip(commitments, blobs, strict=True)]
    proof = b"".join(commitments) + shplonk.open_sets(sets, context.digest())
    return context.root(commitments[0]), Opening((tile(context, 0),), (), proof)


def value(context: Context, level: int, kind: int, node: int, place: int, child: bytes) -> bytes:
    head = b"\0\0\0\x17palm-torch/kzg-child/v1" + context.stem() + bytes((level, kind))
    number = kzg.hash_to_field(head + node.to_bytes(8, "big") + place.to_bytes(2, "big") + child)
    return number.to_bytes(32, "big")


@pytest.mark.usefixtures("narrow")
def test_values_for_another_place_are_other_values() -> None:
    context, other = context_of(16), context_of(16, tree_id="v")
    leaf = tree_leaves.leaf(context, 0, tile(context, 0), b"")
    honest = value(context, 1, 0, 0, 0, leaf)
    below = kzg.commit(honest + bytes(131072 - 32))
    root, opening = forged(context, value(context, 2, 1, 0, 0, below), honest)
    terkle.verify(root, context, [(0,)], opening)
    for top in (
        value(context, 2, 0, 0, 0, leaf),  # a leaf where a node belongs
        value(context, 2, 0, 0, 0, below),  # a node called a leaf
        value(context, 1, 1, 0, 0, below),  # a node of another level
        value(context, 2, 1, 1, 0, below),  # of another node
        value(context, 2, 1, 0, 1, below),  # for another place
        value(other, 2, 1, 0, 0, below),  # of another tree
    ):
        root, opening = forged(context, top, honest)
        with pytest.raises(BindingError):
            terkle.verify(root, context, [(0,)], opening)
    for bottom in (
        value(context, 1, 1, 0, 0, leaf),  # a leaf called a node
        value(context, 2, 0, 0, 0, leaf),
        value(context, 1, 0, 1, 0, leaf),
        value(context, 1, 0, 0, 1, leaf),
        value(other, 1, 0, 0, 0, leaf),
    ):
        commitment = kzg.commit(bottom + bytes(131072 - 32))
        root, opening = forged(context, value(context, 2, 1, 0, 0, commitment), bottom)
        with pytest.raises(BindingError):
            terkle.verify(root, context, [(0,)], opening)


@pytest.mark.usefixtures("narrow")
def test_a_node_is_not_a_leaf_of_a_shallower_tree() -> None:
    deep, flat = context_of(16), context_of(2)
    tree = tree_of(deep)
    top = opened(tree, [(0,)]).proof[:48]
    opening = Opening((tile(deep, 0),), (), top + bytes([0xC0]) + bytes(47))
    with pytest.raises(BindingError):
        terkle.verify(flat.root(top), flat, [(0,)], opening)


def test_places_that_pad_hold_nothing_that_opens() -> None:
    context = context_of(5)
    proof = opened(tree_of(context), [(4,)]).proof
    with pytest.raises(DataError, match=r"expected a child in \[0, 5\), got 5"):
        kzg_tree.opened_top(context, {5: bytes(32)}, proof)
    with pytest.raises(DataError, match="at least one position"):
        kzg_tree.opened_top(context, {}, proof)


def test_the_tree_checks_the_length_for_itself() -> None:
    context = context_of(5)
    proof = opened(tree_of(context), [(4,)]).proof
    with pytest.raises(EvidenceError, match="kzg opening: expected a proof of 96 bytes, got 95"):
        kzg_tree.opened_top(context, {4: bytes(32)}, proof[1:])


def test_too_many_places_at_once_are_refused_before_work(monkeypatch: pytest.MonkeyPatch) -> None:
    context = Context("many", "uint8", Grid((4097,), (1,)), "kzg")
    monkeypatch.setattr(shplonk, "MAX_POSITIONS", 4098)
    assert kzg_tree.proof_bytes(context, range(4096)) == 2 * 48 + 96
    with pytest.raises(DataError, match=r"at most 4098 places in all nodes on the way, got 4099: open fewer"):
        kzg_tree.proof_bytes(context, range(4097))


def test_commitments_to_nothing_are_refused() -> None:
    context = context_of(5)
    opening = opened(tree_of(context), [(4,)])
    nothing = kzg_tree.EMPTY_TOP
    forgery = dataclasses.replace(opening, proof=nothing + nothing)
    with pytest.raises(EvidenceError):
        terkle.verify(context.root(nothing), context, [(4,)], forgery)


def test_openings_of_one_tree_in_the_place_of_another() -> None:
    context = context_of(65, 65)
    region = [(slice(1, 3), slice(1, 3))]
    tree, other = tree_of(context), tree_of(context, seed=1)
    good, foreign = opened(tree, region), opened(other, region, seed=1)
    with pytest.raises(BindingError):
        terkle.verify(tree.root(), context, region, foreign)
    for proof in (
        good.proof[:48] + foreign.proof[48:],
        good.proof[:-96] + foreign.proof[-96:],
        good.proof[48:96] + good.proof[:48] + good.proof[96:],
        good.proof[:-96] + good.proof[-48:] + good.proof[-96:-48],
    ):
        with pytest.raises(BindingError):
            terkle.verify(tree.root(), context, region, dataclasses.replace(good, proof=proof))


def test_a_proof_is_for_one_length_of_the_array() -> None:
    small, large = context_of(3, 65, 65), context_of(4, 65, 65)
    region = [(0, 0, 0)]
    assert small.stem() == large.stem()
    opening = opened(tree_of(small), region)
    with pytest.raises(BindingError):
        terkle.verify(large.root(opening.proof[:48]), large, region, opening)


def test_a_value_of_zero_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kzg, "hash_to_field", lambda _: 0)
    with pytest.raises(DataError, match="place 3: the value of a child is 0"):
        kzg_tree.child_value(b"", 3, bytes(32))
    monkeypatch.setattr(kzg_tree.field, "MODULUS", 1)
    with pytest.raises(DataError, match="places from 3 on: the value of a child is 0"):
        kzg_tree._values(b"", 3, bytes(64), 32)
