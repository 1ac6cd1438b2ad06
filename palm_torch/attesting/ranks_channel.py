"""The ranks of one machine, met over a Unix socket: where all have to be, and what each has measured.

The leader listens where `palm_torch.attesting.ranks_meeting` says, and takes one connection from each other
rank. From then on every wait has an end: a rank whose process ends closes its connection, one that says
nothing is given up after the deadline, and whoever notices tells all others, so that no rank waits for one
that will not come.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Final

from palm_torch.attesting import ranks_meeting
from palm_torch.attesting.ranks_frames import Connection, Gone, Head
from palm_torch.errors import CoverageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from palm_torch.attesting.ranks import Place
    from palm_torch.attesting.ranks_frames import Kind

DEADLINE_S: Final = 60.0
"""Seconds that ranks wait for one another where all have to be."""

PATIENCE: Final = 4
"""How many deadlines a follower waits for its leader, who waits for other ranks and other machines."""

_RETRY_S: Final = 0.02

BEGIN: Final = "the begin of the session"
END: Final = "the end of the session"


class Leader:
    """The end of the rank that holds the session of its machine.

    Args:
        place: Its place.
        number: Which session of the process this is.
        deadline_s: Seconds to wait for the other ranks, each time.
    """

    def __init__(self, place: Place, *, number: int, deadline_s: float = DEADLINE_S) -> None:
        self._place = place
        self._deadline_s = deadline_s
        self._others: dict[int, Connection] = {}
        self._closed = False
        self._path = ranks_meeting.path(place, number)

    def wait_for(self, deadline_s: float) -> None:
        """Sets how many seconds to wait for the other ranks from now on."""
        self._deadline_s = deadline_s

    def meet(self) -> None:
        """Waits until every other rank of the machine has come.

        Raises:
            CoverageError: If one does not, or another process came in its place.
        """
        place, until = self._place, time.monotonic() + self._deadline_s
        expected = set(range(place.first + 1, place.first + place.local_world_size))
        with ranks_meeting.listening(self._path, self._place.local_world_size) as listening:
            while missing := expected - self._others.keys():
                connection = None
                try:
                    listening.settimeout(max(until - time.monotonic(), 0.001))
                    connection = Connection(listening.accept()[0])
                    head, _ = connection.receive(until=until)
                except (OSError, Gone) as error:
                    if connection is not None:
                        connection.close()
                    raise self._stopped(min(missing), "has not opened its session", BEGIN) from error
                _, user = connection.peer()
                if user != os.geteuid() or head.kind != "hello" or head.rank not in missing:
                    connection.close()
                    raise self._stopped(
                        min(missing), f"instead of it came rank {head.rank} of user {user}", BEGIN
                    )
                self._others[head.rank] = connection

    def welcome(self) -> None:
        """Tells the others that the session has begun."""
        self._tell("welcome", "")

    def agree(self, point: str, then: Callable[[dict[int, list[bytes]]], None] = lambda _: None) -> None:
        """Waits until every rank is at a point; nobody goes on before.

        Args:
            point: The point, in words.
            then: Called in between, with what each other rank said there.

        Raises:
            CoverageError: Naming a rank that is not there, or somewhere else; and what `then` raises, when
                all other ranks have been told.
        """
        said = self._collect("ready", point)
        try:
            then(said)
        except CoverageError as error:
            self.stop(str(error))
            raise
        self._tell("go", point)

    def shares(self) -> dict[int, list[bytes]]:
        """Returns what every other rank has measured.

        Raises:
            CoverageError: As `agree`.
        """
        return self._collect("share", END)

    def sealed(self) -> None:
        """Tells the others that the run is sealed; one that is gone by now has done its part."""
        for connection in self._others.values():
            with contextlib.suppress(Gone):
                connection.send("sealed", rank=self._place.rank, until=time.monotonic() + self._deadline_s)
        self.close()

    def stop(self, reason: str) -> None:
        """Ends the session of all ranks, telling them why; those that are gone already are left out."""
        for connection in self._others.values():
            with contextlib.suppress(Gone):
                until = time.monotonic() + self._deadline_s
                connection.send("stop", rank=self._place.rank, about=reason, until=until)
        self.close()

    def close(self) -> None:
        """Closes all connections; no rank can be met any more."""
        self._closed = True
        for connection in self._others.values():
            connection.close()
        self._others.clear()

    # ------------------------------------------------------------------------------------------------------

    def _collect(self, kind: Kind, point: str) -> dict[int, list[bytes]]:
        self._require_open(point)
        until = time.monotonic() + self._deadline_s
        found: dict[int, list[bytes]] = {}
        for rank, connection in sorted(self._others.items()):
            try:
                head, parts = connection.receive(until=until)
            except Gone as error:
                raise self._stopped(rank, str(error), point) from error
            if head.kind == "stop":
                raise self._stopped(rank, f"has ended the session: {head.about}", point)
            if head.kind != kind or head.about != point:
                raise self._stopped(rank, f"is at {head.about or head.kind!r} instead", point)
            found[rank] = parts
        return found

    def _require_open(self, point: str) -> None:
        if self._closed:
            raise CoverageError(
                f"at {point}: the session of all ranks has ended, and no other rank is there: begin anew"
            )

    def _tell(self, kind: Kind, about: str) -> None:
        self._require_open(about or END)
        until = time.monotonic() + self._deadline_s
        for rank, connection in sorted(self._others.items()):
            try:
                connection.send(kind, rank=self._place.rank, about=about, until=until)
            except Gone as error:
                raise self._stopped(rank, str(error), about or END) from error

    def _stopped(self, rank: int, why: str, point: str) -> CoverageError:
        """Returns the error about a rank, after all other ranks have been told."""
        error = CoverageError(
            f"rank {rank} {why}: expected all {self._place.world_size} ranks at {point}, within "
            f"{self._deadline_s:g} seconds of each other; every rank opens palm_torch.attested(...) around "
            "the same loop, and leaves it when the loop has ended"
        )
        self.stop(str(error))
        return error


class Follower:
    """The end of a rank that follows the leader of its machine.

    Args:
        place: Its place.
        number: Which session of the process this is.
        deadline_s: Seconds that ranks wait for each other.
    """

    def __init__(self, place: Place, *, number: int, deadline_s: float = DEADLINE_S) -> None:
        self._place = place
        self._deadline_s = deadline_s
        self._path = ranks_meeting.path(place, number)
        self._leader: Connection | None = None
        self._closed = False

    def wait_for(self, deadline_s: float) -> None:
        """Sets how many seconds to wait for the other ranks from now on."""
        self._deadline_s = deadline_s

    def meet(self) -> None:
        """Finds the leader, and waits until the session has begun.

        Raises:
            CoverageError: If there is none, or it does not begin.
        """
        until = time.monotonic() + self._deadline_s
        while self._leader is None:
            if self._closed:
                raise self._lost("has ended the session", BEGIN)
            try:
                self._leader = Connection(ranks_meeting.connected(self._path))
            except OSError as error:
                if time.monotonic() > until:
                    raise self._lost("has not opened its session", BEGIN) from error
                time.sleep(_RETRY_S)
        self._say("hello", BEGIN)
        self._wait("welcome", BEGIN)

    def agree(self, point: str, parts: Sequence[bytes] = ()) -> None:
        """Waits until every rank is at a point.

        Args:
            point: The point, in words.
            parts: What is told to the leader there.

        Raises:
            CoverageError: If one is not, as the leader says, or the leader is gone.
        """
        self._say("ready", point, parts)
        self._wait("go", point)

    def share(self, parts: Sequence[bytes | memoryview]) -> None:
        """Tells the leader what was measured, and waits until it is sealed.

        Raises:
            CoverageError: If the leader refuses it, or cannot seal.
        """
        self._say("share", END, parts)
        self._wait("sealed", END)
        self.close()

    def stop(self, reason: str) -> None:
        """Ends the session of all ranks, telling the leader why."""
        if self._leader is not None:
            with contextlib.suppress(Gone):
                until = time.monotonic() + self._deadline_s
                self._leader.send("stop", rank=self._place.rank, about=reason, until=until)
        self.close()

    def close(self) -> None:
        """Closes the connection; the leader cannot be met any more."""
        self._closed = True
        if self._leader is not None:
            self._leader.close()
            self._leader = None

    # ------------------------------------------------------------------------------------------------------

    def _say(self, kind: Kind, about: str, parts: Sequence[bytes | memoryview] = ()) -> None:
        until = time.monotonic() + self._deadline_s
        try:
            connection = self._connection(about)
            connection.send(kind, rank=self._place.rank, about=about, parts=parts, until=until)
        except Gone as error:
            raise self._news(about) or self._lost(str(error), about) from error

    def _wait(self, kind: str, point: str) -> None:
        try:
            until = time.monotonic() + PATIENCE * self._deadline_s
            head, _ = self._connection(point).receive(until=until)
        except Gone as error:
            raise self._lost(str(error), point) from error
        self._check(head, kind, point)

    def _news(self, point: str) -> CoverageError | None:
        """Returns what the leader said before it closed the connection, if it said something."""
        try:
            head, _ = self._connection(point).receive(until=time.monotonic() + self._deadline_s)
            self._check(head, "", point)
        except Gone:
            return None
        except CoverageError as error:
            return error
        return None

    def _check(self, head: Head, kind: str, point: str) -> None:
        if head.kind == "stop":
            self.close()
            raise CoverageError(f"rank {head.rank} has ended the session of all ranks: {head.about}")
        if head.kind != kind:
            raise self._lost(f"is at {head.kind!r} instead", point)

    def _connection(self, point: str) -> Connection:
        if self._leader is None:
            raise self._lost("is gone", point)
        return self._leader

    def _lost(self, why: str, point: str) -> CoverageError:
        self.close()
        return CoverageError(
            f"rank {self._place.first}, which holds the session of this machine, {why}: expected it at "
            f"{point}; every rank opens palm_torch.attested(...) around the same loop, and leaves it when "
            "the loop has ended"
        )
