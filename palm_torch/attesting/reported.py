"""What a script logs about itself: each quantity summed up, every value bound by a hash chain."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from palm_torch.digest import TAGGED_SHA256, Digest, tagged_hash
from palm_torch.errors import MeasurementError
from palm_torch.roles import Source
from palm_torch.statement import Series

if TYPE_CHECKING:
    from collections.abc import Mapping

SERIES_TAG: Final = "palm-torch/series/v1"
BATCH: Final = 256
"""Values that may wait to be summed up."""

MAX_QUANTITIES: Final = 1_000
"""Different names that one run may log: values of one name are summed up, names are not."""

MAX_NAME_CHARACTERS: Final = 200


@runtime_checkable
class _HasItem(Protocol):
    def item(self) -> float:
        """Returns the one number inside."""


class Reported:
    """The quantities of one run."""

    def __init__(self) -> None:
        self._series: dict[str, _Series] = {}

    def log(self, name: str, value: object) -> None:
        """Appends one value: a number, or anything with ``item()``, such as a tensor of one element.

        Raises:
            MeasurementError: If the value is no number, or the name is not one of a few.
        """
        number = _number(name, value)
        series = self._series.get(name)
        if series is None:
            series = self._series[name] = self._new(name)
        series.append(number)

    def resume(self, held: Mapping[str, Series]) -> None:
        """Goes on from what `result` returned."""
        self._series = {name: _Series.resumed(series) for name, series in held.items()}

    def result(self) -> dict[str, Series]:
        """Returns all quantities, labelled as reported by code."""
        return {name: series.result() for name, series in sorted(self._series.items())}

    def _new(self, name: str) -> _Series:
        require_name(name, what="run.log")
        if len(self._series) >= MAX_QUANTITIES:
            raise MeasurementError(
                f"run.log({name}=...): a run logs at most {MAX_QUANTITIES} different names: log the values "
                "of one quantity under one name"
            )
        return _Series()


class _Series:
    def __init__(self) -> None:
        self._count = 0
        self._first = self._last = 0.0
        self._least, self._greatest = math.inf, -math.inf
        self._chain = bytes(32)
        self._waiting: list[float] = []

    @classmethod
    def resumed(cls, held: Series) -> _Series:
        series = cls()
        series._count, series._chain = held.count, held.chain.value
        series._first, series._last = float(held.first), float(held.last)
        least, greatest = float(held.least), float(held.greatest)
        if not math.isnan(least):
            series._least, series._greatest = least, greatest
        return series

    def append(self, value: float) -> None:
        self._waiting.append(value)
        if len(self._waiting) >= BATCH:
            self._settle()

    def _settle(self) -> None:
        """Sums up what waits: many at once, because each alone would find the processor's caches cold."""
        for value in self._waiting:
            self._first = self._first if self._count else value
            self._last = value
            self._count += 1
            if not math.isnan(value):
                self._least, self._greatest = min(self._least, value), max(self._greatest, value)
            self._chain = tagged_hash(SERIES_TAG, self._chain, repr(value).encode("ascii"))
        self._waiting.clear()

    def result(self) -> Series:
        self._settle()
        return Series(
            source=Source.REPORTED,
            count=self._count,
            first=_jsonable(self._first),
            last=_jsonable(self._last),
            least=_jsonable(self._least if self._least <= self._greatest else math.nan),
            greatest=_jsonable(self._greatest if self._least <= self._greatest else math.nan),
            chain=Digest(TAGGED_SHA256, self._chain),
        )


def require_name(name: str, *, what: str) -> None:
    """Checks a name that a script chose: a mistake is told at once, not when the run is sealed.

    Raises:
        MeasurementError: If it is empty, too long, or not printable text.
    """
    if not 0 < len(name) <= MAX_NAME_CHARACTERS or not name.isprintable():
        raise MeasurementError(
            f"{what}: expected a name of 1 to {MAX_NAME_CHARACTERS} printable characters, got "
            f"{name[:MAX_NAME_CHARACTERS]!r}"
        )


def _number(name: str, value: object) -> float:
    if type(value) is float:
        return value
    try:
        if isinstance(value, _HasItem):
            value = value.item()
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise MeasurementError(f"run.log({name}=...): expected one number: {error}") from error
    raise MeasurementError(f"run.log({name}=...): expected a number, got {type(value).__name__}")


def _jsonable(value: float) -> float | str:
    return value if math.isfinite(value) else repr(value)
