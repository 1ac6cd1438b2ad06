"""Terkle trees: one root over the tiles of an array; any regions of it can be shown without the rest.

The root binds name, element type, shape, tiling and scheme of the array (`Context`) and the exact bytes of
every tile. Two schemes make the nodes: `hash_tree` needs nothing but SHA-256 and BLAKE3; in `kzg_tree` a
row, a column, a block or any set of tiles opens in 96 bytes and 48 for each node below the top.

    tree = Tree(context)
    tree.extend(tiles)                      # the prover, tile by tile; keeps 32 bytes for each
    opening = tree.open(regions, read)
    values = verify(tree.root(), context, regions, opening)     # the verifier
    values.region(0)
"""

from __future__ import annotations

import dataclasses
import types
from typing import TYPE_CHECKING, Final

from palm_torch.commit import hash_tree, kzg_tree, tree_leaves
from palm_torch.commit.grid import whole_number
from palm_torch.commit.tree_context import Context
from palm_torch.commit.tree_opening import Opening, Values
from palm_torch.errors import BindingError, DataError, EvidenceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from palm_torch.commit.grid import Region
    from palm_torch.commit.regions import Bytes

__all__ = ["ROOT_BYTES", "Context", "Opening", "Tree", "Values", "proof_bytes", "verify"]

ROOT_BYTES: Final = 32

_SCHEMES: Final = {"hash": hash_tree, "kzg": kzg_tree}


