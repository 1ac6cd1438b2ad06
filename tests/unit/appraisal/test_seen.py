"""The verifier's store of what it accepted: once each, whoever asks at once, and never out of a bad file."""

from __future__ import annotations

import multiprocessing
import os
import random
import sqlite3
import stat
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from palm_torch.appraisal import seen
from palm_torch.digest import Digest, sha256_digest
from palm_torch.errors import FreshnessError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
NONCE = b"\x5a" * 32
DIGEST = sha256_digest(b"bundle")
RUN = "ab" * 16


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "seen.sqlite"


def record(
    path: Path,
    *,
    nonce: bytes | None = NONCE,
    digest: Digest = DIGEST,
    run: str = RUN,
    at: datetime = AT,
    again: bool = False,
) -> datetime | None:
    with seen.open_store(path) as store:
        return store.check_and_record(nonce, digest, run, at, again=again)


def rows(path: Path) -> list[Any]:
    with sqlite3.connect(path) as connection:
        found = connection.execute("SELECT * FROM accepted ORDER BY run_id").fetchall()
    connection.close()
    return found


def test_what_is_accepted_is_recorded_once(path: Path) -> None:
    assert record(path) is None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert rows(path) == [(NONCE, str(DIGEST), RUN, "2026-11-21T12:00:00+00:00")]


def test_the_same_evidence_again(path: Path) -> None:
    record(path, at=AT.astimezone(timezone(timedelta(hours=2))))
    with pytest.raises(FreshnessError, match=r"this very evidence was accepted before, at 2026-11-21T12:00"):
        record(path, at=AT + timedelta(days=1))
    assert record(path, at=AT + timedelta(days=1), again=True) == AT
    assert len(rows(path)) == 1


@pytest.mark.parametrize("again", [False, True])
def test_another_answer_to_the_same_request(path: Path, again: bool) -> None:  # noqa: FBT001 (a parameter)
    record(path)
    with pytest.raises(
        FreshnessError, match=f"this request was answered before, by other evidence: run {RUN}"
    ):
        record(path, digest=sha256_digest(b"another"), run="cd" * 16, again=again)
    assert len(rows(path)) == 1


@pytest.mark.parametrize("again", [False, True])
def test_the_same_run_in_another_bundle(path: Path, again: bool) -> None:  # noqa: FBT001 (a parameter)
    record(path, nonce=None)
    with pytest.raises(FreshnessError, match="this run was seen before, by other evidence"):
        record(path, nonce=None, digest=sha256_digest(b"another"), again=again)
    with pytest.raises(FreshnessError, match="this run was seen before, by other evidence"):
        record(path, nonce=NONCE, again=again)


def test_one_row_that_matches_does_not_hide_another(path: Path) -> None:
    """A store in which the digest stands with one run and the run with another digest."""
    record(path, nonce=None, run="cd" * 16)
    record(path, nonce=NONCE, digest=sha256_digest(b"another"), run="ef" * 16)
    with pytest.raises(FreshnessError, match="other evidence"):
        record(path, again=True)


def test_unchallenged_evidence_counts_by_digest_and_run(path: Path) -> None:
    record(path, nonce=None)
    record(path, nonce=None, digest=sha256_digest(b"another"), run="cd" * 16)
    with pytest.raises(FreshnessError, match="this very evidence"):
        record(path, nonce=None)
    assert len(rows(path)) == 2


def resumed(run: str, *earlier: str) -> seen.Accepted:
    return seen.Accepted(nonce=None, digest=sha256_digest(run.encode()), run_id=run, earlier=earlier)


@pytest.mark.parametrize(
    ("first", "second", "session"),
    [
        (resumed("b", "a"), resumed("c", "a"), "a"),  # both went on from one session
        (resumed("a"), resumed("b", "a"), "a"),  # it was sealed itself, too
        (resumed("b", "a"), resumed("a"), "a"),
        (resumed("c", "a", "b"), resumed("d", "a"), "a"),
        (resumed("c", "a"), resumed("d", "c"), "c"),
    ],
)
def test_a_session_counts_once(path: Path, first: seen.Accepted, second: seen.Accepted, session: str) -> None:
    with seen.open_store(path) as store:
        assert store.check_and_record_all([first], AT) == (None,)
        for again in (False, True):
            with pytest.raises(
                FreshnessError, match=f"session {session} is part of run {first.run_id}, which was accepted"
            ):
                store.check_and_record_all([second], AT, again=again)
        assert store.check_and_record_all([first], AT, again=True) == (AT,)
        assert store.check_and_record_all([resumed("e", "f", "f")], AT) == (None,)
    with seen.open_store(path) as store, pytest.raises(FreshnessError, match="session f is part of run e"):
        store.check_and_record_all([resumed("g", "f")], AT)
    assert len(rows(path)) == 2


def test_sessions_in_one_list_count_once_too(path: Path) -> None:
    with seen.open_store(path) as store, pytest.raises(FreshnessError, match="session a is part of run b"):
        store.check_and_record_all([resumed("b", "a"), resumed("c", "a")], AT)
    assert rows(path) == []


