"""One simulated vendor for all tests of hardware evidence, and the time it lives in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from palm_torch.cvm import (
    appraisal,
    certificates,
    simulated_authority,
    simulated_collateral,
    simulated_quote,
    tdx,
)

if TYPE_CHECKING:
    from palm_torch.cvm.collateral import Collateral

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
REPORT_DATA = bytes(range(64))


@dataclass(frozen=True, slots=True)
class Vendor:
    """A simulated vendor whose every statement a test can bend before it is signed."""

    authority: simulated_authority.Authority
    now: datetime = NOW

    @property
    def anchor(self) -> certificates.TrustAnchor:
        return certificates.TrustAnchor.from_certificate(self.authority.root.der, name="simulated")

    def quote(self, *, version: simulated_quote.Version = 4, **changes: bytes) -> bytes:
        report = simulated_quote.make_td_report(changes.pop("report_data", REPORT_DATA), version=version)
        fields = {name: getattr(report, name) for name in report.__slots__} | changes
        return simulated_quote.sign_quote(self.authority, type(report)(**fields))

    def collateral(self, **documents: Any) -> Collateral:
        made = {
            "tcb_info": simulated_collateral.make_tcb_info(self.now),
            "qe_identity": simulated_collateral.make_qe_identity(self.now),
            "root_crl": simulated_collateral.make_crl(self.authority.root, self.now),
            "pck_crl": simulated_collateral.make_crl(self.authority.pck_ca, self.now),
        }
        return simulated_collateral.sign_collateral(self.authority, **(made | documents))

    def verify(
        self, raw: bytes | None = None, endorsements: Collateral | None = None, *, now: datetime | None = None
    ) -> tdx.VerifiedQuote:
        return tdx.verify_quote(
            self.quote() if raw is None else raw,
            endorsements or self.collateral(),
            anchors=[certificates.INTEL_SGX_ROOT, self.anchor],
            now=now or self.now,
        )


@pytest.fixture(scope="session")
def vendor() -> Vendor:
    return Vendor(simulated_authority.make_authority(NOW))


@pytest.fixture(scope="session")
def rules() -> appraisal.TdxRules:
    return appraisal.TdxRules(
        mr_td=(simulated_quote.MR_TD.hex(),),
        rtmr0=(simulated_quote.RTMR0.hex(),),
        rtmr1=(simulated_quote.RTMR1.hex(),),
        rtmr2=(simulated_quote.RTMR2.hex(),),
    )
