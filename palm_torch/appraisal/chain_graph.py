"""Runs and what led from one to another, as a graph: which hang together, and in which order they came."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from palm_torch.errors import ClaimError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Edge: TypeAlias = "tuple[str, str]"
"""Names of who produced something and who used it."""


def parts(names: Sequence[str], edges: Iterable[Edge]) -> tuple[tuple[str, ...], ...]:
    """Returns the names in groups, each of which edges hold together."""
    group = {name: {name} for name in names}
    for producer, consumer in edges:
        joined = group[producer] | group[consumer]
        group.update(dict.fromkeys(joined, joined))
    return tuple(dict.fromkeys(tuple(name for name in names if name in group[each]) for each in names))


def ordered(names: Sequence[str], edges: Iterable[Edge]) -> list[str]:
    """Puts producers before consumers; of those that could come next, the first given.

    Raises:
        ClaimError: If each of some runs used what another of them produced.
    """
    waits: dict[str, set[str]] = {name: set() for name in names}
    for producer, consumer in edges:
        waits[consumer].add(producer)
    left, found = list(names), list[str]()
    while left:
        following = next((name for name in left if not waits[name]), None)
        if following is None:
            raise ClaimError(f"chain: these runs each used what another of them produced: {_circle(waits)}")
        left.remove(following)
        found.append(following)
        del waits[following]
        for producers in waits.values():
            producers.discard(following)
    return found


def _circle(waits: dict[str, set[str]]) -> str:
    """Returns one circle among runs that all wait: ``'a' → 'b' → 'a'``, each the origin of the next."""
    path = [min(waits)]
    while path.count(path[-1]) == 1:
        path.append(min(waits[path[-1]]))
    return " → ".join(repr(name) for name in reversed(path[path.index(path[-1]) :]))