class Tree:
    """A tree on the side that has the tiles. One owner; it is complete when every tile was added."""

    __slots__ = ("_context", "_nodes", "_run", "_salts")

    def __init__(self, context: Context, *, salt_key: bytes | None = None) -> None:
        """Begins a tree without tiles.

        Args:
            context: What the tree is over.
            salt_key: 32 secret bytes for a salted tree, never used for another tree, nor for one that is
                made anew of other contents; None for one without salts.

        Raises:
            DataError: If there is a key without salts, salts without a key, or a key of another length.
        """
        self._context = context
        self._salts = tree_leaves.salts_of(context, salt_key)
        self._nodes = _SCHEMES[context.scheme].Nodes(context)
        self._run: tree_leaves.Run | None = None

    @property
    def context(self) -> Context:
        """What the tree is over; `append` replaces it by that of the larger array."""
        return self._context

    def __len__(self) -> int:
        """Returns the number of tiles so far."""
        return len(self._nodes)

    def add(self, content: Bytes) -> int:
        """Adds the next tile, row-major, and returns its position.

        Args:
            content: Its exact little-endian bytes; they are hashed and not kept.

        Raises:
            DataError: If the length is not that of the tile, or the tree is complete.
        """
        position = len(self._nodes)
        self.extend((content,))
        return position

    def extend(self, contents: Iterable[Bytes]) -> None:
        """Adds the next tiles, row-major, as many as there are; faster than one by one.

        Raises:
            DataError: As in `add`. What the tree then holds, its length says.
        """
        rest = iter(contents)
        while (position := len(self._nodes)) < self._context.grid.tiles:
            run = self._run
            if run is None or not run.first <= position < run.end:
                run = self._run = tree_leaves.Run(self._context, position, self._salts)
            leaves = run.leaves(position, rest)
            self._nodes.extend(leaves)
            if len(self._nodes) < run.end:
                return
        if next(rest, None) is not None:
            raise DataError(f"{self._name}: expected {self._context.grid.tiles} tiles, got one more")

    def append(self, extent: int, contents: Iterable[Bytes] = ()) -> None:
        """Makes axis 0 longer and adds the tiles that this brings.

        A last row of tiles that the old edge had cut is dropped: its tiles come again, as they are now.
        Nodes in which nothing changes keep their commitments.

        Args:
            extent: New extent of axis 0, in elements, at least the old one.
            contents: The next tiles, as many as there are already; `add` and `extend` take the others.

        Raises:
            DataError: If the extent is smaller, the tree was not complete, or as in `add`.
        """
        self._check_complete()
        grid, new = self._context.grid.grown(extent)
        self._context = dataclasses.replace(self._context, grid=grid)  # refuses a tile that grows too large
        self._salts.write_again(range(new.start, len(self._nodes)))
        self._nodes.grow(self._context, new.start)
        self._run = None
        self.extend(contents)

    def update(self, position: int, content: Bytes) -> None:
        """Replaces a tile.

        In a salted tree it gets another salt, also if its bytes are the same: the old one may be known.

        Raises:
            DataError: If no such tile was added, or the length is another one.
        """
        position = self._checked_position(position)
        expected = self._context.tile_bytes(position)
        view = tree_leaves.checked_bytes(content, expected, f"{self._name}: tile {position}")
        salt = self._salts.salt(position, again=1)
        self._nodes.replace(position, tree_leaves.leaf(self._context, position, view, salt))
        self._salts.write_again((position,))

    def root(self) -> bytes:
        """Returns the root, 32 bytes.

        Raises:
            DataError: If tiles are missing.
        """
        self._check_complete()
        return self._context.root(self._nodes.top())

    def open(self, regions: Sequence[Region], read: Callable[[int], Bytes]) -> Opening:
        """Opens regions: brings the tiles they touch, and the proof that these are under the root.

        Args:
            regions: At least one; see `Grid.ranges`.
            read: Function position → exact bytes of that tile, as they were added. Called once for each.

        Raises:
            DataError: If tiles are missing, a region is malformed, or a tile is not the one that was added;
                under ``kzg`` also if the proof would speak of more than 2^20 places in all nodes on the way.
        """
        self._check_complete()
        positions = self._context.grid.cover(*_spans(self._context, regions))
        headers = tree_leaves.headers(self._context, positions)
        salts = tuple(map(self._salts.salt, positions))
        tiles: list[bytes] = []
        for position, (header, _), salt in zip(positions, headers, salts, strict=True):
            what = f"{self._name}: tile {position}"
            tile = tree_leaves.copied(read(position), what)  # once; the copy is checked and shown
            if tree_leaves.leaf_under(header, tile, salt) != self._nodes.leaf(position):
                raise DataError(f"{self._name}: tile {position} is not the one that the tree was made of")
            tiles.append(tile)
        shown = salts if self._context.salted else ()
        return Opening(tuple(tiles), shown, self._nodes.open(positions))

    def point_inputs(self, position: int) -> list[bytes]:
        """Returns what Ethereum's point evaluation precompile takes to follow one tile up to the top.

        One input of 192 bytes for each level, from the top down. The value in the last is that of the tile's
        leaf, the value in every other that of the commitment in the next (`kzg_tree.child_value`).

        Raises:
            DataError: If the scheme is not ``kzg``, tiles are missing, or there is no such tile.
        """
        if not isinstance(self._nodes, kzg_tree.Nodes):
            raise DataError(f"{self._name}: the precompile checks trees of the scheme 'kzg', this is 'hash'")
        self._check_complete()
        return self._nodes.point_inputs(self._checked_position(position))

    @property
    def _name(self) -> str:
        return f"tree {self._context.tree_id!r}"

    def _check_complete(self) -> None:
        if len(self._nodes) != (tiles := self._context.grid.tiles):
            raise DataError(f"{self._name}: expected {tiles} tiles, got {len(self._nodes)} so far")

    def _checked_position(self, position: int) -> int:
        number = whole_number("a position", position)
        if not 0 <= number < len(self._nodes):
            raise DataError(f"{self._name}: expected a position in [0, {len(self._nodes)}), got {position}")
        return number


def proof_bytes(context: Context, regions: Sequence[Region]) -> int:
    """Returns the length, in bytes, that every valid proof for these regions has.

    Raises:
        DataError: If a region is malformed or too many tiles are touched; see `Tree.open`.
    """
    positions = context.grid.cover(*_spans(context, regions))
    return int(_SCHEMES[context.scheme].proof_bytes(context, positions))


