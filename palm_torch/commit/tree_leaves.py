"""The leaves of a Terkle tree: one by one as they are defined, and many at a time, fast.

A leaf binds the bytes of a tile to name, element type, shape and coordinates (`tile_leaf.leaf`). Tiles that
lie side by side along one axis differ in one number only, so everything else of their leaves is prepared
once for the run.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import hmac
import itertools
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from blake3 import blake3

from palm_torch.commit import grid, tile_leaf
from palm_torch.encoding import length_prefixed
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from palm_torch.commit.regions import Bytes
    from palm_torch.commit.tree_context import Context

LEAF_BYTES: Final = 32
SALT_BYTES: Final = 32
SALT_KEY_BYTES: Final = 32

_TILE_TAG: Final = b"palm-torch/tile/v1"
_SALT_TAG: Final = b"palm-torch/tile-salt/v1"
_NUMBER_BYTES: Final = 8
_RUN_TILES: Final = 4096
"""Most tiles of one run: what is prepared for them takes about 100 bytes each."""


@dataclass(frozen=True, slots=True)
class Salts:
    """The salts of one tree, none without a key: another one each time that a tile is written.

    ``HMAC-SHA256(key, tag ‖ stem ‖ u64 position)`` when a tile is written first; then
    ``HMAC-SHA256(key, tag ‖ stem ‖ u64 position ‖ u64 n)``, when it is written again for the n-th time.

    An opening gives away the salts of its tiles, so a key is for one tree, and a tree that is made anew of
    other contents needs a new key: another tree of the same stem has the same salts.

    Attributes:
        key: 32 secret bytes, or empty.
        stem: `Context.stem` of the tree.
        writes: How often a tile was written again, by position; without those that never were.

    Raises:
        DataError: If the key has another length.
    """

    key: bytes = dataclasses.field(repr=False)
    stem: bytes
    writes: dict[int, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses keys of another length."""
        if len(self.key) not in (0, SALT_KEY_BYTES):
            raise DataError(f"salt key: expected {SALT_KEY_BYTES} bytes, got {len(self.key)}")

    def salt(self, position: int, *, again: int = 0) -> bytes:
        """Returns the salt of a tile: 32 bytes, or empty.

        Args:
            position: Of the tile.
            again: 0 for the tile as it is, 1 for the next time that it will be written.
        """
        if not self.key:
            return b""
        writes = self.writes.get(position, 0) + again
        count = writes.to_bytes(_NUMBER_BYTES, "big") if writes else b""
        place = position.to_bytes(_NUMBER_BYTES, "big")
        return hmac.digest(self.key, _SALT_TAG + self.stem + place + count, "sha256")

    def write_again(self, positions: Iterable[int]) -> None:
        """Gives tiles their next salts."""
        if self.key:
            self.writes.update([(position, self.writes.get(position, 0) + 1) for position in positions])


def salts_of(context: Context, key: bytes | None) -> Salts:
    """Returns the salts of a tree.

    Raises:
        DataError: If a salted tree has no key of 32 bytes, or one without salts has a key.
    """
    if not isinstance(key, bytes | None):
        raise DataError(f"tree {context.tree_id!r}: expected a salt key of bytes, got {type(key).__name__}")
    if context.salted != bool(key):
        wanted = f"a salt key of {SALT_KEY_BYTES} bytes" if context.salted else "no salt key"
        raise DataError(f"tree {context.tree_id!r}: expected {wanted}, got {'one' if key else 'none'}")
    return Salts(key or b"", context.stem())


def headers(context: Context, positions: Iterable[int]) -> list[tuple[bytes, int]]:
    """Returns header (`tile_leaf.header`) and length in bytes of tiles, with what they share made once.

    Args:
        context: Of the tree.
        positions: Of the tiles, in any order.

    Raises:
        DataError: If there is no such position.
    """
    shared = _numbering(context)
    names, pack, axes, tiles = shared.names, shared.numbers.pack, shared.axes, shared.tiles
    found: list[tuple[bytes, int]] = []
    for position in positions:
        if not 0 <= (rest := grid.whole_number("a position", position)) < tiles:
            raise DataError(f"grid: expected a position in [0, {tiles}), got {position}")
        length = context.item_bytes
        sizes: list[int] = []
        coordinates: list[int] = []
        for count, step, extent in axes:
            rest, at = divmod(rest, count)
            size = min(step, extent - at * step)
            sizes.append(size)
            coordinates.append(at)
            length *= size
        found.append((names + pack(*sizes[::-1], *coordinates[::-1]), length))
    return found


def leaf(context: Context, position: int, content: Bytes, salt: bytes) -> bytes:
    """Returns the leaf of one tile, 32 bytes.

    Args:
        context: Of the tree.
        position: Where the tile is.
        content: Its exact bytes.
        salt: 32 bytes, or empty for a tree without salts.

    Raises:
        DataError: If there is no such position.
    """
    ((header, _),) = headers(context, (position,))
    return leaf_under(header, content, salt)


def leaf_under(header: bytes, content: Bytes, salt: bytes) -> bytes:
    """Returns the leaf of a tile with this header, 32 bytes; see `leaf`."""
    return tile_leaf.leaf(header, blake3(content).digest(), salt=salt)


