"""A model of what Linux shows of a trusted execution environment, behind two doors.

The model follows the kernel: attribute files appear when a request's directory is made; binary attributes
written are taken over when the file is closed, whatever comes of it; a report is made at the first read, and
again when somebody has written since; the register's file takes 48 bytes at its beginning, or none.

`StandIn` puts it in the place of the kernel inside this process, on every machine. `mounted` shows it to all
processes as a file system (FUSE), where the machine has one: then the operations are real system calls.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import signal
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import pytest

from palm_torch.cvm import eventlog, kernel_files, simulated_authority, simulated_quote, tsm

if TYPE_CHECKING:
    from collections.abc import Iterator

REPORTS: Final = "/kernel/config/tsm/report"
REGISTER: Final = "/devices/virtual/misc/tdx_guest/measurements/rtmr3:sha384"
BOOT_LOG: Final = "/firmware/acpi/tables/data/CCEL"

MAX_BLOB_BYTES: Final = 32 << 10
DOORS: Final = ("stand-in", "fuse")
_OPTIONS: Final[dict[str, Any]] = {
    "foreground": True,
    "nothreads": True,
    "direct_io": True,  # what is read has no size before it is read
    "attr_timeout": 0,
    "entry_timeout": 0,
}
_MNT_DETACH: Final = 2


@dataclass
class Request:
    """One directory below the reports."""

    inblob: bytes = b""
    writes: int = 0
    made_at: int = -1
    outblob: bytes = b""
    auxblob: bytes = b""


@dataclass
class FakeKernel:
    """The part of a kernel below /sys; paths begin with a slash for that directory.

    Attributes:
        provider: The driver that makes reports; None where none is loaded.
        report: Makes a report over what was written.
        certificates: What the host hands over with a report; None hides the file.
        register: RTMR[3]; None where the kernel has no such file.
        register_mode: Permission bits of its file.
        boot_log: The area of the boot event log; None where there is none.
        failures: Operation and file name -> errors that its next calls fail with.
        before: Operation and file name -> what happens just before it.
        requests: The directories there are.
        made: Names of all directories that ever were.
    """

    provider: str | None = "tdx_guest"
    report: Callable[[bytes], bytes] = bytes
    certificates: bytes | None = None
    register: bytes | None = bytes(48)
    register_mode: int = 0o644
    boot_log: bytes | None = None
    configfs: bool = True
    failures: dict[str, list[int]] = field(default_factory=dict)
    before: dict[str, Callable[[], object]] = field(default_factory=dict)
    requests: dict[str, Request] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)

    def step(self, operation: str, path: str) -> None:
        """Runs what was asked to happen at an operation, and fails it if that was asked for."""
        key = f"{operation} {'request' if self.request_of(path) == path else path.rpartition('/')[2]}"
        self.before.get(key, int)()
        if waiting := self.failures.get(key):
            raise _error(waiting.pop(0))

    @staticmethod
    def request_of(path: str) -> str | None:
        """Returns the request's directory that a path is or lies in."""
        head, _, rest = path.partition(REPORTS + "/")
        return None if head or not rest else f"{REPORTS}/{rest.partition('/')[0]}"

    def attributes(self) -> dict[str, int]:
        """Returns the files of a request's directory and their permission bits."""
        files = {"generation": 0o444, "provider": 0o444, "inblob": 0o200, "outblob": 0o444}
        return files if self.certificates is None else files | {"auxblob": 0o444}

    def mode(self, path: str) -> int:
        """Returns type and permissions of what lies at a path."""
        here = self.files()
        if path in here:
            return stat.S_IFREG | here[path]
        if path in self.directories():
            return stat.S_IFDIR | 0o755
        raise _error(errno.ENOENT)

    def files(self) -> dict[str, int]:
        """Returns all files and their permission bits."""
        found = {f"{path}/{name}": mode for path in self.requests for name, mode in self.attributes().items()}
        if self.register is not None:
            found[REGISTER] = self.register_mode
        if self.boot_log is not None:
            found[BOOT_LOG] = 0o400
        return found

    def directories(self) -> set[str]:
        """Returns all directories."""
        ends = [*self.files(), *self.requests, *([f"{REPORTS}/x"] if self.configfs else [])]
        return {str(parent) for end in ends for parent in Path(end).parents} | set(self.requests)

    def mkdir(self, path: str) -> None:
        """Makes a request's directory."""
        self.step("mkdir", path)
        if not self.configfs or self.request_of(path) != path:
            raise _error(errno.EPERM)
        if self.provider is None:
            raise _error(errno.ENXIO)
        if path in self.requests:
            raise _error(errno.EEXIST)
        self.requests[path] = Request()
        self.made.append(path.rpartition("/")[2])

    def rmdir(self, path: str) -> None:
        """Removes a request's directory."""
        if path not in self.requests:
            raise _error(errno.ENOENT)
        self.step("rmdir", path)
        del self.requests[path]

    def open(self, path: str, *, writing: bool) -> Handle:
        """Opens a file; what its permission bits do not allow, root is not allowed either."""
        mode = self.mode(path)
        self.step("open", path)
        if stat.S_ISDIR(mode):
            raise _error(errno.EISDIR)
        if not mode & (0o222 if writing else 0o444):
            raise _error(errno.EACCES)
        return Handle(self, path)


