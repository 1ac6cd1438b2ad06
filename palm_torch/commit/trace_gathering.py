"""Putting captured sites together: those alike share a tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from palm_torch.commit import merkle, trace_groups
from palm_torch.commit.trace_groups import Calls, Group, Site
from palm_torch.commit.trace_schemes import Tree
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from palm_torch.commit import trace_schemes


@dataclass(frozen=True, slots=True)
class Captured:
    """All tensors of one site that have one element type and one number of channels.

    Attributes:
        site: The site.
        dtype: As in `Group`.
        channels: As in `Group`.
        schedule: As in `Group`.
        leaves: Leaf digests of its tiles, by row and channel, 32 bytes each.
    """

    site: Site
    dtype: str
    channels: int
    schedule: tuple[Calls, ...]
    leaves: bytes


def gather(captured: Iterable[Captured], *, scheme: trace_schemes.Name = "hash") -> list[tuple[Group, Tree]]:
    """Puts sites together that have the same element type, channels and schedule.

    Args:
        captured: The sites, in the order of their first call.
        scheme: What the trees are made of.

    Returns:
        The groups, in the order of their first call, each with its tree.

    Raises:
        DataError: If a site's leaves are not as many as its tiles.
        MissingExtraError: If the trees need the extra ``kzg``.
    """
    alike: dict[tuple[str, int, tuple[Calls, ...]], list[Captured]] = {}
    for item in captured:
        alike.setdefault((item.dtype, item.channels, item.schedule), []).append(item)
    groups: list[tuple[Group, Tree]] = []
    for (dtype, channels, schedule), members in alike.items():
        rows = sum(run.rows * run.count for run in schedule)
        for member in members:
            tiles = trace_groups.tiles_of(1, rows, dtype, channels).tiles
            if len(member.leaves) != tiles * merkle.HASH_BYTES:
                raise DataError(
                    f"{member.site}: expected {tiles} leaves, got {len(member.leaves)} bytes of them"
                )
        tree = Tree(
            scheme,
            dtype,
            trace_groups.tiles_of(len(members), rows, dtype, channels),
            b"".join(member.leaves for member in members),
        )
        group = Group(
            sites=tuple(member.site for member in members),
            dtype=dtype,
            channels=channels,
            tile=trace_groups.tiling(dtype, channels),
            schedule=schedule,
            root=tree.root,
        )
        groups.append((group, tree))
    return groups