def checked_bytes(content: Bytes, expected: int, what: str) -> bytes:
    """Returns a copy of the bytes of a tile, whatever elements they are seen as.

    Raises:
        DataError: If they are not exactly as many as expected, or do not lie back to back.
    """
    view = _view(content, what)
    if view.nbytes != expected or not view.c_contiguous:
        raise DataError(f"{what}: expected {expected} bytes, back to back, got {view.nbytes}")
    return bytes(view)


def copied(content: Bytes, what: str) -> bytes:
    """Returns a copy of bytes, whatever elements they are seen as.

    Raises:
        DataError: If they are none.
    """
    return bytes(_view(content, what))


def _view(content: Bytes, what: str) -> memoryview:
    try:
        return memoryview(content)
    except (TypeError, ValueError, BufferError) as error:
        raise DataError(f"{what}: expected bytes, got {type(content).__name__}") from error


class Run:
    """Neighbouring tiles of one shape, with everything of their leaves prepared but the bytes.

    Attributes:
        first: Position of the first tile.
        end: Position after the last.
    """

    __slots__ = ("_begun", "_tails", "_tile_bytes", "end", "first")

    def __init__(self, context: Context, first: int, salts: Salts) -> None:
        """Prepares the longest run of at most 4096 tiles that begins at a position.

        Raises:
            DataError: If there is no such position.
        """
        shared = _numbering(context)
        ((header, tile_bytes),) = headers(context, (first,))
        behind = _NUMBER_BYTES * shared.behind
        changing = len(header) - behind - _NUMBER_BYTES
        at = int.from_bytes(header[changing : changing + _NUMBER_BYTES], "big")
        tiles = min(max(shared.whole - at, 1), _RUN_TILES)
        self.first = first
        self.end = first + tiles
        self._begun = hashlib.sha256(_TILE_TAG + len(header).to_bytes(4, "big") + header[:changing])
        self._tails: Sequence[bytes] = _tails(at, tiles, behind)
        if salts.key:
            ends = [_end(salts.salt(position)) for position in range(first, self.end)]
            self._tails = [tail[: -len(_end(b""))] + end for tail, end in zip(self._tails, ends, strict=True)]
        self._tile_bytes = tile_bytes

    def leaves(self, position: int, contents: Iterable[Bytes]) -> bytes:
        """Returns the leaves of tiles from a position on, 32 bytes each, as `leaf` would make them.

        Takes no more from `contents` than the run has room for.

        Args:
            position: Of the first of these tiles, in [first, end).
            contents: Exact bytes of one tile after the other.

        Raises:
            DataError: If a tile has another length than its shape asks for.
        """
        hasher, begun, expected = blake3(), self._begun.copy, self._tile_bytes
        reset, update, digest = hasher.reset, hasher.update, hasher.digest
        digests: list[bytes] = []
        for content in itertools.islice(contents, self.end - position):
            reset()
            try:
                size = content.nbytes if type(content) is memoryview else len(content)
                update(content if size == expected else b"")
            except (BufferError, TypeError):  # not a row of single bytes: looked at more closely
                size = -1
            if size != expected:
                update(checked_bytes(content, expected, f"tile {position + len(digests)}"))
            digests.append(digest())
        made: list[bytes] = []  # in a pass of their own: tiles push everything else out of the caches
        for tail, content_digest in zip(
            itertools.islice(self._tails, position - self.first, None), digests, strict=False
        ):
            leaf = begun()
            leaf.update(tail)
            leaf.update(content_digest)
            made.append(leaf.digest())
        return b"".join(made)


@dataclass(frozen=True, slots=True)
class _Numbering:
    """What the headers of all tiles of one tree share.

    Attributes:
        names: What a header begins with.
        numbers: The rest of it: the shape of the tile and its coordinates.
        axes: For each axis, the last first: number of tiles, extent of a whole tile, extent of the array.
        tiles: Number of tiles.
        behind: Axes after the last one that has several tiles.
        whole: Tiles along that axis that the far edge does not cut.
    """

    names: bytes
    numbers: struct.Struct
    axes: tuple[tuple[int, int, int], ...]
    tiles: int
    behind: int
    whole: int


@functools.lru_cache(maxsize=8)
def _numbering(context: Context) -> _Numbering:
    tiling, counts = context.grid, context.grid.counts
    axis = max((axis for axis, count in enumerate(counts) if count > 1), default=0)
    return _Numbering(
        names=tile_leaf.header(context.tree_id, context.dtype, (), ())[:-1] + bytes((len(counts),)),
        numbers=struct.Struct(f">{2 * len(counts)}Q"),
        axes=tuple(zip(counts, tiling.tile, tiling.shape, strict=True))[::-1],
        tiles=tiling.tiles,
        behind=len(counts) - axis - 1,
        whole=tiling.shape[axis] // tiling.tile[axis],
    )


def _end(salt: bytes) -> bytes:
    """Returns what stands between the header of a leaf and the BLAKE3 of the tile."""
    return length_prefixed(salt) + LEAF_BYTES.to_bytes(4, "big")


@functools.lru_cache(maxsize=2)
def _tails(first: int, tiles: int, behind: int) -> tuple[bytes, ...]:
    """Returns, for each tile of a run, its coordinate and what follows without a salt; rows share them."""
    end = bytes(behind) + _end(b"")
    return tuple([at.to_bytes(_NUMBER_BYTES, "big") + end for at in range(first, first + tiles)])
