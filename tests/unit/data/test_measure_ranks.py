"""How ranks meet: who shows no token is turned away; who does not come is waited for as long as said."""

from __future__ import annotations

import socket
import threading
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import pytest
from recording import LENGTH

from palm_torch.data import measure
from palm_torch.data.measuring import ranks
from palm_torch.errors import DataError, MeasurementError

if TYPE_CHECKING:
    from datetime import timedelta
    from pathlib import Path


class Store:
    """A store within one process."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.changed = threading.Condition()

    def set(self, key: str, value: str) -> None:
        with self.changed:
            self.values[key] = value.encode()
            self.changed.notify_all()

    def get(self, key: str) -> bytes:
        return self.values[key]

    def wait(self, keys: list[str], timeout: timedelta) -> None:
        with self.changed:
            if not self.changed.wait_for(lambda: keys[0] in self.values, min(60, timeout.total_seconds())):
                raise RuntimeError("the store timed out")


def pair() -> tuple[ranks.Ranks, ranks.Ranks]:
    store = Store()
    return ranks.Ranks(0, 2, store, "127.0.0.1"), ranks.Ranks(1, 2, store, "127.0.0.1")


def beside(work: Any) -> tuple[threading.Thread, list[BaseException]]:
    """Runs something in a thread; what it raised is in the list."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 (whatever it is, the test looks at it)
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, raised


@pytest.mark.parametrize("salt", [None, b"a secret of salt"])
def test_two_ranks_make_the_same_manifest_twice(tokens: Path, salt: bytes | None) -> None:
    alone = measure.measure(tokens, record_length=LENGTH, salt=salt)
    first, second = pair()
    for _ in range(2):
        thread, raised = beside(lambda: measure.assist(tokens, second, record_length=LENGTH, salt=salt))
        assert measure.measure(tokens, record_length=LENGTH, salt=salt, ranks=first) == alone
        thread.join()
        assert raised == []
    thread, raised = beside(lambda: measure.assist(tokens, second, salt=salt, checking=True))
    assert measure.check(tokens, salt=salt, ranks=first) == alone
    thread.join()
    assert raised == []


def test_stranger_is_turned_away(tokens: Path) -> None:
    alone = measure.measure(tokens, record_length=LENGTH)
    first, second = pair()

    def strangers_first() -> None:
        store: Any = second.store
        store.wait(["palm-torch/measure/1"], ranks.timedelta(seconds=60))
        port = int(store.get("palm-torch/measure/1").partition(b":")[0])
        for said in (b"", bytes(36), bytes(10), bytes(100)):
            with socket.create_connection(("127.0.0.1", port)) as raw:
                raw.sendall(said)
        measure.assist(tokens, second, record_length=LENGTH)

    thread, raised = beside(strangers_first)
    assert measure.measure(tokens, record_length=LENGTH, ranks=first) == alone
    thread.join()
    assert raised == []


def test_rank_that_does_not_come(tokens: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "MEETING_S", 0.3)
    with pytest.raises(MeasurementError, match=r"only 1 of 2 ranks met at 127\.0\.0\.1 within 0\.3 s"):
        measure.measure(tokens, record_length=LENGTH, ranks=pair()[0])
    assert not (tokens / "manifest.palm-manifest").exists()


def test_rank_that_cannot_open_the_data_says_so(tokens: Path) -> None:
    first, second = pair()
    thread, raised = beside(lambda: measure.assist(tokens / "nothing", second, record_length=LENGTH))
    with pytest.raises(DataError, match="nothing: no such file or folder"):
        measure.measure(tokens, record_length=LENGTH, ranks=first)
    thread.join()
    assert type(raised[0]) is DataError


def test_first_rank_that_is_gone(tokens: Path) -> None:
    first, second = pair()
    thread, raised = beside(lambda: measure.assist(tokens, second, record_length=LENGTH))
    with first.gathered(b"") as connections:
        assert max(connections.values()) == "rank 1"
    thread.join()
    assert "the first rank ended before the work was done" in str(raised[0])


@pytest.mark.parametrize(
    ("left", "says"),
    [
        ("given up", "gave up before it began"),
        ("0:" + "0" * 64, "gave up before it began"),
        ("1:" + "0" * 64, "ended before the work was done"),
    ],
)
def test_place_that_is_none(tokens: Path, left: str, says: str) -> None:
    _, second = pair()
    second.store.set("palm-torch/measure/1", left)
    with pytest.raises(MeasurementError, match=says):
        measure.assist(tokens, second, record_length=LENGTH)


def test_first_rank_gives_up_for_all(tokens: Path) -> None:
    first, second = pair()
    second.give_up()
    first.give_up()
    with pytest.raises(MeasurementError, match="gave up"):
        measure.assist(tokens, second, record_length=LENGTH)


def test_store_that_ends(tokens: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "OPENING_S", 0.1)
    with pytest.raises(MeasurementError, match="the first rank ended before it began"):
        measure.assist(tokens, pair()[1], record_length=LENGTH)


def test_ranks_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert ranks.Ranks.of_environment() is None
    monkeypatch.setenv("RANK", "0")
    assert ranks.Ranks.of_environment() is None
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(MeasurementError, match="start with torchrun, or set RANK"):
        ranks.Ranks.of_environment()


def test_silent_machine_is_noticed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        raw = socket.create_connection(server.getsockname())
        ranks._watched(raw)
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == ranks.SILENCE_S * 1000
        idle, step, count = (
            raw.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
        assert idle + step * count <= ranks.SILENCE_S
        Connection(raw.detach()).close()
