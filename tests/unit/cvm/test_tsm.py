"""Reports through configfs-tsm, asked of a model of the kernel."""

from __future__ import annotations

import errno
import signal
from typing import TYPE_CHECKING, Any

import pytest
from fake_kernel import DOORS, MAX_BLOB_BYTES, REPORTS, Machine, machine

from palm_torch.cvm import tsm
from palm_torch.errors import AttesterError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ASKED = bytes(range(64))


def echo(inblob: bytes) -> bytes:
    return b"report over " + inblob


@pytest.fixture(params=DOORS)
def tdx(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    with machine(request.param, tmp_path, report=echo) as made:
        yield made


@pytest.fixture
def standing_in(tmp_path: Path) -> Iterator[Machine]:
    with machine("stand-in", tmp_path, report=echo) as made:
        yield made


def ask(made: Machine, **options: Any) -> tsm.TsmReport:
    options = {"provider": "tdx_guest", "patience": made.patience} | options
    return tsm.request_report(ASKED, root=made.root, files=made.files, **options)


def test_a_report_comes_out_and_nothing_is_left(tdx: Machine) -> None:
    assert ask(tdx) == ask(tdx) == tsm.TsmReport(outblob=echo(ASKED), auxblob=b"")
    first, second = tdx.made
    assert first != second
    assert first.startswith("palm-torch-")
    assert tdx.pauses == []


def test_certificates_come_with_the_report(tdx: Machine) -> None:
    tdx.kernel.provider = "sev_guest"
    assert ask(tdx, provider="sev_guest").auxblob == b""
    tdx.kernel.certificates = bytes(5000)
    assert ask(tdx, provider="sev_guest") == tsm.TsmReport(outblob=echo(ASKED), auxblob=bytes(5000))


def test_the_largest_report_comes_out_whole(tdx: Machine) -> None:
    tdx.kernel.report = lambda _: bytes(MAX_BLOB_BYTES)
    assert len(ask(tdx).outblob) == MAX_BLOB_BYTES


@pytest.mark.parametrize("size", [0, 32, 63, 65, 128])
def test_report_data_of_another_length(tdx: Machine, size: int) -> None:
    with pytest.raises(AttesterError, match=f"report data: expected 64 bytes, got {size}"):
        tsm.request_report(bytes(size), provider="tdx_guest", root=tdx.root, files=tdx.files)
    assert tdx.made == []


def test_another_provider_is_refused_before_anything_is_written(tdx: Machine) -> None:
    tdx.kernel.provider = "arm_cca_guest"
    with pytest.raises(AttesterError, match="expected the provider 'tdx_guest', got 'arm_cca_guest'"):
        ask(tdx)
    assert len(tdx.made) == 1


STEPS = ["mkdir request", "open provider", "read provider", "open inblob", "write inblob", "read outblob"]


@pytest.mark.parametrize("step", [*STEPS, "read generation"])
@pytest.mark.parametrize("code", sorted(tsm.TRANSIENT_ERRORS))
def test_errors_that_pass_are_waited_for(tdx: Machine, step: str, code: int) -> None:
    tdx.kernel.failures[step] = [code, code]
    assert ask(tdx).outblob == echo(ASKED)
    assert tdx.pauses in ([0.1, 0.2], [])  # Python itself repeats what a signal interrupted
    assert bool(tdx.pauses) or code == errno.EINTR
    assert len(tdx.made) == (1 if step == "mkdir request" else 1 + len(tdx.pauses))


@pytest.mark.parametrize("code", sorted(tsm.TRANSIENT_ERRORS - {errno.EINTR}))
def test_patience_ends(tdx: Machine, code: int) -> None:
    tdx.kernel.failures["read outblob"] = [code] * 9
    with pytest.raises(AttesterError, match=rf"outblob: .*does not give a report.*{errno.errorcode[code]}"):
        ask(tdx)
    assert len(tdx.made) == 3


def test_signals_without_end(standing_in: Machine) -> None:
    standing_in.kernel.failures["read outblob"] = [errno.EINTR] * 9
    with pytest.raises(AttesterError, match="signals kept interrupting"):
        ask(standing_in)
    assert len(standing_in.made) == 3


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.EIO, "dmesg"),
        (errno.EFBIG, "larger than this kernel can hand over"),
        (errno.EINVAL, "refuses the request"),
        (errno.EACCES, "run as root"),
        (errno.EPERM, "run as root"),
        (errno.EROFS, "mounted read only"),
        (errno.ENXIO, "modprobe tdx_guest"),
        (errno.ENOMEM, "dmesg"),
    ],
)
@pytest.mark.parametrize("step", [*STEPS, "read generation"])
def test_other_errors_are_final(tdx: Machine, step: str, code: int, advice: str) -> None:
    tdx.kernel.failures[step] = [code]
    name = "palm-torch-.*" if step == "mkdir request" else step.rpartition(" ")[2]
    with pytest.raises(AttesterError, match=f"{name}: .*{errno.errorcode[code]}.*{advice}"):
        ask(tdx)
    assert tdx.pauses == []
    assert len(tdx.made) == (step != "mkdir request")