def test_a_time_without_zone_is_no_time(path: Path) -> None:
    with pytest.raises(InputError, match="aware"):
        record(path, at=AT.replace(tzinfo=None))
    assert rows(path) == []


def test_a_nonce_that_is_none_is_not_recorded(path: Path) -> None:
    with pytest.raises(InputError, match="CHECK constraint"):
        record(path, nonce=b"short")
    assert rows(path) == []
    assert record(path) is None


def test_a_name_that_sqlite_would_understand_otherwise(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    for name in (":memory:", "file:x?mode=memory"):
        record(Path(name))
        with pytest.raises(FreshnessError):
            record(Path(name))


def test_a_time_beyond_the_calendar(path: Path) -> None:
    with pytest.raises(InputError, match="calendar"):
        record(path, at=datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))))


def test_several_in_one_opening(path: Path) -> None:
    with seen.open_store(path) as store:
        assert store.check_and_record(NONCE, DIGEST, RUN, AT) is None
        with pytest.raises(FreshnessError):
            store.check_and_record(NONCE, DIGEST, RUN, AT)
        assert store.check_and_record(None, sha256_digest(b"2"), "2", AT) is None


def test_all_is_recorded_or_nothing(path: Path) -> None:
    record(path)
    old = seen.Accepted(nonce=NONCE, digest=DIGEST, run_id=RUN, checks=("passed",))
    new = seen.Accepted(nonce=None, digest=sha256_digest(b"2"), run_id="2")
    with seen.open_store(path) as store:
        with pytest.raises(FreshnessError, match="this very evidence") as caught:
            store.check_and_record_all([new, old], AT)
        assert caught.value.checks == ("passed",)
        assert len(rows(path)) == 1
        assert store.check_and_record_all([new, old], AT + timedelta(days=1), again=True) == (None, AT)
        assert store.check_and_record_all([], AT) == ()
    assert len(rows(path)) == 2


def test_twice_in_one_list(path: Path) -> None:
    first = seen.Accepted(nonce=NONCE, digest=DIGEST, run_id=RUN)
    second = seen.Accepted(nonce=NONCE, digest=sha256_digest(b"2"), run_id="2")
    with seen.open_store(path) as store, pytest.raises(FreshnessError, match="other evidence"):
        store.check_and_record_all([first, second], AT)
    assert rows(path) == []


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o1777])
def test_a_folder_where_others_may_write(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(InputError, match=f"folder of your own where nobody else may write.*mode {mode:04o}"):
        record(folder / "seen.sqlite")
    assert list(folder.iterdir()) == []
    folder.chmod(0o755)
    assert record(folder / "seen.sqlite") is None


def test_somebody_elses_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.lstat(tmp_path)
    others = os.stat_result((*real[:4], 12345, *real[5:]))
    for folder in (tmp_path, tmp_path.parent):
        monkeypatch.setattr(os, "lstat", lambda path, of=folder: others if path == of else real)
        with pytest.raises(InputError, match=rf"got {folder} with mode .* of user 12345"):
            record(tmp_path / "seen.sqlite")


def test_a_folder_above_where_others_may_write(tmp_path: Path) -> None:
    """Under /tmp others may write too, but not rename what is not theirs: the sticky bit is what counts."""
    above = tmp_path / "above"
    (above / "mine").mkdir(parents=True)
    for mode in (0o777, 0o770, 0o775):
        above.chmod(mode)
        with pytest.raises(InputError, match=f"nor in one above it; got {above} with mode {mode:04o}"):
            record(above / "mine" / "seen.sqlite")
    above.chmod(0o1777)
    assert record(above / "mine" / "seen.sqlite") is None


def test_a_folder_that_is_reached_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "real" / "below").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for place in ("link/seen.sqlite", "link/below/seen.sqlite"):
        real = (tmp_path / place).resolve()
        with pytest.raises(InputError, match=f"{tmp_path / 'link'} is one: give the path itself, {real}$"):
            record(tmp_path / place)
        assert record(real, run=place, nonce=None) is None


def test_a_store_says_whether_it_is_new(path: Path) -> None:
    for new in (True, False):
        with seen.open_store(path) as store:
            assert store.new is new


def compete(path: Path, number: int, start: Any, won: Any) -> None:
    start.wait()
    try:
        record(path, digest=sha256_digest(bytes([number])), run=str(number))
    except FreshnessError:
        return
    won.put(number)


def test_of_several_verifiers_at_once_one_wins(path: Path) -> None:
    context = multiprocessing.get_context("fork")
    start, won = context.Barrier(4), context.SimpleQueue()
    verifiers = [context.Process(target=compete, args=(path, number, start, won)) for number in range(4)]
    for verifier in verifiers:
        verifier.start()
    for verifier in verifiers:
        verifier.join(60)
    assert [verifier.exitcode for verifier in verifiers] == [0] * 4
    winner = won.get()
    assert won.empty()
    assert [row[2] for row in rows(path)] == [str(winner)]


