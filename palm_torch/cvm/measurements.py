"""RTMR[3] of a TDX machine through the kernel's measurement files, held by one session at a time.

The register belongs to the whole trust domain, and whatever extends it shows in every later quote. So one
session holds it, by a lock file that names its process; what it extends goes into the machine's list
(`palm_torch.cvm.machine_log`) first; and each extension is read back. What extends the register beside us is
found out, not prevented.

Source: Linux, Documentation/ABI/testing/sysfs-devices-virtual-misc-tdx_guest (Linux 6.16 and newer).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from palm_torch.cvm import eventlog, kernel_files, machine_log, quote, tsm
from palm_torch.errors import AttesterError

if TYPE_CHECKING:
    from palm_torch.cvm.kernel_files import KernelFiles

MISC_DEVICE: Final = Path("sys/devices/virtual/misc/tdx_guest")
REGISTER: Final = MISC_DEVICE / "measurements" / "rtmr3:sha384"
"""Reads as the register's 48 bytes; 48 bytes written to its beginning extend it."""

STATE: Final = Path("run/palm-torch")
"""Where the lock and the machine's list lie: a file system that is empty when the machine starts."""

LOG_NAME: Final = "rtmr3.log"
LOCK_NAME: Final = "rtmr3.lock"

_DIRECTORY_MODE: Final = 0o755
_LOCK_MODE: Final = 0o600  # who can open the file can hold the lock
_MAX_LOCK_BYTES: Final = 32
_NOT_OURS: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS})


def is_extendable(*, root: Path = Path("/"), files: KernelFiles = kernel_files.LINUX) -> bool:
    """Returns whether this process may extend RTMR[3]; older kernels and other users cannot.

    Raises:
        AttesterError: If that cannot be told.
    """
    try:
        files.open_for_writing(root / REGISTER)
    except OSError as error:
        if error.errno in _NOT_OURS:
            return False
        raise _failed(root / REGISTER, "opened", error) from error
    return True


