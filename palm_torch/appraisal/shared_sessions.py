"""Runs that are one and the same up to a step, because a session of theirs is the same one."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """An earlier session of a resumed run.

    Attributes:
        session: Its name.
        steps: Steps of the run when the next session went on from it.
    """

    session: str
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """Two runs that both went on from one session, or one from the other.

    Attributes:
        names: Names of the evidence, in the order given.
        session: The last session that both have.
        steps: Up to which step they are the same.
    """

    names: tuple[str, str]
    session: str
    steps: int


def find(reached: Mapping[str, Mapping[str, int]]) -> Iterator[Shared]:
    """Yields, for each pair of runs with a session in common, the last such session.

    Args:
        reached: Name of the evidence → session → steps of the run when that session ended, oldest first.
    """
    for (first, one), (second, other) in itertools.combinations(reached.items(), 2):
        both = [session for session in one if session in other]
        if both:
            last = both[-1]
            yield Shared(names=(first, second), session=last, steps=min(one[last], other[last]))
