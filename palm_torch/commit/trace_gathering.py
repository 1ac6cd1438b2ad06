"""Putting captured sites together: those alike share a tree, and here is what kind of tree that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from palm_torch.commit import merkle
from palm_torch.commit.trace import Calls, Group, Site, tiling
from palm_torch.digest import TAGGED_SHA256, Digest
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable


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


def gather(captured: Iterable[Captured]) -> list[tuple[Group, bytes]]:
    """Puts sites together that have the same element type, channels and schedule.

    Args:
        captured: The sites, in the order of their first call.

    Returns:
        The groups, in the order of their first call, each with the leaves of its tree.

    Raises:
        DataError: If a site's leaves are not as many as its tiles.
    """
    alike: dict[tuple[str, int, tuple[Calls, ...]], list[Captured]] = {}
    for item in captured:
        alike.setdefault((item.dtype, item.channels, item.schedule), []).append(item)
    groups: list[tuple[Group, bytes]] = []
    for (dtype, channels, schedule), members in alike.items():
        leaves = b"".join(member.leaves for member in members)
        group = Group(
            sites=tuple(member.site for member in members),
            dtype=dtype,
            channels=channels,
            tile=tiling(dtype, channels),
            schedule=schedule,
            root=group_root(leaves),
        )
        if len(leaves) != (tiles := group.grid().tiles) * merkle.HASH_BYTES:
            raise DataError(f"{group.sites[0]}: expected {tiles} leaves, got {len(leaves)} bytes of them")
        groups.append((group, leaves))
    return groups


def group_root(leaves: bytes) -> Digest:
    """Returns the root of a group's tree: the one place that says what kind of tree it is.

    Args:
        leaves: Leaf digests of all its tiles, 32 bytes each.
    """
    return Digest(TAGGED_SHA256, merkle.root(leaves))
