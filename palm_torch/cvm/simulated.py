"""The embedded simulated TDX machine: real formats, a root of its own, no trust.

Its quotes go through the production verifier, which learns that they are simulated from the root that its
own configuration admitted, and from nothing else.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

from palm_torch.cvm import quote, simulated_collateral, simulated_quote, simulated_state
from palm_torch.errors import AttesterError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from palm_torch.cvm.collateral import Collateral

NAME: Final = "tdx-simulated"


def _utc_now() -> datetime:
    return datetime.now(UTC)


class SimulatedTdx:
    """An attester that needs no hardware and convinces no one who did not ask for it.

    Args:
        directory: Where its keys live; by default `simulated_state.default_directory()`.
        clock: The current time, aware; collateral is dated by it.
        version: Of its quotes: 4, or 5 with a TD 1.5 body.

    Raises:
        AttesterError: If the directory cannot be used.
    """

    name: Final = NAME
    platform: Literal["tdx", "snp"] = "tdx"
    simulated: Final = True
    runtime_register: Literal["rtmr3", "none"] = "rtmr3"

    def __init__(
        self,
        *,
        directory: Path | None = None,
        clock: Callable[[], datetime] = _utc_now,
        version: simulated_quote.Version = quote.VERSION_TD10,
    ) -> None:
        self._clock = clock
        self._version = version
        self._authority = simulated_state.load_or_create(
            directory or simulated_state.default_directory(), clock=clock
        )
        self._rtmr3 = simulated_quote.RTMR_ZERO
        self._extended: list[bytes] = []

    def quote(self, report_data: bytes) -> bytes:
        """Returns a canonical quote over 64 bytes of report data.

        Raises:
            AttesterError: If the report data has another length.
        """
        if len(report_data) != quote.REPORT_DATA_BYTES:
            raise AttesterError(
                f"report data: expected {quote.REPORT_DATA_BYTES} bytes, got {len(report_data)}"
            )
        report = simulated_quote.make_td_report(report_data, rtmr3=self._rtmr3, version=self._version)
        return simulated_quote.sign_quote(self._authority, report)

    def collateral(self) -> Collateral:
        """Returns collateral made at this moment: issued an hour ago, valid for 30 days."""
        return simulated_collateral.make_collateral(self._authority, self._clock())

    def extend(self, digest: bytes) -> None:
        """Extends RTMR3: it becomes SHA-384(RTMR3 ‖ digest).

        Raises:
            AttesterError: If the digest is not 48 bytes long.
        """
        if len(digest) != quote.REGISTER_BYTES:
            raise AttesterError(
                f"RTMR3: expected a digest of {quote.REGISTER_BYTES} bytes, got {len(digest)}"
            )
        self._rtmr3 = hashlib.sha384(self._rtmr3 + digest).digest()
        self._extended.append(digest)

    def register(self) -> bytes:
        """Returns RTMR3 as it stands, 48 bytes; zero when the attester is made."""
        return self._rtmr3

    def register_log(self) -> tuple[bytes, ...]:
        """Returns the digests that extended RTMR3 since the attester was made, 48 bytes each."""
        return tuple(self._extended)

    def boot_log(self) -> bytes | None:
        """Returns the event log of the machine's boot: a simulated machine never booted."""
        return None

    def close(self) -> None:
        """Gives back what the attester holds, which is nothing."""

    def root_certificate(self) -> bytes:
        """Returns the root certificate, DER: what a verifier must be configured with to accept this."""
        return self._authority.root.der
