"""Parts of a checkpoint that no receipt names are edited on the host's disk: what the result says of it.

Model, optimizers and data are compared when a run goes on. Generators, averaged models and extra state of
modules are the script's own business: an edit of them is not refused, and not hidden either.
"""

# ruff: noqa: PT012 (the whole block of a session is under test)
from __future__ import annotations

import copy
import random
from typing import TYPE_CHECKING, Any

import loops
import pytest
import torch
from resumable import Killed
from workshop import put

from palm_torch.appraisal import resumption
from palm_torch.attesting.attested import attested
from palm_torch.data.loader import DataLoader
from palm_torch.errors import ClaimError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from relay import ResumedRun

    from palm_torch.result import AttestationResult

pytestmark = pytest.mark.usefixtures("fresh_process")


class Scaled(loops.Net):
    """A model with a factor that is neither parameter nor buffer."""

    scale = 1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * self.scale

    def get_extra_state(self) -> float:
        return self.scale

    def set_extra_state(self, state: float) -> None:
        self.scale = state


def generators() -> dict[str, Any]:
    return {"torch": torch.get_rng_state(), "python": random.getstate()}


def restore(saved: dict[str, Any]) -> None:
    torch.set_rng_state(saved["torch"])
    random.setstate(saved["python"])


def loader(data: Path) -> DataLoader[Any]:
    """Draws from a generator of its own, so that the global one is the model's alone."""
    return DataLoader(loops.opened(data), batch_size=12, generator=torch.Generator())


def resumed_run(
    data: Path,
    folder: Path,
    *,
    kind: type[loops.Net] = loops.Net,
    edit: Callable[[dict[str, Any]], None] = lambda _saved: None,
    before: Callable[[dict[str, Any]], None] = lambda _saved: None,
    inside: Callable[[dict[str, Any]], None] = lambda _saved: None,
) -> AttestationResult:
    """Trains until a checkpoint, edits it, goes on from it, and verifies.

    Args:
        data: The corpus.
        folder: Where the evidence goes.
        kind: Class of the model.
        edit: What the host does to the checkpoint.
        before: What the script does before it opens the second session.
        inside: What it does when that is open.
    """
    saved: dict[str, Any] = {}
    with pytest.raises(Killed), attested("train") as run:
        net = kind()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        loops.train(net, optimizer, loader(data))
        saved |= {"net": copy.deepcopy(net.state_dict()), "palm": run.state_dict(), "rng": generators()}
        raise Killed
    del net, optimizer
    torch.manual_seed(99)
    random.seed(99)
    edit(saved)
    before(saved)
    with attested("train", resume=saved["palm"]) as run:
        again = kind()
        again.load_state_dict(saved["net"])
        inside(saved)
        loops.train(again, torch.optim.SGD(again.parameters(), lr=0.1), loader(data))
    return loops.check(run, folder).result


def said(result: AttestationResult) -> list[str]:
    return [line for line in result.not_checked if "random numbers" in line]


def test_generators_that_were_not_restored_are_named(data: Path, tmp_path: Path) -> None:
    (line,) = said(resumed_run(data, tmp_path))
    assert line.startswith("after segment 1: that random numbers went on where the checkpoint left them")
    assert "the generators of torch, python stood elsewhere" in line


def test_edited_generators_are_named(data: Path, tmp_path: Path) -> None:
    def edit(saved: dict[str, Any]) -> None:
        torch.manual_seed(5)
        saved["rng"]["torch"] = torch.get_rng_state()

    (line,) = said(resumed_run(data, tmp_path, edit=edit, inside=lambda saved: restore(saved["rng"])))
    assert "the generators of torch stood elsewhere" in line


def test_generators_restored_at_begin_and_undone_inside_are_named(data: Path, tmp_path: Path) -> None:
    (line,) = said(
        resumed_run(
            data, tmp_path, before=lambda saved: restore(saved["rng"]), inside=lambda _: random.seed(1)
        )
    )
    assert "python" in line


def test_twin_generators_restored_inside_the_block_are_not(data: Path, tmp_path: Path) -> None:
    def inside(saved: dict[str, Any]) -> None:
        restore(saved["rng"])

    assert said(resumed_run(data, tmp_path, inside=inside)) == []


def test_extra_state_is_a_reservation(data: Path, tmp_path: Path) -> None:
    def edit(saved: dict[str, Any]) -> None:
        saved["net"]["_extra_state"] = 666.0

    def untouched(_saved: dict[str, Any]) -> None:
        """Does nothing: whether it was edited cannot be told, so both are reserved."""

    for each in (edit, untouched):
        result = resumed_run(data, tmp_path, kind=Scaled, edit=each)
        (reason,) = [warning for warning in result.warnings if "extra state" in warning]
        assert reason == "1 modules keep extra state, such as the model (Scaled), which is in no digest"
    plain = resumed_run(data, tmp_path)
    assert not any("extra state" in warning for warning in plain.warnings)


def test_what_is_never_compared_is_listed(data: Path, tmp_path: Path) -> None:
    assert resumption.NOT_COMPARED in resumed_run(data, tmp_path).not_checked
    assert "averaged models (EMA)" in resumption.NOT_COMPARED


def test_a_statement_with_other_generators_than_the_receipts(resumed: ResumedRun) -> None:
    """The end statement repeats what the receipts say: it cannot say otherwise."""
    for listed, message in (
        ([{"receipt": {"torch": "00"}}, {}], "resumed from segment 1 with other generators than its receipt"),
        ([{}], "resumed 2 times, generators are listed otherwise"),
        ([], "resumed 2 times, generators are listed otherwise"),
        ("none", "resumed 2 times, generators are listed otherwise"),
    ):
        with pytest.raises(ClaimError, match=message):
            resumed.verify(resumed.bent(lambda what, _number, value, to=listed: _seeded(what, value, to)))


def _seeded(what: str, value: Any, listed: Any) -> Any:
    return put(value, "claims.seeds.value.resumed", listed) if what == "end" else value


def test_environments_that_differ_are_told(resumed: ResumedRun) -> None:
    def bend(what: str, number: int, value: Any) -> Any:
        return put(value, "environment.value.python", "3.10") if (what, number) == ("receipt", 1) else value

    for bundle, told in ((resumed.bent(bend), True), (resumed.bundle, False)):
        (detail,) = [check.detail for check in resumed.verify(bundle).checks if check.name == "segments"]
        assert detail.endswith("; environments differ in python") is told
