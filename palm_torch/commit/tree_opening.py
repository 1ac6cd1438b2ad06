"""What an opening of a Terkle tree is made of, as bytes, and the values it yields once it is verified.

An opening says nothing about where its tiles belong: positions, lengths and the length of the proof follow
from the context and the regions that the verifier asks for.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from palm_torch.commit import regions as regions_of_tiles
from palm_torch.commit.grid import MAX_OPENED, Grid
from palm_torch.commit.tree_context import MAX_TILE_BYTES
from palm_torch.commit.tree_leaves import SALT_BYTES
from palm_torch.errors import EvidenceError

VERSION: Final = 1
MAX_PROOF_BYTES: Final = (1 << 32) - 1

_HEAD: Final = struct.Struct(">BIII")
_LENGTH_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Opening:
    """Tiles with what it takes to check them against a root.

    Attributes:
        tiles: Exact bytes of the tiles, ascending by position.
        salts: One salt of 32 bytes for each tile, or none at all.
        proof: What the scheme needs beside the tiles.

    Raises:
        EvidenceError: If the parts do not fit together or a limit is passed.
    """

    tiles: tuple[bytes, ...]
    salts: tuple[bytes, ...]
    proof: bytes

    def __post_init__(self) -> None:
        """Refuses what has no encoding."""
        for what in ("tiles", "salts"):
            try:
                object.__setattr__(self, what, tuple(getattr(self, what)))
            except TypeError as error:
                raise EvidenceError(f"opening: expected {what}, one after the other, got none") from error
        if not all(isinstance(part, bytes) for part in (*self.tiles, *self.salts, self.proof)):
            raise EvidenceError("opening: expected tiles, salts and proof as bytes, which nobody can change")
        if not 1 <= len(self.tiles) <= MAX_OPENED:
            raise EvidenceError(f"opening: expected 1 to {MAX_OPENED} tiles, got {len(self.tiles)}")
        if len(self.salts) not in (0, len(self.tiles)):
            raise EvidenceError(
                f"opening: expected no salts or {len(self.tiles)}, one for each tile, got {len(self.salts)}"
            )
        for at, tile in enumerate(self.tiles):
            if not 1 <= len(tile) <= MAX_TILE_BYTES:
                raise EvidenceError(
                    f"opening: tile {at}: expected 1 to {MAX_TILE_BYTES} bytes, got {len(tile)}"
                )
        for at, salt in enumerate(self.salts):
            if len(salt) != SALT_BYTES:
                raise EvidenceError(f"opening: salt {at}: expected {SALT_BYTES} bytes, got {len(salt)}")
        if len(self.proof) > MAX_PROOF_BYTES:
            raise EvidenceError(
                f"opening: expected a proof of at most {MAX_PROOF_BYTES} bytes, got {len(self.proof)}"
            )

    def encode(self) -> bytes:
        """Returns the one encoding, integers big endian.

        ``u8 version ‖ u32 tiles ‖ u32 salts ‖ u32 bytes of the proof ‖ u64 bytes of a tile… ‖ tile… ‖ salt… ‖
        proof``.
        """
        head = _HEAD.pack(VERSION, len(self.tiles), len(self.salts), len(self.proof))
        lengths = [len(tile).to_bytes(_LENGTH_BYTES, "big") for tile in self.tiles]
        return b"".join((head, *lengths, *self.tiles, *self.salts, self.proof))

    @classmethod
    def decode(cls, data: bytes) -> Opening:
        """Reads exactly what `encode` writes.

        Raises:
            EvidenceError: If the bytes are anything else.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise EvidenceError(f"opening: expected bytes, got {type(data).__name__}")
        if len(data) < _HEAD.size:
            raise EvidenceError(f"opening: expected at least {_HEAD.size} bytes, got {len(data)}")
        version, tiles, salts, proof = _HEAD.unpack_from(data)
        if version != VERSION:
            raise EvidenceError(f"opening: expected version {VERSION}, got {version}")
        if not 1 <= tiles <= MAX_OPENED or salts not in (0, tiles):
            raise EvidenceError(
                f"opening: expected 1 to {MAX_OPENED} tiles and no salts or as many, got {tiles} and {salts}"
            )
        start = _HEAD.size + tiles * _LENGTH_BYTES
        numbers = data[_HEAD.size : start]
        if len(numbers) != tiles * _LENGTH_BYTES:
            raise EvidenceError(f"opening: expected the lengths of {tiles} tiles, got {len(numbers)} bytes")
        lengths = [number for (number,) in struct.iter_unpack(">Q", numbers)]
        expected = start + sum(lengths) + salts * SALT_BYTES + proof
        if len(data) != expected:
            raise EvidenceError(f"opening: expected {expected} bytes, got {len(data)}")
        ends = list(itertools.accumulate([*lengths, *[SALT_BYTES] * salts, proof], initial=start))
        parts = [bytes(data[at:end]) for at, end in itertools.pairwise(ends)]
        return cls(tuple(parts[:tiles]), tuple(parts[tiles:-1]), parts[-1])


@dataclass(frozen=True, slots=True)
class Values:
    """Verified bytes of regions: `terkle.verify` makes them, after everything was checked.

    Attributes:
        grid: Shape and tiling of the array.
        regions: What was asked for, one slice per axis each.
        tiles: The verified bytes of every tile that a region touches, by position.
        item_bytes: Bytes of one element.
    """

    grid: Grid
    regions: tuple[tuple[slice, ...], ...]
    tiles: Mapping[int, bytes]
    item_bytes: int

    def region(self, index: int) -> bytes:
        """Returns the exact bytes of one region: its elements in row-major order."""
        return regions_of_tiles.cut(self.grid, self.regions[index], self.tiles, item_bytes=self.item_bytes)

    def shape(self, index: int) -> tuple[int, ...]:
        """Returns the shape of one region, in elements."""
        return regions_of_tiles.region_shape(self.grid, self.regions[index])
