"""One machine made two runs; the good statement of one is shown with the quotes of the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import workshop
from workshop import put

from palm_torch import request
from palm_torch.attesting.sealing import Sealer
from palm_torch.errors import BindingError

if TYPE_CHECKING:
    from workshop import GoodRun

    from palm_torch.evidence import Bundle


@pytest.fixture
def second(good: GoodRun) -> Bundle:
    """Another honest run on the same machine, for the same request."""
    machine = workshop.machine(good.folder)
    nonce = request.nonce_of(good.request)
    sealer = Sealer(machine, nonce=nonce)
    sealer.begin(workshop.make_begin(sealer.run_id, sealer.register() or "", nonce).encode())
    for kind, payload in workshop.EVENTS:
        sealer.record(kind, payload)
    return sealer.end(workshop.make_statement(sealer.run_id).encode())


def test_both_runs_are_good(good: GoodRun, second: Bundle) -> None:
    assert good.verify(second).run_id != good.verify().run_id


@pytest.mark.parametrize(
    "part",
    ["begin", "end", "begin.statement", "end.statement", "begin.quote", "end.quote", "run_id", "session_key"],
)
def test_no_part_of_one_fits_the_other(good: GoodRun, second: Bundle, part: str) -> None:
    def of(bundle: Bundle) -> object:
        value: object = bundle
        for name in part.split("."):
            value = getattr(value, name)
        return value

    with pytest.raises(BindingError):
        good.verify(put(good.bundle, part, of(second)))
    with pytest.raises(BindingError):
        good.verify(put(second, part, of(good.bundle)))


def test_whole_phases_are_held_together_by_key_and_begin_quote(good: GoodRun, second: Bundle) -> None:
    mixed = put(put(second, "begin", good.bundle.begin), "run_id", good.bundle.run_id)
    with pytest.raises(BindingError):
        good.verify(mixed)
    with pytest.raises(BindingError):
        good.verify(put(mixed, "session_key", good.bundle.session_key))


def test_even_the_machine_itself_cannot_marry_two_runs(good: GoodRun, second: Bundle) -> None:
    """Sealed anew by the trusted domain's own key, the two statements still name two runs."""
    with pytest.raises(BindingError, match="different runs"):
        good.verify(good.resealed(put(good.bundle, "end.statement", second.end.statement)))
