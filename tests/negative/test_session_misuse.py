"""Sessions used out of order, from elsewhere, or broken off: one clear error each, and never evidence."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import loops
import pytest
import torch
from loops import Net, check, loss_of, opened, train
from torch.utils.data import TensorDataset

from palm_torch import recorder
from palm_torch import request as requests
from palm_torch.attesting.attested import attested
from palm_torch.data.loader import DataLoader
from palm_torch.errors import (
    CoverageError,
    PalmTorchError,
    RecordError,
    RequestError,
    SealError,
    SessionError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from palm_torch.attesting.session import Session

pytestmark = pytest.mark.usefixtures("fresh_process")

SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return loops.corpus(tmp_path_factory.mktemp("data") / "corpus", records=8)


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """A corpus of 8 records whose record 2 was changed after it was measured."""
    folder = loops.corpus(tmp_path / "changed", records=8)
    shard = folder / "shard0.bin"
    content = bytearray(shard.read_bytes())
    content[2 * loops.LENGTH * 2] ^= 1
    shard.write_bytes(content)
    return folder


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """No test may leave a file in the working folder, or a session open."""

    def found() -> set[Path]:
        return {path for kind in ("*.palm.json", "*.failed.json", "*.tmp") for path in Path.cwd().glob(kind)}

    before = found()
    yield
    assert found() == before
    assert recorder.session_id() is None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "working"
    folder.mkdir()
    return folder


def step(data: Path, **options: Any) -> None:
    net = Net()
    train(net, torch.optim.SGD(net.parameters(), lr=0.1), DataLoader(opened(data), batch_size=4, **options))


def abandoned(run: Session, why: str) -> None:
    with pytest.raises(SessionError, match=rf"run\.evidence: there is none: the session is abandoned: {why}"):
        _ = run.evidence
    with pytest.raises(SessionError, match=r"run\.seal\(\): nothing to seal"):
        run.seal()


# Broken off ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
def test_block_that_raises_leaves_no_evidence(data: Path, tmp_path: Path, kind: type[BaseException]) -> None:
    run = attested("train")

    def block() -> None:
        with run:
            step(data)
            raise kind

    with pytest.raises(kind):
        block()
    abandoned(run, f"the block raised {kind.__name__}")
    with attested("train") as another:  # everything was taken down
        step(data)
    check(another, tmp_path, steps={"greatest": 2})


def test_interrupt_that_the_script_handles_itself_ends_its_loop(data: Path, tmp_path: Path) -> None:
    with attested("train") as run:
        step(data)
        with contextlib.suppress(KeyboardInterrupt):
            raise KeyboardInterrupt
    check(run, tmp_path, steps={"least": 2})


def interrupt(script: subprocess.Popen[str]) -> str:
    """Presses Ctrl-C until it is heard: Python swallows it where torch's loader is being destroyed."""
    for _ in range(20):
        script.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return script.communicate(timeout=3)[1]
    pytest.fail("the script goes on")


def test_interrupted_process_leaves_no_file(data: Path, folder: Path) -> None:
    script = subprocess.Popen(
        [sys.executable, SCRIPTS / "train_forever.py", data],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
    )
    assert script.stdout is not None
    try:
        for _ in range(3):
            assert script.stdout.readline() == "an epoch\n"
        errors = interrupt(script)
    finally:
        script.kill()
    assert script.returncode == -signal.SIGINT  # what a shell shows as 130
    assert "KeyboardInterrupt" in errors
    assert list(folder.iterdir()) == []


# Errors that the script swallows ------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
def test_swallowed_record_error(changed: Path, workers: int) -> None:
    run = attested("train")

    def block() -> None:
        net = Net()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        with run:
            batches = iter(DataLoader(opened(changed), batch_size=2, num_workers=workers))
            train(net, optimizer, [next(batches)])
            with pytest.raises(RecordError, match="record 2 "):
                next(batches)
            with pytest.raises(CoverageError, match="broke earlier"):
                next(batches)

    with pytest.raises(SessionError, match=r"there will be no evidence: .*RecordError") as caught:
        block()
    assert isinstance(caught.value.__cause__, RecordError)
    abandoned(run, "the measurement failed inside the block")


def test_swallowed_error_of_a_record_read_by_hand_is_told_at_the_next_one(changed: Path) -> None:
    def block() -> None:
        with attested("train"):
            dataset = opened(changed)
            with pytest.raises(RecordError):
                _ = dataset[2]
            with pytest.raises(SessionError, match="there will be no evidence"):
                _ = dataset[0]

    with pytest.raises(SessionError, match="RecordError"):
        block()


def test_swallowed_error_of_a_step(data: Path) -> None:
    net = Net()
    stranger = torch.optim.SGD([torch.zeros(3, requires_grad=True)], lr=0.1)

    def block() -> None:
        with attested("train"):
            train(net, torch.optim.SGD(net.parameters(), lr=0.1), DataLoader(opened(data), batch_size=4))
            with pytest.raises(CoverageError, match=r"no live torch\.nn\.Module owns them"):
                stranger.step()

    with pytest.raises(SessionError, match=r"there will be no evidence.*no live torch\.nn\.Module"):
        block()


