"""A checkpoint between backward and step: the batch is counted as trained, and its gradient is lost."""

# ruff: noqa: PT012 (the whole block of a session is under test)
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import loops
import pytest
import torch
from resumable import Killed, opened, script

from palm_torch.attesting.attested import attested
from palm_torch.data.loader import DataLoader

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("fresh_process")

KEY = "batches_carried_over"


def backward(one: Any, batch: int) -> None:
    part = torch.utils.data.Subset(one.data, range(4 * batch, 4 * batch + 4))
    for items in DataLoader(part, batch_size=4):
        loops.loss_of(one.net, items).backward()


def step(one: Any) -> None:
    one.optimizer.step()
    one.optimizer.zero_grad()


def began(data: Path, *, waiting: int) -> dict[str, Any]:
    """Returns a checkpoint after one step, with batches that wait for theirs."""
    with pytest.raises(Killed), attested("train") as run:
        one = script(data)
        backward(one, 0)
        step(one)
        for batch in range(waiting):
            backward(one, 1 + batch)
        file = one.save(run)
        raise Killed
    return opened(file)


@pytest.mark.parametrize("waiting", [0, 1, 2])
def test_batches_whose_gradients_may_be_lost_are_warned_about(
    data: Path, tmp_path: Path, waiting: int
) -> None:
    checkpoint = began(data, waiting=waiting)
    with attested("train", resume=checkpoint["palm"]) as run:
        one = script(data).load(checkpoint)  # and no gradients
        backward(one, 3)
        step(one)
    found = loops.check(run, tmp_path)
    assert found.claims.configuration.value[KEY] == waiting
    warned = [item for item in found.result.reservations if "waited for their step" in item.reason]
    assert len(warned) == (waiting > 0)


def test_it_stays_said_over_another_checkpoint(data: Path, tmp_path: Path) -> None:
    checkpoint = began(data, waiting=1)
    with pytest.raises(Killed), attested("train", resume=checkpoint["palm"]) as run:
        one = script(data).load(checkpoint)
        backward(one, 3)
        step(one)
        checkpoint = opened(one.save(run))
        raise Killed
    with attested("train", resume=checkpoint["palm"]) as run:
        one = script(data).load(checkpoint)
        backward(one, 4)
        step(one)
    assert loops.check(run, tmp_path).claims.configuration.value[KEY] == 1


def test_twin_no_step_and_they_count_as_evaluation(data: Path, tmp_path: Path) -> None:
    checkpoint = began(data, waiting=1)
    with attested("train", resume=checkpoint["palm"]) as run:
        kept = script(data).load(checkpoint)
    found = loops.check(run, tmp_path)
    assert found.claims.configuration.value[KEY] == 0
    assert found.uses()["eval"][0] == 4
    assert kept.net is not None
