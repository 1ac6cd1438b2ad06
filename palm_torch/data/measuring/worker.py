"""A worker of measuring: digests the units it is given, until there are none.

It may be another process of this machine or of another one; `main` is what a process of this machine runs.
"""

from __future__ import annotations

import contextlib
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from palm_torch.commit import multiset
from palm_torch.data import shards
from palm_torch.data.formats import table
from palm_torch.data.measuring import messages
from palm_torch.data.measuring.reading import Block, Digester, FileDigest
from palm_torch.data.measuring.units import fingerprint
from palm_torch.data.measuring.writing import NUMBER
from palm_torch.encoding import decode_json, encode_json
from palm_torch.errors import EncodingError, PalmTorchError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from palm_torch.data.measuring.units import Unit
    from palm_torch.data.shards import ShardFile

_SETUP: Final = b"S"
_MEMBERS: Final = {"path", "key", "record_length", "dtype", "format", "tensor"}


def setup(path: Path, wanted: table.Wanted, key: bytes) -> bytes:
    """Returns the first message to a process of this machine: what to open, and the record key."""
    return _SETUP + encode_json(
        {
            "path": os.fsencode(path.absolute()).hex(),
            "key": key.hex(),
            "record_length": wanted.record_length,
            "dtype": wanted.dtype,
            "format": wanted.format,
            "tensor": wanted.tensor,
        }
    )


def main(descriptor: int) -> None:
    """Runs a worker that talks through an inherited socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started it decides, and then it is gone
    with Connection(descriptor) as connection:
        try:
            letter, body = messages.receive(connection)
            if letter != _SETUP:
                raise EncodingError(f"expected a message {_SETUP!r}, got {letter!r}")
            path, wanted, key = _read_setup(body)
            with telling(connection):
                files = shards.open_all(path, wanted)
            serve(connection, files, key)
        except (EOFError, OSError, PalmTorchError):
            return  # whoever started it is gone, or was told


def serve(connection: Connection, files: Sequence[ShardFile], key: bytes) -> None:
    """Does units until it is told that there are none.

    Args:
        connection: To the process that measures.
        files: The dataset's files, open.
        key: The record key.

    Raises:
        PalmTorchError: What went wrong here; the other side was told.
        EOFError: If the other side is gone before the end.
        OSError: Likewise.
    """
    messages.send(connection, messages.HELLO, fingerprint(files, key))
    digester = Digester(files, key)
    while True:
        letter, body = messages.receive(connection)
        if letter == messages.END:
            return
        with telling(connection):
            if letter == messages.FOLD:
                messages.send(connection, messages.PRODUCT, product_of(body))
            elif letter == messages.UNIT:
                _do(connection, digester, messages.read_unit(body))
            else:
                raise EncodingError(f"expected work, got a message {letter!r}")


@contextlib.contextmanager
def telling(connection: Connection) -> Iterator[None]:
    """Tells the process that measures of an error on its way up."""
    try:
        yield
    except PalmTorchError as error:
        messages.send(connection, messages.FAILED, messages.failure(error))
        raise


def product_of(digests: bytes) -> bytes:
    """Returns the product of a block's elements: 384 bytes."""
    return multiset.product_of(digests, number=NUMBER)


def _do(connection: Connection, digester: Digester, unit: Unit) -> None:
    last: FileDigest | None = None
    for found in digester.run(unit):
        if not isinstance(found, Block):
            last = found
            continue
        messages.send(connection, messages.BLOCK, messages.block(found))
        letter, _ = messages.receive(connection)
        if letter == messages.YOURS:
            messages.send(connection, messages.PRODUCT, product_of(found.digests))
        elif letter != messages.TAKEN:
            raise EncodingError(f"expected an answer to a block, got a message {letter!r}")
    messages.send(connection, messages.DONE, messages.done(last))


def _read_setup(body: bytes) -> tuple[Path, table.Wanted, bytes]:
    said: Any = decode_json(body, what="a worker's task", max_bytes=messages.MAX_MESSAGE_BYTES)
    if not isinstance(said, dict) or said.keys() != _MEMBERS:
        raise EncodingError("a worker's task has other members than it must have")
    wanted = table.Wanted(
        said["record_length"], said["dtype"], said["format"], tensor=said["tensor"], fresh=True
    )
    return Path(os.fsdecode(bytes.fromhex(said["path"]))), wanted, bytes.fromhex(said["key"])
