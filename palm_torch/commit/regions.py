"""The exact bytes of a region, cut out of the tiles that cover it.

A tile's bytes are its elements in row-major order, and so are a region's. Trailing axes that neither the
tiles nor the region cut are one longer element, so that whole rows are copied as one piece.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from palm_torch.commit.grid import Grid, Region

Bytes: TypeAlias = "bytes | bytearray | memoryview"


def region_shape(grid: Grid, region: Region) -> tuple[int, ...]:
    """Returns the shape of a region, in elements.

    Raises:
        DataError: If the region is empty, has a step or leaves the array.
    """
    return tuple(map(len, grid.ranges(region)))


def cut(grid: Grid, region: Region, tiles: Mapping[int, Bytes], *, item_bytes: int) -> bytes:
    """Returns the bytes of a region: its elements in row-major order.

    Args:
        grid: How the array is cut into tiles.
        region: One part per axis; see `Grid.ranges`.
        tiles: Bytes of each tile by position; those that the region does not touch are not looked at.
        item_bytes: Size of one element, in bytes.

    Raises:
        DataError: If `Grid.cover` refuses the region, or a tile that it touches is missing or has another
            length than its shape asks for.
    """
    shapes = {position: grid.tile_shape(position) for position in grid.cover(region)}
    contents = {
        position: _tile(tiles, position, math.prod(shape) * item_bytes) for position, shape in shapes.items()
    }  # all are there before room is made for the result
    spans = grid.ranges(region)
    axes = _axes_cut(grid, spans)
    run_bytes = item_bytes * math.prod(grid.shape[axes:])
    strides = _strides(tuple(map(len, spans[:axes])), run_bytes)
    result = bytearray(math.prod(map(len, spans)) * item_bytes)
    for position, content in contents.items():
        tile_strides = _strides(shapes[position][:axes], run_bytes)
        block = _shared(spans[:axes], grid.tile_at(position)[:axes], tile_strides, strides)
        _copy(memoryview(result), content, block)
    return bytes(result)


def _axes_cut(grid: Grid, spans: Sequence[range]) -> int:
    """Returns how many leading axes, at least 1, remain without the trailing ones that nothing cuts."""
    axes = len(spans)
    while axes > 1 and len(spans[axes - 1]) == grid.shape[axes - 1] <= grid.tile[axes - 1]:
        axes -= 1
    return axes


def _strides(shape: Sequence[int], item_bytes: int) -> list[int]:
    """Returns, for each axis, how many bytes lie between neighbours of a row-major array."""
    return [item_bytes * math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def _tile(tiles: Mapping[int, Bytes], position: int, expected: int) -> memoryview:
    content = tiles.get(position)
    if content is None:
        raise DataError(f"tile {position}: expected its {expected} bytes, got none")
    try:
        view = memoryview(content).cast("B")
    except TypeError as error:
        kind = type(content).__name__
        raise DataError(f"tile {position}: expected bytes that lie back to back, got {kind}") from error
    if len(view) != expected:
        raise DataError(f"tile {position}: expected {expected} bytes, got {len(view)}")
    return view


@dataclass(frozen=True, slots=True)
class _Block:
    """What a tile and a region share: pieces of one length, along every outer axis equally far apart.

    Attributes:
        source: Where the first piece begins in the tile; this and all that follows in bytes.
        target: Where it begins in the region.
        outer: For each axis but the last: number of pieces, step in the tile, step in the region.
        length: Of a piece.
    """

    source: int
    target: int
    outer: tuple[tuple[int, int, int], ...]
    length: int


def _shared(
    spans: Sequence[range], covered: Sequence[slice], tile_strides: Sequence[int], strides: Sequence[int]
) -> _Block:
    starts = [max(span.start, part.start) for span, part in zip(spans, covered, strict=True)]
    stops = [min(span.stop, part.stop) for span, part in zip(spans, covered, strict=True)]
    in_tile = [start - part.start for start, part in zip(starts, covered, strict=True)]
    in_region = [start - span.start for start, span in zip(starts, spans, strict=True)]
    counts = list(map(operator.sub, stops, starts))
    return _Block(
        sum(map(operator.mul, in_tile, tile_strides)),
        sum(map(operator.mul, in_region, strides)),
        tuple(zip(counts[:-1], tile_strides[:-1], strides[:-1], strict=True)),
        counts[-1] * strides[-1],
    )


def _copy(result: memoryview, content: memoryview, block: _Block) -> None:
    """Copies a block, in few steps and with nothing kept for a piece.

    The outer axis with the most pieces is copied at once for each byte of a piece, if it has more pieces
    than a piece has bytes: a column of a tile is one step for each byte of an element.
    """
    outer, length = list(block.outer), block.length
    pieces, source_step, target_step = max(outer, default=(1, length, length))
    if pieces <= length:
        for source, target in _offsets(block.source, block.target, outer):
            result[target : target + length] = content[source : source + length]
        return
    outer.remove((pieces, source_step, target_step))
    source_end, target_end = (pieces - 1) * source_step + 1, (pieces - 1) * target_step + 1
    for source, target in _offsets(block.source, block.target, [*outer, (length, 1, 1)]):
        result[target : target + target_end : target_step] = content[
            source : source + source_end : source_step
        ]


def _offsets(source: int, target: int, axes: Sequence[tuple[int, int, int]]) -> Iterator[tuple[int, int]]:
    """Yields where pieces begin in a tile and in a region, row-major."""
    if not axes:
        yield source, target
        return
    (count, source_step, target_step), *rest = axes
    for at in range(count):
        yield from _offsets(source + at * source_step, target + at * target_step, rest)
