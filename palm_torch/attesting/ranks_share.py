"""What one rank tells the leader of its machine: the statement that it would have sealed alone, and its maps.

A message of several parts: a head, the statement's canonical bytes, and the coverage maps in the order in
which the head names them. The leader reads it as strictly as a verifier would.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from palm_torch import codec, statement
from palm_torch.data.shares import CountMap, Share
from palm_torch.digest import Digest
from palm_torch.encoding import decode_json, encode_json
from palm_torch.errors import CoverageError, EncodingError, EvidenceError, InputError
from palm_torch.properties import Train
from palm_torch.statement import Statement

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_HEAD_BYTES: Final = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class MapHead:
    """Which map follows: dataset, use, and the width of a counter in bytes."""

    dataset: str
    use: str
    itemsize: int

    def __post_init__(self) -> None:
        """Refuses other widths."""
        if self.itemsize not in (1, 2, 4):
            raise EncodingError(f"itemsize: expected 1, 2 or 4, got {self.itemsize}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareHead:
    """What a statement does not say of a rank.

    Attributes:
        buffers: Names of the tensors of its model that are buffers.
        parted: Whether it holds only a part of some parameter.
        maps: The coverage maps that follow.
        same: What proves to other ranks of the machine that its datasets are of the same files, by name.
    """

    buffers: tuple[str, ...]
    parted: bool
    maps: tuple[MapHead, ...]
    same: dict[str, Digest]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankShare:
    """What one rank measured.

    Attributes:
        rank: Which.
        end: The statement that it would have sealed alone.
        maps: How often each record was delivered to it, by dataset and use.
        buffers: As in `ShareHead`.
        parted: As in `ShareHead`.
        same: As in `ShareHead`.
    """

    rank: int
    end: Statement
    maps: dict[tuple[str, str], CountMap]
    buffers: tuple[str, ...]
    parted: bool
    same: dict[str, Digest]

    @property
    def train(self) -> Train:
        """The property that its statement claims.

        Raises:
            CoverageError: If it is another.
        """
        if not isinstance(self.end.claims, Train):
            raise CoverageError(f"rank {self.rank}: expected 'train', got {self.end.operation!r}")
        return self.end.claims

    def data(self) -> Share:
        """Returns what it received."""
        return Share(data=self.train.data, maps=self.maps, same=self.same)


def encode(share: RankShare) -> list[bytes | memoryview]:
    """Returns the parts of the message."""
    head = ShareHead(
        buffers=share.buffers,
        parted=share.parted,
        maps=tuple(
            MapHead(dataset=dataset, use=use, itemsize=item.itemsize)
            for (dataset, use), item in share.maps.items()
        ),
        same=share.same,
    )
    counts = (item.counts for item in share.maps.values())
    return [encode_json(codec.to_json(head)), share.end.encode(), *counts]


def decode(rank: int, parts: Sequence[bytes]) -> RankShare:
    """Reads the parts of a message, accepting exactly what `encode` makes.

    Raises:
        CoverageError: If they are anything else, naming the rank.
    """
    try:
        if len(parts) < 2:  # noqa: PLR2004 (head and statement)
            raise EvidenceError(f"expected a head and a statement, got {len(parts)} parts")
        document = decode_json(parts[0], what="head", max_bytes=MAX_HEAD_BYTES)
        head = codec.from_json(ShareHead, document, what="head", error=EvidenceError)
        names = [(item.dataset, item.use) for item in head.maps]
        if len(parts) != 2 + len(head.maps) or len(set(names)) != len(names):
            raise EvidenceError(f"expected {len(head.maps)} different maps, got {len(parts) - 2}")
        return RankShare(
            rank=rank,
            end=statement.decode(parts[1]),
            maps={
                name: CountMap(counts, item.itemsize)
                for name, item, counts in zip(names, head.maps, parts[2:], strict=True)
            },
            buffers=head.buffers,
            parted=head.parted,
            same=head.same,
        )
    except InputError as error:
        raise CoverageError(f"rank {rank}: what it tells of its run cannot be read: {error}") from error
