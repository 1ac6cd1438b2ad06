"""The door to dcap-qvl: verdicts come through it, exceptions do not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from palm_torch.cvm import dcap, simulated_collateral


def test_verdicts(vendor: Any) -> None:
    info = simulated_collateral.make_tcb_info(vendor.now)
    info["tcbLevels"][0] |= {"tcbStatus": "OutOfDate", "advisoryIDs": ["INTEL-SA-2", "INTEL-SA-1"] * 2}
    root = vendor.authority.root.der
    verdict = dcap.verify(vendor.quote(), vendor.collateral(tcb_info=info), root=root, now=vendor.now)
    assert verdict.opinion == ("OutOfDate", ("INTEL-SA-1", "INTEL-SA-2"))
    assert str(verdict) == "OutOfDate (advisories: INTEL-SA-1, INTEL-SA-2)"
    assert str(dcap.verify(vendor.quote(), vendor.collateral(), root=root, now=vendor.now)) == (
        "UpToDate (advisories: none)"
    )


def test_refusals(vendor: Any) -> None:
    root = vendor.authority.root.der
    for raw in (b"", b"\xff" * 5000, vendor.quote()[:-1000], vendor.quote(td_attributes=bytes(8))):
        verdict = dcap.verify(raw, vendor.collateral(), root=root, now=vendor.now)
        assert verdict.opinion == (None, ())
        assert str(verdict).startswith("refused (")
    for other in (b"", b"\x30\x00", vendor.authority.pck.der):
        assert dcap.verify(vendor.quote(), vendor.collateral(), root=other, now=vendor.now).status is None


def test_times_that_it_cannot_count(vendor: Any) -> None:
    long_ago = datetime(1965, 1, 1, tzinfo=UTC)
    verdict = dcap.verify(vendor.quote(), vendor.collateral(), root=vendor.authority.root.der, now=long_ago)
    assert verdict.opinion == (None, ())
