"""A good run on a simulated trust domain that was booted: its log explains all its runtime registers."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

import boot_log
import workshop
from workshop import put

from palm_torch.cvm import eventlog, simulated, simulated_quote
from palm_torch.digest import sha256_digest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from palm_torch.cvm.quote import TdReport
    from palm_torch.evidence import Bundle

EVENTS: Final = (
    boot_log.event(1, b"firmware"),
    boot_log.event(2, b"kernel"),
    boot_log.event(3, b"command line"),
    boot_log.event(4, b"by the boot loader"),
)
LOG: Final = boot_log.log(EVENTS)
BY_BOOT: Final = eventlog.runtime_digests(eventlog.parse(LOG))
"""What the boot extended RTMR[3] with."""

_NAMES: Final = ("rtmr0", "rtmr1", "rtmr2")
REGISTERS: Final = dict(zip(_NAMES, eventlog.replay(eventlog.parse(LOG))[:3], strict=True))


class BootedTdx(simulated.SimulatedTdx):
    """A simulated trust domain with a boot behind it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for digest in BY_BOOT:
            self.extend(digest)

    def quote(self, report_data: bytes) -> bytes:
        report = simulated_quote.make_td_report(report_data, rtmr3=self.register())
        return simulated_quote.sign_quote(self._authority, with_registers(report))

    def boot_log(self) -> bytes | None:
        return LOG


def with_registers(report: TdReport) -> TdReport:
    """Returns a report with the registers that the boot log leads to."""
    return dataclasses.replace(report, **REGISTERS)


class BootedRun(workshop.GoodRun):
    """A run that was sealed on it."""

    def policy_text(self, changes: dict[str, Any] | None = None, *, hardware: bool = False) -> bytes:
        """Returns the policy as YAML, as `GoodRun.policy_text` does."""
        own = {f"platform.tdx.{name}": [value.hex()] for name, value in REGISTERS.items()}
        return super().policy_text(own | (changes or {}), hardware=hardware)

    def resealed(
        self,
        bundle: Bundle,
        *,
        report: Callable[[TdReport], TdReport] = lambda report: report,
        **options: Any,
    ) -> Bundle:
        """Signs a bundle as it stands, as `GoodRun.resealed` does."""
        return super().resealed(bundle, report=lambda made: report(with_registers(made)), **options)

    def with_boot_log(self, log: bytes | None) -> Bundle:
        """Returns validly sealed evidence with another boot log, which the begin statement names too."""
        named = put(self.begin, "boot_log", None if log is None else sha256_digest(log))
        return self.resealed(put(self.with_begin(named.encode()), "boot_log", log))


def make_booted_run(folder: Path) -> BootedRun:
    """Seals a good run with the production `Sealer`, for the usual request."""
    attester = BootedTdx(directory=folder, clock=lambda: workshop.NOW)
    good = workshop.sealed_on(attester, folder, workshop.make_request())
    return BootedRun(folder=folder, machine=attester, request=good.request, bundle=good.bundle)
