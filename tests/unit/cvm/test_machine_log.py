"""The machine's list of what extended RTMR[3]."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palm_torch.cvm import machine_log
from palm_torch.cvm.machine_log import LINE_BYTES, MachineLog
from palm_torch.errors import AttesterError

if TYPE_CHECKING:
    from pathlib import Path

DIGESTS = tuple(bytes([number]) * 48 for number in range(1, 4))
AFTER_BOOT = b"\x07" * 48


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rtmr3.log"


def written(path: Path, count: int) -> MachineLog:
    log = MachineLog(path)
    for index, digest in enumerate(DIGESTS[:count]):
        log.append(digest, count=index)
    return log


def test_what_is_written_is_read(path: Path) -> None:
    log = written(path, 3)
    assert log.read() == machine_log.read_beside(path) == machine_log.Lines(digests=DIGESTS, torn=False)
    log.keep(1)
    log.close()
    assert path.read_bytes() == DIGESTS[0].hex().encode() + b"\n"
    assert MachineLog(path).read().digests == DIGESTS[:1]


def test_a_missing_list_is_empty(path: Path) -> None:
    assert machine_log.read_beside(path).digests == ()
    assert MachineLog(path).read().digests == ()


@given(st.lists(st.binary(min_size=48, max_size=48), max_size=5), st.integers(0, LINE_BYTES - 1))
def test_a_torn_line_is_told_from_whole_ones(digests: list[bytes], rest: int) -> None:
    text = b"".join(digest.hex().encode() + b"\n" for digest in digests)
    lines = machine_log.parse(text + (b"ab" * LINE_BYTES)[:rest], path="rtmr3.log")  # type: ignore[arg-type]
    assert lines == machine_log.Lines(digests=tuple(digests), torn=bool(rest))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_register_tells_which_lines_count(path: Path, count: int) -> None:
    lines = machine_log.Lines(digests=DIGESTS[:count], torn=False)
    register = machine_log.replayed(AFTER_BOOT, DIGESTS[:count])
    assert lines.explain(AFTER_BOOT, register, path=path) == DIGESTS[:count]
    before = machine_log.replayed(AFTER_BOOT, DIGESTS[: count - 1]) if count else register
    assert lines.explain(AFTER_BOOT, before, path=path) == DIGESTS[: max(count - 1, 0)]


@pytest.mark.parametrize(
    ("digests", "torn"),
    [
        (DIGESTS[::-1], False),
        (DIGESTS[:1], False),
        (DIGESTS[1:], False),
        ((), False),
        ((*DIGESTS, *DIGESTS[:2]), False),
        ((*DIGESTS, DIGESTS[0]), True),  # half a line follows only what was carried out
    ],
)
def test_lists_that_do_not_lead_to_the_register(
    path: Path, digests: tuple[bytes, ...], *, torn: bool
) -> None:
    register = machine_log.replayed(AFTER_BOOT, DIGESTS)
    with pytest.raises(
        AttesterError, match=rf"RTMR\[3\] holds {register.hex()}.*something else has extended"
    ):
        machine_log.Lines(digests=digests, torn=torn).explain(AFTER_BOOT, register, path=path)


@pytest.mark.parametrize(
    "change", [lambda line: line.upper(), lambda line: b" " + line[1:], lambda line: line[:-1] + b" "]
)
def test_lines_that_nothing_here_writes(path: Path, change: object) -> None:
    written(path, 3)
    line = path.read_bytes()[LINE_BYTES : 2 * LINE_BYTES].replace(b"02", b"a2")
    path.write_bytes(path.read_bytes()[:LINE_BYTES] + change(line))  # type: ignore[operator]
    with pytest.raises(AttesterError, match="line 2: expected 96 hex digits, got"):
        MachineLog(path).read()
    with pytest.raises(AttesterError, match="line 2: expected 96 hex digits, got"):
        machine_log.read_beside(path)


def test_a_list_has_an_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_log, "MAX_DIGESTS", 2)
    monkeypatch.setattr(machine_log, "_MAX_BYTES", 2 * LINE_BYTES)
    log = written(path, 2)
    with pytest.raises(AttesterError, match="holds 2 digests, the most it may"):
        log.append(DIGESTS[2], count=2)
    assert log.read().digests == DIGESTS[:2]
    path.write_bytes(path.read_bytes() + b"a")
    with pytest.raises(AttesterError, match="expected at most 2 lines, got more"):
        log.read()


def test_a_line_that_could_not_be_written_whole_is_overwritten(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = written(path, 1)
    pwrite = os.pwrite
    monkeypatch.setattr(machine_log.os, "pwrite", lambda where, data, at: pwrite(where, data[:40], at))
    with pytest.raises(AttesterError, match="took 40 of 97 bytes: is its file system full"):
        log.append(DIGESTS[1], count=1)
    monkeypatch.undo()
    assert log.read() == machine_log.Lines(digests=DIGESTS[:1], torn=True)
    log.append(DIGESTS[2], count=1)
    assert log.read() == machine_log.Lines(digests=(DIGESTS[0], DIGESTS[2]), torn=False)


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (lambda log: log.append(DIGESTS[0], count=0), "could not be written"),
        (lambda log: log.keep(0), "could not be written"),
        (lambda log: log.read(), "could not be read"),
    ],
)
def test_a_file_system_that_fails(
    path: Path, monkeypatch: pytest.MonkeyPatch, operation: object, message: str
) -> None:
    log = MachineLog(path)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for name in ("pwrite", "pread", "ftruncate"):
        monkeypatch.setattr(machine_log.os, name, fail)
    with pytest.raises(AttesterError, match=rf"rtmr3\.log: {message}: No space left on device"):
        operation(log)  # type: ignore[operator]


def test_files_that_others_may_write(path: Path) -> None:
    written(path, 1)
    path.chmod(0o664)
    with pytest.raises(AttesterError, match=r"others may write it \(mode 0664\)"):
        MachineLog(path)


def test_files_of_somebody_else(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(path, 1)
    monkeypatch.setattr(machine_log.os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(AttesterError, match="belongs to user"):
        MachineLog(path)


def test_what_is_no_plain_file(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(AttesterError, match="is not what it should be"):
        MachineLog(path)


def test_links_are_not_followed(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AttesterError, match="could not be opened"):
        MachineLog(path)
    with pytest.raises(AttesterError, match="could not be opened"):
        machine_log.read_beside(path)
