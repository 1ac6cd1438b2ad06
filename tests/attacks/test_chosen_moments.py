"""Moments are weights in waiting: whoever chooses them chooses where the first step leads.

A fresh run loads its optimizer's state from a file that the host had edited. Initial weights, data, code and
hyper-parameters are those of the honest run.
"""

# ruff: noqa: PT012 (the whole block of a session is under test)
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import loops
import pytest
import torch
from resumable import Killed, finished, opened, saved, script

from palm_torch.attesting.attested import attested
from palm_torch.hooks import optimizer_state

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("fresh_process")

SAYS = "1 optimizers had a state before their first step"


def edited(path: Path) -> dict[str, Any]:
    """Returns an optimizer's state as the host left it."""
    state = opened(saved(path))["optimizer"]
    for moments in state["state"].values():
        moments["exp_avg"].fill_(666)
        moments["exp_avg_sq"].fill_(1e-12)
    return dict(state)


def optimizers(found: loops.Checked) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = found.claims.configuration.value["optimizers"]
    return listed


def reasons(found: loops.Checked) -> list[str]:
    return [item.reason for item in found.result.reservations]


def test_the_state_a_run_begins_with_is_measured_and_warned_about(data: Path, tmp_path: Path) -> None:
    one = script(data)
    one.optimizer.load_state_dict(edited(data))
    expected = optimizer_state.digest_of(one.optimizer)
    with attested("train") as run:
        one.train(run, 2)
    found = loops.check(run, tmp_path)
    assert [item["begun_with"] for item in optimizers(found)] == [str(expected)]
    assert any(reason.startswith(SAYS) for reason in reasons(found))
    (said,) = [claim.value for claim in found.result.claims if claim.name == "optimizer 1"]
    assert said == f"torch.optim.adamw.AdamW, 2 steps, began with the state {expected}"


@pytest.mark.parametrize("kind", ["AdamW", "Adagrad", "SGD"])
def test_twin_a_state_that_the_constructor_makes_is_none(data: Path, tmp_path: Path, kind: str) -> None:
    one = script(data)
    options = {"initial_accumulator_value": 0.25} if kind == "Adagrad" else {}
    one.optimizer = getattr(torch.optim, kind)(one.net.parameters(), lr=0.1, **options)
    with attested("train") as run:
        one.train(run, 1)
    found = loops.check(run, tmp_path)
    assert [item["begun_with"] for item in optimizers(found)] == [None]
    assert not any("before their first step" in reason for reason in reasons(found))


@pytest.mark.parametrize("bend", ["sum", "step", "more"])
def test_what_the_constructor_made_and_somebody_changed_is_a_state(bend: str) -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adagrad([parameter])
    assert optimizer_state.begun_with(optimizer) is None
    state = optimizer.state[parameter]
    if bend == "more":
        state["momentum"] = torch.ones(3)
    elif bend == "step":
        state["step"] += 1
    else:
        state["sum"][1] = 7
    assert optimizer_state.begun_with(optimizer) == optimizer_state.digest_of(optimizer)


def test_an_optimizer_that_begins_after_a_resumption_is_no_way_around(data: Path, tmp_path: Path) -> None:
    """The checkpoint holds another optimizer, which had been dropped; this one brings moments of its own."""
    state = edited(data)
    with pytest.raises(Killed), attested("train") as run:
        one = script(data)
        one.train(run, 1)
        one.optimizer = torch.optim.SGD(one.net.parameters(), lr=0.1)
        checkpoint = opened(one.save(run))
        raise Killed
    with attested("train", resume=checkpoint["palm"]) as run:
        again = script(data)
        again.net.load_state_dict(checkpoint["model"])
        again.optimizer.load_state_dict(state)
        again.train(run, 1)
    found = loops.check(run, tmp_path)
    assert [item["begun_with"] is None for item in optimizers(found)] == [True, False]
    assert any(reason.startswith(SAYS) for reason in reasons(found))


def test_it_stays_said_over_resumptions(data: Path, tmp_path: Path) -> None:
    one = script(data)
    one.optimizer.load_state_dict(edited(data))
    with pytest.raises(Killed), attested("train") as run:
        one.train(run, 2)
        file = one.save(run)
        raise Killed
    assert any(reason.startswith(SAYS) for reason in reasons(loops.check(finished(data, file), tmp_path)))
