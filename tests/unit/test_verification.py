"""The door of a verifier: what goes together, what is read, and which error names what is missing."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import stamping
from cryptography.hazmat.primitives.serialization import Encoding
from workshop import NOW, pem

from palm_torch import verification
from palm_torch.cvm import timestamp
from palm_torch.errors import FreshnessError, InputError, PolicyError, RequestError

if TYPE_CHECKING:
    from pathlib import Path

    from relay import ResumedRun
    from workshop import GoodRun

    from palm_torch.result import AttestationResult


@pytest.fixture
def desk(tmp_path: Path, good: GoodRun, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.palm.json").write_bytes(good.data)
    (tmp_path / "policy.yaml").write_bytes(good.policy_text())
    (tmp_path / "request.json").write_bytes(good.request)
    return tmp_path


def check(evidence: str = "good.palm.json", **options: Any) -> AttestationResult:
    given: dict[str, Any] = {"policy": "policy.yaml", "request": "request.json", "at": NOW}
    return verification.verify(evidence, **(given | options))


def test_sealed_evidence(desk: Path) -> None:
    (desk / "log").write_bytes(b"log")
    assert check(artifacts={"log": "log"}).checks[-1].detail == "log is the log of the evidence"
    assert check(request=None, freshness="not_checked").freshness == "not_checked"
    with pytest.raises(FreshnessError, match="not at hand"):
        check(request=None)


@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"closing": "good.palm.json"}, InputError, "good.palm.json: sealed evidence; --closing goes with"),
        ({"reference_values": "values.json"}, PolicyError, "go together: give both"),
        ({"authority_key": "key.pem"}, PolicyError, "go together: give both"),
        ({"reference_values": "missing", "authority_key": "missing"}, PolicyError, "missing: cannot read"),
        ({"timestamp_root": "missing"}, PolicyError, "missing: cannot read the root certificate"),
        ({"request": "missing"}, RequestError, "missing: cannot read the request"),
    ],
)
def test_what_does_not_go_together_or_is_missing(options: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        check(**options)


@pytest.fixture
def stamped(desk: Path, good: GoodRun) -> Path:
    """Returns the folder, with a time stamp in the evidence and the root of its authority beside it."""
    authority = stamping.make_authority()
    token = timestamp.normalised(
        authority.token(good.bundle.digest_to_stamp().value), root=authority.root.certificate
    )
    (desk / "good.palm.json").write_bytes(dataclasses.replace(good.bundle, timestamp=token).encode())
    (desk / "root.pem").write_text(pem(authority.root.certificate.public_bytes(Encoding.DER)))
    return desk


@pytest.mark.usefixtures("stamped")
def test_the_time_is_the_stamps_unless_another_is_asserted() -> None:
    assert check(at=None, timestamp_root="root.pem").time.startswith(stamping.STAMPED.isoformat())
    later = stamping.STAMPED + timedelta(hours=1)
    assert check(at=later, timestamp_root="root.pem").time == f"{later.isoformat()} (asserted by you)"


@pytest.fixture
def receipt(desk: Path, resumed: ResumedRun) -> str:
    (desk / "policy.yaml").write_bytes(resumed.policy_text())
    (desk / "request.json").write_bytes(resumed.request)
    (desk / "closing.palm.json").write_bytes(resumed.data)
    (desk / "a.palm-receipt.json").write_bytes(resumed.sessions[0].file.encode())
    return "a.palm-receipt.json"


def test_a_receipt(receipt: str) -> None:
    assert check(receipt).session == "unclosed"
    closed = check(receipt, closing="closing.palm.json")
    assert (closed.session, closed.freshness) == ("closed", "challenged")
    assert closed.time.endswith("(asserted by you)")


@pytest.mark.parametrize("options", [{"seen": "seen.sqlite"}, {"timestamp_root": "missing"}])
def test_what_a_receipt_does_not_go_with(receipt: str, options: dict[str, Any], tmp_path: Path) -> None:
    if "timestamp_root" in options:
        options = {"timestamp_root": tmp_path / "root.pem"}
        (tmp_path / "root.pem").write_text("any")
    with pytest.raises(InputError, match="a receipt; time stamps, the store and opinions are for sealed"):
        check(receipt, **options)