@dataclass
class Handle:
    """An open file."""

    kernel: FakeKernel
    path: str
    content: bytes | None = None
    written: bytes | None = None

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.path.rpartition("/")[2]

    def read(self, size: int, offset: int) -> bytes:
        """Reads; the first read fixes what all reads of this handle see."""
        if self.content is None:
            self.kernel.step("read", self.path)
            self.content = self._content()
        return self.content[offset : offset + size]

    def write(self, data: bytes, offset: int) -> int:
        """Writes: the register at once, a request's data when the file is closed."""
        kernel = self.kernel
        kernel.step("write", self.path)
        if self.path == REGISTER:
            taken = data[: 48 - offset]
            if offset or len(taken) != 48 or kernel.register is None:
                raise _error(errno.EINVAL)
            kernel.register = hashlib.sha384(kernel.register + taken).digest()
            return len(taken)
        if offset + len(data) > 64:
            raise _error(errno.EFBIG)
        self.written = (self.written or b"").ljust(offset, b"\x00")[:offset] + data
        return len(data)

    def close(self) -> None:
        """Takes over what was written."""
        request = self._request
        if self.written is not None and request is not None:
            request.inblob, self.written = self.written, None
            request.writes += 1

    @property
    def _request(self) -> Request | None:
        return self.kernel.requests.get(self.kernel.request_of(self.path) or "")

    def _content(self) -> bytes:
        kernel, request = self.kernel, self._request
        if self.path == REGISTER:
            return kernel.register or b""
        if self.path == BOOT_LOG:
            return kernel.boot_log or b""
        if request is None or kernel.provider is None:
            raise _error(errno.ENXIO)
        if self.name == "provider":
            return kernel.provider.encode() + b"\n"
        if self.name == "generation":
            return b"%d\n" % request.writes
        self._make(request)
        blob = request.outblob if self.name == "outblob" else request.auxblob
        if len(blob) > MAX_BLOB_BYTES:
            raise _error(errno.EFBIG)
        return blob

    def _make(self, request: Request) -> None:
        """Makes the report, unless the last one is over the same bytes."""
        if not request.inblob:
            raise _error(errno.EINVAL)
        if request.made_at != request.writes:
            if len(request.inblob) != 64:
                raise _error(errno.EINVAL)
            request.outblob = self.kernel.report(request.inblob)
            request.auxblob = self.kernel.certificates or b""
            request.made_at = request.writes


class StandIn:
    """The model in the place of the kernel, for what lies in ``sys`` below a root."""

    def __init__(self, kernel: FakeKernel, root: Path) -> None:
        self._kernel = kernel
        self._sys = root / "sys"

    def exists(self, path: Path) -> bool:
        inside = self._inside(path)
        if inside is None:
            return kernel_files.LINUX.exists(path)
        try:
            with _named(path):
                self._kernel.step("stat", inside)
                self._kernel.mode(inside)
        except FileNotFoundError:
            return False
        return True

    def make_directory(self, path: Path) -> None:
        with _named(path):
            self._kernel.mkdir(self._there(path))

    def remove_directory(self, path: Path) -> None:
        with _named(path):
            self._kernel.rmdir(self._there(path))

    def read(self, path: Path, *, max_bytes: int) -> bytes:
        inside = self._inside(path)
        if inside is None:
            return kernel_files.LINUX.read(path, max_bytes=max_bytes)
        with _named(path):
            handle, data = self._kernel.open(inside, writing=False), b""
            while len(data) <= max_bytes and (chunk := handle.read(1000, len(data))):
                data += chunk
        return data[: max_bytes + 1]

    def write(self, path: Path, data: bytes) -> int:
        with _named(path):
            handle = self._kernel.open(self._there(path), writing=True)
            try:
                return handle.write(data, 0)
            finally:
                handle.close()

    def open_for_writing(self, path: Path) -> None:
        with _named(path):
            self._kernel.open(self._there(path), writing=True).close()

    def _there(self, path: Path) -> str:
        inside = self._inside(path)
        assert inside is not None, path
        return inside

    def _inside(self, path: Path) -> str | None:
        return "/" + str(path.relative_to(self._sys)) if path.is_relative_to(self._sys) else None