def crash(path: Path) -> None:
    with seen.open_store(path) as store:
        store._connection.execute("BEGIN IMMEDIATE")
        store._connection.execute("INSERT INTO accepted VALUES (?, ?, ?, ?)", (NONCE, "d", RUN, "t"))
        os._exit(9)


def test_a_verifier_that_dies_before_it_recorded_has_accepted_nothing(path: Path) -> None:
    record(path, nonce=None, run="0", digest=sha256_digest(b"0"))
    died = multiprocessing.get_context("fork").Process(target=crash, args=(path,))
    died.start()
    died.join(60)
    assert died.exitcode == 9
    assert record(path) is None
    assert len(rows(path)) == 2


# files that are no store


def with_sql(*statements: str) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        with sqlite3.connect(path) as connection:
            for statement in statements:
                connection.execute(statement)
        connection.close()

    return make


def extended(*statements: str) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        record(path, nonce=None, run="0", digest=sha256_digest(b"0"))
        with_sql(*statements)(path)

    return make


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no database": (lambda path: path.write_bytes(b"seen nothing, honestly\n" * 100), "not a database"),
    "another database": (with_sql("CREATE TABLE accepted (nonce, digest, run_id, at)"), "another kind"),
    "marked, but empty": (with_sql("PRAGMA user_version = 2"), "another kind"),
    "another version": (extended("PRAGMA user_version = 1"), "another version"),
    "a trigger that forgets": (
        extended("CREATE TRIGGER t AFTER INSERT ON accepted BEGIN DELETE FROM accepted; END"),
        "another kind",
    ),
    "a second table": (extended("CREATE TABLE more (x)"), "another kind"),
    "a folder": (Path.mkdir, "cannot be opened"),
    "a pipe": (lambda path: os.mkfifo(path, 0o600), "regular file"),
    "huge": (lambda path: os.truncate(path, seen.MAX_STORE_BYTES + 1), "expected at most"),
    "open to others": (lambda path: path.chmod(0o640), "mode 0600"),
    "read-only": (lambda path: path.chmod(0o400), "mode 0600"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_no_store(path: Path, name: str) -> None:
    make, message = FILES[name]
    if name in ("huge", "open to others", "read-only"):
        record(path, nonce=None, run="0", digest=sha256_digest(b"0"))
    make(path)
    if path.is_file() and name not in ("open to others", "read-only"):
        path.chmod(0o600)
    with pytest.raises(InputError, match=rf"seen\.sqlite.*{message}"):
        record(path)


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    record(tmp_path / "real")
    path.symlink_to(tmp_path / "real")
    with pytest.raises(InputError, match=r"seen\.sqlite: cannot be opened"):
        record(path)


@pytest.mark.parametrize("place", ["missing/seen.sqlite", "a\0b"])
def test_places_where_no_store_can_be(tmp_path: Path, place: str) -> None:
    with pytest.raises(InputError, match="cannot be opened as a store"):
        record(tmp_path / place)


def test_somebody_elses_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(path)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(InputError, match="of your own"):
        record(path)


def test_a_locked_store(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(path, nonce=None, run="0", digest=sha256_digest(b"0"))
    monkeypatch.setattr(seen, "WAIT_S", 0.05)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(InputError, match=r"seen\.sqlite: cannot be used.*locked"):
        record(path)
    holder.execute("COMMIT")
    with seen.open_store(path) as store:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(InputError, match="locked"):
            store.check_and_record(NONCE, DIGEST, RUN, AT)
        holder.execute("ROLLBACK")
        assert store.check_and_record(NONCE, DIGEST, RUN, AT) is None
    holder.close()


def test_a_time_that_is_none(path: Path) -> None:
    record(path)
    with_sql("UPDATE accepted SET at = 'never'")(path)
    with pytest.raises(InputError, match="no time 'never'"):
        record(path)
    with pytest.raises(InputError, match="no time 'never'"):
        record(path, digest=sha256_digest(b"another"))


def test_a_missing_index_entry_is_seen(path: Path) -> None:
    for number in range(40):
        record(path, nonce=bytes([number]) * 32, run=str(number), digest=sha256_digest(bytes([number])))
    with_sql("PRAGMA writable_schema = ON", "CREATE TABLE copy AS SELECT * FROM accepted")(path)
    with_sql(
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_master SET rootpage = (SELECT rootpage FROM sqlite_master WHERE name = 'copy') "
        "WHERE name = 'accepted'",
        "DELETE FROM sqlite_master WHERE name = 'copy'",
    )(path)
    with pytest.raises(InputError):
        record(path)


def test_random_damage_never_accepts_by_a_foreign_error(path: Path) -> None:
    for number in range(30):
        record(path, nonce=bytes([number]) * 32, run=str(number), digest=sha256_digest(bytes([number])))
    whole = path.read_bytes()
    draw = random.Random(2026)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        at = draw.randrange(len(whole))
        damaged[at : at + draw.choice((1, 64, 900))] = draw.randbytes(draw.choice((1, 64, 900)))
        path.write_bytes(damaged)
        try:
            record(path, nonce=bytes([7]) * 32, run="7", digest=sha256_digest(bytes([7])))
        except (InputError, FreshnessError):
            refused += 1
    assert refused > 100
