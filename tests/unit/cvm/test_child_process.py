"""Other programs: bounded in time and in what they say."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from palm_torch.cvm import child_process
from palm_torch.errors import AttesterError


def run(program: str, *, timeout_s: float = 60.0, folder: Path | None = None) -> child_process.Finished:
    command = [sys.executable, "-c", program]
    return child_process.run(command, what="tool", timeout_s=timeout_s, max_bytes=10, folder=folder)


def await_end(started: Path) -> None:
    """Waits until the process whose number a file has is gone."""
    state = Path("/proc") / started.read_text(encoding="ascii") / "stat"
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it is gone
        while state.read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z":  # or about to be
            time.sleep(0.01)


def test_what_a_program_leaves(tmp_path: Path) -> None:
    found = run("import os, sys; print(os.getcwd()[-4:]); sys.exit('no')", folder=tmp_path)
    assert (found.code, found.output, found.complaint) == (1, str(tmp_path)[-4:].encode() + b"\n", "no")


def test_the_end_of_a_long_complaint_is_kept() -> None:
    found = run("import sys; sys.stderr.write('x' * 200_000 + 'end')")
    assert (found.code, found.output) == (0, b"")
    assert len(found.complaint) == child_process.MAX_COMPLAINT_BYTES
    assert found.complaint.endswith("xend")


def test_a_program_may_fill_its_limit_and_no_more() -> None:
    assert run("print('123456789')").output == b"123456789\n"
    with pytest.raises(AttesterError, match="tool: expected at most 10 bytes of output, got more"):
        run("print('1234567890')")


def test_programs_that_hang_before_and_after_they_close_their_output() -> None:
    for program in ("import time; time.sleep(60)", "import os, time; os.close(1); time.sleep(60)"):
        with pytest.raises(AttesterError, match=r"tool: not done after 0\.4 seconds"):
            run(program, timeout_s=0.4)


def test_what_a_program_started_ends_with_it(tmp_path: Path) -> None:
    started = tmp_path / "started"
    program = (
        "import pathlib, subprocess, sys, time;"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "pathlib.Path('started').write_text(str(child.pid));"
        "print('more than ten bytes', flush=True);"
        "time.sleep(60)"
    )
    with pytest.raises(AttesterError, match="got more"):
        run(program, folder=tmp_path)
    await_end(started)


@pytest.mark.parametrize("status", [0, 3])
def test_what_a_program_left_running_ends_with_it(tmp_path: Path, status: int) -> None:
    program = (
        "import pathlib, subprocess, sys;"
        "quiet = {'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL};"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], **quiet);"
        "pathlib.Path('started').write_text(str(child.pid));"
        f"print('done'); sys.exit({status})"
    )
    found = run(program, folder=tmp_path)
    assert (found.code, found.output) == (status, b"done\n")
    await_end(tmp_path / "started")


def test_a_program_that_a_signal_ends() -> None:
    assert run("import os; os.kill(os.getpid(), 15)").code == -15


def test_an_exit_status_that_nobody_keeps() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with pytest.raises(AttesterError, match="tool: its exit status is lost: SIGCHLD must not be ignored"):
            run("print('done')")
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_a_program_that_cannot_be_started(tmp_path: Path) -> None:
    with pytest.raises(AttesterError, match="tool: cannot start /nowhere: No such file"):
        child_process.run(["/nowhere"], what="tool", timeout_s=1, max_bytes=1, folder=tmp_path)


def test_output_that_something_else_keeps_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_process, "_LAST_WORDS_S", 0.3)
    program = (
        "import pathlib, subprocess, sys;"
        "other = [sys.executable, '-c', 'import time; time.sleep(60)'];"
        "child = subprocess.Popen(other, start_new_session=True);"
        "pathlib.Path('started').write_text(str(child.pid))"
    )
    try:
        with pytest.raises(AttesterError, match=r"tool: it ended, but something .* keeps its output"):
            run(program, folder=tmp_path)
    finally:
        os.kill(int((tmp_path / "started").read_text(encoding="ascii")), signal.SIGKILL)


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_program_that_may_not_be_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of another user's, such as a program that gives itself the rights of root."""
    monkeypatch.setattr(child_process, "_LAST_WORDS_S", 0.1)
    refused: list[int] = []

    def refuse(group: int, _signal: int) -> None:
        refused.append(group)
        raise PermissionError

    monkeypatch.setattr(os, "killpg", refuse)
    try:
        with pytest.raises(AttesterError, match=r"tool: it could not be ended: process [0-9]+ still runs"):
            run("import time; time.sleep(60)", timeout_s=0.2)
    finally:
        os.kill(refused[0], signal.SIGKILL)
        os.waitpid(refused[0], 0)
        gc.collect()  # where Python warns of it
