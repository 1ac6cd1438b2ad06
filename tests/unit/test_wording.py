"""What refusals and results mean, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from palm_torch import errors, wording
from palm_torch.result import Reservation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workshop import GoodRun


def kinds(kind: type[Exception]) -> Iterator[type[Exception]]:
    yield kind
    for below in kind.__subclasses__():
        yield from kinds(below)


REFUSALS = sorted({*kinds(errors.InputError), *kinds(errors.RejectedError)}, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", REFUSALS)
def test_for_every_refusal_there_is_advice(kind: type[Exception]) -> None:
    assert wording.advice(kind("why"))


def test_advice_of_the_nearest_class() -> None:
    class OwnError(errors.ManifestError):
        """A class that a later version may bring."""

    manifest = wording.advice(errors.ManifestError("why"))
    assert manifest
    assert wording.advice(OwnError("why")) == manifest
    assert wording.advice(errors.DataError("why")) not in (None, manifest)


def test_what_is_no_refusal_has_no_advice() -> None:
    assert wording.advice(errors.SealError("why")) is None
    assert wording.advice(KeyError("why")) is None


def test_what_a_result_is_worth(good: GoodRun) -> None:
    import dataclasses

    simulated = good.verify()
    reserved = dataclasses.replace(simulated, simulated=False)
    plain = dataclasses.replace(reserved, reservations=())
    unclosed = dataclasses.replace(plain, session="unclosed")
    assert wording.worth(simulated).startswith("NO. A simulated machine")
    assert wording.worth(unclosed).startswith("NOT YET.")
    assert wording.worth(reserved).startswith("WITH RESERVATIONS")
    assert wording.worth(plain).startswith("YES, for what your policy demands")
    assert isinstance(reserved.reservations[0], Reservation)
