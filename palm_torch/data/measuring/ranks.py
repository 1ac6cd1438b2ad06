"""Measuring with processes on several machines that see one folder, started by torchrun.

The first rank gives the work out and writes the manifest; the others connect to it and digest. They find
each other through torchrun's own store; what they send each other afterwards goes through connections of
their own (`palm_torch.data.measuring.messages`). Nothing in them is secret but the token that keeps strangers
out, and nothing protects them on their way: use a network that you trust as much as the machines.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import re
import secrets
import socket
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Final, Protocol

from palm_torch.data.measuring import processes
from palm_torch.deadlines import Deadline
from palm_torch.errors import MeasurementError

if TYPE_CHECKING:
    from collections.abc import Iterator


MEETING_S: Final = 60
"""How long the first rank waits for the others once it has opened the dataset."""
OPENING_S: Final = 6 * 3600
"""How long the others wait for the first rank to open it: an index over a large file takes its time."""
SILENCE_S: Final = 30
"""After how long without an answer of its machine a rank is taken for gone."""

_TOKEN_BYTES: Final = 32
_RANK_BYTES: Final = 4
_PLACE: Final = re.compile(rb"([1-9][0-9]{0,4}):([0-9a-f]{64})")


def are_there() -> bool:
    """Returns whether torchrun started this process as one of several."""
    return "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1"


class Store(Protocol):
    """What is asked of torch's store."""

    def set(self, key: str, value: str, /) -> None:
        """Leaves a value."""

    def get(self, key: str, /) -> bytes:
        """Returns a value that is there."""

    def wait(self, keys: list[str], timeout: timedelta, /) -> None:
        """Waits for values."""


@dataclass(slots=True)
class Ranks:
    """The processes that share the work.

    Attributes:
        rank: Number of this one; 0 is the first.
        size: How many there are.
        store: Where they find each other.
        host: Address of the first rank's machine.
    """

    rank: int
    size: int
    store: Store
    host: str
    _datasets: int = field(default=0, repr=False)

    @classmethod
    def of_environment(cls) -> Ranks | None:
        """Returns the ranks that torchrun started this process among; None if it did not, or alone.

        Raises:
            MeasurementError: If the environment names ranks that cannot be met.
        """
        if not are_there():
            return None
        from torch.distributed.rendezvous import (  # noqa: PLC0415 (torch takes seconds; only ranks need it)
            rendezvous,
        )

        try:
            store, rank, size = next(iter(rendezvous("env://", timeout=timedelta(seconds=MEETING_S))))
            return cls(rank, size, store, os.environ["MASTER_ADDR"])
        except (KeyError, RuntimeError, ValueError, OSError) as error:
            raise MeasurementError(
                f"the other ranks cannot be found: {error}: start with torchrun, or set RANK, WORLD_SIZE, "
                "MASTER_ADDR and MASTER_PORT"
            ) from error

    @contextlib.contextmanager
    def gathered(self, setup: bytes) -> Iterator[dict[Connection, str]]:
        """Waits, as the first rank, for the others; a process beside this one does this rank's share.

        Args:
            setup: As for `processes.started`.

        Raises:
            MeasurementError: If some do not come.
        """
        token = secrets.token_bytes(_TOKEN_BYTES)
        with contextlib.ExitStack() as stack:
            connections = dict(stack.enter_context(processes.started(1, setup)))
            try:
                server = stack.enter_context(socket.create_server((self.host, 0), family=self._family()))
                self.store.set(self._key(), f"{server.getsockname()[1]}:{token.hex()}")
                missing = set(range(1, self.size))
                deadline = Deadline.after(MEETING_S)
                while missing:
                    rank, connection = _admitted(server, token, deadline)
                    if rank in missing:
                        missing.remove(rank)
                        connections[stack.enter_context(connection)] = f"rank {rank}"
            except (TimeoutError, OSError, RuntimeError) as error:
                raise MeasurementError(
                    f"only {len(connections)} of {self.size} ranks met at {self.host} within {MEETING_S} s: "
                    f"{error}: look for what the others say, and whether they reach that address"
                ) from error
            yield connections

    @contextlib.contextmanager
    def joined(self) -> Iterator[Connection]:
        """Connects, as another rank, to the first.

        Raises:
            MeasurementError: If it cannot be reached, or ends before the work is done.
        """
        port, token = self._place()
        try:
            raw = socket.create_connection((self.host, port), timeout=MEETING_S)
            _watched(raw)
            raw.sendall(token + self.rank.to_bytes(_RANK_BYTES, "big"))
            with Connection(raw.detach()) as connection:
                yield connection
        except (EOFError, OSError) as error:
            raise MeasurementError(
                f"rank {self.rank}: the first rank ended before the work was done; it says why"
            ) from error

    def give_up(self) -> None:
        """Tells ranks that wait for the first one, if this is it, that it will not come."""
        if self.rank == 0:
            with contextlib.suppress(RuntimeError, OSError):  # nobody is left to be told
                self.store.set(self._key(), "given up")

    def _place(self) -> tuple[int, bytes]:
        """Waits for the first rank to say at which port it listens, and returns that and the token."""
        key = self._key()
        try:
            self.store.wait([key], timedelta(seconds=OPENING_S))
            said = self.store.get(key)
        except (RuntimeError, OSError) as error:
            raise MeasurementError(f"rank {self.rank}: the first rank ended before it began") from error
        place = _PLACE.fullmatch(said)
        if place is None:
            raise MeasurementError(f"rank {self.rank}: the first rank gave up before it began; it says why")
        return int(place[1]), bytes.fromhex(place[2].decode())

    def _key(self) -> str:
        """Returns the name under which the ranks meet for the next dataset."""
        self._datasets += 1
        return f"palm-torch/measure/{self._datasets}"

    def _family(self) -> socket.AddressFamily:
        return socket.getaddrinfo(self.host, 0, type=socket.SOCK_STREAM)[0][0]


def _admitted(server: socket.socket, token: bytes, deadline: Deadline) -> tuple[int, Connection]:
    """Waits for the next rank that shows the token; others are turned away."""
    while True:
        server.settimeout(deadline.remaining())
        raw, _ = server.accept()
        raw.settimeout(min(deadline.remaining(), 5))
        with contextlib.suppress(OSError):
            said = raw.recv(_TOKEN_BYTES + _RANK_BYTES, socket.MSG_WAITALL)
            if hmac.compare_digest(said[:_TOKEN_BYTES], token) and len(said) == _TOKEN_BYTES + _RANK_BYTES:
                _watched(raw)
                return int.from_bytes(said[_TOKEN_BYTES:], "big"), Connection(raw.detach())
        raw.close()


def _watched(raw: socket.socket) -> None:
    """Lets the kernel end a connection whose other machine is silent."""
    raw.settimeout(None)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENCE_S // 3)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, SILENCE_S // 6)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_S * 1000)
