"""A run begins in one trust domain and ends in its twin: same image, same machine, quotes of version 5.

MRTD, RTMR[0] to RTMR[2] and the platform are equal, so nothing that a policy pins tells the two apart. What
does is RTMR[3]: each domain's own starts at its own boot, and only one of them followed the run's log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import workshop

from palm_torch import evidence, request
from palm_torch.attesting.sealing import Sealer
from palm_torch.cvm import quote, simulated
from palm_torch.errors import BindingError

if TYPE_CHECKING:
    from pathlib import Path

    from workshop import GoodRun


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("machine") / "keys"


def domain(folder: Path) -> simulated.SimulatedTdx:
    """Boots a trust domain on the machine whose keys lie in a folder."""
    return simulated.SimulatedTdx(directory=folder, clock=lambda: workshop.NOW, version=5)


@pytest.fixture(scope="module")
def run(folder: Path) -> GoodRun:
    """A run from begin to end in one domain, as the production code seals it."""
    asked = workshop.make_request()
    nonce = request.nonce_of(asked)
    sealer = Sealer(domain(folder), nonce=nonce)
    sealer.begin(workshop.make_begin(sealer.run_id, sealer.register(), nonce).encode())
    for kind, payload in workshop.EVENTS:
        sealer.record(kind, payload)
    bundle = sealer.end(workshop.make_statement(sealer.run_id).encode())
    return workshop.GoodRun(folder, domain(folder), asked, evidence.decode(bundle.encode()))


def test_attack_44_one_domain_is_accepted(run: GoodRun) -> None:
    assert run.verify().checks
    for phase in (run.bundle.begin, run.bundle.end):
        assert quote.parse_quote(phase.quote).version == 5


@pytest.mark.parametrize(("phase", "extensions"), [("begin", 1), ("end", 0), ("end", 1)])
def test_attack_44_its_twin_is_told_apart(run: GoodRun, folder: Path, phase: str, extensions: int) -> None:
    twin = domain(folder)
    for _ in range(extensions):
        twin.extend(bytes(48))
    theirs = twin.quote(workshop.report_data(run.bundle, phase))
    first, other = (quote.parse_quote(raw) for raw in (run.bundle.begin.quote, theirs))
    assert first.certificates == other.certificates  # one PPID
    assert first.td_report.mr_td == other.td_report.mr_td
    mixed = workshop.put(run.bundle, f"{phase}.quote", theirs)
    with pytest.raises(BindingError, match=r"RTMR\[3\]"):
        run.verify(mixed)