@dataclass
class Machine:
    """A machine with the model for a kernel: what an attester is made with."""

    kernel: FakeKernel
    root: Path
    files: kernel_files.KernelFiles
    pauses: list[float] = field(default_factory=list)

    @property
    def patience(self) -> tsm.Patience:
        return tsm.Patience(delays_s=(0.1, 0.2), sleep=self.pauses.append)

    @property
    def made(self) -> list[str]:
        """Names of the directories that ever were; all of them are gone."""
        assert not self.kernel.requests
        return self.kernel.made


@contextlib.contextmanager
def machine(door: str, root: Path, **model: Any) -> Iterator[Machine]:
    """A machine whose kernel is the model, behind one of `DOORS`; skips where this machine has no FUSE."""
    kernel = FakeKernel(**model)
    if door == "stand-in":
        yield Machine(kernel, root, StandIn(kernel, root))
        return
    (root / "sys").mkdir()
    with mounted(kernel, root / "sys"):
        yield Machine(kernel, root, kernel_files.LINUX)


@contextlib.contextmanager
def mounted(kernel: FakeKernel, folder: Path) -> Iterator[None]:
    """Shows the model as a file system for the ``with`` block; skips where that cannot be done."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("this machine has no FUSE; the stand-in runs the same tests")
    try:
        import mfusepy
    except (ImportError, OSError) as error:  # OSError: its system library is missing
        pytest.skip(f"FUSE: {error}; the stand-in runs the same tests")

    def serve() -> None:
        with contextlib.suppress(RuntimeError):  # may not be mounted: seen below
            mfusepy.FUSE(_make_view(mfusepy, kernel), str(folder), **_OPTIONS)

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    while server.is_alive() and not folder.is_mount():
        time.sleep(0.001)
    if not folder.is_mount():
        pytest.skip("FUSE is there, but nothing can be mounted; the stand-in runs the same tests")
    try:
        yield
    finally:
        ctypes.CDLL(None, use_errno=True).umount2(os.fsencode(folder), _MNT_DETACH)
        server.join(60)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as Python has it; libfuse leaves it deadly


def _make_view(mfusepy: Any, kernel: FakeKernel) -> Any:
    """Returns the model as FUSE operations."""

    class View(mfusepy.Operations):  # type: ignore[misc]
        use_ns = True

        def __init__(self) -> None:
            self.kernel = kernel
            self.handles: dict[int, Handle] = {}

        def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
            del fh
            self.kernel.step("stat", path)
            mode = self.kernel.mode(path)
            return {"st_mode": mode, "st_nlink": 1, "st_size": 0, "st_uid": os.getuid()}

        def mkdir(self, path: str, mode: int) -> int:
            del mode
            self.kernel.mkdir(path)
            return 0

        def rmdir(self, path: str) -> int:
            self.kernel.rmdir(path)
            return 0

        def open(self, path: str, flags: int) -> int:
            handle = self.kernel.open(path, writing=flags & os.O_ACCMODE != os.O_RDONLY)
            number = max(self.handles, default=0) + 1
            self.handles[number] = handle
            return number

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            del path
            return self.handles[fh].read(size, offset)

        def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
            del path
            return self.handles[fh].write(data, offset)

        def flush(self, path: str, fh: int) -> int:
            del path
            self.handles[fh].close()
            return 0

        def release(self, path: str, fh: int) -> int:
            del path
            del self.handles[fh]
            return 0

    return View()


@dataclass
class Td:
    """A simulated trust domain as the quoting stack of a `FakeKernel`.

    Attributes:
        authority: Who signs.
        kernel: Whose register shows in the quotes; set after it is made.
        boot: Registers after the boot, by name.
        tail: What the machine appends to its quotes.
        version: Version of its quotes.
    """

    authority: simulated_authority.Authority
    kernel: FakeKernel | None = None
    boot: dict[str, bytes] = field(default_factory=dict)
    tail: bytes = bytes(70)
    version: Literal[4, 5] = 4

    def __call__(self, inblob: bytes) -> bytes:
        register = (self.kernel.register if self.kernel else None) or bytes(48)
        report = simulated_quote.make_td_report(inblob, rtmr3=register, version=self.version)
        fields = {name: getattr(report, name) for name in report.__slots__} | self.boot
        return simulated_quote.sign_quote(self.authority, type(report)(**fields)) + self.tail


def booted(log: bytes) -> dict[str, bytes]:
    """Returns the registers that a boot log leads to."""
    return {f"rtmr{index}": value for index, value in enumerate(eventlog.replay(eventlog.parse(log)))}


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def _error(code: int) -> OSError:
    return OSError(code, os.strerror(code))
