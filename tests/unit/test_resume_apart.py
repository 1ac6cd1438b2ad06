"""Going on from a checkpoint: nothing is taken for another that looks alike, and no change is hidden."""

# ruff: noqa: PT012 (the whole block of a session is under test)
from __future__ import annotations

import gc
import hashlib
from typing import TYPE_CHECKING, Any

import loops
import numpy as np
import pytest
import torch
from resumable import Killed, finished, saved

from palm_torch.attesting import surroundings
from palm_torch.attesting.attested import attested
from palm_torch.attesting.bind import Binding
from palm_torch.attesting.own_segment import _beside
from palm_torch.attesting.script_record import ScriptRecord
from palm_torch.attesting.session import Session
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.loader import DataLoader
from palm_torch.digest import sha256_digest
from palm_torch.errors import CoverageError, MeasurementError
from palm_torch.roles import Artifact, Source, Value

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _fresh_process() -> Iterator[None]:
    with loops.fresh_process():
        yield


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return loops.corpus(tmp_path / "corpus")


def nets(number: int = 2) -> list[Any]:
    torch.manual_seed(1)
    return [loops.Net() for _ in range(number)]


def step(dataset: Any, net: torch.nn.Module, *optimizers: torch.optim.Optimizer) -> None:
    batch: Any
    for batch in DataLoader(torch.utils.data.Subset(dataset, range(4)), batch_size=4):
        loops.loss_of(net, batch).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


def plain(net: torch.nn.Module, lr: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=lr)


def rates(run: Session, tmp_path: Path) -> list[tuple[int, float]]:
    configuration = loops.check(run, tmp_path).claims.configuration.value
    return [
        (item["steps"], group["options"]["lr"]["first"])
        for item in configuration["optimizers"]
        for group in item["groups"]
    ]


def loaded(states: list[dict[str, Any]]) -> list[Any]:
    made = nets(len(states))
    for net, state in zip(made, states, strict=True):
        net.load_state_dict(state)
    return made


def test_optimizers_without_state_are_told_apart_by_what_they_step(data: Path, tmp_path: Path) -> None:
    dataset = loops.opened(data)
    with pytest.raises(Killed), attested("train") as run:
        one, other = nets()
        first, second = plain(one, 0.1), plain(other, 0.2)
        for _ in range(3):
            step(dataset, one, first)
        step(dataset, other, second)
        state = run.state_dict()
        held = [{name: value.clone() for name, value in net.state_dict().items()} for net in (one, other)]
        raise Killed
    with attested("train", resume=state) as run:
        one, other = loaded(held)
        first, second = plain(one, 0.1), plain(other, 0.2)
        step(dataset, other, second)  # the other one first, and more often
        step(dataset, other, second)
        step(dataset, one, first)
    assert rates(run, tmp_path) == [(4, 0.1), (3, 0.2)]


def test_optimizer_that_begins_after_the_checkpoint_is_a_new_one(data: Path, tmp_path: Path) -> None:
    dataset = loops.opened(data)
    with pytest.raises(Killed), attested("train") as run:
        (one,) = nets(1)
        step(dataset, one, kept := plain(one.dec, 0.1))
        state = run.state_dict()
        held = {name: value.clone() for name, value in one.state_dict().items()}
        raise Killed
    with attested("train", resume=state) as run:
        (one,) = loaded([held])
        first, second = plain(one.dec, 0.1), plain(one.enc, 0.2)
        step(dataset, one, second)  # while the first one waits
        step(dataset, one, first)
    assert rates(run, tmp_path) == [(2, 0.1), (1, 0.2)]
    assert kept.state_dict()


def test_optimizers_that_nothing_tells_apart_are_refused(data: Path) -> None:
    dataset = loops.opened(data)
    with pytest.raises(Killed), attested("train") as run:
        (one,) = nets(1)
        step(dataset, one, *(kept := [plain(one), plain(one)]))
        state = run.state_dict()
        held = {name: value.clone() for name, value in one.state_dict().items()}
        raise Killed
    with (
        pytest.raises(CoverageError, match="2 SGD of the checkpoint step the same tensors"),
        attested("train", resume=state),
    ):
        (one,) = loaded([held])
        step(dataset, one, plain(one))
    assert len(kept) == 2


def test_optimizer_of_other_tensors_is_refused(data: Path) -> None:
    dataset = loops.opened(data)
    with pytest.raises(Killed), attested("train") as run:
        (one,) = nets(1)
        step(dataset, one, kept := plain(one))
        state = run.state_dict()
        held = {name: value.clone() for name, value in one.state_dict().items()}
        raise Killed
    with (
        pytest.raises(CoverageError, match="steps other tensors than before the checkpoint"),
        attested("train", resume=state),
    ):
        (one,) = loaded([held])
        step(dataset, one, torch.optim.SGD(reversed(list(one.parameters())), lr=0.1))
    assert kept.state_dict()


