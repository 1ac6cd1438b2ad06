"""One attestation report through configfs-tsm: 64 bytes in, a report of the machine out.

    mkdir REPORTS/palm-torch-PID-RANDOM    the kernel fills it with attribute files
    read  provider                         tdx_guest or sev_guest: the format of the report
    write inblob                           64 bytes, taken over when the file is closed
    read  outblob, auxblob                 the first read makes the report; it can take seconds
    read  generation                       how often somebody wrote here: once, or it is not our report
    rmdir

Each request has a directory of its own, so that two programs do not overwrite each other's 64 bytes. No
machine with a trusted execution environment has run this code yet: it is tested against a model of the
kernel's interface.

Source: Linux, Documentation/ABI/testing/configfs-tsm-report (Linux 6.7 and newer).
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from palm_torch.cvm import kernel_files
from palm_torch.errors import AttesterError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from palm_torch.cvm.kernel_files import KernelFiles

REPORTS: Final = Path("sys/kernel/config/tsm/report")
"""Where reports are asked for, below the root of the file system."""

TDX_PROVIDER: Final = "tdx_guest"
SNP_PROVIDER: Final = "sev_guest"

INBLOB_BYTES: Final = 64
MAX_BLOB_BYTES: Final = 64 << 10
"""Largest report, and largest certificate table, that is read, in bytes; most kernels stop at half of it."""

TRANSIENT_ERRORS: Final = frozenset({errno.EINTR, errno.EBUSY, errno.ETIMEDOUT})
"""What passes when asked again: interrupted, another report is being made, the host was slow."""

_MAX_ATTRIBUTE_BYTES: Final = 4096
_NAME_BYTES: Final = 8

_ADVICE: Final = {
    errno.EACCES: "configfs is root's: run as root, or let root hand this directory to your user",
    errno.EPERM: "configfs is root's: run as root, or let root hand this directory to your user",
    errno.EROFS: "configfs is mounted read only (in a container?): mount it writable",
    errno.ENOENT: "needs Linux 6.7 or newer and configfs: mount -t configfs none /sys/kernel/config",
    errno.ENXIO: "no driver answers: modprobe tdx_guest (Intel) or sev-guest (AMD)",
    errno.EINVAL: "the driver refuses the request",
    errno.EIO: "the hardware or the host refused; the kernel log (dmesg) says more",
    errno.EFBIG: "the report is larger than this kernel can hand over; a newer one may",
    errno.EBUSY: "another report is being made, or an earlier one never came back: try again later",
    errno.EINTR: "signals kept interrupting it: try again",
    errno.ETIMEDOUT: "the host's quoting service did not answer in time: ask its operator, or try again",
}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to go on asking when an error may pass.

    Attributes:
        delays_s: Pause before each further attempt, in seconds.
        sleep: What pauses.
    """

    delays_s: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0)
    sleep: Callable[[float], None] = time.sleep

    def attempts(self) -> Iterator[int]:
        """Yields the number of each attempt, from 0, pausing before all but the first."""
        yield 0
        for number, delay in enumerate(self.delays_s, start=1):
            self.sleep(delay)
            yield number


PATIENT: Final = Patience()
"""Six attempts in eight seconds, besides what the machine itself takes."""


@dataclass(frozen=True, slots=True)
class TsmReport:
    """What the kernel handed over; nothing in it has been looked at.

    Attributes:
        outblob: The quote (TDX) or the report (SEV-SNP), with whatever padding the machine adds.
        auxblob: The certificate table of the host (SEV-SNP); empty where there is none.
    """

    outblob: bytes
    auxblob: bytes


def find_provider(*, root: Path = Path("/"), files: KernelFiles = kernel_files.LINUX) -> str | None:
    """Returns the name of the driver that makes reports on this machine, None where there is none.

    The directory of reports says nothing by itself: any kernel may have it. A driver is known by a request's
    directory, which is made and removed for it.

    Raises:
        AttesterError: If configfs-tsm is there but cannot be asked.
    """
    reports = root / REPORTS
    try:
        if not files.exists(reports):
            return None
        with _request_directory(reports, files) as directory:
            return _read_attribute(directory / "provider", files)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        raise _refused("which driver makes reports", reports, error) from error


