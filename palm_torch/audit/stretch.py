"""Rows of one part of a model at several places, and what compares each operation's rows with its inputs.

Every operation is recomputed from rows that were opened. What was compared is then itself an exact input of
the next operation, so that rounding bounds do not grow from one operation to the next.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from palm_torch.audit import bounded, margins
from palm_torch.audit.layers import Layers, Source
from palm_torch.audit.margins import Margin
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palm_torch.audit.arithmetic import Arithmetic
    from palm_torch.audit.bounded import Bounded


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What came out for one operation.

    Attributes:
        operation: Role of the output.
        row: Number of the row; None for all rows together.
        margin: The comparison; None if there was none.
        words: Why there was none, or what else there is to say.
    """

    operation: str
    row: int | None
    margin: Margin | None
    words: str = ""


@dataclass(slots=True, kw_only=True)
class Stretch:
    """Rows of one part at several places. One owner, who reads `found` at the end.

    Attributes:
        source: The part's weights and arithmetic.
        layers: How linear layers are checked.
        rows: Role → committed rows, (places, channels); of the history the row of the place itself.
        together: Whether all rows make one finding.
        found: What came out so far.

    Raises:
        DataError: If rows differ in element type.
    """

    source: Source
    layers: Layers
    rows: Mapping[str, NDArray[Any]]
    together: bool
    found: list[Compared] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Refuses rows of several element types: no bounds are known where they mix."""
        dtype = self.arithmetic.form.name
        for role, rows in self.rows.items():
            if rows.dtype.name != dtype:
                raise DataError(
                    f"{self.source.part.name}, {role}: expected {dtype}, as the part's other rows, got "
                    f"{rows.dtype.name}: no bounds are known where they differ"
                )

    @property
    def arithmetic(self) -> Arithmetic:
        """What the part's operations rounded to."""
        return self.source.arithmetic

    @property
    def count(self) -> int:
        """How many places there are."""
        return len(next(iter(self.rows.values())))

    def exact(self, role: str) -> Bounded:
        """Returns committed rows as inputs of an operation."""
        return bounded.exact(self.rows[role])

    def settled(self, rows: Bounded) -> Bounded:
        """Returns rows that were computed and not committed as inputs: what may be infinite is unknown."""
        return rows.rounded(self.arithmetic.form, times=0)

    def compare(self, operation: str, expected: Bounded) -> Bounded:
        """Compares committed rows with what is expected, and returns the committed ones as inputs.

        Args:
            operation: Role of the rows.
            expected: What the operation gives, (places, channels).
        """
        rows = self.rows[operation]
        if self.together:
            self._note(operation, [margins.compare(rows, expected)])
        else:
            self._note(operation, [margins.compare(row, expected[at]) for at, row in enumerate(rows)])
        return self.exact(operation)

    def linear(self, role: str, *inputs: Bounded, without: Mapping[int, str] | None = None) -> Bounded:
        """Compares the output of a linear layer, and returns the committed rows as inputs.

        Args:
            role: Role of the layer.
            inputs: What it was given, (places, in); if several are possible, each row has to fit one of them.
            without: Rows whose input is not known, and why.
        """
        rows, left = self.rows[role], dict(without or {})
        kept = [at for at in range(self.count) if at not in left]
        for at, why in left.items():
            if not self.together:
                self.found.append(Compared(operation=role, row=at, margin=None, words=why))
        if self.together and left:
            words = f"{len(left)} of {self.count} rows: {next(iter(left.values()))}"
            self.found.append(Compared(operation=role, row=None, margin=None, words=words))
        if kept:
            tried = [self.layers.check(self.source, role, x[kept], rows[kept], kept) for x in inputs]
            best = [min(each, key=_badness) for each in zip(*tried, strict=True)]
            self._note(role, best, kept)
        return self.exact(role)

    def _note(self, operation: str, found: Sequence[Margin], rows: Sequence[int] | None = None) -> None:
        at = range(self.count) if rows is None else rows
        if self.together:
            margin = _joined(found)
            index = (at[margin.index[0]], *margin.index[1:]) if margin.index else ()
            margin = dataclasses.replace(margin, index=index)
            self.found.append(Compared(operation=operation, row=None, margin=margin))
            return
        self.found.extend(
            Compared(operation=operation, row=row, margin=margin)
            for row, margin in zip(at, found, strict=True)
        )


def _badness(margin: Margin) -> tuple[bool, int, float]:
    """Orders ways: what accuses comes last, and what is known before what is not."""
    return not margin.consistent, margin.unbounded, margin.ratio


def _joined(found: Sequence[Margin]) -> Margin:
    """Returns the margin of all rows, whose index is a row and a channel."""
    if len(found) == 1 and len(found[0].index) != 1:
        return found[0]
    row, worst = max(enumerate(found), key=lambda item: item[1].ratio)
    return dataclasses.replace(
        worst,
        index=(row, *worst.index) if worst.index else (),
        compared=sum(margin.compared for margin in found),
        unbounded=sum(margin.unbounded for margin in found),
    )
