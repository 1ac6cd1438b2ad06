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
import torch.distributed

from palm_torch.attesting import ranks, ranks_frames, ranks_meeting
from palm_torch.attesting.ranks import Place
from palm_torch.attesting.ranks_channel import Follower, Leader
from palm_torch.attesting.ranks_frames import Connection, Gone
from palm_torch.attesting.ranks_store import Machines
from palm_torch.errors import CoverageError, SessionError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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
        run=b"run",
        store=None,
    )


@pytest.fixture
def ends(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[object]]:
    """Returns a function that gives each of three ranks something to do, and returns what came of each."""
    folder = tmp_path_factory.mktemp("s")
    monkeypatch.setattr(ranks_meeting, "FOLDER", folder)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
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


def test_a_reason_that_utf_8_cannot_spell_reaches_all(ends: Callable[..., list[object]]) -> None:
    reason = "the block raised FileNotFoundError: data-\udcff.bin"

    def stops(follower: Follower) -> None:
        follower.meet()
        follower.stop(reason)

    spelled = "rank 1 has ended the session: the block raised FileNotFoundError: data-\\udcff.bin"
    said, _, told = ends(leads, stops, follows)
    assert spelled in str(said)
    assert spelled in str(told)

    def raises(leader: Leader) -> None:
        leader.meet()
        leader.welcome()
        leader.stop(reason)

    for told in ends(raises, follows, follows)[1:]:
        assert str(told).endswith("data-\\udcff.bin")
    first, second = met(Table())
    second.stop(reason)
    with pytest.raises(CoverageError, match=r"data-\\udcff\.bin"):
        first.exchange("x", "")


def test_one_that_is_elsewhere_is_named(ends: Callable[..., list[object]]) -> None:
    def elsewhere(follower: Follower) -> None:
        follower.meet()
        follower.agree("the first step")

    said, own, told = ends(leads, elsewhere, follows)
    assert str(said).startswith("rank 1 is at 'the first step' instead: expected all 3 ranks at the end")
    assert str(own) == str(told) == f"rank 0 has ended the session of all ranks: {said}"


def test_what_ranks_tell_at_a_point_is_looked_at_before_any_goes_on(
    ends: Callable[..., list[object]],
) -> None:
    def looks(leader: Leader) -> None:
        leader.meet()
        leader.welcome()

        def refuse(said: dict[int, list[bytes]]) -> None:
            raise CoverageError(f"rank 2 says {said[2]}")

        try:
            leader.agree("the first step", refuse)
        finally:
            for gone in (lambda: leader.agree("the end"), leader.shares, leader.welcome):
                with pytest.raises(CoverageError, match="the session of all ranks has ended"):
                    gone()

    def tells(follower: Follower) -> None:
        follower.meet()
        follower.agree("the first step", [str(follower._place.rank).encode()])

    said = ends(looks, tells, tells)
    assert said[0] == "rank 2 says [b'2']"
    assert said[1] == said[2] == "rank 0 has ended the session of all ranks: rank 2 says [b'2']"


def test_ranks_meet_where_nobody_else_can_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(ranks_meeting, "MAX_FOLDER_BYTES", 200)
    tmp_path.chmod(0o700)
    here = place(0, name=b"x" * 32)
    assert ranks_meeting.path(here, 1).parent == tmp_path / "palm-torch"
    tmp_path.chmod(0o755)
    assert ranks_meeting.path(here, 1).parent.parent == ranks_meeting.FOLDER
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "none"))
    assert ranks_meeting.path(here, 1).parent.parent == ranks_meeting.FOLDER


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
    folder = ranks_meeting.FOLDER / f"palm-torch-{os.geteuid()}"
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


def test_one_that_dribbles_does_not_make_others_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks_frames, "_GRACE_S", 0.1)
    ours, theirs = socket.socketpair()
    until = time.monotonic() + 0.1
    over = threading.Event()

    def dribble() -> None:
        theirs.sendall(struct.pack(">I", 1 << 20))
        with contextlib.suppress(OSError):
            while not over.is_set():
                theirs.sendall(b"{")

    thread = threading.Thread(target=dribble)
    monkeypatch.setattr(ranks_frames, "_PIECE_BYTES", 1)
    with ours, theirs:
        thread.start()
        try:
            with pytest.raises(Gone, match="did not answer in time"):
                Connection(ours).receive(until=until)
        finally:
            over.set()
            ours.close()
            thread.join()


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
    again = ranks.place({**ENVIRONMENT, "MASTER_ADDR": "head", "TORCHELASTIC_RESTART_COUNT": "1"})
    assert again is not None
    assert (again.run, again.name == found.name) == (found.run, False)


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
        run=b"run",
        store=None,
    )
    return Machines(here, number=1, deadline_s=deadline_s, store=store)


