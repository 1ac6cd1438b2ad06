"""What the trees of a trace are over: sites, their calls, and groups of sites that are alike.

A site is one output of one module. A tensor captured there, of shape (…, channels), is rows × channels: its
rows are the product of all leading dimensions, and one call's rows follow those of the call before. Sites
whose tensors have the same element type, channels and leading shapes in the same calls make a group; a group
is one tree over the tiles (site, row, channel) of all its sites.

Nothing here knows a tensor. Specification: docs/spec/26-traces.md.
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass
from typing import Final

from palm_torch.commit import grid
from palm_torch.commit.weights_root import ITEM_BYTES, MAX_NAME_BYTES
from palm_torch.digest import TAGGED_SHA256, Digest
from palm_torch.errors import DataError

MAX_DIMENSIONS: Final = 64

ROW_TILE_BYTES: Final = 1 << 10
"""A tile has the smallest power of two of rows that makes this many bytes or more."""
MAX_TILE_BYTES: Final = 16 << 10
"""A row of more bytes is cut into pieces of this size."""

_SEPARATOR: Final = "|"
_PLAIN: Final = re.compile(r"[\w.-]+")


def plain(name: str) -> str:
    """Returns a name as it is if it can be nothing else than a name, and in quotes otherwise.

    >>> print(plain("model.layers.3"), plain("lm_head of answer 3"))
    model.layers.3 'lm_head of answer 3'
    """
    return name if _PLAIN.fullmatch(name) else repr(name)


def spelled(module: str, output: str) -> str:
    """Returns an output of a module in words."""
    name = plain(module) if module else "the model itself"
    return f"{name} (output {plain(output)})" if output else name


@dataclass(frozen=True, slots=True)
class Site:
    """One output of one module.

    Attributes:
        module: Canonical path of the module; empty for the model itself.
        output: Path within what the module returned; empty where that is a tensor.

    Raises:
        DataError: If a path is too long, is not valid Unicode, or that of the module has a ``|``.
    """

    module: str
    output: str = ""

    def __post_init__(self) -> None:
        """Refuses what has no unambiguous name."""
        for what, path in (("module", self.module), ("output", self.output)):
            try:
                length = len(path.encode("utf-8"))
            except UnicodeEncodeError as error:
                raise DataError(f"{what}: {path[:80]!r} is not valid Unicode: {error.reason}") from error
            if length > MAX_NAME_BYTES:
                raise DataError(f"{what}: expected a path of at most {MAX_NAME_BYTES} bytes, got {length}")
        if _SEPARATOR in self.module:
            raise DataError(f"module: expected a path without {_SEPARATOR!r}, got {self.module[:80]!r}")

    def __str__(self) -> str:
        """Returns the site in words, for messages."""
        return spelled(self.module, self.output)

    @property
    def tree_id(self) -> str:
        """Name of the site in the leaves of its tiles."""
        return f"{self.module}{_SEPARATOR}{self.output}"


@dataclass(frozen=True, slots=True)
class Calls:
    """A run of successive calls of a site whose tensors had the same shape.

    Attributes:
        first: Number of the first of them; a module's calls are numbered from 0.
        count: How many calls.
        shape: All dimensions of the tensors but the last; None for tensors without dimensions.

    Raises:
        DataError: If a number is out of range.
    """

    first: int
    count: int
    shape: tuple[int, ...] | None

    def __post_init__(self) -> None:
        """Refuses what cannot have happened."""
        dimensions = self.shape or ()
        if self.first < 0 or self.count < 1 or self.end > grid.MAX_EXTENT:
            raise DataError(f"calls: expected 1 or more from call 0 on, got {self.count} from {self.first}")
        if len(dimensions) >= MAX_DIMENSIONS or any(not 0 <= n <= grid.MAX_EXTENT for n in dimensions):
            raise DataError(f"calls: shape out of range: {dimensions[:MAX_DIMENSIONS]}")

    @property
    def end(self) -> int:
        """Number of the call after the last."""
        return self.first + self.count

    @property
    def batch(self) -> int:
        """Product of all dimensions but the last two: how many sequences each call had."""
        return math.prod((self.shape or ())[:-1])

    @property
    def tokens(self) -> int:
        """Extent of the last dimension but one: how many tokens each sequence had; 1 where there is none."""
        return self.shape[-1] if self.shape else 1

    @property
    def rows(self) -> int:
        """Rows of each call."""
        return self.batch * self.tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Sites with one tree, by equal element type, channels and schedule.

    Attributes:
        sites: The sites, in the order of their first call.
        dtype: A key of `weights_root.ITEM_BYTES`.
        channels: Extent of the last dimension; 1 for tensors without dimensions.
        tile: Rows and channels of a whole tile, as `tiling` says.
        schedule: Their calls, run-length encoded: neighbours that could be one are one.
        root: Root of the tree over the leaves of all tiles, by site, row and channel.

    Raises:
        DataError: If the parts do not fit together.
    """

    sites: tuple[Site, ...]
    dtype: str
    channels: int
    tile: tuple[int, ...]
    schedule: tuple[Calls, ...]
    root: Digest

    def __post_init__(self) -> None:
        """Refuses a group that no trace has."""
        if not self.sites or len(set(self.sites)) != len(self.sites):
            raise DataError(f"sites: expected one or more different sites, got {len(self.sites)}")
        if self.dtype not in ITEM_BYTES:
            raise DataError(f"dtype: unknown: {self.dtype[:40]!r}")
        if not 0 <= self.channels <= grid.MAX_EXTENT // ITEM_BYTES[self.dtype]:
            raise DataError(f"channels: out of range: {self.channels}")
        if self.tile != (expected := tiling(self.dtype, self.channels)):
            raise DataError(f"tile: expected {expected}, got {self.tile[:4]}")
        if not self.schedule:
            raise DataError("schedule: expected at least one call, got none")
        if self.channels != 1 and any(calls.shape is None for calls in self.schedule):
            raise DataError(f"schedule: a tensor without dimensions has one channel, not {self.channels}")
        for before, after in itertools.pairwise(self.schedule):
            if after.first < before.end:
                raise DataError(f"schedule: call {after.first} comes after call {before.end - 1}")
            if after.first == before.end and after.shape == before.shape:
                raise DataError(f"schedule: calls {before.first} and {after.first} are one run")
        if self.root.algorithm != TAGGED_SHA256:
            raise DataError(f"root: expected a {TAGGED_SHA256} root, got {self.root}")
        self.grid()

    @property
    def rows(self) -> int:
        """Rows of each site."""
        return sum(calls.rows * calls.count for calls in self.schedule)

    def grid(self) -> grid.Grid:
        """Returns the tiles of the tree, numbered by site, row and channel.

        Raises:
            DataError: If there are too many.
        """
        return tiles_of(len(self.sites), self.rows, self.dtype, self.channels)


def tiling(dtype: str, channels: int) -> tuple[int, int]:
    """Returns rows and channels of a whole tile, each at least 1.

    A row of up to 16 KiB is never cut: a tile has the smallest power of two of rows that makes 1 KiB or more.
    A longer row is cut into pieces of 16 KiB.

    Args:
        dtype: A key of `weights_root.ITEM_BYTES`.
        channels: Extent of the last dimension.
    """
    row_bytes = channels * ITEM_BYTES[dtype]
    if row_bytes > MAX_TILE_BYTES:
        return 1, MAX_TILE_BYTES // ITEM_BYTES[dtype]
    rows = 1
    while 0 < row_bytes * rows < ROW_TILE_BYTES:
        rows *= 2
    return rows, max(channels, 1)


def tiles_of(sites: int, rows: int, dtype: str, channels: int) -> grid.Grid:
    """Returns the tiles of sites that share a tree, numbered by site, row and channel.

    Args:
        sites: How many sites.
        rows: Rows of each.
        dtype: A key of `weights_root.ITEM_BYTES`.
        channels: Extent of the last dimension.

    Raises:
        DataError: If there are too many.
    """
    return grid.Grid((sites, rows, channels), (1, *tiling(dtype, channels)), ("site", "row", "channel"))
