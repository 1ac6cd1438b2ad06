"""The machine's own trusted execution environment as an attester: Intel TDX or AMD SEV-SNP.

What comes out of the kernel is checked before anyone relies on it: a quote that does not hold what was asked
for, or whose registers its logs do not explain, is no evidence, and it is better to know at once.

No TDX or SEV-SNP machine has run this code yet: it is tested against a model of the kernel's interface.
"""

from __future__ import annotations

import functools
import hmac
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from palm_torch.cvm import (
    eventlog,
    kernel_files,
    machine_log,
    measurements,
    quote,
    snp_endorsements,
    snp_report,
    tsm,
)
from palm_torch.errors import AttesterError, InputError, RejectedError

if TYPE_CHECKING:
    from palm_torch.cvm.kernel_files import KernelFiles
    from palm_torch.cvm.snp_endorsements import SnpEndorsements

BOOT_LOG: Final = Path("sys/firmware/acpi/tables/data/CCEL")
"""The area of the boot event log, which its writers left and the kernel shows as it is."""

_ZERO: Final = bytes(quote.REGISTER_BYTES)


class TdxAttester:
    """An Intel TDX trust domain, asked through configfs-tsm.

    RTMR[3] is taken hold of when it is first needed, and given back by `close`.

    Args:
        root: Root of the file system.
        files: The kernel.
        patience: How long to go on when an error may pass.

    Attributes:
        runtime_register: "rtmr3" where this process may extend it, otherwise "none".

    Raises:
        AttesterError: If it cannot be told whether the register may be extended.
    """

    name: Final = "tdx"
    platform: Literal["tdx", "snp"] = "tdx"
    simulated: Final = False

    def __init__(
        self,
        *,
        root: Path = Path("/"),
        files: KernelFiles = kernel_files.LINUX,
        patience: tsm.Patience = tsm.PATIENT,
    ) -> None:
        self._root = root
        self._files = files
        self._patience = patience
        self._closed = False
        self._register: measurements.RuntimeRegister | None = None
        self.runtime_register: Literal["rtmr3", "none"] = (
            "rtmr3" if measurements.is_extendable(root=root, files=files) else "none"
        )

    def quote(self, report_data: bytes) -> bytes:
        """Returns a canonical quote over 64 bytes of report data.

        1. The kernel's report, without the zeros that machines append.
        2. It is a TDX quote over this report data.
        3. The boot log, if there is one, replays to RTMR[0] to RTMR[2].
        4. RTMR[3] holds what the logs and this session's own extensions account for.

        Raises:
            AttesterError: If there is no quote, or any of this is not so.
        """
        expected = self._accounted_for()
        report = tsm.request_report(  # 1
            report_data,
            provider=tsm.TDX_PROVIDER,
            root=self._root,
            files=self._files,
            patience=self._patience,
        )
        try:
            raw = quote.canonical(report.outblob)
            found = quote.parse_quote(raw).td_report  # 2
            _check_report_data(self.name, found.report_data, report_data)
            if (log := self.boot_log()) is not None:  # 3
                eventlog.check_boot_log(log, found)
        except (InputError, RejectedError) as error:
            raise AttesterError(f"tdx: this machine's evidence would be rejected: {error}") from error
        if found.rtmr3 != expected:  # 4
            raise AttesterError(
                f"tdx: RTMR[3] of the quote: its logs and this session lead to {expected.hex()}, the quote "
                f"says {found.rtmr3.hex()}: something else has extended it, so that this machine's evidence "
                f"would be rejected; start the machine again"
            )
        return raw

    def collateral(self) -> None:
        """Returns None: what Intel says of the platform is fetched by whoever verifies."""
        return

    def extend(self, digest: bytes) -> None:
        """Extends RTMR[3]: it becomes SHA-384(RTMR[3] ‖ digest).

        Raises:
            AttesterError: If it cannot be extended, or not by exactly this digest of 48 bytes.
        """
        if (held := self._held()) is None:
            raise AttesterError("tdx: RTMR[3] cannot be extended here: needs Linux 6.16 or newer, and root")
        held.extend(digest)

    def register(self) -> bytes | None:
        """Returns RTMR[3] as it stands, 48 bytes; None where this process may not extend it.

        Raises:
            AttesterError: If another session has it, or something else has extended it.
        """
        held = self._held()
        return None if held is None else held.value()

    def register_log(self) -> tuple[bytes, ...]:
        """Returns the digests that extended RTMR[3] before this session, the boot's own first, 48 bytes each.

        Raises:
            AttesterError: If another session has the register, or its log does not explain it.
        """
        held, log = self._held(), self.boot_log()
        by_boot = () if log is None else eventlog.runtime_digests(eventlog.parse(log))
        return by_boot + (self._beside if held is None else held.earlier)

    def boot_log(self) -> bytes | None:
        """Returns the boot event log without its filler, None where the machine has none.

        Raises:
            AttesterError: If it cannot be read or does not parse.
        """
        return self._boot[0]

    def close(self) -> None:
        """Gives RTMR[3] back, for another session; this attester is done. May be called again."""
        self._closed = True
        if self._register is not None:
            self._register.close()

    def _held(self) -> measurements.RuntimeRegister | None:
        if self._closed:
            raise AttesterError("tdx: the attester is closed")
        if self.runtime_register == "none":
            return None
        if self._register is None:
            self._register = measurements.RuntimeRegister(
                after_boot=self._boot[1], root=self._root, files=self._files, patience=self._patience
            )
        return self._register

    def _accounted_for(self) -> bytes:
        """Returns what RTMR[3] holds by all that is known."""
        held = self._held()
        return machine_log.replayed(self._boot[1], self._beside) if held is None else held.value()

    @functools.cached_property
    def _beside(self) -> tuple[bytes, ...]:
        """What other sessions extended RTMR[3] with before this one, which may not."""
        return machine_log.read_beside(self._root / measurements.STATE / measurements.LOG_NAME).digests

    @functools.cached_property
    def _boot(self) -> tuple[bytes | None, bytes]:
        """The boot log, and RTMR[3] as the boot left it."""
        return read_boot_log(root=self._root, files=self._files)