def met(store: Table, *, deadline_s: float = 5.0) -> list[Machines]:
    """Returns two machines that have met in a store."""
    found = [machines(number, store, deadline_s=deadline_s) for number in range(2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(Machines.meet, found))
    return found


def test_machines_exchange_what_they_have() -> None:
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda one: one.exchange("x", f"of {one._place.machine}"), met(Table())))
    assert found == [[b"of 0", b"of 1"]] * 2


def test_a_store_that_gives_back_what_nobody_gave() -> None:
    class Changes(Table):
        def get(self, key: str) -> bytes:
            return b"of 1" if key.endswith("/x/0") else super().get(key)

    first, second = met(Changes())
    second._store.set(second._key("x", 1), "of 1")
    with pytest.raises(CoverageError, match="x: torchrun's store gives back another value than this machine"):
        first.exchange("x", "of 0")


def test_a_machine_that_does_not_answer_is_named() -> None:
    first, _ = met(Table())
    first.wait_for(0.2)
    with pytest.raises(CoverageError, match="machine 1 did not answer in time: expected all 2 machines at x"):
        first.exchange("x", "")
    with pytest.raises(CoverageError, match=r"machine 1 did not answer .* the begin of the session"):
        machines(0, Table(), deadline_s=0.2).meet()


def test_a_machine_that_stops_says_why() -> None:
    first, second = met(Table())
    second.stop("rank 1 is gone")
    with pytest.raises(CoverageError, match="ended the session of all ranks: rank 1 is gone"):
        first.exchange("x", "")
    store = Table()
    early = machines(1, store, deadline_s=0.05)
    with pytest.raises(CoverageError, match="machine 0 did not answer"):
        early.meet()
    early.stop("too early")
    with pytest.raises(CoverageError, match="ended the session of all ranks: too early"):
        machines(0, store, deadline_s=0.2).meet()
    assert len(met(store)) == 2  # the next attempt is not that one


def test_what_an_earlier_attempt_left_in_the_store_is_not_heard() -> None:
    store = Table()
    for number, one in enumerate(met(store)):
        store.set(one._key("x", number), f"stale {number}")
        one.stop("the attempt before")
    with pytest.raises(CoverageError, match="machine 1 did not answer in time"):
        machines(0, store, deadline_s=0.3).meet()  # alone, with the words of the attempt before
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda one: one.exchange("x", f"now {one._place.machine}"), met(store)))
    assert found == [[b"now 0", b"now 1"]] * 2


def test_values_are_bounded() -> None:
    first, _ = met(Table())
    with pytest.raises(CoverageError, match="expected at most 8388608 bytes to exchange"):
        first.exchange("x", "a" * (9 << 20))
    with pytest.raises(CoverageError, match="have not met"):
        machines(0, Table()).exchange("x", "")
    store = Table()
    store.held[f"palm-torch/{b'run'.hex()}/1/word/1"] = bytes(5 << 20)
    with pytest.raises(CoverageError, match="expected at most 4194304 bytes"):
        machines(0, store).meet()
    with pytest.raises(CoverageError, match="torchrun keeps no store"):
        Machines(first._place, number=1, deadline_s=1)


# The process group ---------------------------------------------------------------------------------------


def group(monkeypatch: pytest.MonkeyPatch, rank: int | None, size: int = 0) -> None:
    """Makes torch say that this process is a rank of its default process group; None: there is none."""
    for name, value in (("is_initialized", rank is not None), ("get_rank", rank), ("get_world_size", size)):
        monkeypatch.setattr(torch.distributed, name, lambda value=value: value)


def test_ranks_that_step_are_in_one_process_group(monkeypatch: pytest.MonkeyPatch) -> None:
    here = place(1, world_size=2)
    group(monkeypatch, 1, 2)
    ranks.require_all(here, stepping=True)
    for rank, size in ((0, 2), (1, 3), (0, 1)):
        group(monkeypatch, rank, size)
        with pytest.raises(CoverageError, match="expected rank 1 of 2, as torchrun says"):
            ranks.require_all(here, stepping=True)
    group(monkeypatch, None)
    ranks.require_all(here, stepping=False)
    with pytest.raises(CoverageError, match="in no process group, so that each trains for itself"):
        ranks.require_all(here, stepping=True)


def test_one_process_alone_is_in_no_group_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for rank, size in ((None, 0), (0, 1)):
        group(monkeypatch, rank, size)
        ranks.Alone().check(stepping=True)
    group(monkeypatch, 0, 2)
    with pytest.raises(CoverageError, match="rank 0 of 2 that train together, and its session is of one"):
        ranks.Alone().check(stepping=False)
