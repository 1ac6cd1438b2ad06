"""What a verifier has accepted before: each request is answered once, each run counts once.

A verifier that forgets can be shown the same answer twice. The store is the verifier's own SQLite file,
0600, in a folder where nobody else may write: who can write there could put another file in its place, or a
journal beside it that SQLite would play back. A sticky bit stops only the first, so it does not help. A
verdict is recorded before it is told; a crash in between means that the evidence counts as seen.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from palm_torch.digest import Digest
from palm_torch.errors import FreshnessError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_STORE_BYTES: Final = 256 << 20
"""Largest store read, about 700,000 verdicts; opening one takes some seconds."""

WAIT_S: Final = 10.0
"""How long to wait for another verifier that writes to the store."""

_APPLICATION_ID: Final = 0x504C4D53  # "PLMS"
_VERSION: Final = 1
_MODE: Final = 0o600
_TABLE: Final = """CREATE TABLE accepted (
    nonce BLOB UNIQUE CHECK (nonce IS NULL OR (typeof(nonce) = 'blob' AND length(nonce) = 32)),
    digest TEXT NOT NULL UNIQUE CHECK (typeof(digest) = 'text'),
    run_id TEXT NOT NULL UNIQUE CHECK (typeof(run_id) = 'text'),
    at TEXT NOT NULL CHECK (typeof(at) = 'text')
)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """One piece of evidence that was accepted.

    Attributes:
        nonce: The challenge's nonce, 32 bytes; None for evidence that answers no request.
        digest: SHA-256 of the report data that the end quote seals.
        run_id: Name of the run, as sealed.
        checks: What had passed, for the error if it was seen before.
    """

    nonce: bytes | None
    digest: Digest
    run_id: str
    checks: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class Store:
    """An open store; `open_store` makes it.

    Attributes:
        path: Where it is.
    """

    path: Path
    _connection: sqlite3.Connection

    def check_and_record(
        self, nonce: bytes | None, digest: Digest, run_id: str, at: datetime, *, again: bool = False
    ) -> datetime | None:
        """Records one piece of evidence: `check_and_record_all` with one item.

        Args:
            nonce: See `Accepted`.
            digest: SHA-256 of the report data that the end quote seals.
            run_id: See `Accepted`.
            at: Time of verification, aware.
            again: Whether the very same evidence may be accepted once more.

        Returns:
            When the same evidence was first accepted; None if it was not seen before.

        Raises:
            FreshnessError: If the request was answered before, or the run was accepted before.
            InputError: If the store cannot be read or written, or the time has no zone.
        """
        item = Accepted(nonce=nonce, digest=digest, run_id=run_id)
        return self.check_and_record_all((item,), at, again=again)[0]

    def check_and_record_all(
        self, items: Sequence[Accepted], at: datetime, *, again: bool = False
    ) -> tuple[datetime | None, ...]:
        """Records evidence that was accepted, unless a request or a run was seen before: then nothing.

        Looking and recording are one transaction: of several verifiers at once, one wins.

        Args:
            items: What was accepted.
            at: Time of verification, aware.
            again: Whether the very same evidence may be accepted once more.

        Returns:
            For each item, when the same evidence was first accepted; None if it was not seen before.

        Raises:
            FreshnessError: If a request was answered before, or a run was accepted before, in this very list
                or by an earlier verification; it carries the item's `checks`.
            InputError: If the store cannot be read or written, or the time has no zone.
        """
        if at.utcoffset() is None:
            raise InputError(f"time of verification: expected an aware datetime, got {at!r}")
        try:
            told = at.astimezone(UTC).isoformat()
        except OverflowError as error:
            raise InputError(f"time of verification: {at!r} lies outside of the calendar") from error
        with _told(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                first = tuple(self._check_and_insert(item, told, again=again) for item in items)
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
        return first

    def _check_and_insert(self, item: Accepted, told: str, *, again: bool) -> datetime | None:
        found = self._find(item)
        if found:
            try:
                return self._seen_before(found, item, again=again)
            except FreshnessError as error:
                error.checks = item.checks
                raise
        self._connection.execute(
            "INSERT INTO accepted VALUES (?, ?, ?, ?)",
            (item.nonce, str(item.digest), item.run_id, told),
        )
        return None

    def _find(self, item: Accepted) -> list[tuple[bytes | None, str, str, str]]:
        return self._connection.execute(
            "SELECT nonce, digest, run_id, at FROM accepted WHERE nonce = ? OR digest = ? OR run_id = ?",
            (item.nonce, str(item.digest), item.run_id),
        ).fetchall()

    def _seen_before(
        self, found: list[tuple[bytes | None, str, str, str]], item: Accepted, *, again: bool
    ) -> datetime:
        for known_nonce, known_digest, known_run, known_at in found:
            when = _moment(known_at, self.path)
            if (known_nonce, known_digest, known_run) != (item.nonce, str(item.digest), item.run_id):
                answered = item.nonce is not None and known_nonce == item.nonce
                what = "request was answered" if answered else "run was seen"
                raise FreshnessError(
                    f"this {what} before, by other evidence: run {known_run} with digest {known_digest}, "
                    f"accepted at {when.isoformat()} ({self.path}); ask for a new answer to a new request"
                )
        when = _moment(found[0][3], self.path)
        if not again:
            raise FreshnessError(
                f"this very evidence was accepted before, at {when.isoformat()} ({self.path}); it counts "
                "once, unless you say that you look at it again"
            )
        return when


@contextmanager
def open_store(path: Path) -> Iterator[Store]:
    """Opens a verifier's store, making it if there is none.

    Args:
        path: The file; in a folder that only the verifier can write to.

    Raises:
        InputError: If others may write to its folder; if it is a link or no regular file, somebody else's or
            open to others, larger than `MAX_STORE_BYTES`, no SQLite database, another one, damaged, or
            locked for `WAIT_S`.
    """
    _check_folder(path)
    _check_file(path)
    with _told(path):
        connection = sqlite3.connect(path.absolute(), timeout=WAIT_S, isolation_level=None)
    with contextlib.closing(connection):
        with _told(path):
            _prepare(connection, path)
        yield Store(path, connection)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turns what SQLite raises into an error that names the file."""
    try:
        yield
    except sqlite3.Error as error:
        raise InputError(f"{path}: cannot be used as a store of seen evidence: {error}") from error


def _check_folder(path: Path) -> None:
    """Checks that nobody but this user and the superuser may write to the folder of a store."""
    folder = path.absolute().parent
    try:
        status = folder.stat()
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise _unusable(path, error) from error
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid not in (0, os.geteuid()) or mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise InputError(
            f"{path}: a store of seen evidence lies in a folder of your own where nobody else may write; got "
            f"{folder} with mode {mode:04o} of user {status.st_uid}: use another, or chmod go-w it"
        )


def _unusable(path: Path, error: OSError | ValueError) -> InputError:
    reason = getattr(error, "strerror", error)
    return InputError(f"{path}: cannot be opened as a store of seen evidence: {reason}")


def _check_file(path: Path) -> None:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, _MODE)
        try:
            status = os.fstat(descriptor)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise _unusable(path, error) from error
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or mode != _MODE:
        raise InputError(
            f"{path}: a store of seen evidence is a regular file of your own with mode 0600, "
            f"got mode {mode:04o} of user {status.st_uid}"
        )
    if status.st_size > MAX_STORE_BYTES:
        raise InputError(f"{path}: expected at most {MAX_STORE_BYTES} bytes, got {status.st_size}")


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Makes the table in an empty file; otherwise checks that it is there, alone, and whole."""
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute("PRAGMA synchronous = EXTRA")
    connection.execute("BEGIN IMMEDIATE")
    try:
        schema = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        marks = tuple(
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        if not schema and marks == (0, 0):
            connection.execute(_TABLE)
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        elif schema != [(_TABLE,)] or marks != (_APPLICATION_ID, _VERSION):
            raise InputError(f"{path}: this is another kind of database, or one of another version")
        else:
            ((verdict,),) = connection.execute("PRAGMA integrity_check(1)").fetchall()
            if verdict != "ok":
                raise InputError(f"{path}: the store of seen evidence is damaged: {verdict}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _moment(text: str, path: Path) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"{path}: the store of seen evidence is damaged: no time {text[:40]!r}") from error
