"""A grid of tiles over an array of up to four axes.

Tiles are numbered row-major (last axis fastest). Tiles at the far edges keep their true, smaller shape:
nothing is padded. A region is one range of elements per axis; the tiles it touches follow from grid and
region alone.
"""

from __future__ import annotations

import dataclasses
import math
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, SupportsIndex, TypeAlias

from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_AXES: Final = 4
MAX_TILES: Final = 2**40
MAX_EXTENT: Final = 2**53 - 1
"""Largest extent of one axis, in elements: the largest integer of canonical JSON."""

MAX_OPENED: Final = 2**20
"""Most tiles that the regions of one opening may touch, each region counted by itself.

A tree of the scheme ``kzg`` opens fewer if it has several levels: places of upper nodes count as well.
"""

Part: TypeAlias = "slice | SupportsIndex"
"""What a region takes of one axis: ``slice(start, stop)`` in elements, or one element by its number."""
Region: TypeAlias = "Sequence[Part]"
"""One part per axis."""


@dataclass(frozen=True, slots=True)
class Grid:
    """An array cut into tiles.

    Attributes:
        shape: Extent of each axis, in elements; 1 to 4 axes; an extent of 0 makes a grid without tiles.
        tile: Extent of a whole tile along each axis, at least 1.
        axes: Names of the axes, or empty.

    Raises:
        DataError: If the three do not fit together or a limit is passed.
    """

    shape: tuple[int, ...]
    tile: tuple[int, ...]
    axes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuses grids that cannot be numbered; lists and numbers of other libraries become plain ones."""
        for what in ("shape", "tile"):
            object.__setattr__(self, what, _numbers(what, getattr(self, what)))
        object.__setattr__(self, "axes", _names(self.axes))
        if not 1 <= len(self.shape) <= MAX_AXES:
            raise DataError(f"grid: expected 1 to {MAX_AXES} axes, got shape {self.shape}")
        if len(self.tile) != len(self.shape):
            raise DataError(f"grid: expected a tile of {len(self.shape)} axes, got {self.tile}")
        if self.axes and (len(self.axes) != len(self.shape) or len(set(self.axes)) != len(self.axes)):
            raise DataError(f"grid: expected {len(self.shape)} different axis names, got {self.axes}")
        if any(not 0 <= extent <= MAX_EXTENT for extent in self.shape):
            raise DataError(f"grid: expected extents in [0, 2^53), got {self.shape}")
        if any(not 1 <= extent <= MAX_EXTENT for extent in self.tile):
            raise DataError(f"grid: expected tile extents in [1, 2^53), got {self.tile}")
        if self.tiles > MAX_TILES:
            raise DataError(f"grid: expected at most 2^40 tiles, got {self.tiles}")

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of tiles along each axis."""
        return tuple(-(-extent // step) for extent, step in zip(self.shape, self.tile, strict=True))

    @property
    def tiles(self) -> int:
        """Number of tiles."""
        return math.prod(self.counts)

    def coordinates(self, position: int) -> tuple[int, ...]:
        """Returns the coordinates of a tile, in tiles.

        Raises:
            DataError: If there is no such position.
        """
        position = whole_number("a position", position)
        if not 0 <= position < self.tiles:
            raise DataError(f"grid: expected a position in [0, {self.tiles}), got {position}")
        coordinates: list[int] = []
        for count in reversed(self.counts):
            position, coordinate = divmod(position, count)
            coordinates.append(coordinate)
        return tuple(reversed(coordinates))

    def position(self, coordinates: Sequence[int]) -> int:
        """Returns the position of the tile at these coordinates, in tiles: the inverse of `coordinates`.

        Raises:
            DataError: If there is no such tile.
        """
        counts, coordinates = self.counts, _numbers("coordinates", coordinates)
        if len(coordinates) != len(counts) or any(
            not 0 <= at < count for at, count in zip(coordinates, counts, strict=True)
        ):
            raise DataError(f"grid: expected coordinates below {counts}, got {coordinates}")
        position = 0
        for at, count in zip(coordinates, counts, strict=True):
            position = position * count + at
        return position

    def tile_at(self, position: int) -> tuple[slice, ...]:
        """Returns what a tile covers, one slice in elements per axis; edge tiles end at the edge.

        Raises:
            DataError: If there is no such position.
        """
        return tuple(
            slice(at * step, min((at + 1) * step, extent))
            for at, step, extent in zip(self.coordinates(position), self.tile, self.shape, strict=True)
        )

    def tile_shape(self, position: int) -> tuple[int, ...]:
        """Returns the true shape of a tile, in elements.

        Raises:
            DataError: If there is no such position.
        """
        return tuple(part.stop - part.start for part in self.tile_at(position))

    def region(self, /, **parts: Part) -> tuple[slice, ...]:
        """Returns a region by the names of its axes; an axis that is not named is taken whole.

        Example:
            >>> Grid((2, 8, 6), (1, 4, 6), ("layer", "token", "channel")).region(layer=1, token=slice(0, 4))
            (slice(1, 2, None), slice(0, 4, None), slice(0, 6, None))

        Raises:
            DataError: If the grid has no axis of that name, or `ranges` refuses the region.
        """
        unknown = [name for name in parts if name not in self.axes]
        if unknown:
            known = ", ".join(map(repr, self.axes)) or "none: this grid was made without names"
            raise DataError(f"grid: no axis {unknown[0][:80]!r}; its axes are {known}")
        named: list[Part] = [slice(None)] * len(self.shape)
        for name, part in parts.items():
            named[self.axes.index(name)] = part
        return tuple(slice(span.start, span.stop) for span in self.ranges(named))

    def ranges(self, region: Region) -> tuple[range, ...]:
        """Returns what a region takes of each axis, in elements; none of the ranges is empty.

        Args:
            region: One part per axis. A slice has step 1 and ``0 <= start < stop <= extent``; ends may be
                None. A whole number is one element, counted from 0.

        Raises:
            DataError: If the region is empty, has a step, leaves the array or has another number of axes.
        """
        try:
            parts = tuple(region)
        except TypeError as error:
            raise DataError(f"grid: expected a region of {len(self.shape)} slices, got {region!r}") from error
        if len(parts) != len(self.shape):
            raise DataError(f"grid: expected {len(self.shape)} slices, got {len(parts)}")
        return tuple(
            _range(axis, part, extent)
            for axis, (part, extent) in enumerate(zip(parts, self.shape, strict=True))
        )

    def cover(self, *regions: Region) -> tuple[int, ...]:
        """Returns the positions of the tiles that any of the regions touches: ascending, each once.

        Args:
            regions: At least one; see `ranges`.

        Raises:
            DataError: If there is no region, `ranges` refuses one, or they touch more than `MAX_OPENED`
                tiles, each region counted by itself: found out before a position is listed.
        """
        if not regions:
            raise DataError("grid: expected at least one region, got none")
        spans = [
            [range(r.start // step, -(-r.stop // step)) for r, step in zip(ranges, self.tile, strict=True)]
            for ranges in map(self.ranges, regions)
        ]
        touched = sum(math.prod(map(len, span)) for span in spans)
        if touched > MAX_OPENED:
            raise DataError(
                f"grid: {len(regions)} regions touch {touched} tiles, expected at most {MAX_OPENED} in one "
                "opening; ask for less at a time"
            )
        positions: set[int] = set()
        for span in spans:
            positions.update(self._positions(span))
        return tuple(sorted(positions))

    def grown(self, extent: int) -> tuple[Grid, range]:
        """Returns the grid with a longer first axis, and which positions of it hold something new.

        Those are the new tiles and, if the old grid ended within a tile, the tiles that grew: one run up to
        the last position. All tiles before them keep position, coordinates, shape and contents.

        Args:
            extent: New extent of the first axis, in elements, at least the old one.

        Raises:
            DataError: If the extent is smaller, or a limit is passed.
        """
        extent = whole_number("an extent", extent)
        if extent < self.shape[0]:
            raise DataError(f"grid: axis 0 can only grow: expected at least {self.shape[0]}, got {extent}")
        larger = dataclasses.replace(self, shape=(extent, *self.shape[1:]))
        kept = self.counts[0] if extent == self.shape[0] else self.shape[0] // self.tile[0]
        return larger, range(kept * math.prod(self.counts[1:]), larger.tiles)

    def _positions(self, spans: Sequence[range]) -> list[int]:
        """Returns the positions of a block of tiles, ascending."""
        positions = [0]
        for span, count in zip(spans, self.counts, strict=True):
            positions = [before * count + at for before in positions for at in span]
        return positions


def whole_number(what: str, value: SupportsIndex) -> int:
    """Returns a whole number, also of another library, as an int.

    Raises:
        DataError: If it is none; truth values are none.
    """
    try:
        return _number(value)
    except TypeError as error:
        raise DataError(f"grid: expected {what} as a whole number, got {value!r}") from error


def _numbers(what: str, values: Sequence[SupportsIndex]) -> tuple[int, ...]:
    try:
        return tuple(map(_number, values))
    except TypeError as error:
        raise DataError(f"grid: expected {what} of whole numbers, got {values!r}") from error


def _names(names: Sequence[str]) -> tuple[str, ...]:
    found = tuple(names) if isinstance(names, tuple | list) else (None,)
    if not all(isinstance(name, str) for name in found):
        raise DataError(f"grid: expected names of axes as several texts, got {names!r}")
    return tuple(names)


def _range(axis: int, part: Part, extent: int) -> range:
    """Returns what one part of a region takes of an axis."""
    try:
        if isinstance(part, slice):
            start = 0 if part.start is None else _number(part.start)
            stop = extent if part.stop is None else _number(part.stop)
            step = 1 if part.step is None else _number(part.step)
        else:
            start, step = _number(part), 1
            stop = start + 1
    except TypeError as error:
        raise DataError(f"grid: axis {axis}: expected a slice or a whole number, got {part!r}") from error
    if step != 1 or not 0 <= start < stop <= extent:
        raise DataError(f"grid: axis {axis}: expected a range within [0, {extent}), got {part}")
    return range(start, stop)


def _number(value: SupportsIndex) -> int:
    """Returns a whole number, also of another library, as an int; truth values are none."""
    if isinstance(value, bool):
        raise TypeError(value)
    return operator.index(value)
