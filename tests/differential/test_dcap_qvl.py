"""Two verifiers, one verdict: our TCB appraisal beside dcap-qvl's, on documents drawn at random.

`verify_quote` raises where the two disagree. They are known to in one case alone: where the TDX module that
runs now is worse than the one the domain was launched on, which no machine comes to, dcap-qvl looks at the
launch and this library at the worse.
"""

from __future__ import annotations

import copy
import dataclasses
import random
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from palm_torch.cvm import (
    certificates,
    simulated_authority,
    simulated_collateral,
    simulated_quote,
    tcb_documents,
    tdx,
)
from palm_torch.errors import PlatformError

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
DRAWS = 400


def near(number: int, rng: random.Random) -> int:
    return max(0, min(255, number + rng.choice((0, 0, 0, 0, 0, 0, -1, 1))))


def judged(level: dict[str, Any], statuses: tuple[str, ...], rng: random.Random) -> dict[str, Any]:
    level["tcbStatus"] = rng.choice(statuses)
    if rng.random() < 0.7:
        level["advisoryIDs"] = [f"INTEL-SA-{rng.randrange(6):05d}" for _ in range(rng.choice((0, 0, 1, 2)))]
    return level


def draw_levels(entry: dict[str, Any], rng: random.Random) -> None:
    one = entry["tcbLevels"][0]
    entry["tcbLevels"] = []
    for _ in range(rng.randrange(1, 4)):
        level = copy.deepcopy(one)
        level["tcb"]["isvsvn"] = near(level["tcb"]["isvsvn"], rng)
        statuses = ("UpToDate",) * 3 + ("OutOfDate",) * 2 + ("Revoked",) * (rng.random() < 0.2)
        entry["tcbLevels"].append(judged(level, statuses, rng))


def draw_documents(rng: random.Random) -> tuple[dict[str, Any], dict[str, Any]]:
    info, identity = simulated_collateral.make_tcb_info(NOW), simulated_collateral.make_qe_identity(NOW)
    one = info["tcbLevels"][0]
    info["tcbLevels"] = []
    for _ in range(rng.randrange(1, 5)):
        level = copy.deepcopy(one)
        for component in level["tcb"]["sgxtcbcomponents"] + level["tcb"]["tdxtcbcomponents"]:
            if rng.random() < 0.1:
                component["svn"] = near(component["svn"], rng)
        level["tcb"]["pcesvn"] = near(level["tcb"]["pcesvn"], rng)
        statuses = tcb_documents.STATUSES[: 7 if rng.random() < 0.1 else 6]
        info["tcbLevels"].append(judged(level, statuses, rng))
    for entry in (*info["tdxModuleIdentities"], identity):
        draw_levels(entry, rng)
    if rng.random() < 0.3:
        second = copy.deepcopy(info["tdxModuleIdentities"][0])
        info["tdxModuleIdentities"].append(second | {"id": rng.choice(("TDX_02", "tdx_03", "TDX_0a"))})
    if rng.random() < 0.1:
        info["tdxModuleIdentities"][0] |= rng.choice(
            (
                {"id": "tdx_01"},
                {"attributesMask": "F0" * 8},
                {"attributes": "01" * 8},
                {"mrsigner": "01" * 48},
            )
        )
    if rng.random() < 0.05:
        del info["tdxModuleIdentities"]
    if rng.random() < 0.1:
        mask = rng.choice(("FEFFFFFF", "FFFFFFFF", "FFFFFF00"))
        identity |= {"miscselect": "01000000", "miscselectMask": mask}
    if rng.random() < 0.1:
        identity["attributes"] = rng.choice(("15", "13", "11")) + 30 * "0"
    return info, identity