def test_swallowed_interrupt_in_the_middle_of_counting(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    def block() -> None:
        with attested("train"):
            step(data)
            monkeypatch.setattr("palm_torch.hooks.meter.StepMeter.delivered", interrupted)
            with pytest.raises(KeyboardInterrupt):
                next(iter(DataLoader(opened(data))))

    with pytest.raises(SessionError, match=r"there will be no evidence.*KeyboardInterrupt"):
        block()


def test_swallowed_loss_of_a_worker(data: Path, folder: Path) -> None:
    script = subprocess.run(
        [sys.executable, SCRIPTS / "lose_a_worker.py", data],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=60,
        check=True,
    )
    assert list(folder.iterdir()) == []
    first, second = script.stdout.splitlines()
    assert first.startswith("CoverageError: the DataLoader lost its workers")
    assert second.startswith("SessionError: there will be no evidence")


@pytest.mark.parametrize(
    "error", [EOFError(), ConnectionResetError(104, "reset"), FileNotFoundError(2, "gone")]
)
def test_pipe_that_ends_is_the_loss_of_a_worker(data: Path, error: Exception) -> None:
    def ended() -> Iterator[object]:
        raise error
        yield

    def block() -> None:
        loader = DataLoader(opened(data))
        batches = iter(loader)
        loader.num_workers, batches._inner = 1, ended()
        next(batches)

    with pytest.raises(CoverageError, match=rf"lost its workers.*{type(error).__name__}"), attested("train"):
        block()


def test_batch_that_no_attested_dataset_had_part_in(data: Path) -> None:
    def block() -> None:
        with attested("train"):
            step(data)
            next(iter(DataLoader(TensorDataset(torch.zeros(4)))))

    with pytest.raises(CoverageError, match=r"no attested dataset had part in .*TensorDataset"):
        block()


# From elsewhere -----------------------------------------------------------------------------------------


def in_thread(task: Callable[[], object]) -> list[BaseException]:
    raised: list[BaseException] = []

    def run() -> None:
        try:
            task()
        except PalmTorchError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return raised


def test_session_opened_in_another_thread(data: Path, tmp_path: Path) -> None:
    run = attested("train")
    (error,) = in_thread(run.__enter__)
    assert isinstance(error, SessionError)
    assert "open the session in the main thread" in str(error)
    with run:
        step(data)
    check(run, tmp_path)


@pytest.mark.parametrize("where", ["loader", "dataset", "step", "coroutine"])
def test_loop_in_another_thread_than_the_session(data: Path, where: str) -> None:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    tasks: dict[str, Callable[[], object]] = {
        "loader": lambda: list(DataLoader(opened(data))),
        "dataset": lambda: opened(data)[0],
        "step": optimizer.step,
        "coroutine": lambda: asyncio.run(asyncio.to_thread(opened(data).__getitem__, 0)),
    }

    def block() -> None:
        with attested("train"):
            train(net, optimizer, DataLoader(opened(data), batch_size=4))
            if where == "coroutine":  # a copy of the session's context in another thread
                with pytest.raises(SessionError, match="another thread"):
                    tasks[where]()
            else:
                (error,) = in_thread(tasks[where])
                assert "another thread" in str(error)

    with pytest.raises(SessionError, match=r"there will be no evidence.*in another thread"):
        block()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_process_forked_inside_a_session(data: Path, tmp_path: Path) -> None:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    run = attested("train")

    def end() -> None:
        run.__exit__(None, None, None)

    in_child = {
        "loader": lambda: next(iter(DataLoader(opened(data)))),
        "dataset": lambda: opened(data)[0],
        "step": optimizer.step,
        "log": lambda: run.log(loss=1.0),
        "end": end,
    }
    with run:
        train(net, optimizer, DataLoader(opened(data), batch_size=4))
        told = {name: _in_child(task) for name, task in in_child.items()}
    assert {name: text.partition(":")[0] for name, text in told.items()} == dict.fromkeys(
        told, "SessionError"
    )
    assert all("forked" in text for text in told.values())
    check(run, tmp_path, records={"least": 8, "greatest": 8})  # the session itself never noticed


def _in_child(task: Callable[[], object]) -> str:
    """Runs a task in a forked child; returns what it raised."""
    end, start = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            task()
        except BaseException as error:  # noqa: BLE001 (whatever it is, the parent looks at it)
            os.write(start, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(start)
    os.waitpid(child, 0)
    with os.fdopen(end, "rb") as stream:
        return stream.read().decode()


def test_session_inside_a_session(data: Path, tmp_path: Path) -> None:
    with attested("train") as run:
        inner = attested("train")
        with pytest.raises(SessionError, match=rf"session {run.run_id} is still open"), inner:
            pytest.fail("the inner session began")
        step(data)
    check(run, tmp_path)


# Loaders across the edges -------------------------------------------------------------------------------


def test_loader_begun_before_the_session(data: Path) -> None:
    batches = iter(DataLoader(opened(data), batch_size=2))
    next(batches)
    with pytest.raises(SessionError, match="begun before the session began"), attested("train"):
        next(batches)


@pytest.mark.parametrize("workers", [0, 1])
def test_loader_gone_through_before_the_session_begins_anew(data: Path, tmp_path: Path, workers: int) -> None:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    loader = DataLoader(opened(data), batch_size=4, num_workers=workers, persistent_workers=bool(workers))
    train(net, optimizer, loader)
    with attested("train") as run:
        train(net, optimizer, loader)
    assert check(run, tmp_path, steps={"greatest": 2}).uses() == {"train": (8, 8, 1, 1)}
    assert len(list(loader)) == 2  # and after it


def test_loader_continued_after_the_session(data: Path, tmp_path: Path) -> None:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with attested("train") as run:
        batches = iter(DataLoader(opened(data), batch_size=2))
        train(net, optimizer, [next(batches)])
    with pytest.raises(SessionError, match="in a session that has ended"):
        next(batches)
    check(run, tmp_path, records={"greatest": 2})


def test_loader_carried_from_one_session_into_the_next(data: Path) -> None:
    with attested("train"):
        batches = iter(DataLoader(opened(data), batch_size=4))
        net = Net()
        train(net, torch.optim.SGD(net.parameters(), lr=0.1), [next(batches)])
    with pytest.raises(SessionError, match="was begun"), attested("train"):
        next(batches)


def test_steps_outside_of_the_session_are_not_counted(data: Path, tmp_path: Path) -> None:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    batch = next(iter(DataLoader(opened(data), batch_size=4)))
    train(net, optimizer, [batch])
    before = loops.copy_of(net)
    with attested("train") as run:
        train(net, optimizer, DataLoader(opened(data), batch_size=4))
    train(net, optimizer, [batch])
    found = check(run, tmp_path, steps={"greatest": 2}, initial=[str(loops.root_of(before))])
    assert found.claims.model.digest != loops.root_of(loops.copy_of(net))


def test_backward_before_and_step_inside(data: Path) -> None:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    loss_of(net, next(iter(DataLoader(opened(data), batch_size=4)))).backward()
    with pytest.raises(CoverageError, match="before any record was delivered"), attested("train"):
        optimizer.step()


# Requests -----------------------------------------------------------------------------------------------


def written(path: Path, **changes: Any) -> Path:
    fields = {"type": requests.TYPE, "nonce": secrets.token_hex(32), "operation": "train", "roles": ()}
    path.write_bytes(requests.Request(**{**fields, "expires": None, **changes}).encode())
    return path


def test_expired_request(tmp_path: Path) -> None:
    expires = (datetime.now(UTC) - timedelta(seconds=2)).strftime(requests.TIME_FORMAT)
    path = written(tmp_path / "request.json", expires=expires)
    with pytest.raises(RequestError, match=f"expired at {expires}; ask the verifier for a new one"):
        attested("train", request=path)


def test_request_for_another_operation(tmp_path: Path) -> None:
    path = written(tmp_path / "request.json", operation="infer")
    with pytest.raises(RequestError, match="asks for 'infer', the session is 'train'"):
        attested("train", request=str(path))


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_request_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(RequestError, match="cannot read the request"):
        attested("train", request=tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"{}", b"\x80", b"[1, 2]", b'{"nonce":"00"}'])
def test_request_that_is_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "request.json"
    path.write_bytes(content)
    with pytest.raises(RequestError, match=r"request\.json"):
        attested("train", request=path)


def test_a_block_is_left_once(data: Path) -> None:
    """Weights that moved after the hooks were gone must not be sealed under the steps counted before."""
    with attested("train") as run:
        step(data)
    sealed = run.evidence
    with pytest.raises(SessionError, match="a session is left once; this one is sealed"):
        run.__exit__(None, None, None)
    run.__exit__(ValueError, ValueError(), None)
    assert run.evidence is sealed
    assert run.state == "sealed"


def test_a_forked_child_does_not_seal_again(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_statement: bytes) -> None:
        raise SealError("away")

    monkeypatch.chdir(tmp_path)
    run = attested("train")
    monkeypatch.setattr(run._sealer, "end", away)
    with pytest.raises(SealError, match="away"), run:
        step(data)
    assert run.state == "measured"
    monkeypatch.setattr(run, "_process", os.getpid() + 1)
    with pytest.raises(SessionError, match=r"run\.seal\(\): called in a process forked"):
        run.seal()


def test_a_request_of_any_size_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "request.json"
    path.write_bytes(b" " * (requests.MAX_REQUEST_BYTES + 1))
    with pytest.raises(
        RequestError, match=f"the request: expected at most {requests.MAX_REQUEST_BYTES} bytes"
    ):
        attested("train", request=path)
    with pytest.raises(RequestError, match="cannot read the request: embedded null byte"):
        attested("train", request="zero\0byte")
