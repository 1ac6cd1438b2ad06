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

_ARRAYS: Final = (torch.Tensor, np.ndarray, np.memmap)
_SCALARS: Final = frozenset(np.sctypeDict.values())
_SIZED: Final = (*_ARRAYS, bytes, str, list, tuple, dict)
"""Exact types whose length is what anybody would count; a subclass may say anything."""

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
    kind = type(dataset)
    if hasattr(kind, "__len__") and hasattr(kind, "__getitem__"):
        for start in range(0, len(dataset), BATCH):
            numbers = list(range(start, min(start + BATCH, len(dataset))))
            if hasattr(kind, "__getitems__"):
                yield from kind.__getitems__(dataset, numbers)
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
        if type(value) not in _SIZED or (type(value) in _ARRAYS and not value.ndim):
            raise DataError(f"record {number}: expected something with a length, got {_said(value)}")
        counts[len(value)] += 1
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
        array = _integers(value)
        if array is None:
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
    if edges is not None and not _rise(edges):
        raise MeasurementError(f"edges: expected numbers that rise, in a list, got {edges!r:.80}")
    counts: Counter[str] = Counter()
    records = 0
    for number, item in enumerate(items):
        value = _of(item, field, number)
        if type(value) in (*_ARRAYS, *_SCALARS) and value.ndim == 0:
            value = value.item()
        counts[_bin(value, edges, number)] += 1
        records += 1
        if len(counts) > MAX_BINS:
            raise DataError(f"record {number}: more than {MAX_BINS} different values; pass edges")
    return {"records": records, "counts": dict(sorted(counts.items()))}


def _of(item: Any, field: str | None, number: int) -> Any:  # noqa: ANN401 (any item)
    if field is None:
        return item
    if type(field) is not str:
        raise MeasurementError(f"field: expected the name of a field, got {field!r:.80}")
    if type(item) is not dict or field not in item:
        known = ", ".join(sorted(map(repr, item))) if type(item) is dict else f"no fields, but {_said(item)}"
        raise DataError(f"record {number}: expected a field {field!r}, got {known}")
    return item[field]


def _bin(value: object, edges: list[int] | None, number: int) -> str:
    if edges is None:
        if value is not None and type(value) not in (str, int, bool):
            raise DataError(
                f"record {number}: expected text, an integer, true, false or null, got {_said(value)}"
            )
        return json.dumps(value, ensure_ascii=False)
    if not isinstance(value, (int, float)) or type(value) not in (int, float) or math.isnan(value):
        raise DataError(f"record {number}: expected a number, got {_said(value)}")
    reached = [edge for edge in edges if value >= edge]
    return str(reached[-1]) if reached else "below"


def _rise(edges: object) -> bool:
    if type(edges) is not list or not edges or any(type(edge) not in (int, float) for edge in edges):
        return False
    return all(low < high for low, high in itertools.pairwise(edges))


def _integers(value: Any) -> np.ndarray[Any, np.dtype[Any]] | None:  # noqa: ANN401 (any item)
    """Returns integers as an array; None if something else is among them."""
    kind = type(value)
    if kind in (list, tuple):
        if not set(map(type, value)) <= {int}:
            parts = [_integers(part) for part in value]
            flat = [part.reshape(-1) for part in parts if part is not None]
            return np.concatenate(flat) if len(flat) == len(parts) and _one_sign(flat) else None
    elif kind is not int and kind is not range and kind not in _ARRAYS and kind not in _SCALARS:
        return None
    try:
        array = np.asarray(value, np.int64) if kind in (list, tuple) and not value else np.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # a type that NumPy lacks, or a tensor that has no bytes
        return None
    return array if array.dtype.kind in "iu" else None


def _one_sign(parts: list[np.ndarray[Any, np.dtype[Any]]]) -> bool:
    """Returns whether integers of these types together are still integers to NumPy."""
    return np.result_type(*parts).kind in "iu"


def _listed(counts: dict[str, int]) -> dict[str, int]:
    if len(counts) > MAX_BINS:
        raise DataError(
            f"more than {MAX_BINS} different values: a result travels in the evidence, and is smaller"
        )
    return counts


def _said(value: object) -> str:
    shown = "" if isinstance(value, (torch.Tensor, np.ndarray)) else f" {value!r:.40}"
    return f"{type(value).__name__}{shown}"
