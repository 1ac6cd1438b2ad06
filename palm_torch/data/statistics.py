"""Statistics of datasets: exact counts over every record, each read once.

Each is a function of the records and its own arguments, registered by decorator; results are exact integers
by name, so that two machines get the same bytes.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from palm_torch.errors import DataError, MeasurementError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

BATCH: Final = 256
MAX_BINS: Final = 100_000
"""Different values that a result may list: it travels in the evidence."""

STATISTICS: Final[dict[str, Callable[..., dict[str, Any]]]] = {}


def named(name: str) -> Callable[..., dict[str, Any]]:
    """Returns a statistic by its name.

    Raises:
        MeasurementError: If there is none.
    """
    if name not in STATISTICS:
        raise MeasurementError(f"statistic: expected one of {', '.join(STATISTICS)}, got {name!r}")
    return STATISTICS[name]


def each_once(dataset: Any) -> Iterator[Any]:  # noqa: ANN401 (any attested dataset)
    """Yields every item of a dataset once, in order; a stream is iterated."""
    if hasattr(dataset, "__len__"):
        for start in range(0, len(dataset), BATCH):
            numbers = list(range(start, min(start + BATCH, len(dataset))))
            if hasattr(dataset, "__getitems__"):
                yield from dataset.__getitems__(numbers)
            else:
                yield from (dataset[number] for number in numbers)
    else:
        yield from dataset


def _register(name: str) -> Callable[[Callable[..., dict[str, Any]]], Callable[..., dict[str, Any]]]:
    def add(function: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        STATISTICS[name] = function
        return function

    return add


@_register("record-length")
def record_length(items: Iterable[Any], *, field: str | None = None) -> dict[str, Any]:
    """Counts how many records have which length.

    Args:
        items: The records: sequences of numbers, bytes or text (characters); or rows, with `field`.
        field: Column of a row.

    Returns:
        Number of records, sum, least and greatest length, and ``counts``: length → records.

    Raises:
        DataError: If a record has no length.
    """
    counts: Counter[int] = Counter()
    for number, item in enumerate(items):
        value = _of(item, field, number)
        if not isinstance(value, (torch.Tensor, np.ndarray)) or value.ndim:
            try:
                counts[len(value)] += 1
                continue
            except TypeError:
                pass
        raise DataError(f"record {number}: expected something with a length, got {_said(value)}")
    return {
        "records": counts.total(),
        "sum": sum(length * times for length, times in counts.items()),
        "least": min(counts, default=0),
        "greatest": max(counts, default=0),
        "counts": _listed({str(length): times for length, times in sorted(counts.items())}),
    }


@_register("token-frequency")
def token_frequency(items: Iterable[Any], *, field: str | None = None) -> dict[str, Any]:
    """Counts how often each number occurs in records that are integers.

    Args:
        items: The records; or rows, with `field`.
        field: Column of a row.

    Returns:
        Number of records and tokens, of different tokens, and ``counts``: token → times.

    Raises:
        DataError: If a record holds anything else.
    """
    counts: Counter[int] = Counter()
    records = 0
    for number, item in enumerate(items):
        value = _of(item, field, number)
        array = np.asarray(value)
        if array.dtype.kind not in "iu":
            raise DataError(f"record {number}: expected integers, got {_said(value)}")
        found, times = np.unique(array, return_counts=True)
        counts.update(dict(zip(found.tolist(), times.tolist(), strict=True)))
        records += 1
    return {
        "records": records,
        "tokens": counts.total(),
        "distinct": len(counts),
        "counts": _listed({str(token): times for token, times in sorted(counts.items())}),
    }


@_register("histogram")
def histogram(
    items: Iterable[Any], *, field: str | None = None, edges: list[int] | None = None
) -> dict[str, Any]:
    """Counts how many records have which value: a label, a language, a number.

    Args:
        items: The records: text, integers, true, false or nothing; or rows, with `field`.
        field: Column of a row.
        edges: Bounds of bins for numbers, rising: a bin counts from its bound on to below the next one.

    Returns:
        Number of records and ``counts``: value as JSON text → records; with edges, ``below`` and the bounds.

    Raises:
        DataError: If a record is none of these, or has too many different values.
        MeasurementError: If the bounds do not rise.
    """
    if edges is not None and (not edges or any(low >= high for low, high in itertools.pairwise(edges))):
        raise MeasurementError(f"edges: expected numbers that rise, got {edges!r:.80}")
    counts: Counter[str] = Counter()
    records = 0
    for number, item in enumerate(items):
        value = _of(item, field, number)
        if isinstance(value, (torch.Tensor, np.ndarray, np.generic)) and value.ndim == 0:
            value = value.item()
        counts[_bin(value, edges, number)] += 1
        records += 1
        if len(counts) > MAX_BINS:
            raise DataError(f"record {number}: more than {MAX_BINS} different values; pass edges")
    return {"records": records, "counts": dict(sorted(counts.items()))}


def _of(item: Any, field: str | None, number: int) -> Any:  # noqa: ANN401 (any item)
    if field is None:
        return item
    if not isinstance(item, dict) or field not in item:
        known = (
            ", ".join(map(repr, sorted(item))) if isinstance(item, dict) else f"no fields, but {_said(item)}"
        )
        raise DataError(f"record {number}: expected a field {field!r}, got {known}")
    return item[field]


def _bin(value: object, edges: list[int] | None, number: int) -> str:
    if edges is None:
        if value is not None and not isinstance(value, (str, int)):
            raise DataError(
                f"record {number}: expected text, an integer, true, false or null, got {_said(value)}"
            )
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        raise DataError(f"record {number}: expected a number, got {_said(value)}")
    reached = [edge for edge in edges if value >= edge]
    return str(reached[-1]) if reached else "below"


def _listed(counts: dict[str, int]) -> dict[str, int]:
    if len(counts) > MAX_BINS:
        raise DataError(
            f"more than {MAX_BINS} different values: a result travels in the evidence, and is smaller"
        )
    return counts


def _said(value: object) -> str:
    shown = "" if isinstance(value, (torch.Tensor, np.ndarray)) else f" {value!r:.40}"
    return f"{type(value).__name__}{shown}"
