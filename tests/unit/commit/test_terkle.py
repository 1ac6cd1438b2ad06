"""Terkle trees of both schemes: built, grown, changed, opened, and every other opening refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from trees import SALT_KEY, opened, salt_key, tile, tiles_of, tree_of

from palm_torch.commit import kzg, kzg_tree, merkle, terkle, tree_leaves
from palm_torch.commit.grid import Grid
from palm_torch.commit.terkle import Context, Opening, Tree
from palm_torch.errors import BindingError, DataError, EvidenceError

GRID = Grid((5, 7), (2, 3), ("token", "channel"))
HASH = Context("w", "int16", GRID, "hash")
KZG = Context("w", "int16", GRID, "kzg")
SALTED = Context("w", "int16", GRID, "hash", salted=True)
CONTEXTS = [HASH, KZG, SALTED, dataclasses.replace(KZG, salted=True)]
BLOCK = [(slice(1, 3), slice(2, 4))]


def naive_root(context: Context) -> bytes:
    """A hash root by its definition."""
    salts = tree_leaves.salts_of(context, salt_key(context))
    leaves = [
        tree_leaves.leaf(context, position, tile(context, position), salts.salt(position))
        for position in range(context.grid.tiles)
    ]
    return context.root(merkle.root(b"".join(leaves)))


@pytest.mark.parametrize("context", [HASH, SALTED])
def test_a_hash_root_is_a_merkle_root_bound_to_its_context(context: Context) -> None:
    assert tree_of(context).root() == naive_root(context)


@pytest.mark.parametrize("context", CONTEXTS)
def test_regions_come_back(context: Context) -> None:
    tree = tree_of(context)
    regions = [(slice(1, 3), slice(2, 4)), (4, slice(0, 7)), (slice(0, 5), 6)]
    opening = opened(tree, regions)
    assert len(opening.proof) == terkle.proof_bytes(context, regions)
    assert Opening.decode(opening.encode()) == opening
    values = terkle.verify(tree.root(), context, regions, opening)
    array = [b""] * 35
    for position, content in enumerate(tiles_of(context)):
        rows, columns = (range(part.start, part.stop) for part in context.grid.tile_at(position))
        for at, (row, column) in enumerate((row, column) for row in rows for column in columns):
            array[7 * row + column] = content[2 * at : 2 * at + 2]
    assert values.region(0) == b"".join(array[7 * row + column] for row in (1, 2) for column in (2, 3))
    assert values.region(1) == b"".join(array[28:])
    assert values.region(2) == b"".join(array[6::7])
    assert [values.shape(index) for index in range(3)] == [(2, 2), (1, 7), (5, 1)]
    assert values.regions[1] == (slice(4, 5), slice(0, 7))


@pytest.mark.parametrize("context", CONTEXTS)
def test_tiles_one_by_one_or_together(context: Context) -> None:
    tree = Tree(context, salt_key=salt_key(context))
    assert [tree.add(content) for content in tiles_of(context)] == list(range(9))
    assert len(tree) == 9
    assert tree.root() == tree_of(context).root()
    with pytest.raises(DataError, match="tree 'w': expected 9 tiles, got one more"):
        tree.add(b"12")
    with pytest.raises(DataError, match="tree 'w': expected 9 tiles, got one more"):
        tree.extend(iter([b"12"]))


def test_a_wrong_tile_leaves_the_tree_as_it_was() -> None:
    tree, tiles = Tree(HASH), tiles_of(HASH)
    tree.extend(tiles[:4])
    with pytest.raises(DataError, match="tile 5: expected 4 bytes, back to back, got 2"):
        tree.extend([tiles[4], b"12"])
    assert len(tree) in (4, 5)
    tree.extend(tiles[len(tree) :])
    assert tree.root() == tree_of(HASH).root()


@pytest.mark.parametrize("context", [HASH, KZG])
def test_incomplete_trees_have_no_root(context: Context) -> None:
    tree = Tree(context)
    tree.extend(tiles_of(context)[:8])
    for ask in (
        tree.root,
        lambda: tree.open(BLOCK, bytes),
        lambda: tree.append(6),
    ):
        with pytest.raises(DataError, match="tree 'w': expected 9 tiles, got 8 so far"):
            ask()


@pytest.mark.parametrize("scheme", ["hash", "kzg"])
@pytest.mark.parametrize("shape", [(0, 7), (5, 0)])
def test_no_tiles(scheme: Any, shape: tuple[int, int]) -> None:
    context = Context("w", "int16", Grid(shape, (2, 3)), scheme)
    top = kzg_tree.EMPTY_TOP if scheme == "kzg" else merkle.root(b"")
    assert Tree(context).root() == context.root(top)
    with pytest.raises(DataError, match="expected a range"):
        Tree(context).open([(slice(None), slice(None))], bytes)


@pytest.mark.parametrize("salted", [False, True])
@pytest.mark.parametrize("scheme", ["hash", "kzg"])
def test_growth_ends_where_a_fresh_tree_begins(scheme: Any, salted: bool) -> None:  # noqa: FBT001 (a case)
    context = Context("w", "int8", Grid((0, 7), (2, 3)), scheme, salted)
    tree = Tree(context, salt_key=salt_key(context))
    for extent in (0, 1, 2, 3, 4, 6, 7, 8, 9, 16, 17, 17, 18, 40):
        larger = dataclasses.replace(context, grid=Grid((extent, 7), (2, 3)))
        _, new = tree.context.grid.grown(extent)
        tree.append(extent, [tile(larger, position) for position in new])
        assert tree.context == larger
        assert salted or tree.root() == tree_of(larger).root()
    regions = [(slice(3, 5), slice(None))]
    terkle.verify(tree.root(), tree.context, regions, opened(tree, regions))


def test_growth_may_come_in_parts() -> None:
    tree = tree_of(HASH)
    tree.append(9)
    larger = tree.context
    assert len(tree) == 6  # the row that the edge had cut comes again
    tree.add(tile(larger, 6))
    with pytest.raises(DataError, match="expected 15 tiles, got 7 so far"):
        tree.root()
    tree.extend(tile(larger, position) for position in range(7, 15))
    assert tree.root() == tree_of(larger).root()


def test_growth_that_is_refused_leaves_tiles_and_salts_as_they_were() -> None:
    """The edge tile would grow beyond 1 GiB; it can still be opened with the salt that it has."""
    context = Context("w", "uint8", Grid((3, 2**15), (2**16, 2**15)), "hash", salted=True)
    tree, regions = tree_of(context), [(0, 0)]
    root, shown = tree.root(), opened(tree, [(0, 0)])
    with pytest.raises(DataError, match="expected tiles of at most 1073741824 bytes"):
        tree.append(2**15 + 1)
    assert (tree.context, tree.root(), opened(tree, regions)) == (context, root, shown)
    terkle.verify(root, context, regions, shown)


def test_arrays_do_not_shrink() -> None:
    with pytest.raises(DataError, match="axis 0 can only grow"):
        tree_of(HASH).append(4)


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("built", [False, True])
def test_an_updated_tree_is_the_tree_of_the_updated_array(
    context: Context,
    built: bool,  # noqa: FBT001 (a case)
) -> None:
    tree, tiles = tree_of(context), tiles_of(context)
    before = tree.root() if built else b""
    for position in (0, 8, 4, 4):
        tiles[position] = tile(context, position, seed=position + 1)
        tree.update(position, tiles[position])
    opening = tree.open(BLOCK, tiles.__getitem__)
    terkle.verify(tree.root(), context, BLOCK, opening)
    assert tree.root() != before
    if not context.salted:
        fresh = Tree(context)
        fresh.extend(tiles)
        assert tree.root() == fresh.root()


@pytest.mark.parametrize("salted", [False, True])
def test_only_in_a_salted_tree_the_same_bytes_again_make_another_root(salted: bool) -> None:  # noqa: FBT001 (a case)
    context = dataclasses.replace(HASH, salted=salted)
    tree = tree_of(context)
    before = tree.root()
    tree.update(4, tile(context, 4))
    assert (tree.root() != before) == salted


def test_an_update_that_fails_leaves_tile_and_salt_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    context = dataclasses.replace(KZG, salted=True)
    tree = tree_of(context)
    root = tree.root()

    def interrupted(*_: object) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(kzg, "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tree.update(0, tile(context, 0, seed=1))
    assert tree.root() == root
    terkle.verify(root, context, BLOCK, opened(tree, BLOCK))
    tiles = [tile(context, 0, seed=1), *tiles_of(context)[1:]]
    tree.update(0, tiles[0])
    terkle.verify(tree.root(), context, BLOCK, tree.open(BLOCK, tiles.__getitem__))


@pytest.mark.parametrize("context", [HASH, KZG])
def test_updates_that_are_refused(context: Context) -> None:
    tree = tree_of(context)
    root = tree.root()
    for position in (-1, 9):
        with pytest.raises(DataError, match=r"tree 'w': expected a position in \[0, 9\)"):
            tree.update(position, b"12")
    with pytest.raises(DataError, match="tree 'w': tile 8: expected 2 bytes, back to back, got 3"):
        tree.update(8, b"123")
    assert tree.root() == root


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("content", [b"", bytes(12), bytes(13)])
def test_a_tile_that_changed_meanwhile_is_not_opened(context: Context, content: bytes) -> None:
    with pytest.raises(DataError, match="tree 'w': tile 0 is not the one that the tree was made of"):
        tree_of(context).open(BLOCK, lambda _: content)


def test_what_is_opened_is_a_copy_read_once() -> None:
    tiles = [bytearray(content) for content in tiles_of(HASH)]
    reads: list[int] = []

    def read(position: int) -> bytearray:
        reads.append(position)
        return tiles[position]

    tree = tree_of(HASH)
    opening = tree.open([*BLOCK, *BLOCK], read)
    assert reads == [0, 1, 3, 4]
    for content in tiles:
        content[:] = bytes(len(content))
    terkle.verify(tree.root(), HASH, BLOCK, opening)


OTHERS: list[dict[str, Any]] = [
    {"tree_id": "v"},
    {"dtype": "uint16"},
    {"grid": Grid((6, 7), (2, 3), GRID.axes)},
    {"grid": Grid((5, 8), (2, 3), GRID.axes)},
    {"grid": Grid((5, 7), (2, 3), ("channel", "token"))},
    {"grid": Grid((5, 7), (2, 3))},
]


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("other", OTHERS)
def test_another_context(context: Context, other: dict[str, Any]) -> None:
    tree = tree_of(context)
    with pytest.raises(BindingError):
        terkle.verify(tree.root(), dataclasses.replace(context, **other), BLOCK, opened(tree, BLOCK))


@pytest.mark.parametrize("context", CONTEXTS)
def test_another_root(context: Context) -> None:
    tree = tree_of(context)
    with pytest.raises(BindingError, match=r"opening of tree 'w': expected root 0{64}, got"):
        terkle.verify(bytes(32), context, BLOCK, opened(tree, BLOCK))
    with pytest.raises(EvidenceError, match="a root of 32 bytes, got 31"):
        terkle.verify(tree.root()[1:], context, BLOCK, opened(tree, BLOCK))


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize(
    "elsewhere",
    [
        (slice(3, 5), slice(2, 4)),  # other tiles, as many
        (slice(1, 3), slice(3, 7)),
        (0, 0),
        (slice(None), slice(None)),
    ],
)
def test_the_same_tiles_elsewhere(context: Context, elsewhere: tuple[slice, slice]) -> None:
    tree = tree_of(context)
    with pytest.raises((BindingError, EvidenceError)):
        terkle.verify(tree.root(), context, [elsewhere], opened(tree, BLOCK))


def test_equal_tiles_do_not_change_places() -> None:
    context = Context("w", "int8", Grid((4,), (1,)), "hash")
    tree = Tree(context)
    tree.extend([b"\0"] * 4)
    opening = tree.open([(1,)], lambda _: b"\0")
    terkle.verify(tree.root(), context, [(1,)], opening)
    with pytest.raises(BindingError):
        terkle.verify(tree.root(), context, [(0,)], opening)


@pytest.mark.parametrize("context", CONTEXTS)
def test_other_parts(context: Context) -> None:
    tree = tree_of(context)
    root, good = tree.root(), opened(tree, BLOCK)
    some = (bytes(32),) * len(good.tiles)
    salts = good.salts[:0] if context.salted else some
    for changes, message in (
        ({"tiles": good.tiles[:-1], "salts": good.salts[:-1]}, "expected 4 tiles, got 3"),
        ({"tiles": (*good.tiles[:-1], good.tiles[-1] + b"\0")}, "tile 4: expected 12 bytes, got 13"),
        ({"salts": salts}, "salts, got"),
        ({"proof": good.proof[:-1]}, "expected a proof of"),
        ({"proof": good.proof + b"\0"}, "expected a proof of"),
    ):
        with pytest.raises(EvidenceError, match=message):
            terkle.verify(root, context, BLOCK, dataclasses.replace(good, **changes))


@pytest.mark.parametrize("context", CONTEXTS)
def test_parts_in_another_order(context: Context) -> None:
    tree = tree_of(context)
    good = opened(tree, BLOCK)
    swapped = dataclasses.replace(good, tiles=(good.tiles[1], good.tiles[0], *good.tiles[2:]))
    with pytest.raises(BindingError):
        terkle.verify(tree.root(), context, BLOCK, swapped)
    if context.salted:
        turned = dataclasses.replace(good, salts=good.salts[::-1])
        with pytest.raises(BindingError):
            terkle.verify(tree.root(), context, BLOCK, turned)


@pytest.mark.parametrize("context", [HASH, SALTED])
def test_every_byte_counts(context: Context) -> None:
    tree = tree_of(context)
    root, good = tree.root(), opened(tree, BLOCK).encode()
    for at in range(len(good)):
        changed = bytearray(good)
        changed[at] ^= 1 << at % 8
        with pytest.raises((BindingError, EvidenceError)):
            terkle.verify(root, context, BLOCK, Opening.decode(bytes(changed)))


@pytest.mark.parametrize("context", [HASH, KZG])
def test_questions_that_are_malformed(context: Context) -> None:
    tree = tree_of(context)
    good = opened(tree, BLOCK)
    for regions in ([], [(slice(0, 6), 0)], [(0,)], [(slice(2, 2), 0)]):
        for ask in (
            lambda regions=regions: terkle.verify(tree.root(), context, regions, good),
            lambda regions=regions: tree.open(regions, bytes),
            lambda regions=regions: terkle.proof_bytes(context, regions),
        ):
            with pytest.raises(DataError, match="grid: "):
                ask()


@pytest.mark.parametrize("regions", [None, 5, [None], [5], ["ab"], [(0, ...)], [(0, None)]])
def test_regions_that_are_none(regions: Any) -> None:
    tree = tree_of(HASH)
    good = opened(tree, BLOCK)
    for ask in (
        lambda: terkle.verify(tree.root(), HASH, regions, good),
        lambda: tree.open(regions, bytes),
        lambda: terkle.proof_bytes(HASH, regions),
    ):
        with pytest.raises(DataError, match="grid: "):
            ask()


def test_regions_may_come_one_after_the_other() -> None:
    tree = tree_of(HASH)
    opening = tree.open(map(iter, BLOCK), tiles_of(HASH).__getitem__)
    values = terkle.verify(tree.root(), HASH, map(iter, BLOCK), opening)  # type: ignore[arg-type]
    assert values.regions == tuple(BLOCK)
    assert len(values.region(0)) == 8


@pytest.mark.parametrize("root", [None, "0" * 32, bytearray(32)])
def test_roots_that_are_no_bytes(root: Any) -> None:
    with pytest.raises(EvidenceError, match="a root of bytes, got"):
        terkle.verify(root, HASH, BLOCK, opened(tree_of(HASH), BLOCK))


@pytest.mark.parametrize("context", [HASH, KZG])
def test_positions_and_extents_are_whole_numbers(context: Context) -> None:
    tree = tree_of(context)
    root = tree.root()
    for position in (0.0, "0", None, True):
        with pytest.raises(DataError, match="expected a position as a whole number"):
            tree.update(position, tile(context, 0))
    with pytest.raises(DataError, match="expected an extent as a whole number"):
        tree.append(9.0)
    assert tree.root() == root
    assert tree.context == context


@pytest.mark.parametrize("content", [None, "abcdefghijkl", [0] * 12, 12])
def test_tiles_that_are_no_bytes(content: Any) -> None:
    tree = tree_of(HASH)
    with pytest.raises(DataError, match="tile 0: expected bytes, got"):
        Tree(HASH).add(content)
    with pytest.raises(DataError, match="tree 'w': tile 0: expected bytes, got"):
        tree.update(0, content)
    with pytest.raises(DataError, match="tree 'w': tile 0: expected bytes, got"):
        tree.open(BLOCK, lambda _: content)


@pytest.mark.parametrize("key", ["k" * 32, 32])
def test_salt_keys_are_bytes(key: Any) -> None:
    with pytest.raises(DataError, match="expected a salt key of bytes, got"):
        Tree(SALTED, salt_key=key)


@pytest.mark.parametrize("key", [None, SALT_KEY[1:]])
def test_salts_need_a_key(key: bytes | None) -> None:
    with pytest.raises(DataError, match="salt key"):
        Tree(SALTED, salt_key=key)


def test_guessing_a_salted_tile_needs_its_salt() -> None:
    tree = tree_of(SALTED)
    opening = opened(tree, BLOCK)
    other = Tree(SALTED, salt_key=SALT_KEY[::-1])
    other.extend(tiles_of(SALTED))
    assert other.root() != tree.root()
    assert len(set(opening.salts)) == len(opening.salts) == len(opening.tiles)


def test_a_hash_tree_has_no_points() -> None:
    with pytest.raises(DataError, match="trees of the scheme 'kzg', this is 'hash'"):
        tree_of(HASH).point_inputs(0)
