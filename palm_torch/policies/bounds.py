"""What a policy may demand of a number, a digest or records: a range, some references, some kinds."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final

from palm_torch.digest import Digest
from palm_torch.errors import EncodingError, PolicyError
from palm_torch.policies import authority

ANY: Final = "any"
NONE: Final = "none"

_WORDS: Final = f"[{ANY}], [{NONE}] or [{authority.AUTHORITY}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A closed range of numbers; at least one end is set."""

    least: float | None = None
    greatest: float | None = None

    def __post_init__(self) -> None:
        """Refuses a range that allows everything or nothing."""
        if self.least is None and self.greatest is None:
            raise PolicyError("a range needs 'least' or 'greatest'")
        for bound in (self.least, self.greatest):
            if bound is not None and not abs(bound) <= sys.float_info.max:  # NaN is no bound either
                raise PolicyError("a range needs finite numbers")
        if self.least is not None and self.greatest is not None and self.least > self.greatest:
            raise PolicyError(f"an empty range: least {self.least} > greatest {self.greatest}")

    def holds(self, value: float) -> bool:
        """Returns whether the value lies inside; NaN never does."""
        above = self.least is None or value >= self.least
        return above and (self.greatest is None or value <= self.greatest)

    def __str__(self) -> str:
        """Returns the range in words."""
        low = "" if self.least is None else f">= {self.least}"
        high = "" if self.greatest is None else f"<= {self.greatest}"
        return " and ".join(filter(None, (low, high)))


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """Reference digests of one role: some digests, or one of the words ``any`` and ``none``."""

    digests: frozenset[Digest]
    word: str | None

    @classmethod
    def parse(cls, items: tuple[str, ...], *, what: str) -> References:
        """Parses the list a policy gives for a role.

        Args:
            items: Digests as text, or one word alone.
            what: Name of the list, for messages.

        Raises:
            PolicyError: If the list is empty, or mixes a word with anything else.
        """
        if not items:
            raise PolicyError(f"{what}: an empty list; name digests, or write {_WORDS}")
        if len(items) == 1 and items[0] in (ANY, NONE):
            return cls(digests=frozenset(), word=items[0])
        digests = set()
        for index, item in enumerate(items):
            try:
                digests.add(Digest.parse(item, what=f"{what}[{index}]"))
            except EncodingError as error:
                raise PolicyError(f"{error}; name digests alone, or write {_WORDS}") from error
        return cls(digests=frozenset(digests), word=None)


def check_layouts(layouts: tuple[str, ...] | None) -> None:
    """Refuses a list of kinds of records that accepts nothing, or that means to accept everything.

    Args:
        layouts: As `palm_torch.roles.Dataset.layout` says them, such as ``uint16[1024]``; None if unset.

    Raises:
        PolicyError: If the list is empty, or has an empty text or one of the words in it.
    """
    if layouts is None:
        return
    wrong = [text for text in layouts if text in ("", ANY, NONE, authority.AUTHORITY)]
    if wrong or not layouts:
        got = f"{wrong[0]!r}" if wrong else "an empty list"
        raise PolicyError(
            f"layout: expected kinds of records, such as uint16[1024] or jsonl, got {got}; leave the rule "
            "out to accept every kind"
        )
