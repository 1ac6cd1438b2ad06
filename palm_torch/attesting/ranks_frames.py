"""One message between two ranks of a machine: canonical JSON and bytes, each with its length before it.

Nothing is unpickled. The sender is a process of the same user in the same trust domain; the limits are there
so that a confused one fails with a message.
"""

from __future__ import annotations

import os
import socket
import struct
import time
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from palm_torch import codec, escaping
from palm_torch.encoding import decode_json, encode_json
from palm_torch.errors import EncodingError, EvidenceError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

Kind: TypeAlias = Literal["hello", "welcome", "ready", "go", "share", "sealed", "stop"]

MAX_HEAD_BYTES: Final = 1 << 20
MAX_BODY_BYTES: Final = 1 << 40
MAX_PARTS: Final = 10_000
MAX_ABOUT_CHARACTERS: Final = 20_000

_LENGTH: Final = struct.Struct(">I")
_PIECE_BYTES: Final = 1 << 20
_GRACE_S: Final = 1.0
"""Seconds after the end of a wait in which what has come already is still read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a message says, and how many bytes follow it.

    Attributes:
        kind: ``hello`` and ``welcome`` when ranks meet; ``ready`` and ``go`` at each point where all have to
            be; ``share`` when a rank tells what it measured, and ``sealed`` when the leader has sealed it;
            ``stop`` when a rank ends the session for all.
        rank: Who says it.
        about: The point, or the reason.
        parts: Sizes in bytes of the parts that follow.
    """

    kind: Kind
    rank: int
    about: str
    parts: tuple[int, ...]

    def __post_init__(self) -> None:
        """Keeps each number within its limit."""
        if len(self.parts) > MAX_PARTS or not all(size >= 0 for size in self.parts):
            raise EncodingError(f"parts: expected at most {MAX_PARTS} sizes, got {len(self.parts)}")
        if sum(self.parts) > MAX_BODY_BYTES:
            raise EncodingError(f"parts: expected at most {MAX_BODY_BYTES} bytes, got {sum(self.parts)}")


class Gone(Exception):  # noqa: N818 (news for the channel, which names the rank)
    """The other end is not there, did not answer in time, or does not speak this language."""


class Connection:
    """One end of a stream of messages.

    Args:
        stream: A connected stream socket, which belongs to this object from now on.
    """

    def __init__(self, stream: socket.socket) -> None:
        self._socket = stream
        _open.add(self)

    def send(
        self,
        kind: Kind,
        *,
        rank: int,
        about: str = "",
        parts: Sequence[bytes | memoryview] = (),
        until: float,
    ) -> None:
        """Sends one message.

        Args:
            kind: As in `Head`.
            rank: As in `Head`.
            about: As in `Head`; what is too long is cut, and what UTF-8 cannot spell is escaped: the reason
                why a session ended may quote any text.
            parts: The bytes that follow.
            until: When to give up, in seconds of `time.monotonic`.

        Raises:
            Gone: If it cannot be sent by then.
        """
        sizes = tuple(memoryview(part).nbytes for part in parts)
        about = escaping.encodable(about)[:MAX_ABOUT_CHARACTERS]
        head = Head(kind=kind, rank=rank, about=about, parts=sizes)
        encoded = encode_json(codec.to_json(head))
        try:
            for part in (_LENGTH.pack(len(encoded)), encoded, *parts):
                self._socket.settimeout(max(until - time.monotonic(), 0.001))
                self._socket.sendall(part)
        except (OSError, ValueError) as error:
            raise Gone(_why(error)) from error

    def receive(self, *, until: float) -> tuple[Head, list[bytes]]:
        """Returns the next message.

        Args:
            until: When to give up, in seconds of `time.monotonic`.

        Raises:
            Gone: If there is none by then, or it is malformed.
        """
        try:
            (size,) = _LENGTH.unpack(self._read(_LENGTH.size, until))
            if size > MAX_HEAD_BYTES:
                raise Gone(f"sent {size} bytes where at most {MAX_HEAD_BYTES} were expected")
            document = decode_json(self._read(size, until), what="message", max_bytes=MAX_HEAD_BYTES)
            head = codec.from_json(Head, document, what="message", error=EvidenceError)
            return head, [self._read(part, until) for part in head.parts]
        except InputError as error:
            raise Gone(f"sent what is no message: {error}") from error
        except (OSError, ValueError) as error:
            raise Gone(_why(error)) from error

    def peer(self) -> tuple[int, int]:
        """Returns process and user at the other end, as the kernel says."""
        size = struct.calcsize("3i")
        found = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        process, user, _ = struct.unpack("3i", found)
        return process, user

    def close(self) -> None:
        """Closes this end."""
        _open.discard(self)
        self._socket.close()

    def _read(self, size: int, until: float) -> bytes:
        received = bytearray()
        while len(received) < size:
            left = until - time.monotonic()
            if left < -_GRACE_S:  # one that dribbles would always come in time
                raise TimeoutError
            self._socket.settimeout(max(left, 0.001))
            piece = self._socket.recv(min(size - len(received), _PIECE_BYTES))
            if not piece:
                raise Gone("its process has ended, or closed its session")
            received += piece
        return bytes(received)


_open: Final[weakref.WeakSet[Connection]] = weakref.WeakSet()
"""The connections of this process. A forked child, such as a loader's worker, closes its copies: as long as
one is open anywhere, nobody sees that the process which it belonged to has ended."""


def _close_here() -> None:
    for connection in list(_open):
        connection.close()


os.register_at_fork(after_in_child=_close_here)


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, TimeoutError):
        return "did not answer in time"
    if isinstance(error, (BrokenPipeError, ConnectionResetError)):
        return "its process has ended, or closed its session"
    return f"cannot be reached: {getattr(error, 'strerror', None) or error}"
