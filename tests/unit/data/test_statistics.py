"""Statistics: exact, the same on every machine, and clear about what they are not of."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from palm_torch.data import statistics
from palm_torch.encoding import encode_json
from palm_torch.errors import DataError, MeasurementError

ROWS = [{"lang": "en", "n": 3}, {"lang": "de", "n": 7}, {"lang": "en", "n": 7}]


@given(st.lists(st.lists(st.integers(0, 5), max_size=4), max_size=20))
def test_lengths_and_tokens_are_those_of_naive_lines(items: list[list[int]]) -> None:
    found = statistics.named("record-length")(iter(items))
    assert found["counts"] == {str(size): times for size, times in sorted(Counter(map(len, items)).items())}
    assert found["sum"] == sum(map(len, items))
    found = statistics.named("token-frequency")(np.array(item, np.int64) for item in items)
    assert found["counts"] == {
        str(token): times
        for token, times in sorted(Counter(sum(items, [])).items())  # noqa: RUF017 (few)
    }
    assert found["records"] == len(items)
    assert encode_json(found)


def test_histograms_of_labels_and_numbers() -> None:
    histogram = statistics.named("histogram")
    assert histogram(ROWS, field="lang") == {"records": 3, "counts": {'"de"': 1, '"en"': 2}}
    assert histogram([True, None, 1, torch.tensor(1), np.int64(1)])["counts"] == {
        "1": 3,
        "null": 1,
        "true": 1,
    }
    binned = histogram([-1, 0, 4.5, 5, 99], edges=[0, 5])
    assert binned == {"records": 5, "counts": {"0": 2, "5": 2, "below": 1}}


def test_tensors_have_lengths_and_rows_have_fields() -> None:
    found = statistics.named("record-length")([torch.zeros(3, 2), b"ab", "abc"])
    assert found["counts"] == {"2": 1, "3": 2}
    assert statistics.named("record-length")(ROWS, field="lang")["sum"] == 6


@pytest.mark.parametrize(
    ("name", "items", "options", "says"),
    [
        ("record-length", [3], {}, "record 0: expected something with a length, got int 3"),
        ("record-length", [torch.tensor(1)], {}, "expected something with a length, got Tensor"),
        ("token-frequency", [[1], [0.5]], {}, "record 1: expected integers"),
        ("histogram", [[1]], {}, "record 0: expected text, an integer"),
        ("histogram", [0.5], {}, "record 0: expected text, an integer"),
        ("histogram", ["a"], {"edges": [1]}, "record 0: expected a number"),
        ("histogram", [float("nan")], {"edges": [1]}, "record 0: expected a number"),
        ("histogram", ROWS, {"field": "x"}, "expected a field 'x', got 'lang', 'n'"),
        ("histogram", ["a"], {"field": "x"}, "got no fields, but str"),
        ("histogram", range(statistics.MAX_BINS + 1), {}, "pass edges"),
        ("token-frequency", [range(statistics.MAX_BINS + 1)], {}, "different values"),
    ],
)
def test_what_a_statistic_is_not_of(name: str, items: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        statistics.named(name)(items, **options)


@pytest.mark.parametrize("edges", [[], [1, 1], [2, 1]])
def test_bounds_rise(edges: list[int]) -> None:
    with pytest.raises(MeasurementError, match="expected numbers that rise"):
        statistics.named("histogram")([1], edges=edges)


def test_every_item_once_in_order() -> None:
    items = list(range(2 * statistics.BATCH + 3))
    assert list(statistics.each_once(items)) == items
    assert list(statistics.each_once(iter(items))) == items
    with pytest.raises(MeasurementError, match="expected one of record-length, token-frequency, histogram"):
        statistics.named("mean")