def draw_quote(authority: simulated_authority.Authority, rng: random.Random) -> bytes:
    version: simulated_quote.Version = rng.choice((4, 5))
    changes: dict[str, bytes] = {}
    for name in ("tee_tcb_svn", "tee_tcb_svn2")[: version - 3]:
        if rng.random() < 0.5:
            svns = bytearray(simulated_quote.TEE_TCB_SVN)
            svns[0], svns[2] = near(svns[0], rng), near(svns[2], rng)
            if rng.random() < 0.2:
                svns[1] = rng.choice((0, 1, 2, 3, 10))
            changes[name] = bytes(svns)
    if rng.random() < 0.1:
        changes["seam_attributes"] = bytes((rng.choice((1, 0x10)),)) + bytes(7)
    if rng.random() < 0.1:
        flipped = int.from_bytes(simulated_quote.TD_ATTRIBUTES, "little") ^ 1 << rng.randrange(64)
        changes["td_attributes"] = flipped.to_bytes(8, "little")
    if version == 5 and rng.random() < 0.05:
        changes["mr_service_td"] = b"\x01" * 48
    report = simulated_quote.make_td_report(bytes(64), version=version)
    return simulated_quote.sign_quote(authority, dataclasses.replace(report, **changes))


@pytest.mark.parametrize("seed", range(4))
def test_the_two_agree(seed: int) -> None:
    rng = random.Random(seed)
    authority = simulated_authority.make_authority(NOW)
    anchor = certificates.TrustAnchor.from_certificate(authority.root.der, name="simulated")
    outcomes: Counter[str] = Counter()
    for _ in range(DRAWS // 4):
        info, identity = draw_documents(rng)
        endorsements = simulated_collateral.sign_collateral(
            authority,
            tcb_info=info,
            qe_identity=identity,
            root_crl=simulated_collateral.make_crl(authority.root, NOW),
            pck_crl=simulated_collateral.make_crl(authority.pck_ca, NOW),
        )
        raw = draw_quote(authority, rng)
        try:
            verified = tdx.verify_quote(raw, endorsements, anchors=[anchor], now=NOW)
        except PlatformError as error:
            if "disagree" in str(error) and not worsened(raw):
                raise
            outcomes["refused"] += 1
        else:
            outcomes[verified.tcb_status] += 1
    assert outcomes["refused"] > DRAWS // 16
    assert len(outcomes) >= 4, outcomes


def worsened(raw: bytes) -> bool:
    """Whether the module that runs now is in some component below that of the launch."""
    launch, now = raw[54:70], raw[54 + 584 : 54 + 600]
    return raw[0] == 5 and any(after < before for before, after in zip(launch, now, strict=True))


def test_a_domain_whose_module_was_updated_under_it() -> None:
    """Both verifiers say "relaunch", not "out of date", in every combination of statuses."""
    authority = simulated_authority.make_authority(NOW)
    anchor = certificates.TrustAnchor.from_certificate(authority.root.der, name="simulated")
    report = dataclasses.replace(
        simulated_quote.make_td_report(bytes(64), version=5),
        tee_tcb_svn=bytes((3, 1, 2)) + bytes(13),
        tee_tcb_svn2=bytes((4, 1, 3)) + bytes(13),
    )
    raw = simulated_quote.sign_quote(authority, report)
    found = set()
    statuses = tcb_documents.STATUSES[:-1]
    for launch in statuses:
        for current in statuses[: statuses.index(launch) + 1]:
            info = simulated_collateral.make_tcb_info(NOW)
            higher, lower = info["tcbLevels"][0] | {"tcbStatus": current}, copy.deepcopy(info["tcbLevels"][0])
            lower["tcb"]["tdxtcbcomponents"][2]["svn"] = 2
            info["tcbLevels"] = [higher, lower | {"tcbStatus": launch, "advisoryIDs": ["INTEL-SA-00001"]}]
            module = info["tdxModuleIdentities"][0]["tcbLevels"]
            module.append({"tcb": {"isvsvn": 3}, "tcbDate": module[0]["tcbDate"], "tcbStatus": "OutOfDate"})
            endorsements = simulated_collateral.sign_collateral(
                authority,
                tcb_info=info,
                qe_identity=simulated_collateral.make_qe_identity(NOW),
                root_crl=simulated_collateral.make_crl(authority.root, NOW),
                pck_crl=simulated_collateral.make_crl(authority.pck_ca, NOW),
            )
            found.add(tdx.verify_quote(raw, endorsements, anchors=[anchor], now=NOW).tcb_status)
    assert found == {
        "TDRelaunchAdvised",
        "TDRelaunchAdvisedConfigurationNeeded",
        "OutOfDate",
        "OutOfDateConfigurationNeeded",
    }
