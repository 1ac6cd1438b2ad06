"""A checkpoint's moments are compared, so its edited ones are loaded into an optimizer of another class."""

# ruff: noqa: PT012 (the whole block of a session is under test)
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import loops
import pytest
import torch
from resumable import Killed, opened, saved, script

from palm_torch.attesting.attested import attested
from palm_torch.data.loader import DataLoader
from palm_torch.errors import CoverageError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("fresh_process")


@pytest.fixture(scope="module")
def file(data: Path) -> bytes:
    """A checkpoint of AdamW."""
    return saved(data)


@pytest.mark.parametrize("kind", ["Adam", "SGD"])
@pytest.mark.parametrize("part", ["all of its tensors", "one of its tensors"])
def test_another_class_over_the_same_tensors_is_refused(
    data: Path, file: bytes, kind: str, part: str
) -> None:
    checkpoint = opened(file)
    one = script(data)
    one.net.load_state_dict(checkpoint["model"])
    tensors = list(one.net.parameters())[: None if part.startswith("all") else 1]
    one.optimizer = getattr(torch.optim, kind)(tensors, lr=0.1)
    if kind == "Adam" and part.startswith("all"):
        for moments in checkpoint["optimizer"]["state"].values():
            moments["exp_avg"].fill_(666)
        one.optimizer.load_state_dict(checkpoint["optimizer"])
    before = loops.copy_of(one.net)
    with (
        pytest.raises(CoverageError, match=rf"\.{kind} steps tensors that at the checkpoint .*\.AdamW steps"),
        attested("train", resume=checkpoint["palm"]) as run,
    ):
        one.train(run, 1)
    assert all(torch.equal(before[name], tensor) for name, tensor in one.net.state_dict().items())


def test_twin_two_classes_that_were_both_there_go_on(data: Path, tmp_path: Path) -> None:
    """Each finds its own account, whichever of them steps first."""

    def build() -> tuple[Any, list[torch.optim.Optimizer]]:
        one = script(data)
        return one, [one.optimizer, torch.optim.SGD(one.net.parameters(), lr=0.1)]

    def step(one: Any, optimizers: list[torch.optim.Optimizer]) -> None:
        for optimizer in optimizers:
            for batch in DataLoader(one.data, batch_size=24):
                loops.loss_of(one.net, batch).backward()
                optimizer.step()
                optimizer.zero_grad()

    one, both = build()
    with pytest.raises(Killed), attested("train") as run:
        step(one, both)
        checkpoint = opened(one.save(run))
        raise Killed
    with attested("train", resume=checkpoint["palm"]) as run:
        one, both = build()
        one.load(checkpoint)
        step(one, both[::-1])
    configuration = loops.check(run, tmp_path).claims.configuration.value
    assert [item["steps"] for item in configuration["optimizers"]] == [2, 2]
    assert configuration["writes_outside_steps"] == 0