def test_reports_too_large_for_the_kernel(tdx: Machine) -> None:
    tdx.kernel.report = lambda _: bytes(MAX_BLOB_BYTES + 1)
    with pytest.raises(AttesterError, match="EFBIG"):
        ask(tdx)
    assert len(tdx.made) == 1


@pytest.mark.parametrize("blob", ["outblob", "auxblob"])
def test_reports_too_large_for_us(tdx: Machine, monkeypatch: pytest.MonkeyPatch, blob: str) -> None:
    monkeypatch.setattr(tsm, "MAX_BLOB_BYTES", 76)
    tdx.kernel.provider, tdx.kernel.certificates = "sev_guest", bytes(77)
    if blob == "outblob":
        tdx.kernel.report = lambda _: bytes(77)
    with pytest.raises(AttesterError, match=f"{blob}: expected at most 76 bytes, got more"):
        ask(tdx, provider="sev_guest")
    assert len(tdx.made) == 1


def test_an_empty_report(tdx: Machine) -> None:
    tdx.kernel.report = lambda _: b""
    with pytest.raises(AttesterError, match="outblob: the report is empty"):
        ask(tdx)
    assert len(tdx.made) == 1


def write_beside(made: Machine, data: bytes) -> None:
    """Another program writes into our request's directory."""
    (request,) = made.kernel.requests.values()
    request.inblob, request.writes = data, request.writes + 1


@pytest.mark.parametrize("step", ["read outblob", "read generation", "open inblob"])
def test_a_race_is_seen_and_the_report_thrown_away(tdx: Machine, step: str) -> None:
    tdx.kernel.before[step] = lambda: (write_beside(tdx, b"\xff" * 64), tdx.kernel.before.clear())
    assert ask(tdx).outblob == echo(ASKED)
    assert len(tdx.made) == 2
    assert tdx.pauses == [0.1]


def test_a_race_that_is_never_won(tdx: Machine) -> None:
    tdx.kernel.before["read outblob"] = lambda: write_beside(tdx, b"\xff" * 64)
    with pytest.raises(AttesterError, match=r"another program writes.*expected generation 1, got 2"):
        ask(tdx)
    assert len(tdx.made) == 3


@pytest.mark.parametrize("written", [b"", b"one", b"-1", "²".encode(), b"1\x00"])
def test_a_generation_that_is_no_number(
    standing_in: Machine, monkeypatch: pytest.MonkeyPatch, written: bytes
) -> None:
    reading = standing_in.files.read

    def read(path: Path, *, max_bytes: int) -> bytes:
        return written if path.name == "generation" else reading(path, max_bytes=max_bytes)

    monkeypatch.setattr(standing_in.files, "read", read)
    with pytest.raises(AttesterError, match="generation: expected a number, got"):
        ask(standing_in)
    assert len(standing_in.made) == 1


def test_an_attribute_without_end(tdx: Machine) -> None:
    tdx.kernel.provider = "x" * 5000
    with pytest.raises(AttesterError, match="provider: expected at most 4096 bytes, got more"):
        ask(tdx)
    assert len(tdx.made) == 1


def test_a_write_taken_in_part(standing_in: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing_in.files, "write", lambda _path, _data: 32)
    with pytest.raises(AttesterError, match="inblob: the kernel took 32 of 64 bytes"):
        ask(standing_in)
    assert len(standing_in.made) == 1


