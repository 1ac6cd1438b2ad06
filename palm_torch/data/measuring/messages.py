"""What the process that measures and its workers say to each other: numbers and digests, strictly decoded.

Every message is one letter and a body of known form; nothing is ever unpickled. Table: docs/measuring.md.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from palm_torch.commit.multiset import STATE_BYTES
from palm_torch.commit.records import DIGEST_BYTES
from palm_torch.data.measuring.reading import Block, FileDigest
from palm_torch.data.measuring.units import Unit
from palm_torch.encoding import decode_json, encode_json
from palm_torch.errors import (
    DataError,
    EncodingError,
    ManifestError,
    MeasurementError,
    MissingExtraError,
    PalmTorchError,
)

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

MAX_MESSAGE_BYTES: Final = 4 << 20

# To a worker.
UNIT: Final = b"U"
FOLD: Final = b"F"
TAKEN: Final = b"T"
YOURS: Final = b"Y"
END: Final = b"E"
# From a worker.
HELLO: Final = b"H"
BLOCK: Final = b"B"
PRODUCT: Final = b"P"
DONE: Final = b"D"
FAILED: Final = b"X"

_UNIT: Final = struct.Struct(">IQQBB")
_FIRST: Final = struct.Struct(">Q")
_FINGERPRINT_BYTES: Final = 32
_SHA256_BYTES: Final = 32
_MAX_TEXT_BYTES: Final = 64 << 10
_ERRORS: Final[dict[str, type[PalmTorchError]]] = {
    kind.__name__: kind for kind in (DataError, ManifestError, MeasurementError, MissingExtraError)
}


def send(connection: Connection, letter: bytes, body: bytes = b"") -> None:
    """Sends a message.

    Raises:
        OSError: If the other side is gone.
    """
    connection.send_bytes(letter + body)


def receive(connection: Connection) -> tuple[bytes, bytes]:
    """Waits for a message; returns its letter and its body.

    Raises:
        EOFError: If the other side is gone.
        OSError: Likewise, or if a message is too long.
    """
    message = connection.recv_bytes(MAX_MESSAGE_BYTES)
    return message[:1], message[1:]


def read_hello(body: bytes) -> bytes:
    """Returns the fingerprint of what a worker opened."""
    if len(body) != _FINGERPRINT_BYTES:
        raise _malformed(HELLO, body)
    return body


def unit(one: Unit) -> bytes:
    """Returns the body of `UNIT`."""
    return _UNIT.pack(one.shard, one.first, one.count, one.hash_file, one.aside)


def read_unit(body: bytes) -> Unit:
    """Returns the unit."""
    if len(body) != _UNIT.size or max(body[-2:]) > 1:
        raise _malformed(UNIT, body)
    shard, first, count, hash_file, aside = _UNIT.unpack(body)
    return Unit(shard, first, count, bool(hash_file), bool(aside))


def block(one: Block) -> bytes:
    """Returns the body of `BLOCK`."""
    return _FIRST.pack(one.first) + one.digests


def read_block(body: bytes) -> Block:
    """Returns the block."""
    if len(body) <= _FIRST.size or (len(body) - _FIRST.size) % DIGEST_BYTES:
        raise _malformed(BLOCK, body)
    return Block(_FIRST.unpack_from(body)[0], body[_FIRST.size :])


def read_product(body: bytes) -> bytes:
    """Returns the product; whether it is in range, the multiset hash says."""
    if len(body) != STATE_BYTES:
        raise _malformed(PRODUCT, body)
    return body


def done(last: FileDigest | None) -> bytes:
    """Returns the body of `DONE`."""
    return b"" if last is None else last.sha256


def read_done(body: bytes) -> bytes | None:
    """Returns the file's SHA-256, if there is one."""
    if len(body) not in (0, _SHA256_BYTES):
        raise _malformed(DONE, body)
    return body or None


def failure(error: PalmTorchError) -> bytes:
    """Returns the body of `FAILED`."""
    text = str(error).encode("utf-8", "backslashreplace")[: _MAX_TEXT_BYTES // 8].decode("utf-8", "ignore")
    kind = next((name for name, kind in _ERRORS.items() if type(error) is kind), "DataError")
    return encode_json({"error": kind, "says": text})


def read_failure(body: bytes) -> PalmTorchError:
    """Returns the error that a worker met."""
    said = decode_json(body, what="a worker's error", max_bytes=_MAX_TEXT_BYTES)
    if not isinstance(said, dict) or said.keys() != {"error", "says"}:
        raise _malformed(FAILED, body)
    return _ERRORS.get(str(said["error"]), DataError)(str(said["says"]))


def _malformed(letter: bytes, body: bytes) -> EncodingError:
    return EncodingError(f"a message {letter!r} of measuring has {len(body)} bytes that it cannot have")
