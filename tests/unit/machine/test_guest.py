"""What the kernel shows of a trusted execution environment, and every way it may not."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Any

import boot_log
import pytest
from fake_kernel import DOORS, Machine, booted, machine

from palm_torch.cvm import kernel_files, measurements
from palm_torch.machine import finding, guest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=DOORS)
def tdx(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    with machine(request.param, tmp_path) as made:
        yield made


@pytest.fixture
def modelled(tmp_path: Path) -> Iterator[Machine]:
    with machine("stand-in", tmp_path) as made:
        yield made


def put(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


@pytest.mark.parametrize(
    ("release", "state", "detail"),
    [
        ("6.18.44-generic\n", "ok", "Linux 6.18.44-generic"),
        ("6.16.0", "ok", "Linux 6.16.0"),
        ("10.0.0", "ok", "Linux 10.0.0"),
        ("6.15.11", "ok", "Linux 6.15.11: reports, but the runtime register of TDX needs 6.16"),
        ("6.7.0", "ok", "Linux 6.7.0: reports, but the runtime register of TDX needs 6.16"),
        ("6.6.99", "missing", "Linux 6.6.99 has no configfs-tsm"),
        ("5.15.0-1050-gcp", "missing", "Linux 5.15.0-1050-gcp has no configfs-tsm"),
        ("", "problem", "no release of Linux"),
        ("Darwin", "problem", "no release of Linux"),
        ("٦.٧", "problem", "no release of Linux"),
    ],
)
def test_the_kernel(release: str, state: str, detail: str, tmp_path: Path) -> None:
    put(tmp_path / "proc/sys/kernel/osrelease", release)
    found = guest.kernel(tmp_path)
    assert (found.name, found.state, found.detail) == ("kernel", state, detail)


def test_no_linux(tmp_path: Path) -> None:
    found = guest.kernel(tmp_path)
    assert (found.state, found.advice) == ("problem", "attesting hardware needs Linux")
    assert found.detail.endswith("osrelease cannot be read: No such file or directory")


@pytest.mark.parametrize(
    ("flags", "state", "detail"),
    [
        ("fpu hypervisor tdx_guest", "ok", "runs this system as a TDX guest"),
        ("fpu hypervisor sev_snp", "ok", "knows SEV-SNP and runs this system as a guest"),
        ("fpu hypervisor", "missing", "runs this system as a guest, and shows it neither TDX nor SEV-SNP"),
        ("fpu sev_snp", "missing", "runs no hypervisor below this system: only a guest can attest itself"),
    ],
)
def test_the_processor(flags: str, state: str, detail: str, tmp_path: Path) -> None:
    put(tmp_path / "proc/cpuinfo", f"processor\t: 0\nflags\t\t: {flags}\n\nprocessor\t: 1\nflags : x\n")
    found = guest.processor(tmp_path)
    assert (found.state, found.detail) == (state, detail)


def test_another_processor(tmp_path: Path) -> None:
    assert "cannot be read" in guest.processor(tmp_path).detail
    put(tmp_path / "proc/cpuinfo", "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd\n")
    found = guest.processor(tmp_path)
    assert (found.state, found.detail) == ("problem", "/proc/cpuinfo names no x86 flags")


def test_devices(tmp_path: Path) -> None:
    put(tmp_path / "dev/tdx_guest", "")
    tdx, snp = (guest.device(tmp_path, kind) for kind in guest.DEVICES)
    assert (tdx.state, tdx.detail) == ("ok", "/dev/tdx_guest")
    assert (snp.name, snp.state) == ("AMD SEV-SNP device", "missing")
    (tmp_path / "dev/loop").symlink_to("loop")
    loop = tmp_path / "dev/loop/x"
    assert finding.absence(loop).startswith("cannot be looked at: ")


def test_a_device_that_cannot_be_looked_at(tmp_path: Path) -> None:
    (tmp_path / "dev").symlink_to("dev")
    found = guest.device(tmp_path, "tdx")
    assert (found.state, found.advice) == ("problem", "run as root")


def test_reports_are_made_by_a_driver(tdx: Machine) -> None:
    found, kind = guest.reports(tdx.root, tdx.files)
    assert (found.state, kind) == ("ok", "tdx")
    assert found.detail == "Intel TDX, made by tdx_guest below /sys/kernel/config/tsm/report"
    tdx.kernel.provider = "sev_guest"
    assert guest.reports(tdx.root, tdx.files)[1] == "snp"
    assert len(tdx.made) == 2  # and both are gone


@pytest.mark.parametrize(
    ("model", "mounts", "state", "advice"),
    [
        ({"configfs": False}, "", "missing", "mount -t configfs none /sys/kernel/config"),
        ({"configfs": False}, "configfs /sys/kernel/config configfs rw\n", "missing", "modprobe tdx_guest"),
        ({"provider": None}, "configfs /sys/kernel/config configfs rw\n", "missing", "modprobe tdx_guest"),
        ({"provider": "arm-cca"}, "", "problem", "ask for a newer palm-torch"),
    ],
)
def test_no_reports(model: dict[str, Any], mounts: str, state: str, advice: str, tmp_path: Path) -> None:
    put(tmp_path / "proc/mounts", mounts)
    with machine("stand-in", tmp_path, **model) as made:
        found, kind = guest.reports(made.root, made.files)
    assert (found.state, kind) == (state, None)
    assert found.advice.startswith(advice)


def test_reports_that_are_refused(modelled: Machine) -> None:
    modelled.kernel.failures["mkdir request"] = [errno.EACCES]
    found, kind = guest.reports(modelled.root, modelled.files)
    assert (found.state, kind) == ("problem", None)
    assert "run as root" in found.detail


def test_the_runtime_register(tdx: Machine) -> None:
    assert guest.register(tdx.root, tdx.files, "tdx").state == "ok"
    assert guest.register(tdx.root, tdx.files, "snp").state == "missing"
    tdx.kernel.register = None
    found = guest.register(tdx.root, tdx.files, "tdx")
    assert (found.state, found.advice) == ("missing", "a TDX guest with Linux 6.16 or newer has it")


def test_a_register_that_is_kept_from_us(modelled: Machine) -> None:
    modelled.kernel.register_mode = 0o444
    found = guest.register(modelled.root, modelled.files, "tdx")
    assert (found.state, found.advice) == ("problem", "let root hand that file to your user")
    modelled.kernel.failures["stat rtmr3:sha384"] = [errno.EIO]
    found = guest.register(modelled.root, modelled.files, "tdx")
    assert (found.state, found.advice) == ("problem", "run as root")
    modelled.kernel.failures["open rtmr3:sha384"] = [errno.EIO]
    assert guest.register(modelled.root, modelled.files, "tdx").state == "problem"


def test_the_boot_log(tdx: Machine) -> None:
    assert guest.boot_log(tdx.root, tdx.files, "tdx").state == "missing"
    tdx.kernel.boot_log = LOG + b"\xff" * 9
    assert guest.boot_log(tdx.root, tdx.files, "tdx").state == "ok"
    assert guest.boot_log(tdx.root, tdx.files, "snp").state == "missing"


def test_a_boot_log_that_is_kept_from_us(modelled: Machine) -> None:
    modelled.kernel.boot_log = b"log"
    modelled.kernel.failures["open CCEL"] = [errno.EACCES]
    found = guest.boot_log(modelled.root, modelled.files, "tdx")
    assert found.state == "problem"
    assert found.detail.endswith("run as root")
    modelled.kernel.failures["stat CCEL"] = [errno.EACCES]
    found = guest.boot_log(modelled.root, modelled.files, "tdx")
    assert (found.state, found.advice) == ("problem", "run as root")


def locks(root: Path, *lines: str) -> None:
    put(root / "proc/locks", "".join(f"{line}\n" for line in lines))


def test_the_lock(tmp_path: Path) -> None:
    assert "no session has held" in guest.session(tmp_path).detail
    state = tmp_path / measurements.STATE
    put(state / measurements.LOCK_NAME, "4711\n")
    status = (state / measurements.LOCK_NAME).stat()
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    assert (
        guest.session(tmp_path).detail
        == "free; the runtime register was extended 0 times since the machine started"
    )
    put(state / measurements.LOG_NAME, f"{'ab' * 48}\n{'cd' * 48}\n")
    locks(
        tmp_path,
        "",
        "1: POSIX  ADVISORY  WRITE 1 " + f"{device}:{status.st_ino} 0 EOF",
        "2: FLOCK  ADVISORY  WRITE 2 " + f"{device}:{status.st_ino + 1} 0 EOF",
        "3: FLOCK",
    )
    assert guest.session(tmp_path).state == "ok"
    locks(tmp_path, "2: FLOCK  ADVISORY  WRITE 4711 " + f"{device}:{status.st_ino} 0 EOF")
    found = guest.session(tmp_path)
    assert (found.state, found.detail) == (
        "problem",
        "process 4711 holds the runtime register, extended 2 times since the machine started",
    )


def test_a_lock_that_cannot_be_looked_at(tmp_path: Path) -> None:
    (tmp_path / "run").symlink_to("run")
    assert guest.session(tmp_path).state == "problem"


def test_odd_files_are_findings(tmp_path: Path) -> None:
    """Pipes, directories, rubbish: nothing waits, and nothing escapes."""
    for path in ("proc/cpuinfo", "proc/sys/kernel/osrelease", "proc/locks", "proc/mounts"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(tmp_path / "proc/cpuinfo")
    (tmp_path / "proc/sys/kernel/osrelease").mkdir()
    (tmp_path / "proc/locks").write_bytes(b"\xff\x00 FLOCK\n" * 3)
    (tmp_path / "proc/mounts").symlink_to("mounts")
    put(tmp_path / measurements.STATE / measurements.LOCK_NAME, "")
    assert "no regular file" in guest.processor(tmp_path).detail
    assert "cannot be read: Is a directory" in guest.kernel(tmp_path).detail or guest.kernel(
        tmp_path
    ).detail.endswith("is no regular file")
    assert guest.session(tmp_path).state == "ok"
    assert guest.reports(tmp_path, kernel_files.LINUX)[0].state == "missing"


def test_a_long_file_is_read_to_the_limit(tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(b"a" * (finding.MAX_TEXT_BYTES + 100_000))
    text, why = finding.text(tmp_path / "long")
    assert finding.MAX_TEXT_BYTES <= len(text) < finding.MAX_TEXT_BYTES + 65_536
    assert why == ""


# What is in the register ----------------------------------------------------------------------------

LOG = boot_log.log([boot_log.event(1, b"firmware"), boot_log.event(4, b"by the loader")])


def account(made: Machine, *, extendable: bool = True, kind: Any = "tdx") -> tuple[str, str]:
    found = guest.account(made.root, made.files, kind, extendable=extendable)
    assert found.name == "register's account"
    return found.state, found.detail


def state(made: Machine, mode: int = 0o755) -> Path:
    folder = made.root / measurements.STATE
    folder.mkdir(parents=True)
    folder.chmod(mode)
    return folder


def test_a_register_that_is_explained(tdx: Machine) -> None:
    assert account(tdx) == ("ok", "RTMR[3] is explained: the boot, and 0 extensions since")
    tdx.kernel.boot_log = LOG + b"\xff" * 9
    tdx.kernel.register = after_boot = booted(LOG)["rtmr3"]
    assert account(tdx)[0] == "ok"
    with contextlib.closing(
        measurements.RuntimeRegister(after_boot=after_boot, root=tdx.root, files=tdx.files)
    ) as held:
        held.extend(b"\x01" * 48)
    for extendable in (True, False):
        assert "and 1 extensions since" in account(tdx, extendable=extendable)[1]
    assert account(tdx, kind="snp")[0] == "missing"
    assert not (tdx.root / "run/palm-torch/x").exists()
    tdx.kernel.register = None
    assert account(tdx, extendable=False) == (
        "missing",
        "RTMR[3] cannot be read here; a quote shows whether its lists explain it",
    )


def test_a_register_that_nothing_explains(tdx: Machine) -> None:
    tdx.kernel.register = b"\x01" * 48
    for extendable in (True, False):
        said = account(tdx, extendable=extendable)
        assert said[0] == "problem"
        assert "something else has extended it" in said[1]


def test_a_last_line_that_was_never_carried_out(tdx: Machine) -> None:
    (state(tdx) / measurements.LOG_NAME).write_text(f"{'ab' * 48}\n")
    assert account(tdx)[0] == "ok"  # a session that may extend the register takes it back
    assert account(tdx, extendable=False) == (
        "problem",
        "the last line of the list was never carried out, and only root takes it back",
    )


@pytest.mark.parametrize("extendable", [True, False])
def test_a_list_or_boot_log_that_does_not_parse(tdx: Machine, *, extendable: bool) -> None:
    (state(tdx) / measurements.LOG_NAME).write_text("x" * 97)
    said = account(tdx, extendable=extendable)
    assert said[0] == "problem"
    assert "line 1: expected 96 hex digits" in said[1]
    (tdx.root / measurements.STATE / measurements.LOG_NAME).unlink()
    tdx.kernel.boot_log = bytes(64)
    assert "CCEL: boot log: " in account(tdx, extendable=extendable)[1]
    assert guest.boot_log(tdx.root, tdx.files, "tdx").state == "problem"


def test_a_folder_that_a_session_would_refuse(modelled: Machine) -> None:
    folder = state(modelled, 0o777)
    assert "others may write it (mode 0777)" in account(modelled)[1]
    assert account(modelled, extendable=False)[0] == "ok"
    folder.chmod(0o755)
    (folder / measurements.LOCK_NAME).mkdir()
    assert "rtmr3.lock: is not what it should be" in account(modelled)[1]
    (folder / measurements.LOCK_NAME).rmdir()
    (folder / measurements.LOG_NAME).symlink_to("elsewhere")
    assert "rtmr3.log: is not what it should be" in account(modelled)[1]
    assert account(modelled, extendable=False)[0] == "problem"


def test_a_list_that_is_a_folder_or_a_pipe(modelled: Machine) -> None:
    path = state(modelled) / measurements.LOG_NAME
    path.mkdir()
    for extendable in (True, False):
        assert account(modelled, extendable=extendable)[0] == "problem"
    path.rmdir()
    os.mkfifo(path)
    assert account(modelled)[0] == "problem"
    account(modelled, extendable=False)  # does not wait for a writer


def test_a_folder_that_cannot_be_made_or_looked_at(
    modelled: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "this user may make no files there" in account(modelled)[1]
    monkeypatch.undo()
    (modelled.root / "run").symlink_to("run")
    state_of, said = account(modelled)
    assert state_of == "problem"
    assert said.startswith("/run/palm-torch cannot be used: ")


def test_a_register_that_cannot_be_read(modelled: Machine) -> None:
    modelled.kernel.failures["open rtmr3:sha384"] = [errno.EIO] * 2
    assert account(modelled) == ("problem", "RTMR[3] cannot be read: Input/output error")
    assert account(modelled, extendable=False)[0] == "missing"
