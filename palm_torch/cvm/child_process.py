"""Running another program that may hang, talk without end or die: bounded in time and in bytes.

The program gets no input and a process group of its own, which is killed at its end, good or bad: what it
started ends with it. A child that leaves the group (``setsid``, ``setpgid``) escapes that.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final, cast

from palm_torch.deadlines import Deadline
from palm_torch.errors import AttesterError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MAX_COMPLAINT_BYTES: Final = 4096
"""How much of a program's standard error is kept, from its end, in bytes."""

_CHUNK_BYTES: Final = 65_536
_LAST_WORDS_S: Final = 5.0
_LOOK_AGAIN_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class Finished:
    """What a program left.

    Attributes:
        code: Its exit status; negative for the signal that ended it.
        output: All it wrote to its standard output.
        complaint: The end of what it wrote to its standard error, for messages.
    """

    code: int
    output: bytes
    complaint: str


def run(
    command: Sequence[str], *, what: str, timeout_s: float, max_bytes: int, folder: Path | None = None
) -> Finished:
    """Runs a program to its end, and ends what it has left running in its process group.

    Args:
        command: The program, an absolute path, and its arguments; no shell is asked.
        what: Name of the program, for messages.
        timeout_s: How long it may take, in seconds.
        max_bytes: How much it may write to its standard output, in bytes.
        folder: Its working directory; None for this process's.

    Raises:
        AttesterError: If it cannot be started, takes longer or writes more, or its exit status cannot be had;
            it has been killed then.
    """
    try:
        process = subprocess.Popen(  # noqa: S603 (fixed arguments, and a program that the caller names)
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            start_new_session=True,
        )
    except OSError as error:
        raise AttesterError(f"{what}: cannot start {command[0]}: {error.strerror}") from error
    # both are pipes, as asked for above
    output = _Reader(cast("IO[bytes]", process.stdout), max_bytes + 1)
    complaint = _Reader(cast("IO[bytes]", process.stderr), None)
    try:
        _await_end(process.pid, Deadline.after(timeout_s), output, max_bytes)
    except TimeoutError as error:
        raise AttesterError(f"{what}: not done after {timeout_s:g} seconds") from error
    except ChildProcessError as error:
        raise AttesterError(f"{what}: its exit status is lost: SIGCHLD must not be ignored") from error
    finally:
        # not waited for yet, so that the number is nobody else's; a program of another user may not be ended
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        code = _status(process, what)
        ended = output.join(_LAST_WORDS_S)
        complaint.join(_LAST_WORDS_S)
    if len(output.data) > max_bytes:
        raise AttesterError(f"{what}: expected at most {max_bytes} bytes of output, got more")
    if not ended:
        raise AttesterError(f"{what}: it ended, but something that it started keeps its output open")
    return Finished(code, bytes(output.data), complaint.text())


def _await_end(pid: int, deadline: Deadline, output: _Reader, max_bytes: int) -> None:
    """Waits until a process has ended or has said too much, and leaves its number to it."""
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        if len(output.data) > max_bytes:
            return
        time.sleep(min(_LOOK_AGAIN_S, deadline.remaining()))


def _status(process: subprocess.Popen[bytes], what: str) -> int:
    try:
        return process.wait(_LAST_WORDS_S)
    except subprocess.TimeoutExpired as error:
        raise AttesterError(f"{what}: it could not be ended: process {process.pid} still runs") from error


class _Reader:
    """Reads a pipe in a thread of its own: to a limit, or to the end keeping the last of it."""

    def __init__(self, stream: IO[bytes], limit: int | None) -> None:
        self.data = bytearray()
        self._stream, self._limit = stream, limit
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def join(self, seconds: float) -> bool:
        """Waits for the end of what there is to read; returns whether it came."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def text(self) -> str:
        return self.data.decode("utf-8", "replace").strip()

    def _read(self) -> None:
        with self._stream as stream:
            while chunk := os.read(stream.fileno(), _CHUNK_BYTES):
                self.data += chunk
                if self._limit is None:
                    del self.data[:-MAX_COMPLAINT_BYTES]
                elif len(self.data) >= self._limit:
                    return