def request_report(
    inblob: bytes,
    *,
    provider: str,
    root: Path = Path("/"),
    files: KernelFiles = kernel_files.LINUX,
    patience: Patience = PATIENT,
) -> TsmReport:
    """Asks the machine for a report over 64 bytes.

    1. A fresh directory, removed again whatever happens.
    2. The provider is the one expected.
    3. The 64 bytes go in with one write.
    4. The report comes out, then its certificates, neither longer than is possible.
    5. Nobody else has written: otherwise the report may be over other bytes, and is thrown away.
    6. After an error that may pass, or another writer: all of it again, a few times, ever later.

    The caller still has to check that the report holds the 64 bytes.

    Args:
        inblob: The report data.
        provider: `TDX_PROVIDER` or `SNP_PROVIDER`.
        root: Root of the file system.
        files: The kernel.
        patience: How long to go on when an error may pass.

    Raises:
        AttesterError: If there is no such interface, it belongs to another provider, or it gives no report.
    """
    if len(inblob) != INBLOB_BYTES:
        raise AttesterError(f"report data: expected {INBLOB_BYTES} bytes, got {len(inblob)}")
    reports = root / REPORTS
    failures: list[AttesterError] = []
    for _ in patience.attempts():  # 6
        try:
            with _request_directory(reports, files) as directory:  # 1
                report, writes = _make(inblob, provider, directory, files)
        except OSError as error:
            failures.append(_refused("a report", reports, error))
            if error.errno not in TRANSIENT_ERRORS:
                raise failures[-1] from error
            continue
        if writes == 1:  # 5
            return report
        failures.append(
            AttesterError(
                f"{reports}: another program writes into the directories of our requests: expected "
                f"generation 1, got {writes}; find out which, a report cannot be trusted to be ours"
            )
        )
    raise failures[-1]


def _make(inblob: bytes, provider: str, directory: Path, files: KernelFiles) -> tuple[TsmReport, int]:
    """Steps 2 to 4; returns the report and how often somebody wrote."""
    found = _read_attribute(directory / "provider", files)  # 2
    if found != provider:
        raise AttesterError(f"{directory.parent}: expected the provider {provider!r}, got {found[:40]!r}")
    taken = files.write(directory / "inblob", inblob)  # 3
    if taken != len(inblob):
        raise AttesterError(f"{directory / 'inblob'}: the kernel took {taken} of {len(inblob)} bytes")
    outblob = _read_blob(directory / "outblob", files)  # 4
    if not outblob:
        raise AttesterError(f"{directory / 'outblob'}: the report is empty")
    auxblob = b""
    if provider == SNP_PROVIDER:
        with contextlib.suppress(FileNotFoundError):  # shown only by hosts and kernels that have one
            auxblob = _read_blob(directory / "auxblob", files)
    generation = _read_attribute(directory / "generation", files)
    if not (generation.isascii() and generation.isdecimal()):
        raise AttesterError(f"{directory / 'generation'}: expected a number, got {generation[:40]!r}")
    return TsmReport(outblob=outblob, auxblob=auxblob), int(generation)


@contextlib.contextmanager
def _request_directory(reports: Path, files: KernelFiles) -> Iterator[Path]:
    """A directory for the ``with`` block; also an interrupt while it is made leaves none behind."""
    directory = reports / f"palm-torch-{os.getpid()}-{secrets.token_hex(_NAME_BYTES)}"
    made = True
    try:
        try:
            files.make_directory(directory)
        except OSError:
            made = False
            raise
        yield directory
    finally:
        if made:
            _remove(directory, files, during=sys.exc_info()[1])


def _remove(directory: Path, files: KernelFiles, *, during: BaseException | None) -> None:
    """Removes a request's directory; an error that is already on its way goes first."""
    try:
        files.remove_directory(directory)
    except FileNotFoundError:
        pass
    except OSError as error:
        left = f"{directory}: could not be removed: {error.strerror or error}; remove it with rmdir"
        if during is None:
            raise AttesterError(left) from error
        during.add_note(left)


def _read_attribute(path: Path, files: KernelFiles) -> str:
    data = files.read(path, max_bytes=_MAX_ATTRIBUTE_BYTES)
    if len(data) > _MAX_ATTRIBUTE_BYTES:
        raise AttesterError(f"{path}: expected at most {_MAX_ATTRIBUTE_BYTES} bytes, got more")
    return data.removesuffix(b"\n").decode("ascii", errors="backslashreplace")


def _read_blob(path: Path, files: KernelFiles) -> bytes:
    data = files.read(path, max_bytes=MAX_BLOB_BYTES)
    if len(data) > MAX_BLOB_BYTES:
        raise AttesterError(f"{path}: expected at most {MAX_BLOB_BYTES} bytes, got more")
    return data


def _refused(what: str, reports: Path, error: OSError) -> AttesterError:
    code = 0 if error.errno is None else error.errno
    name = errno.errorcode.get(code, f"error {code}")
    advice = _ADVICE.get(code, "the kernel log (dmesg) may say more")
    told = f"{error.filename or reports}: the kernel does not give {what}: {error.strerror or error} ({name})"
    return AttesterError("; ".join([told, advice, *getattr(error, "__notes__", ())]))