class RuntimeRegister:
    """RTMR[3], held by one session from here to `close`.

    1. The lock is taken: one session per trust domain.
    2. The boot and the machine's list account for the register as it stands.
    3. A last line that was written down but never carried out is taken back.

    Args:
        after_boot: The register as the boot left it, 48 bytes.
        root: Root of the file system.
        files: The kernel.
        patience: How long to go on when the register is busy.

    Attributes:
        earlier: What extended it between boot and now, 48 bytes each.

    Raises:
        AttesterError: If another session holds it, or something unknown has extended it.
    """

    def __init__(
        self,
        *,
        after_boot: bytes,
        root: Path = Path("/"),
        files: KernelFiles = kernel_files.LINUX,
        patience: tsm.Patience = tsm.PATIENT,
    ) -> None:
        self._path = root / REGISTER
        self._files = files
        self._patience = patience
        self._settled = True
        state = root / STATE
        self._held = False
        self._lock = _Lock()
        log = None
        try:  # whatever happens until it is held, an interrupt included, the lock is given back
            self._lock.take(state)  # 1
            self._log = log = machine_log.MachineLog(state / LOG_NAME)
            found, self._value = log.read(), self._read()
            self.earlier: Final = found.explain(after_boot, self._value, path=log.path)  # 2
            self._count = len(self.earlier)
            if found.torn or found.digests != self.earlier:
                log.keep(self._count)  # 3
            self._held = True
        except BaseException:
            if log is not None:
                log.close()
            self._lock.release()
            raise

    def value(self) -> bytes:
        """Returns the register, 48 bytes.

        Raises:
            AttesterError: If it cannot be read, or something else has extended it since.
        """
        self._check_held()
        value = self._read()
        if value != self._value:
            raise self._surprised(self._value, value)
        return value

    def extend(self, digest: bytes) -> None:
        """Extends the register with a digest of 48 bytes: it becomes SHA-384(register ‖ digest).

        1. The digest is written down.
        2. It is handed to the kernel, again after an error that may pass.
        3. The register is read: extended by it, or as before (then the line is taken back).

        Raises:
            AttesterError: If the register is not extended by exactly this digest.
        """
        self._check_held()
        if len(digest) != quote.REGISTER_BYTES:
            raise AttesterError(
                f"RTMR[3]: expected a digest of {quote.REGISTER_BYTES} bytes, got {len(digest)}"
            )
        expected = eventlog.extended(self._value, digest)
        self._settled = False
        try:
            self._log.append(digest, count=self._count)  # 1
        except AttesterError:
            self._settled = True
            raise
        value, refusal = self._value, None
        for _ in self._patience.attempts():  # 2
            refusal = self._write(digest)
            value = self._read()  # 3
            if value != self._value or refusal is None or refusal.errno not in tsm.TRANSIENT_ERRORS:
                break
        if value == self._value:
            self._log.keep(self._count)
            self._settled = True
            raise _failed(self._path, "extended", refusal) from refusal
        if value != expected:
            raise self._surprised(expected, value)
        self._value, self._count, self._settled = expected, self._count + 1, True

    def close(self) -> None:
        """Gives the lock back; may be called again, also where it was interrupted."""
        self._held = False
        try:
            self._log.close()
        finally:
            self._lock.release()

    def _check_held(self) -> None:
        if not self._held or self._lock.owner != os.getpid():
            raise AttesterError("RTMR[3]: this session has given it back, or is a copy in a forked process")
        if not self._settled:
            raise AttesterError(
                "RTMR[3]: an extension was interrupted, and what the register holds is unknown to this "
                "session: begin another one"
            )

    def _read(self) -> bytes:
        try:
            value = self._files.read(self._path, max_bytes=quote.REGISTER_BYTES)
        except OSError as error:
            raise _failed(self._path, "read", error) from error
        if len(value) != quote.REGISTER_BYTES:
            raise AttesterError(f"{self._path}: expected {quote.REGISTER_BYTES} bytes, got {len(value)}")
        return value

    def _write(self, digest: bytes) -> OSError | None:
        """Hands a digest to the kernel; returns its refusal, which the register then confirms or not."""
        try:
            taken = self._files.write(self._path, digest)
        except OSError as error:
            return error
        return None if taken == len(digest) else OSError(errno.EIO, f"{taken} of {len(digest)} bytes taken")

    def _surprised(self, expected: bytes, got: bytes) -> AttesterError:
        self._settled = False
        return AttesterError(
            f"{self._path}: expected {expected.hex()}, got {got.hex()}: something else has extended RTMR[3] "
            f"during this session, whose evidence would be rejected; start the machine again, and let "
            f"nothing but palm-torch extend it"
        )


class _Lock:
    """The lock file of a state directory, which is made where it is missing."""

    def __init__(self) -> None:
        self.owner: Final = os.getpid()
        self._descriptor: int | None = None

    def take(self, state: Path) -> None:
        """Takes the lock; whoever calls this calls `release` too, also where it fails or is interrupted."""
        path = state / LOCK_NAME
        try:
            state.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
            machine_log.check_own(state, os.lstat(state))
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = descriptor = os.open(path, flags, _LOCK_MODE)
        except OSError as error:
            raise _failed(path, "locked", error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d\n" % self.owner, 0)
        except BlockingIOError as error:
            holder = (
                os.pread(descriptor, _MAX_LOCK_BYTES, 0).decode("ascii", errors="backslashreplace").strip()
            )
            raise AttesterError(
                f"RTMR[3]: one session at a time can have it, and process {holder or 'unknown'} has it "
                f"({path}): wait for it to end, or end it"
            ) from error
        except OSError as error:
            raise _failed(path, "locked", error) from error

    def release(self) -> None:
        """Gives the lock back, if it is had; may be called again.

        A forked process only lets go of its copy: the lock is its parent's.
        """
        descriptor = self._descriptor
        if descriptor is None:
            return
        if self.owner == os.getpid():
            with contextlib.suppress(OSError):  # closing gives it back too, unless a fork still has a copy
                fcntl.flock(descriptor, fcntl.LOCK_UN)
        self._descriptor = None  # before it is closed: a number that is closed may soon be another file's
        os.close(descriptor)


def _failed(path: Path, done: str, error: OSError | None) -> AttesterError:
    why = "the kernel took the bytes and did nothing" if error is None else error.strerror or str(error)
    return AttesterError(f"{path}: RTMR[3] could not be {done}: {why}")
