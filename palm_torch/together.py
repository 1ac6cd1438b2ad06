"""What several ranks, or parts of one run, say of themselves, put together: code, tokenizer, names.

Each is checked against all that were before it, not against the first alone: the second and the third may
differ in what the first has not at all. Nothing here needs torch: a verifier uses the same code.
Specification: docs/spec/45-ranks.md, section 4.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from palm_torch import statement
from palm_torch.roles import EMPTY, Artifact, Weights

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from palm_torch.statement import Code

T = TypeVar("T")

MARK: Final = "#rank"
"""What stands before the number of a rank, in a name that it gave to something of its own."""


@dataclass(frozen=True, slots=True)
class Clash(Generic[T]):
    """Two of several that say different things under one name.

    Attributes:
        name: The name.
        place: Place of the one that differs, among all.
        first: Place of the first that said something of it.
        expected: What that one said.
        got: What the other said.
    """

    name: str
    place: int
    first: int
    expected: T
    got: T


def clash(said: Iterable[Mapping[str, T]]) -> Clash[T] | None:
    """Returns where one first says of a name what another before it did not; None if nobody does."""
    known: dict[str, tuple[int, T]] = {}
    for place, items in enumerate(said):
        for name, item in items.items():
            first, expected = known.setdefault(name, (place, item))
            if item != expected:
                return Clash(name, place, first, expected, item)
    return None


def by_module(code: Code) -> dict[str, str]:
    """Returns digest of each module, or why it has none."""
    return {file.module: str(file.digest or file.reason) for file in code.files}


def union(codes: Sequence[Code]) -> Code:
    """Returns the code of all, each module once; they do not clash."""
    files = {file.module: file for code in codes for file in code.files}
    ordered = tuple(files[module] for module in sorted(files))
    return dataclasses.replace(codes[0], digest=statement.code_digest(ordered), files=ordered)


def named(tokenizer: Artifact) -> dict[str, Artifact]:
    """Returns a tokenizer under its role; nothing where none was named."""
    return {} if tokenizer.kind == EMPTY else {"tokenizer": tokenizer}


def tokenizer(given: Sequence[Artifact]) -> Artifact:
    """Returns the tokenizer that all named, or some; they do not clash."""
    return next((item for item in given if item.kind != EMPTY), given[0])


def initial(weights: Sequence[Weights]) -> Weights:
    """Returns the weights that all began with: as exact as the least exact of them."""
    exact = all(item.taken == "first_delivery" for item in weights)
    return dataclasses.replace(weights[0], taken="first_delivery" if exact else "first_step")


def beside(said: Iterable[tuple[int, Mapping[str, T]]]) -> dict[str, T]:
    """Returns what was named, each thing once: where a rank says another than before, under its number.

    Args:
        said: Numbers of ranks, with what each says by name. A script's own names have no `MARK` in them,
            names of files that it opened may: nothing takes the place of something else.
    """
    listed: dict[str, T] = {}
    for rank, items in said:
        for name, item in items.items():
            own = name
            while listed.setdefault(own, item) != item:
                own += f"{MARK}{rank}"
    return listed
