"""Places of a trace that an audit looks at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """One token of one sequence, at one part of the model.

    Attributes:
        part: Number of the part.
        sequence: Number of the sequence in the batch.
        token: Number of the token, counted through all calls.
    """

    part: int
    sequence: int
    token: int
