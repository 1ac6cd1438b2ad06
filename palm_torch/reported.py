"""What a script logs about itself: each quantity summed up, every value bound by a hash chain."""

from __future__ import annotations

import math
from typing import Final, Protocol, runtime_checkable

from palm_torch.digest import TAGGED_SHA256, Digest, tagged_hash
from palm_torch.errors import MeasurementError
from palm_torch.roles import Source
from palm_torch.statement import Series

SERIES_TAG: Final = "palm-torch/series/v1"


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
            MeasurementError: If the value is no number.
        """
        if isinstance(value, _HasItem):
            value = value.item()
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise MeasurementError(f"run.log({name}=...): expected a number, got {type(value).__name__}")
        self._series.setdefault(name, _Series()).append(float(value))

    def result(self) -> dict[str, Series]:
        """Returns all quantities, labelled as reported by code."""
        return {name: series.result() for name, series in sorted(self._series.items())}


class _Series:
    def __init__(self) -> None:
        self._count = 0
        self._first = self._last = 0.0
        self._least, self._greatest = math.inf, -math.inf
        self._chain = bytes(32)

    def append(self, value: float) -> None:
        self._first = self._first if self._count else value
        self._last = value
        self._count += 1
        self._least, self._greatest = min(self._least, value), max(self._greatest, value)
        self._chain = tagged_hash(SERIES_TAG, self._chain, repr(value).encode("ascii"))

    def result(self) -> Series:
        return Series(
            source=Source.REPORTED,
            count=self._count,
            first=_jsonable(self._first),
            last=_jsonable(self._last),
            least=_jsonable(self._least),
            greatest=_jsonable(self._greatest),
            chain=Digest(TAGGED_SHA256, self._chain),
        )


def _jsonable(value: float) -> float | str:
    return value if math.isfinite(value) else repr(value)
