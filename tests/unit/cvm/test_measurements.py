"""RTMR[3] through the kernel's measurement files: one session at a time, and every digest accounted for."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import multiprocessing
import os
import subprocess
import sys
import types
from typing import TYPE_CHECKING, Any

import pytest
from fake_kernel import DOORS, REGISTER, Machine, machine

from palm_torch.cvm import machine_log, measurements
from palm_torch.cvm.measurements import RuntimeRegister
from palm_torch.errors import AttesterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ZERO = bytes(48)
DIGESTS = tuple(bytes([number]) * 48 for number in range(1, 5))


def sha384(*parts: bytes) -> bytes:
    return hashlib.sha384(b"".join(parts)).digest()


@pytest.fixture(params=DOORS)
def td(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    with machine(request.param, tmp_path) as made:
        yield made


@pytest.fixture
def standing_in(tmp_path: Path) -> Iterator[Machine]:
    with machine("stand-in", tmp_path) as made:
        yield made


@contextlib.contextmanager
def held(made: Machine, *, after_boot: bytes = ZERO) -> Iterator[RuntimeRegister]:
    register = RuntimeRegister(
        after_boot=after_boot, root=made.root, files=made.files, patience=made.patience
    )
    try:
        yield register
    finally:
        register.close()


def state(made: Machine) -> Path:
    return made.root / measurements.STATE


def lines(made: Machine) -> list[str]:
    return (state(made) / measurements.LOG_NAME).read_text().splitlines()


def test_digests_extend_the_register_and_are_listed(td: Machine) -> None:
    with held(td) as register:
        assert register.earlier == ()
        assert register.value() == ZERO
        register.extend(DIGESTS[0])
        register.extend(DIGESTS[1])
        assert register.value() == td.kernel.register == sha384(sha384(ZERO, DIGESTS[0]), DIGESTS[1])
        assert register.earlier == ()
    assert lines(td) == [digest.hex() for digest in DIGESTS[:2]]


def test_the_next_session_knows_what_came_before(td: Machine) -> None:
    with held(td) as register:
        register.extend(DIGESTS[0])
    with held(td) as register:
        assert register.earlier == DIGESTS[:1]
        register.extend(DIGESTS[1])
        assert register.earlier == DIGESTS[:1]
    with held(td) as register:
        assert register.earlier == DIGESTS[:2]


def test_the_boot_may_have_extended_it(td: Machine) -> None:
    td.kernel.register = after_boot = sha384(b"boot")
    with held(td, after_boot=after_boot) as register:
        assert register.earlier == ()
        register.extend(DIGESTS[0])
    with held(td, after_boot=after_boot) as register:
        assert register.earlier == DIGESTS[:1]


@pytest.mark.parametrize("size", [0, 32, 47, 49, 64])
def test_digests_of_another_length(td: Machine, size: int) -> None:
    with held(td) as register, pytest.raises(AttesterError, match=f"a digest of 48 bytes, got {size}"):
        register.extend(bytes(size))
    assert td.kernel.register == ZERO
    assert lines(td) == []


def test_only_some_may_extend_it(td: Machine) -> None:
    def extendable() -> bool:
        return measurements.is_extendable(root=td.root, files=td.files)

    assert extendable()
    td.kernel.register_mode = 0o444
    assert not extendable()
    td.kernel.register_mode = 0o644
    for code in (errno.EACCES, errno.EPERM, errno.EROFS):
        td.kernel.failures["open rtmr3:sha384"] = [code]
        assert not extendable()
    td.kernel.failures["open rtmr3:sha384"] = [errno.EIO]
    with pytest.raises(
        AttesterError, match=r"rtmr3:sha384: RTMR\[3\] could not be opened: Input/output error"
    ):
        extendable()
    td.kernel.register = None
    assert not extendable()
    assert not measurements.is_extendable(root=td.root / "nowhere")


@pytest.mark.parametrize("when", ["before", "between", "while"])
def test_somebody_else_extends_it(td: Machine, when: str) -> None:
    def beside() -> None:
        td.kernel.register = sha384(td.kernel.register or b"", b"foreign")
        td.kernel.before.clear()

    def take() -> None:
        with held(td) as register:
            register.extend(DIGESTS[0])
            if when == "between":
                beside()
                with pytest.raises(AttesterError, match="something else has extended"):
                    register.value()
            if when == "while":
                td.kernel.before["write rtmr3:sha384"] = beside
                with pytest.raises(AttesterError, match="something else has extended"):
                    register.extend(DIGESTS[1])
            with pytest.raises(AttesterError, match="begin another one"):
                register.extend(DIGESTS[2])
            with pytest.raises(AttesterError, match="begin another one"):
                register.value()

    if when == "before":
        beside()
    else:
        take()
    for _ in range(2):
        with pytest.raises(AttesterError, match=r"rtmr3\.log and the boot log replay to .*start it again"):
            take()


@pytest.mark.parametrize("change", ["cut", "swapped", "more", "emptied", "edited"])
def test_a_list_that_was_changed(td: Machine, change: str) -> None:
    with held(td) as register:
        for digest in DIGESTS[:3]:
            register.extend(digest)
    first, second, third = lines(td)
    changed = {
        "cut": [first, second],
        "swapped": [second, first, third],
        "more": [first, second, third, first, second],
        "emptied": [],
        "edited": [first, second, third[:-1] + "4"],
    }[change]
    (state(td) / measurements.LOG_NAME).write_text("".join(line + "\n" for line in changed))
    with pytest.raises(AttesterError, match="something else has extended it, or the list was changed"):
        RuntimeRegister(after_boot=ZERO, root=td.root, files=td.files)
    td.kernel.register = ZERO  # the machine starts again, its list is gone
    (state(td) / measurements.LOG_NAME).unlink()
    with held(td) as register:
        assert register.earlier == ()


@pytest.mark.parametrize("step", ["open rtmr3:sha384", "write rtmr3:sha384"])
@pytest.mark.parametrize("code", [errno.EBUSY, errno.ETIMEDOUT])
def test_a_busy_register_is_waited_for(td: Machine, step: str, code: int) -> None:
    with held(td) as register:
        td.kernel.failures[step] = [code, code] if step.startswith("write") else [code]
        register.extend(DIGESTS[0])
        assert register.value() == sha384(ZERO, DIGESTS[0])
    assert td.pauses == ([0.1, 0.2] if step.startswith("write") else [0.1])


@pytest.mark.parametrize(("code", "attempts"), [(errno.EBUSY, 3), (errno.EIO, 1), (errno.EINVAL, 1)])
def test_a_refused_extension_changes_nothing(td: Machine, code: int, attempts: int) -> None:
    with held(td) as register:
        register.extend(DIGESTS[0])
        td.kernel.failures["write rtmr3:sha384"] = [code] * attempts
        with pytest.raises(AttesterError, match=rf"RTMR\[3\] could not be extended: {os.strerror(code)}"):
            register.extend(DIGESTS[1])
        assert len(td.pauses) == attempts - 1
        assert lines(td) == [DIGESTS[0].hex()]
        register.extend(DIGESTS[2])  # the session can go on
        assert register.value() == td.kernel.register
    with held(td) as register:
        assert register.earlier == (DIGESTS[0], DIGESTS[2])


def test_an_extension_that_is_reported_to_fail_but_happened(
    standing_in: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing = standing_in.files.write

    def write(path: Path, data: bytes) -> int:
        writing(path, data)
        raise OSError(errno.EIO, "Input/output error")

    with held(standing_in) as register:
        monkeypatch.setattr(standing_in.files, "write", write)
        register.extend(DIGESTS[0])
        assert register.value() == sha384(ZERO, DIGESTS[0])


@pytest.mark.parametrize(
    ("taken", "message"), [(48, "the kernel took the bytes and did nothing"), (20, "20 of 48 bytes taken")]
)
def test_a_kernel_that_does_nothing(
    standing_in: Machine, monkeypatch: pytest.MonkeyPatch, taken: int, message: str
) -> None:
    with held(standing_in) as register:
        monkeypatch.setattr(standing_in.files, "write", lambda _path, _data: taken)
        with pytest.raises(AttesterError, match=message):
            register.extend(DIGESTS[0])
    assert lines(standing_in) == []


def test_a_list_that_cannot_be_written_leaves_the_register(
    td: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with held(td) as register:
        with monkeypatch.context() as patched:
            patched.setattr(machine_log.os, "pwrite", full)
            with pytest.raises(AttesterError, match="No space left on device"):
                register.extend(DIGESTS[0])
        assert register.value() == ZERO
        register.extend(DIGESTS[1])
    assert lines(td) == [DIGESTS[1].hex()]


class Crash(BaseException):
    """The process is gone, at some point inside an extension."""


def crash(*_: object) -> None:
    raise Crash


def crash_after(operation: Callable[..., Any]) -> Callable[..., Any]:
    def run(*arguments: Any) -> None:
        operation(*arguments)
        crash()

    return run


def half_written(where: int, data: bytes, at: int) -> int:
    return os.pwrite(where, data[:50], at)


@pytest.mark.parametrize(
    ("point", "survives"),
    [("before the line", False), ("in the line", False), ("before the extension", False), ("after it", True)],
)
def test_a_crash_at_any_point_is_made_good(
    standing_in: Machine, monkeypatch: pytest.MonkeyPatch, point: str, *, survives: bool
) -> None:
    write = standing_in.files.write
    place, operation, cut_short = {
        "before the line": (machine_log.os, "pwrite", crash),
        "in the line": (machine_log.os, "pwrite", crash_after(half_written)),
        "before the extension": (standing_in.files, "write", crash),
        "after it": (standing_in.files, "write", crash_after(write)),
    }[point]
    with held(standing_in) as register:
        register.extend(DIGESTS[0])
        with monkeypatch.context() as patched:
            crashing = types.SimpleNamespace(**(vars(os) | {operation: cut_short}))
            if place is machine_log.os:
                patched.setattr(machine_log, "os", crashing)  # half_written needs the real one
            else:
                patched.setattr(place, operation, cut_short)
            with pytest.raises(Crash):
                register.extend(DIGESTS[1])
        with pytest.raises(AttesterError, match="an extension was interrupted"):
            register.extend(DIGESTS[2])  # whoever caught it goes no further
    expected = DIGESTS[: 1 + survives]
    with held(standing_in) as register:
        assert register.earlier == expected
        assert register.value() == machine_log.replayed(ZERO, expected)
        register.extend(DIGESTS[3])
    assert lines(standing_in) == [digest.hex() for digest in (*expected, DIGESTS[3])]


@pytest.mark.parametrize("value", [b"", bytes(47), bytes(49)])
def test_a_register_of_another_length(td: Machine, value: bytes) -> None:
    td.kernel.register = value
    with pytest.raises(AttesterError, match=r"rtmr3:sha384: expected 48 bytes, got \d"):
        RuntimeRegister(after_boot=ZERO, root=td.root, files=td.files)


def test_a_register_that_cannot_be_read(td: Machine) -> None:
    td.kernel.failures["read rtmr3:sha384"] = [errno.EIO]
    with pytest.raises(AttesterError, match=r"RTMR\[3\] could not be read: Input/output error"):
        RuntimeRegister(after_boot=ZERO, root=td.root, files=td.files)
    with held(td) as register:  # and the lock was given back
        assert register.value() == ZERO


def test_closing_gives_it_back_once(td: Machine) -> None:
    with held(td) as first:
        first.close()
        with held(td) as second:
            first.close()
            second.extend(DIGESTS[0])
        for operation in (first.value, lambda: first.extend(DIGESTS[0])):
            with pytest.raises(AttesterError, match="has given it back"):
                operation()


def test_one_session_at_a_time_in_one_process(td: Machine) -> None:
    with held(td), pytest.raises(AttesterError, match=f"one session at a time.*process {os.getpid()} has it"):
        RuntimeRegister(after_boot=ZERO, root=td.root, files=td.files)
    with held(td):
        pass


HOLDER = """
import sys
from pathlib import Path
from palm_torch.cvm.measurements import RuntimeRegister
register = RuntimeRegister(after_boot=bytes(48), root=Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_another_process_has_it(tmp_path: Path) -> None:
    file = tmp_path / measurements.REGISTER
    file.parent.mkdir(parents=True)
    file.write_bytes(ZERO)
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(AttesterError, match=rf"process {holder.pid} has it .*{measurements.LOCK_NAME}"):
            RuntimeRegister(after_boot=ZERO, root=tmp_path)
        holder.kill()
    RuntimeRegister(after_boot=ZERO, root=tmp_path).close()  # a killed process holds nothing


def in_fork(register: RuntimeRegister, told: Any) -> None:
    try:
        register.extend(DIGESTS[0])
    except AttesterError as error:
        told.put(str(error))
    register.close()


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_a_forked_process_has_no_part_in_it(standing_in: Machine) -> None:
    context = multiprocessing.get_context("fork")
    told = context.Queue()
    with held(standing_in) as register:
        child = context.Process(target=in_fork, args=(register, told))
        child.start()
        assert "a copy in a forked process" in told.get(timeout=60)
        child.join(60)
        assert child.exitcode == 0
        with pytest.raises(AttesterError, match="one session at a time"):
            RuntimeRegister(after_boot=ZERO, root=standing_in.root, files=standing_in.files)
        register.extend(DIGESTS[0])
        assert register.value() == standing_in.kernel.register


def test_a_fork_that_lets_go_leaves_the_lock(standing_in: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    with held(standing_in) as register:
        copy = os.dup(register._lock._descriptor)
        with monkeypatch.context() as forked:
            forked.setattr(measurements.os, "getpid", lambda: -1)
            register.close()
        with pytest.raises(AttesterError, match="one session at a time"):
            RuntimeRegister(after_boot=ZERO, root=standing_in.root, files=standing_in.files)
        os.close(copy)


def test_a_holder_without_a_name(td: Machine) -> None:
    with held(td):
        (state(td) / measurements.LOCK_NAME).write_bytes(b"")
        with pytest.raises(AttesterError, match="process unknown has it"):
            RuntimeRegister(after_boot=ZERO, root=td.root, files=td.files)


@pytest.mark.parametrize("name", ["open", "flock", "ftruncate"])
def test_a_lock_that_cannot_be_taken(
    standing_in: Machine, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    where = measurements.fcntl if name == "flock" else measurements.os
    with monkeypatch.context() as patched:
        patched.setattr(where, name, fail)
        with pytest.raises(AttesterError, match=r"rtmr3\.lock: .*could not be locked: Read-only file system"):
            RuntimeRegister(after_boot=ZERO, root=standing_in.root, files=standing_in.files)
    with held(standing_in):
        pass


def test_a_state_folder_that_others_may_write(td: Machine) -> None:
    state(td).mkdir(parents=True)
    state(td).chmod(0o777)
    with pytest.raises(AttesterError, match="others may write it"):
        RuntimeRegister(after_boot=ZERO, root=td.root, files=td.files)


def test_the_lock_cannot_be_held_by_who_may_only_read(td: Machine) -> None:
    with held(td):
        assert (state(td) / measurements.LOCK_NAME).stat().st_mode & 0o777 == 0o600
        assert (state(td) / measurements.LOG_NAME).stat().st_mode & 0o022 == 0


def test_the_model_refuses_what_the_kernel_refuses(td: Machine) -> None:
    path = td.root / "sys" / REGISTER.lstrip("/")
    for data in (b"", bytes(47)):
        with pytest.raises(OSError, match="Invalid argument"):
            td.files.write(path, data) or td.kernel.open(REGISTER, writing=True).write(data, 0)
    assert td.files.write(path, bytes(64)) == 48  # the file has 48 bytes: that is all the kernel looks at


def one_session(made: Machine) -> Iterator[RuntimeRegister]:
    """Opens, extends twice and closes; yields the session as soon as the caller has it."""
    register = RuntimeRegister(after_boot=ZERO, root=made.root, files=made.files, patience=made.patience)
    yield register
    for digest in DIGESTS[:2]:
        register.extend(digest)
    register.close()


def interrupted(made: Machine, at: int) -> tuple[bool, list[RuntimeRegister]]:
    """Runs a session that is interrupted at its N-th line of code; tells whether it has so many."""
    watched = {measurements.__file__, machine_log.__file__}
    left = at

    def trace(frame: types.FrameType, event: str, _: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in watched:
            return None
        left -= event == "line"
        if event == "line" and left == 0:
            raise KeyboardInterrupt
        return trace

    had: list[RuntimeRegister] = []
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        had.extend(one_session(made))
    except KeyboardInterrupt:
        return True, had
    finally:
        sys.settrace(before)
    return False, had


def test_an_interrupt_anywhere_leaves_the_next_session_the_lock(tmp_path: Path) -> None:
    at, more = 0, True
    while more:
        at += 1
        folder = tmp_path / str(at)
        folder.mkdir(mode=0o755)
        with machine("stand-in", folder) as made:
            more, had = interrupted(made, at)
            for register in had:
                register.close()
            with held(made) as following:
                following.extend(DIGESTS[2])
    assert at > 100


def test_a_session_whose_closing_was_interrupted_extends_nothing(standing_in: Machine) -> None:
    with held(standing_in) as register:
        register.close()
        register.close()
        with pytest.raises(AttesterError, match="has given it back"):
            register.extend(DIGESTS[0])
