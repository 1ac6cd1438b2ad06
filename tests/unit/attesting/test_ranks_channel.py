"""Ranks of one machine meet over a socket: who does not come, or speaks otherwise, is named to all."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from palm_torch.attesting import ranks, ranks_channel
from palm_torch.attesting.ranks import Place
from palm_torch.attesting.ranks_channel import Follower, Leader
from palm_torch.attesting.ranks_frames import Connection, Gone
from palm_torch.attesting.ranks_store import Machines
from palm_torch.errors import CoverageError, SessionError

if TYPE_CHECKING:
    from collections.abc import Callable

ENVIRONMENT = {
    "TORCHELASTIC_RUN_ID": "none",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "GROUP_RANK": "1",
    "GROUP_WORLD_SIZE": "2",
}


def place(rank: int, *, world_size: int = 3, name: bytes = b"") -> Place:
    return Place(
        rank=rank,
        world_size=world_size,
        local_rank=rank,
        local_world_size=world_size,
        machine=0,
        machines=1,
        name=name,
        store=None,
    )


@pytest.fixture
def ends(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[object]]:
    """Returns a function that gives each of three ranks something to do, and returns what came of each."""
    folder = tmp_path_factory.mktemp("s")
    monkeypatch.setattr(ranks_channel, "FOLDER", folder)
    name = secrets.token_bytes(32)

    def play(*parts: Callable[..., object], deadline_s: float = 5.0) -> list[object]:
        leader = Leader(place(0, world_size=len(parts), name=name), number=1, deadline_s=deadline_s)
        followers = [
            Follower(place(rank, world_size=len(parts), name=name), number=1, deadline_s=deadline_s)
            for rank in range(1, len(parts))
        ]
        with ThreadPoolExecutor(len(parts)) as pool:
            doing = [pool.submit(part, end) for part, end in zip(parts, [leader, *followers], strict=True)]
            found: list[object] = []
            for one in doing:
                try:
                    found.append(one.result(timeout=60))
                except CoverageError as error:
                    found.append(str(error))
        assert not list((folder / f"palm-torch-{os.geteuid()}").iterdir())
        return found

    return play


def leads(leader: Leader) -> dict[int, list[bytes]]:
    leader.meet()
    leader.welcome()
    leader.agree("the end")
    found = leader.shares()
    leader.sealed()
    return found


def follows(follower: Follower) -> str:
    follower.meet()
    follower.agree("the end")
    follower.share([b"a", memoryview(b"bc")])
    return "sealed"


def test_everybody_learns_that_it_was_sealed(ends: Callable[..., list[object]]) -> None:
    assert ends(leads, follows, follows) == [{1: [b"a", b"bc"], 2: [b"a", b"bc"]}, "sealed", "sealed"]


def test_one_that_leaves_is_named_to_all(ends: Callable[..., list[object]]) -> None:
    def leaves(follower: Follower) -> None:
        follower.meet()
        follower.close()

    said, _, told = ends(leads, leaves, follows)
    assert isinstance(said, str)
    assert said.startswith(
        "rank 1 its process has ended, or closed its session: expected all 3 ranks at the end"
    )
    assert told == f"rank 0 has ended the session of all ranks: {said}"


def test_one_that_stops_says_why(ends: Callable[..., list[object]]) -> None:
    def stops(follower: Follower) -> None:
        follower.meet()
        follower.stop("the block raised ValueError: no")

    said, _, told = ends(leads, stops, follows)
    assert "rank 1 has ended the session: the block raised ValueError: no" in str(said)
    assert "rank 1 has ended the session: the block raised ValueError: no" in str(told)


def test_one_that_is_elsewhere_is_named(ends: Callable[..., list[object]]) -> None:
    def elsewhere(follower: Follower) -> None:
        follower.meet()
        follower.agree("the first step")

    said, own, told = ends(leads, elsewhere, follows)
    assert str(said).startswith("rank 1 is at 'the first step' instead: expected all 3 ranks at the end")
    assert str(own) == str(told) == f"rank 0 has ended the session of all ranks: {said}"


def test_one_that_does_not_come_is_named_in_time(ends: Callable[..., list[object]]) -> None:
    begun = time.monotonic()
    said, _, told = ends(leads, lambda _: None, follows, deadline_s=0.5)
    assert str(said).startswith("rank 1 has not opened its session: expected all 3 ranks at the begin")
    assert str(told) == f"rank 0 has ended the session of all ranks: {said}"
    assert time.monotonic() - begun < 30


def test_a_leader_that_is_gone_is_named(ends: Callable[..., list[object]]) -> None:
    def goes(leader: Leader) -> None:
        leader.meet()
        leader.welcome()
        leader.close()

    for told in ends(goes, follows)[1:]:
        assert str(told).startswith("rank 0, which holds the session of this machine, its process has ended")
    (_, told) = ends(lambda _: None, follows, deadline_s=0.3)
    assert str(told).startswith("rank 0, which holds the session of this machine, has not opened its session")


def test_who_is_no_rank_of_the_run_is_refused(ends: Callable[..., list[object]]) -> None:
    def stranger(follower: Follower) -> None:
        path = follower._path
        with socket.socket(socket.AF_UNIX) as stream:
            while True:
                with contextlib.suppress(OSError):
                    stream.connect(str(path))
                    break
                time.sleep(0.01)
            Connection(stream).send("hello", rank=7, until=time.monotonic() + 5)
            time.sleep(0.2)

    said = ends(leads, stranger)[0]
    assert "rank 1 instead of it came rank 7 of user" in str(said)


def test_a_folder_that_others_can_enter_is_refused(ends: Callable[..., list[object]]) -> None:
    assert ends(leads, follows) == [{1: [b"a", b"bc"]}, "sealed"]
    folder = ranks_channel.FOLDER / f"palm-torch-{os.geteuid()}"
    folder.chmod(0o755)
    for said in ends(leads, follows, deadline_s=0.5):
        assert "expected a folder of user" in str(said)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "its process has ended"),
        (struct.pack(">I", 1 << 30), "sent 1073741824 bytes where at most"),
        (struct.pack(">I", 2) + b"{}", "sent what is no message: message: missing key 'kind'"),
        (struct.pack(">I", 3) + b"{ }", "not in canonical form"),
        (struct.pack(">I", 4) + b"\xff\xff\xff\xff", "not a JSON document"),
    ],
)
def test_what_is_no_message_is_refused(data: bytes, says: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(Gone, match=says):
            Connection(ours).receive(until=time.monotonic() + 5)


def test_a_message_larger_than_a_pipe_arrives_whole() -> None:
    ours, theirs = socket.socketpair()
    body = secrets.token_bytes(3 << 20)
    until = time.monotonic() + 20
    with ours, theirs:
        thread = threading.Thread(
            target=lambda: Connection(theirs).send("share", rank=1, about="x", parts=[body, b""], until=until)
        )
        thread.start()
        head, parts = Connection(ours).receive(until=until)
        thread.join()
    assert (head.kind, head.rank, head.about, parts) == ("share", 1, "x", [body, b""])


def test_a_forked_child_lets_go_of_the_connection() -> None:
    ours, theirs = socket.socketpair()
    held = Connection(ours)
    pid = os.fork()
    if not pid:
        time.sleep(5)
        os._exit(0)
    held.close()
    with theirs, pytest.raises(Gone, match="has ended"):
        Connection(theirs).receive(until=time.monotonic() + 3)
    os.kill(pid, 9)
    os.waitpid(pid, 0)


# Places --------------------------------------------------------------------------------------------------


def test_the_place_is_what_torchrun_says() -> None:
    found = ranks.place(ENVIRONMENT)
    assert found is not None
    assert (found.rank, found.world_size, found.leads, found.first, found.machine) == (3, 4, False, 2, 1)
    assert found.store == ("127.0.0.1", 29500)
    others = [
        {**ENVIRONMENT, name: value} for name, value in (("MASTER_PORT", "1"), ("TORCHELASTIC_RUN_ID", "a"))
    ]
    assert len({found.name, *(item.name for item in map(ranks.place, others) if item)}) == 3


def test_without_torchrun_a_process_is_alone() -> None:
    assert ranks.place({"RANK": "1", "WORLD_SIZE": "2"}) is None
    one = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    assert ranks.place({**ENVIRONMENT, **one, "GROUP_RANK": "0", "GROUP_WORLD_SIZE": "1"}) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"RANK": "4"},
        {"RANK": "x"},
        {"RANK": ""},
        {"RANK": "-1"},
        {"LOCAL_RANK": "2"},
        {"LOCAL_WORLD_SIZE": "4"},
        {"GROUP_RANK": "2"},
        {"WORLD_SIZE": "100000000"},
    ],
)
def test_a_place_that_cannot_be_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(SessionError, match="torchrun: expected"):
        ranks.place({**ENVIRONMENT, **wrong})


# Machines ------------------------------------------------------------------------------------------------


class Table:
    """A store in memory."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}

    def set(self, key: str, value: str) -> None:
        self.held[key] = value.encode()

    def get(self, key: str) -> bytes:
        return self.held[key]

    def check(self, keys: list[str]) -> bool:
        return all(key in self.held for key in keys)