@pytest.mark.parametrize("used", ["both", "one, and the other is there", "one, and the other comes"])
def test_datasets_without_manifest_that_look_alike_are_refused(tmp_path: Path, used: str) -> None:
    def bare(name: str) -> AttestedMmapDataset:
        folder = tmp_path / name
        if not folder.exists():
            folder.mkdir()
            np.save(folder / "x.npy", np.full((8, 4), len(name), dtype=np.float32))
        return AttestedMmapDataset(folder, dtype=None)

    def read(dataset: Any, net: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        batch: Any
        for batch in DataLoader(dataset, batch_size=8):
            net(batch).sum().backward()
            optimizer.step()

    def build() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(1)
        net = torch.nn.Linear(4, 1)
        return net, torch.optim.SGD(net.parameters(), lr=0.1)

    with pytest.raises(Killed), attested("train") as run:
        net, optimizer = build()
        read(bare("train"), net, optimizer)
        if used == "both":
            read(bare("eval"), net, optimizer)
        state = run.state_dict()
        held = {name: value.clone() for name, value in net.state_dict().items()}
        raise Killed
    if used != "both":
        with attested("train", resume=state) as run:  # the same one alone goes on
            net, optimizer = build()
            net.load_state_dict(held)
            for _ in range(2):
                read(bare("train"), net, optimizer)
        assert loops.check(run, tmp_path).claims.steps.taken == 3
    gc.collect()
    with (
        pytest.raises(CoverageError, match="2 datasets of 8 records of 16 bytes have no manifest"),
        attested("train", resume=state),
    ):
        net, optimizer = build()
        net.load_state_dict(held)
        kept = [bare("train")] if "there" in used else []
        read(bare("eval"), net, optimizer)
        read(kept[0] if kept else bare("train"), net, optimizer)


def test_weights_written_after_the_last_step_are_counted(data: Path, tmp_path: Path) -> None:
    def written(run: Session) -> int:
        return int(loops.check(run, tmp_path).claims.configuration.value["writes_outside_steps"])

    def train(*, write: bool, dropped: bool = False, checkpoints: bool = False) -> Session:
        dataset = loops.opened(data)
        with attested("train") as run:
            (one,) = nets(1)
            optimizer = plain(one)
            step(dataset, one, optimizer)
            if dropped:
                del optimizer
            if write:
                one.load_state_dict({name: torch.zeros_like(it) for name, it in one.state_dict().items()})
            if checkpoints:
                run.state_dict()
                run.state_dict()
        return run

    assert written(train(write=True)) == 1
    assert written(train(write=True, dropped=True)) == 1
    assert written(train(write=True, checkpoints=True)) == 1
    assert written(train(write=False)) == 0
    assert written(train(write=False, dropped=True)) == 0


def test_file_that_changed_between_sessions_is_listed_twice(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []

    def listed(*_: object) -> dict[str, Artifact]:
        made = Artifact(source=Source.MEASURED, kind="opened", digest=sha256_digest(read[-1]))
        return {"opened:config.txt": made}

    class Reading(Session):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **{**options, "opened": listed})

    monkeypatch.setattr("palm_torch.attesting.attested.Session", Reading)
    read.append(b"one")
    file = saved(data)
    read.append(b"two")
    file = saved(data, steps=1, resume=file)
    read.append(b"one")
    inputs = loops.check(finished(data, file, steps=1), tmp_path).end.run.inputs
    assert {role: item.digest for role, item in inputs.items()} == {
        "opened:config.txt": sha256_digest(b"one"),
        "opened:config.txt#2": sha256_digest(b"two"),
    }


def test_numbered_files_of_two_sessions_keep_apart() -> None:
    a, b, c = (
        Artifact(source=Source.MEASURED, kind="opened", digest=sha256_digest(bytes([number])))
        for number in range(3)
    )
    assert _beside({"x": a, "x#2": b}, {"x": c, "x#2": a}) == {"x": a, "x#2": b, "x#3": c}
    assert _beside({}, {"x": a, "x#2": b}) == {"x": a, "x#2": b}


def test_environment_of_an_earlier_session_shows_where_it_differs(data: Path, tmp_path: Path) -> None:
    torch.set_flush_denormal(True)
    try:
        file = saved(data)
    finally:
        torch.set_flush_denormal(False)
    again = saved(data, steps=1, resume=file)
    run = finished(data, again, steps=1)
    value = loops.check(run, tmp_path).end.run.environment.value
    (earlier,) = value["resumed"]
    assert earlier["flags"] == {**value["flags"], "flush_denormal": True}
    assert "packages" not in earlier


def test_environment_that_stayed_lists_none(data: Path, tmp_path: Path) -> None:
    end = loops.check(finished(data, saved(data)), tmp_path).end
    assert "resumed" not in end.run.environment.value


def test_environments_of_many_sessions_are_listed_once_each() -> None:
    now = surroundings.environment_now().value
    others = [{**now, "threads": {"intra_op": number, "inter_op": 1}} for number in (901, 902)]
    for other in others:
        del other["packages"]
    before = Value(
        source=Source.MEASURED, value={**others[1], "packages": [], "resumed": [others[0], others[1]]}
    )
    found = surroundings.environment_now(before=before, resumed=before).value
    assert found["resumed"] == others


@pytest.mark.parametrize("what", ["input", "output"])
def test_role_is_given_one_thing(what: str) -> None:
    record = ScriptRecord(Binding())
    say = getattr(record, what)
    say({"config": b"666"})
    say({"config": b"666"})
    with pytest.raises(MeasurementError, match=rf"run\.{what}\(config=\.\.\.\): given before as"):
        say({"config": b"0.1", "other": b"1"})
    assert getattr(record, f"{what}s")["config"].digest.value == hashlib.sha256(b"666").digest()
    assert "other" not in getattr(record, f"{what}s")
