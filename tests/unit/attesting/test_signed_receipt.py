"""Receipts that a running session issues."""

# ruff: noqa: PT012 (the whole block of a session is under test)
from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import loops
import pytest
import yaml
from resumable import Killed, script

from palm_torch import receipt
from palm_torch.appraisal import receipts
from palm_torch.attesting.attested import attested
from palm_torch.digest import sha256_digest
from palm_torch.errors import MeasurementError, SealError
from palm_torch.policies import policy

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.attesting.session import Session
    from palm_torch.attesting.signed_receipt import SignedReceipt

pytestmark = pytest.mark.usefixtures("fresh_process")


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Session, list[SignedReceipt]]:
    file = tmp_path_factory.mktemp("files") / "step1.pt"
    file.write_bytes(b"weights")
    with attested("train") as session:
        one = script(data)
        issued = [session.receipt(note=b"before")]
        one.train(session, 1)
        issued.append(session.receipt(checkpoint=file, note=b"after"))
        one.train(session, 1)
    return session, issued


def test_it_is_believed_with_the_closing_evidence(
    run: tuple[Session, list[SignedReceipt]], tmp_path: Path
) -> None:
    session, issued = run
    rules = policy.parse(loops.policy_text(session))
    for number, item in enumerate(issued):
        found = receipt.decode(item.save(tmp_path / f"{number}.palm-receipt.json").read_bytes())
        now = datetime.now(UTC)
        assert receipts.verify(found, policy=rules, at=now).session == "unclosed"
        closing = session.evidence.bundle.encode()
        assert receipts.verify(found, policy=rules, at=now, closing=closing).session == "closed"


def test_it_names_the_files_and_its_place(run: tuple[Session, list[SignedReceipt]]) -> None:
    session, issued = run
    first, second = (receipt.decode_content(item.receipt.envelope.payload) for item in issued)
    assert isinstance(second, receipt.ArtifactsReceipt)
    assert second.subjects() == {"checkpoint": sha256_digest(b"weights"), "note": sha256_digest(b"after")}
    assert (first.issued.sequence, second.issued.sequence) == (0, 1)
    assert (first.issued.log_size, second.issued.log_size) == (0, 2)  # the first receipt, initial weights
    entries = [json.loads(entry) for entry in session.evidence.bundle.log]
    logged = [entry["payload"]["digest"] for entry in entries if entry["type"] == "receipt"]
    assert logged == [str(item.receipt.digest) for item in issued]


def test_saved_under_a_name_that_says_it_is_simulated(
    run: tuple[Session, list[SignedReceipt]], tmp_path: Path
) -> None:
    item = run[1][0]
    assert repr(item) == f"<Receipt of run {run[0].run_id}, simulated>"
    for asked, got in (
        ("a", "a"),
        ("a.pt", "a"),
        ("a.palm-receipt.json", "a"),
        ("a.simulated.palm-receipt.json", "a"),
    ):
        assert item.save(tmp_path / asked) == tmp_path / f"{got}.simulated.palm-receipt.json"
    for nowhere in ("", "x\0y", str(tmp_path / "missing" / "a")):
        with pytest.raises(SealError):
            item.save(nowhere)


def test_a_receipt_of_nothing_is_refused(data: Path) -> None:
    with (
        pytest.raises(MeasurementError, match="expected files or bytes by role"),
        attested("train") as session,
    ):
        script(data).train(session, 1)
        session.receipt()


def test_an_aborted_session_leaves_its_receipts_unclosed(data: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed), attested("train") as session:
        script(data).train(session, 1)
        item = session.receipt(note=b"half")
        raise Killed
    assert yaml.safe_load(item.receipt.encode())["session"]["run_id"] == session.run_id
    assert item.save(tmp_path / "half").exists()
