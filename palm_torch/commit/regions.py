"""The exact bytes of a region, cut out of the tiles that cover it.

A tile's bytes are its elements in row-major order, and so are a region's. Trailing axes that neither the
tiles nor the region cut are one longer element, so that whole rows are copied as one piece.
"""

from __future__ import annotations

import itertools
import math
import operator
from typing import TYPE_CHECKING, TypeAlias

from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
        sources, targets, length = _runs(spans[:axes], grid.tile_at(position)[:axes], tile_strides, strides)
        for source, target in zip(sources, targets, strict=True):
            result[target : target + length] = content[source : source + length]
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
    view = memoryview(content).cast("B")
    if len(view) != expected:
        raise DataError(f"tile {position}: expected {expected} bytes, got {len(view)}")
    return view


def _runs(
    spans: Sequence[range], covered: Sequence[slice], tile_strides: Sequence[int], strides: Sequence[int]
) -> tuple[list[int], list[int], int]:
    """Returns where the runs that a tile and the region share begin in either, and their length, in bytes."""
    starts = [max(span.start, part.start) for span, part in zip(spans, covered, strict=True)]
    stops = [min(span.stop, part.stop) for span, part in zip(spans, covered, strict=True)]
    in_tile = [start - part.start for start, part in zip(starts, covered, strict=True)]
    in_region = [start - span.start for start, span in zip(starts, spans, strict=True)]
    outer = [range(stop - start) for start, stop in zip(starts[:-1], stops[:-1], strict=True)]
    length = (stops[-1] - starts[-1]) * strides[-1]
    return _offsets(in_tile, outer, tile_strides), _offsets(in_region, outer, strides), length


def _offsets(first: Sequence[int], outer: Sequence[range], strides: Sequence[int]) -> list[int]:
    """Returns where the runs begin, in bytes, row-major, from the first one on."""
    start = sum(map(operator.mul, first, strides))
    steps = [[at * stride for at in axis] for axis, stride in zip(outer, strides, strict=False)]
    return [start + sum(step) for step in itertools.product(*steps)]
