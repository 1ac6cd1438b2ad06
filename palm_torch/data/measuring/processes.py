"""Worker processes of this machine: fresh interpreters that talk through a socket, without torch."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Final

from palm_torch.errors import MeasurementError

if TYPE_CHECKING:
    from collections.abc import Iterator

_RUN: Final = (
    "import sys; sys.path.append(sys.argv[1]); from palm_torch.data.measuring import worker; "
    "worker.main(int(sys.argv[2]))"
)
_ROOT: Final = Path(__file__).parents[3]
"""Where this package lies: the new interpreter shall find the same one."""
_FAREWELL_S: Final = 10


@contextlib.contextmanager
def started(count: int, setup: bytes) -> Iterator[dict[Connection, str]]:
    """Starts worker processes; they are gone when the ``with`` block ends.

    Args:
        count: How many.
        setup: Their first message, `worker.setup`.

    Yields:
        Connections to them, with a name for each.

    Raises:
        MeasurementError: If one cannot be started.
    """
    children: list[subprocess.Popen[bytes]] = []
    with contextlib.ExitStack() as stack:
        stack.callback(_end, children)
        connections: dict[Connection, str] = {}
        try:
            for number in range(1, count + 1):
                ours, theirs = socket.socketpair()
                connection = stack.enter_context(Connection(ours.detach()))
                with theirs:
                    child = _start(theirs.fileno())
                children.append(child)
                connections[connection] = f"measuring process {number} (pid {child.pid})"
                connection.send_bytes(setup)
        except OSError as error:
            raise MeasurementError(f"a measuring process cannot be started: {error}") from error
        yield connections


def _start(descriptor: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-c", _RUN, str(_ROOT), str(descriptor)]
    return subprocess.Popen(  # noqa: S603 (this interpreter, and words of our own)
        command, stdin=subprocess.DEVNULL, pass_fds=(descriptor,)
    )


def _end(children: list[subprocess.Popen[bytes]]) -> None:
    """Waits for processes whose connections are closed: they end by themselves, or are ended."""
    for child in children:
        try:
            child.wait(_FAREWELL_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