@pytest.mark.parametrize("step", [*STEPS, "read generation"])
def test_an_interrupt_leaves_nothing_behind(standing_in: Machine, step: str) -> None:
    def interrupt() -> None:
        signal.raise_signal(signal.SIGINT)

    standing_in.kernel.before[step] = interrupt
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # programs in the background ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            ask(standing_in)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(standing_in.made) == (step != "mkdir request")


def test_an_interrupt_while_the_directory_is_made(
    standing_in: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    making = standing_in.files.make_directory

    def make(path: Path) -> None:
        making(path)
        raise KeyboardInterrupt

    monkeypatch.setattr(standing_in.files, "make_directory", make)
    with pytest.raises(KeyboardInterrupt):
        ask(standing_in)
    assert len(standing_in.made) == 1


def test_a_directory_that_cannot_be_removed(tdx: Machine) -> None:
    tdx.kernel.failures["rmdir request"] = [errno.EBUSY]
    with pytest.raises(AttesterError, match=r"palm-torch-.*could not be removed: .*busy.*rmdir"):
        ask(tdx)
    assert len(tdx.kernel.requests) == 1


def test_the_first_error_counts(tdx: Machine) -> None:
    tdx.kernel.failures |= {"rmdir request": [errno.EPERM], "read outblob": [errno.EIO]}
    with pytest.raises(AttesterError, match=r"EIO.*; .*palm-torch-.*could not be removed"):
        ask(tdx)
    tdx.kernel.requests.clear()


def test_a_directory_that_somebody_else_removed(tdx: Machine) -> None:
    tdx.kernel.before["rmdir request"] = tdx.kernel.requests.clear
    tdx.kernel.before["read outblob"] = tdx.kernel.requests.clear
    with pytest.raises(AttesterError):
        ask(tdx)
    assert len(tdx.made) == 1


def test_no_interface_at_all(tdx: Machine) -> None:
    tdx.kernel.configfs = False
    with pytest.raises(AttesterError, match=r"E(PERM|NOENT)"):
        ask(tdx)
    assert tsm.find_provider(root=tdx.root, files=tdx.files) is None
    assert tdx.made == []


def test_an_ordinary_directory_is_not_configfs(tmp_path: Path) -> None:
    (tmp_path / tsm.REPORTS).mkdir(parents=True)
    with pytest.raises(AttesterError, match=r"provider: .*which driver makes reports: .*ENOENT.*Linux 6\.7"):
        tsm.find_provider(root=tmp_path)
    with pytest.raises(AttesterError, match=r"provider: .*a report: .*ENOENT.*Linux 6\.7"):
        tsm.request_report(ASKED, provider="tdx_guest", root=tmp_path)
    assert list((tmp_path / tsm.REPORTS).iterdir()) == []


@pytest.mark.parametrize("provider", ["tdx_guest", "sev_guest", "arm_cca_guest"])
def test_the_provider_is_found(tdx: Machine, provider: str) -> None:
    tdx.kernel.provider = provider
    assert tsm.find_provider(root=tdx.root, files=tdx.files) == provider
    assert len(tdx.made) == 1


def test_no_driver_is_no_provider(tdx: Machine) -> None:
    tdx.kernel.provider = None
    assert tsm.find_provider(root=tdx.root, files=tdx.files) is None


@pytest.mark.parametrize("step", ["mkdir request", "read provider", "stat report"])
def test_a_provider_that_cannot_be_asked_for_is_not_missing(standing_in: Machine, step: str) -> None:
    standing_in.kernel.failures[step] = [errno.EACCES]
    with pytest.raises(AttesterError, match=r"which driver makes reports: Permission denied \(EACCES\)"):
        tsm.find_provider(root=standing_in.root, files=standing_in.files)


def test_an_error_without_a_number(standing_in: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise OSError("no more of this")

    monkeypatch.setattr(standing_in.files, "make_directory", refuse)
    with pytest.raises(AttesterError, match=rf"{REPORTS}: .*a report: no more of this \(error 0\); .*dmesg"):
        ask(standing_in)


def test_patience_counts() -> None:
    pauses: list[float] = []
    assert list(tsm.Patience(delays_s=(), sleep=pauses.append).attempts()) == [0]
    assert list(tsm.Patience(delays_s=(1, 2), sleep=pauses.append).attempts()) == [0, 1, 2]
    assert pauses == [1, 2]