class SnpAttester:
    """An AMD SEV-SNP guest, asked through configfs-tsm. It has no register that a program can extend.

    Args:
        root: Root of the file system.
        files: The kernel.
        patience: How long to go on when an error may pass.
    """

    name: Final = "snp"
    platform: Literal["tdx", "snp"] = "snp"
    simulated: Final = False
    runtime_register: Literal["rtmr3", "none"] = "none"

    def __init__(
        self,
        *,
        root: Path = Path("/"),
        files: KernelFiles = kernel_files.LINUX,
        patience: tsm.Patience = tsm.PATIENT,
    ) -> None:
        self._root = root
        self._files = files
        self._patience = patience
        self._last: snp_report.SnpReport | None = None
        self._handed: SnpEndorsements | None = None

    def quote(self, report_data: bytes) -> bytes:
        """Returns an attestation report, 1184 bytes, over 64 bytes of report data.

        1. The kernel's report, over this report data.
        2. The certificates that the host handed over with it. If they do not parse, the first report is
           refused, so that it is known before a run; of later ones those of an earlier report of the same
           key are kept, and otherwise none: a run is not lost by what a verifier can fetch.

        Raises:
            AttesterError: If there is no report, or any of this is not so.
        """
        report = tsm.request_report(  # 1
            report_data,
            provider=tsm.SNP_PROVIDER,
            root=self._root,
            files=self._files,
            patience=self._patience,
        )
        try:
            found = snp_report.parse_report(report.outblob)
        except InputError as error:
            raise AttesterError(f"snp: this machine's evidence would be rejected: {error}") from error
        _check_report_data(self.name, found.report_data, report_data)
        self._handed = self._handed_over(report.auxblob, found)  # 2
        self._last = found
        return report.outblob

    def collateral(self) -> SnpEndorsements | None:
        """Returns the certificates that the host handed over with the last report.

        Returns:
            Those there are, None if the one of the key that signed is not among them.

        Raises:
            AttesterError: If there is no report yet.
        """
        if self._last is None:
            raise AttesterError("snp: certificates come with a report, and none has been asked for")
        return self._handed

    def _handed_over(self, table: bytes, report: snp_report.SnpReport) -> SnpEndorsements | None:
        found = None
        try:
            found = snp_endorsements.handed_over(table, report)
        except InputError as error:
            if self._last is None:
                raise AttesterError(
                    f"snp: certificate table of the host: {error}; let the host hand over another, or none"
                ) from error
        if found is None and self._last is not None and _signer(self._last) == _signer(report):
            return self._handed
        return found

    def extend(self, digest: bytes) -> None:
        """Raises AttesterError: there is no such register."""
        raise AttesterError(f"snp: has no runtime register to extend with {digest.hex()}")

    def register(self) -> None:
        """Returns None: there is no such register."""
        return

    def register_log(self) -> tuple[bytes, ...]:
        """Returns nothing: there is no such register."""
        return ()

    def boot_log(self) -> None:
        """Returns None: SEV-SNP measures what a guest starts with, not how it boots."""
        return

    def close(self) -> None:
        """Does nothing: nothing is held."""


def read_boot_log(
    *, root: Path = Path("/"), files: KernelFiles = kernel_files.LINUX
) -> tuple[bytes | None, bytes]:
    """Returns the boot log without its filler, None where there is none, and RTMR[3] as the boot left it.

    Raises:
        AttesterError: If the log cannot be read or does not parse.
    """
    path = root / BOOT_LOG
    try:
        area = files.read(path, max_bytes=eventlog.MAX_LOG_BYTES)
    except FileNotFoundError:
        return None, _ZERO
    except OSError as error:
        raise AttesterError(
            f"{path}: the boot log is there but cannot be read: {error.strerror or error}; run as root"
        ) from error
    try:
        log = eventlog.trim(area)
        return log, eventlog.replay(eventlog.parse(log))[-1]
    except InputError as error:
        raise AttesterError(f"{path}: {error}") from error


def _signer(report: snp_report.SnpReport) -> tuple[int, bytes, snp_report.TcbVersion]:
    return report.signing_key, report.chip_id, report.reported_tcb


def _check_report_data(name: str, found: bytes, asked: bytes) -> None:
    if not hmac.compare_digest(found, asked):
        raise AttesterError(
            f"{name}: the quote carries other report data than was asked for: expected {asked.hex()}, "
            f"got {found.hex()}"
        )