def machines(number: int, store: Table, *, deadline_s: float = 5.0) -> Machines:
    here = Place(
        rank=number,
        world_size=2,
        local_rank=0,
        local_world_size=1,
        machine=number,
        machines=2,
        name=b"run",
        store=None,
    )
    return Machines(here, number=1, deadline_s=deadline_s, store=store)


def test_machines_exchange_what_they_have() -> None:
    store = Table()
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda number: machines(number, store).exchange("x", f"of {number}"), range(2)))
    assert found == [[b"of 0", b"of 1"]] * 2


def test_a_machine_that_does_not_answer_is_named() -> None:
    with pytest.raises(CoverageError, match="machine 1 did not answer in time: expected all 2 machines at x"):
        machines(0, Table(), deadline_s=0.2).exchange("x", "")


def test_a_machine_that_stops_says_why() -> None:
    store = Table()
    machines(1, store).stop("rank 1 is gone")
    with pytest.raises(CoverageError, match="ended the session of all ranks: rank 1 is gone"):
        machines(0, store).exchange("x", "")


def test_values_are_bounded() -> None:
    store = Table()
    with pytest.raises(CoverageError, match="expected at most 8388608 bytes to exchange"):
        machines(0, store).exchange("x", "a" * (9 << 20))
    with pytest.raises(CoverageError, match="torchrun keeps no store"):
        Machines(machines(0, store)._place, number=1, deadline_s=1)
