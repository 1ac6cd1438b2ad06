"""A block of a tensor: some rows and columns of its two-dimensional view, and the tiles that hold it.

Tiles are opened whole. Those that a block touches lie back to back in the order of positions, and their bytes
are the row-major bytes of a larger block, the *cover*: it is what an opening discloses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from palm_torch.commit.weights_root import ITEM_BYTES
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from palm_torch.commit.weights_root import TensorSpec

Span: TypeAlias = tuple[int, int]
"""First row (or column) and the one after the last."""

MAX_COVER_BYTES: Final = 64 << 20
"""Most bytes of tiles that one opening holds."""

MAX_COVER_TILES: Final = 16_384
"""Most tiles that one opening holds."""


@dataclass(frozen=True, slots=True)
class Block:
    """Rows and columns of a tensor's two-dimensional view; see `TensorSpec.view`.

    Attributes:
        rows: The rows, at least one.
        columns: The columns, at least one.
    """

    rows: Span
    columns: Span

    @classmethod
    def of(cls, spec: TensorSpec, *, rows: Span | None = None, columns: Span | None = None) -> Block:
        """Returns a block of a tensor, with everything where nothing is said.

        Raises:
            DataError: If the tensor has no such rows or columns, or they touch more tiles than one opening
                holds.
        """
        height, width = spec.view()
        flat = "" if len(spec.shape) > 1 else ", one row with all its elements as columns"
        seen_as = f"tensor {spec.name!r} {list(spec.shape)}, {height} × {width}{flat}"
        if not height or not width:
            raise DataError(f"{seen_as}: it has no elements, so there is nothing to open")
        block = cls((0, height) if rows is None else rows, (0, width) if columns is None else columns)
        for what, (start, stop), extent in (("rows", block.rows, height), ("columns", block.columns, width)):
            if not 0 <= start < stop <= extent:
                raise DataError(f"{seen_as}: expected {what} A:B within 0:{extent}, got {start}:{stop}")
        tiles, size = block.tile_count(spec), block.cover(spec).nbytes(spec)
        if size > MAX_COVER_BYTES or tiles > MAX_COVER_TILES:
            raise DataError(
                f"{seen_as}: {block} touches {tiles} tiles of {size} bytes in all, an opening holds at most "
                f"{MAX_COVER_TILES} tiles of {MAX_COVER_BYTES} bytes: open fewer rows or columns at a time"
            )
        return block

    def __str__(self) -> str:
        """Returns the words for it: ``rows 0:8, columns 0:64``."""
        return "rows {}:{}, columns {}:{}".format(*self.rows, *self.columns)

    def slices(self) -> tuple[slice, slice]:
        """Returns the block as a region of the tensor's grid."""
        return slice(*self.rows), slice(*self.columns)

    def nbytes(self, spec: TensorSpec) -> int:
        """Returns the size of its elements, in bytes."""
        return _length(self.rows) * _length(self.columns) * ITEM_BYTES[spec.dtype]

    def shape(self, spec: TensorSpec) -> tuple[int, ...]:
        """Returns the shape of its elements: the tensor's with fewer rows, where the columns are whole."""
        if len(spec.shape) < 2:  # noqa: PLR2004 (a matrix is what has rows)
            return (_length(self.columns),) if spec.shape else ()
        if self.columns == (0, spec.view()[1]):
            return (_length(self.rows), *spec.shape[1:])
        return _length(self.rows), _length(self.columns)

    def cover(self, spec: TensorSpec) -> Block:
        """Returns the block that the touched tiles make together."""
        ends = zip(self._spans(spec), spec.tiling().tile, spec.view(), strict=True)
        rows, columns = ((span.start * step, min(span.stop * step, extent)) for span, step, extent in ends)
        return Block(rows, columns)

    def tile_count(self, spec: TensorSpec) -> int:
        """Returns how many tiles it touches."""
        down, across = self._spans(spec)
        return len(down) * len(across)

    def tiles(self, spec: TensorSpec) -> Iterator[tuple[int, int, int]]:
        """Yields the touched tiles: position in the tensor, first byte in the cover, and end."""
        down, across = self._spans(spec)
        (tile_rows, tile_columns), (height, width) = spec.tiling().tile, spec.view()
        columns_of_tiles, at = spec.tiling().counts[1], 0
        for row in down:
            rows = min(tile_rows, height - row * tile_rows)
            for column in across:
                end = at + rows * min(tile_columns, width - column * tile_columns) * ITEM_BYTES[spec.dtype]
                yield row * columns_of_tiles + column, at, end
                at = end

    def cut(self, spec: TensorSpec, cover: bytes) -> bytes:
        """Returns the block's own row-major bytes, out of those of its cover.

        Args:
            spec: What the tensor is.
            cover: The touched tiles, back to back.
        """
        whole, item = self.cover(spec), ITEM_BYTES[spec.dtype]
        row_bytes = _length(whole.columns) * item
        skipped = (self.columns[0] - whole.columns[0]) * item
        kept = _length(self.columns) * item
        starts = range(
            (self.rows[0] - whole.rows[0]) * row_bytes, (self.rows[1] - whole.rows[0]) * row_bytes, row_bytes
        )
        if kept == row_bytes:
            return cover[starts.start : starts.stop]
        return b"".join([cover[start + skipped : start + skipped + kept] for start in starts])

    def _spans(self, spec: TensorSpec) -> tuple[range, range]:
        tile_rows, tile_columns = spec.tiling().tile
        return (
            range(self.rows[0] // tile_rows, -(-self.rows[1] // tile_rows)),
            range(self.columns[0] // tile_columns, -(-self.columns[1] // tile_columns)),
        )


def _length(span: Span) -> int:
    return span[1] - span[0]