def verify(root: bytes, context: Context, regions: Sequence[Region], opening: Opening) -> Values:
    """Checks an opening against a root and returns the bytes of the regions.

    1. The regions lie in the array; together with the grid they say which tiles are touched.
    2. The root is 32 bytes. There is exactly one tile for each of these positions, each of exactly the
       length that its shape and the element type ask for; a salt of 32 bytes for each if the context says
       so, else none.
    3. The proof has exactly the length that scheme and positions ask for.
    4. The leaf of each tile is computed from name, element type, shape, coordinates, salt and bytes.
    5. Leaves and proof make the top of the tree: `hash_tree.opened_top`, `kzg_tree.opened_top`.
    6. Context and top make the root.

    Steps 1 to 3 keep a proof from choosing what it proves: nothing in it says a level, a place or a length.
    Step 4 keeps a tile from standing for another place, shape or element type; step 6 keeps the opening of
    one tree from standing for another.

    Args:
        root: What the verifier trusts, 32 bytes.
        context: What the root is over, from where the root came from, never from the opening.
        regions: What the verifier wants to see: at least one; see `Grid.ranges`.
        opening: What came from elsewhere.

    Raises:
        DataError: At step 1: the verifier's own question is malformed, or asks for too much at once.
        EvidenceError: At steps 2 and 3, or for a proof that holds no points: nothing was compared.
        BindingError: At steps 5 and 6: these are not the bytes that were committed to.
    """
    spans = _spans(context, regions)  # 1
    positions = context.grid.cover(*spans)
    headers = tree_leaves.headers(context, positions)
    lengths = {position: length for position, (_, length) in zip(positions, headers, strict=True)}
    _check_parts(root, context, lengths, opening)  # 2
    scheme = _SCHEMES[context.scheme]
    expected = scheme.proof_bytes(context, positions)  # 3
    if len(opening.proof) != expected:
        raise EvidenceError(f"opening: expected a proof of {expected} bytes, got {len(opening.proof)}")
    salts = opening.salts or (b"",) * len(positions)
    leaves = {  # 4
        position: tree_leaves.leaf_under(header, tile, salt)
        for position, (header, _), tile, salt in zip(positions, headers, opening.tiles, salts, strict=True)
    }
    top = scheme.opened_top(context, leaves, opening.proof)  # 5
    if (found := context.root(top)) != root:  # 6
        raise BindingError(
            f"opening of tree {context.tree_id!r}: expected root {root.hex()}, got {found.hex()}"
        )
    tiles = types.MappingProxyType(dict(zip(positions, opening.tiles, strict=True)))
    return Values(context.grid, spans, tiles, context.item_bytes)


def _spans(context: Context, regions: Iterable[Region]) -> tuple[tuple[slice, ...], ...]:
    """Returns the regions as one slice per axis each: read once, since they may come one after the other."""
    try:
        asked = tuple(regions)
    except TypeError as error:
        raise DataError(f"grid: expected regions, one after the other, got {regions!r}") from error
    return tuple(tuple(slice(r.start, r.stop) for r in context.grid.ranges(region)) for region in asked)


def _check_parts(root: bytes, context: Context, lengths: Mapping[int, int], opening: Opening) -> None:
    """Step 2 of `verify`; `lengths` are those of the tiles, in bytes, by position."""
    if not isinstance(root, bytes):
        raise EvidenceError(f"opening: expected a root of bytes, got {type(root).__name__}")
    if len(root) != ROOT_BYTES:
        raise EvidenceError(f"opening: expected a root of {ROOT_BYTES} bytes, got {len(root)}")
    if len(opening.tiles) != len(lengths):
        raise EvidenceError(f"opening: expected {len(lengths)} tiles, got {len(opening.tiles)}")
    if len(opening.salts) != (salts := len(lengths) if context.salted else 0):
        raise EvidenceError(f"opening: expected {salts} salts, got {len(opening.salts)}")
    for (position, length), tile in zip(lengths.items(), opening.tiles, strict=True):
        if len(tile) != length:
            raise EvidenceError(f"opening: tile {position}: expected {length} bytes, got {len(tile)}")
