"""What a script logs: summed up, bound by a chain, refused where it is not one number."""

from __future__ import annotations

import fractions
import math
from typing import TYPE_CHECKING, Any

import pytest

from palm_torch.attesting import reported
from palm_torch.attesting.reported import Reported
from palm_torch.digest import tagged_hash
from palm_torch.errors import MeasurementError
from palm_torch.roles import Source

if TYPE_CHECKING:
    from palm_torch.statement import Series


class Tensor:
    """Something with `item()`, as a tensor has it."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def item(self) -> Any:
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


def logged(*values: Any) -> Series:
    quantities = Reported()
    for value in values:
        quantities.log("loss", value)
    return quantities.result()["loss"]


def test_nothing_logged_is_nothing_reported() -> None:
    assert Reported().result() == {}


def test_a_series_is_summed_up() -> None:
    series = logged(3, 1.5, Tensor(2.0), -4)
    assert (series.count, series.first, series.last) == (4, 3.0, -4.0)
    assert (series.least, series.greatest) == (-4.0, 3.0)
    assert series.source is Source.REPORTED


def test_one_value_is_first_last_least_and_greatest() -> None:
    series = logged(0.0)
    assert (series.count, series.first, series.last, series.least, series.greatest) == (1, 0, 0, 0, 0)


def test_the_chain_is_the_one_of_the_specification() -> None:
    chain = bytes(32)
    for value in (2.5, -0.0, math.nan):
        chain = tagged_hash(reported.SERIES_TAG, chain, repr(value).encode("ascii"))
    assert logged(2.5, -0.0, math.nan).chain.value == chain
    assert logged(2.5).chain != logged(-2.5).chain
    assert logged(0.0).chain != logged(-0.0).chain
    assert logged(1, 2).chain != logged(2, 1).chain


@pytest.mark.parametrize("odd", [math.inf, -math.inf, math.nan])
def test_numbers_json_has_no_word_for_are_spelled_out(odd: float) -> None:
    series = logged(odd)
    assert series.first == series.last == repr(odd)
    assert series.least == series.greatest == repr(odd)


def test_a_nan_does_not_hide_the_extremes() -> None:
    series = logged(math.nan, 2, 1, math.nan)
    assert (series.first, series.last, series.least, series.greatest) == ("nan", "nan", 1.0, 2.0)


@pytest.mark.parametrize(
    "value",
    [
        "1",
        None,
        True,
        1j,
        [1.0],
        {},
        fractions.Fraction(1, 2),
        10**400,
        Tensor("1"),
        Tensor(True),
        Tensor(1j),
        Tensor(None),
        Tensor(RuntimeError("a Tensor with 2 elements cannot be converted to Scalar")),
        Tensor(ValueError("can only convert an array of size 1 to a Python scalar")),
    ],
)
def test_what_is_not_one_number_is_refused(value: Any) -> None:
    quantities = Reported()
    with pytest.raises(MeasurementError, match=r"^run\.log\(loss=\.\.\.\): expected"):
        quantities.log("loss", value)
    assert quantities.result() == {}


@pytest.mark.parametrize("name", ["x" * 201, "line\nbreak", "\ud800", "nul\0"])
def test_names_that_no_reader_could_show(name: str) -> None:
    quantities = Reported()
    with pytest.raises(MeasurementError, match="printable characters"):
        quantities.log(name, 1)
    quantities.log("Genauigkeit für ε ≤ ½" + "x" * 100, 1)


def test_many_names_are_a_mistake_and_many_values_are_not() -> None:
    quantities = Reported()
    for number in range(reported.MAX_QUANTITIES):
        quantities.log(f"step {number}", number)
    with pytest.raises(MeasurementError, match="at most 1000 different names"):
        quantities.log("one more", 1)
    quantities.log("step 0", 1)
    assert list(quantities.result()) == sorted(quantities.result())


@pytest.mark.parametrize("cut", [0, 1, 3, 6])
def test_what_was_logged_goes_on_after_a_checkpoint(cut: int) -> None:
    values = [float("nan"), 2.5, -0.0, float("inf"), 3, float("-inf")]
    whole, first, second = Reported(), Reported(), Reported()
    for value in values:
        whole.log("x", value)
    for value in values[:cut]:
        first.log("x", value)
    second.resume(first.result())
    for value in values[cut:]:
        second.log("x", value)
    assert second.result() == whole.result()
