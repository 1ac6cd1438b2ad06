"""What a verifier has accepted before: each request is answered once, each run counts once.

A verifier that forgets can be shown the same answer twice. The store is the verifier's own SQLite file,
0600, where nobody else can replace it (`palm_torch.appraisal.store_place`). A verdict is recorded before it
is told; a crash in between means that the evidence counts as seen.

A resumed run brings its earlier sessions along, and they count as its own: a session that was sealed by
itself, or that another run went on from, is not sold a second time.
"""

from __future__ import annotations

import contextlib
import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from palm_torch.appraisal import store_place
from palm_torch.digest import Digest
from palm_torch.errors import FreshnessError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_STORE_BYTES: Final = 256 << 20
"""Largest store read, about 500,000 verdicts; opening one takes some seconds."""

WAIT_S: Final = 10.0
"""How long to wait for another verifier that writes to the store."""

_APPLICATION_ID: Final = 0x504C4D53  # "PLMS"
_VERSION: Final = 2
_TABLE: Final = """CREATE TABLE accepted (
    nonce BLOB UNIQUE CHECK (nonce IS NULL OR (typeof(nonce) = 'blob' AND length(nonce) = 32)),
    digest TEXT NOT NULL UNIQUE CHECK (typeof(digest) = 'text'),
    run_id TEXT NOT NULL UNIQUE CHECK (typeof(run_id) = 'text'),
    at TEXT NOT NULL CHECK (typeof(at) = 'text')
)"""
_SESSIONS: Final = """CREATE TABLE sessions (
    session TEXT NOT NULL UNIQUE CHECK (typeof(session) = 'text'),
    run_id TEXT NOT NULL CHECK (typeof(run_id) = 'text')
)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """One piece of evidence that was accepted.

    Attributes:
        nonce: The challenge's nonce, 32 bytes; None for evidence that answers no request.
        digest: SHA-256 of the report data that the end quote seals.
        run_id: Name of the run, as sealed: that of its last session.
        earlier: Names of the sessions that it went on from.
        checks: What had passed, for the error if it was seen before.
    """

    nonce: bytes | None
    digest: Digest
    run_id: str
    earlier: tuple[str, ...] = ()
    checks: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class Store:
    """An open store; `open_store` makes it.

    Attributes:
        path: Where it is.
        new: Whether it was made just now, and so remembers nothing.
    """

    path: Path
    new: bool
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
            FreshnessError: If the request was answered before, or the run or a session of it was accepted
                before.
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
            FreshnessError: If a request was answered before, or a run or one of its sessions was accepted
                before, in this very list or by an earlier verification; it carries the item's `checks`.
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
        try:
            if found := self._find(item):
                return self._seen_before(found, item, again=again)
            sessions = tuple(dict.fromkeys((*item.earlier, item.run_id)))
            self._require_unsold(sessions)
        except FreshnessError as error:
            error.checks = item.checks
            raise
        self._connection.execute(
            "INSERT INTO accepted VALUES (?, ?, ?, ?)",
            (item.nonce, str(item.digest), item.run_id, told),
        )
        self._connection.executemany(
            "INSERT INTO sessions VALUES (?, ?)", [(session, item.run_id) for session in sessions]
        )
        return None

    def _require_unsold(self, sessions: Sequence[str]) -> None:
        """Checks that no session of a run that was never seen is part of one that was."""
        for session in sessions:
            for (run,) in self._connection.execute(
                "SELECT run_id FROM sessions WHERE session = ?", (session,)
            ).fetchall():
                raise FreshnessError(
                    f"session {session} is part of run {run}, which was accepted before ({self.path}): its "
                    "steps count once, however many runs go on from it"
                )

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
        path: The file; in a folder that only the verifier can write to, named without links.

    Raises:
        InputError: If others may write to its folder, or to one above it; if it is a link or no regular
            file, somebody else's or open to others, larger than `MAX_STORE_BYTES`, no SQLite database,
            another one, damaged, or locked for `WAIT_S`.
    """
    store_place.check_folders(path)
    store_place.check_file(path, max_bytes=MAX_STORE_BYTES)
    with _told(path):
        connection = sqlite3.connect(path.absolute(), timeout=WAIT_S, isolation_level=None)
    with contextlib.closing(connection):
        with _told(path):
            new = _prepare(connection, path)
        yield Store(path, new, connection)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turns what SQLite raises into an error that names the file."""
    try:
        yield
    except sqlite3.Error as error:
        raise InputError(f"{path}: cannot be used as a store of seen evidence: {error}") from error


def _prepare(connection: sqlite3.Connection, path: Path) -> bool:
    """Makes the tables in an empty file, or checks that they are there and whole; says whether it is new."""
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute("PRAGMA synchronous = EXTRA")
    connection.execute("BEGIN IMMEDIATE")
    try:
        schema = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        marks = tuple(
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        new = not schema and marks == (0, 0)
        if new:
            connection.execute(_TABLE)
            connection.execute(_SESSIONS)
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        elif schema != [(_TABLE,), (_SESSIONS,)] or marks != (_APPLICATION_ID, _VERSION):
            raise InputError(f"{path}: this is another kind of database, or one of another version")
        else:
            ((verdict,),) = connection.execute("PRAGMA integrity_check(1)").fetchall()
            if verdict != "ok":
                raise InputError(f"{path}: the store of seen evidence is damaged: {verdict}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    return new


def _moment(text: str, path: Path) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"{path}: the store of seen evidence is damaged: no time {text[:40]!r}") from error
