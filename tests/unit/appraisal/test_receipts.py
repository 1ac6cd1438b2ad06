"""Checking receipts: closed or unclosed, what they are worth, and which file they speak of."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import relay
import workshop
from workshop import NOW, put

from palm_torch import collateral_file, receipt
from palm_torch.appraisal import receipts, reservations
from palm_torch.appraisal.at_hand import NO_FILE
from palm_torch.collateral_file import CollateralFile
from palm_torch.cvm import platforms
from palm_torch.cvm.platforms import Requirements
from palm_torch.digest import sha256_digest
from palm_torch.errors import (
    ArtifactError,
    BindingError,
    ClaimError,
    CodeError,
    DataError,
    EvidenceError,
    FreshnessError,
    InputError,
    PlatformError,
    RejectedError,
    SignatureError,
    TrustAnchorError,
)
from palm_torch.result import Reservation, Tier
from palm_torch.roles import Artifact, Source

if TYPE_CHECKING:
    from pathlib import Path

    from relay import ResumedRun

    from palm_torch.cvm.certificates import TrustAnchor
    from palm_torch.cvm.platforms import Kind
    from palm_torch.policies.policy import Policy
    from palm_torch.receipt import Receipt
    from palm_torch.result import AttestationResult


def check(run: ResumedRun, found: Receipt, **options: Any) -> AttestationResult:
    given: dict[str, Any] = {"policy": run.policy(), "at": NOW, "challenge": run.request}
    return receipts.verify(found, **(given | options))


def state(run: ResumedRun, number: int) -> Receipt:
    found = run.sessions[number - 1].segment
    assert found is not None
    return found


def genuine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the simulated root pass for one of hardware, to see what a result would say then."""
    anchor = Requirements.anchor

    def hardware(requirements: Requirements, kind: Kind) -> TrustAnchor:
        return dataclasses.replace(anchor(requirements, kind), simulated=False)

    monkeypatch.setattr(Requirements, "anchor", hardware)


# Unclosed -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_receipt_alone_is_unclosed(resumed: ResumedRun, number: int) -> None:
    session = resumed.sessions[number - 1]
    result = check(resumed, session.file, time_source="somebody")
    assert (result.session, result.tier, result.simulated) == ("unclosed", Tier.WARNING, True)
    assert (result.operation, result.run_id) == ("train", session.opening.run_id)
    assert result.freshness == "challenged"
    assert result.time == "2026-11-21T12:00:00+00:00 (somebody)"
    assert result.reservations == (reservations.SIMULATED, reservations.UNCLOSED)
    assert [item.name for item in result.checks] == ["session", "signature"]
    assert receipts.NOT_CHECKED[0] in result.not_checked
    assert "the roles that the request asks for: data, model" in result.not_checked
    earlier = any("the earlier part of the run" in line for line in result.not_checked)
    assert earlier == (number > 1)


def test_what_a_receipt_says(resumed: ResumedRun) -> None:
    said = {
        claim.name: (claim.value, claim.strength) for claim in check(resumed, resumed.sessions[0].file).claims
    }
    code = (str(workshop.make_code().digest), "simulated")
    assert said == {"checkpoint": (str(sha256_digest(b"step 1")), "simulated"), "code": code}
    said = {claim.name: (claim.value, claim.strength) for claim in check(resumed, state(resumed, 2)).claims}
    content = receipt.decode_content(state(resumed, 2).envelope.payload)
    assert isinstance(content, receipt.SegmentReceipt)
    assert said == {
        "architecture": (str(content.architecture), "simulated"),
        "initial": (str(content.initial), "simulated"),
        "model": (str(content.model), "simulated"),
        "steps": ("2 taken, 0 skipped", "simulated"),
        "data dataset1": (
            f"10 records of 16 bytes (uint16[8]), {content.data['dataset1'].manifest}",
            "simulated",
        ),
        "data dataset1, eval": ("1 delivered", "simulated"),
        "data dataset1, train": ("6 delivered", "simulated"),
        "code": code,
    }


def test_a_dataset_without_a_manifest(resumed: ResumedRun) -> None:
    session = resumed.sessions[0]
    content = put(receipt.decode_content(state(resumed, 1).envelope.payload), "data.dataset1.manifest", None)
    result = check(resumed, relay.signed(content, session))
    assert "10 records of 16 bytes (uint16[8]), no manifest" in {claim.value for claim in result.claims}


def test_what_is_not_there_and_what_is_only_said(resumed: ResumedRun) -> None:
    session = resumed.sessions[0]
    content = receipt.decode_content(session.file.envelope.payload)
    assert isinstance(content, receipt.ArtifactsReceipt)
    more = {
        **content.artifacts,
        "tokenizer": Artifact(source=Source.DECLARED, kind="none", digest=None),
        "note": Artifact(source=Source.REPORTED, kind="bytes", digest=sha256_digest(b"note")),
    }
    result = check(resumed, relay.signed(dataclasses.replace(content, artifacts=more), session))
    said = {claim.name: (claim.value, claim.strength) for claim in result.claims}
    assert said["tokenizer"] == ("none", "declared")
    assert said["note"] == (str(sha256_digest(b"note")), "reported by code")


def test_even_on_hardware_an_unclosed_receipt_is_a_warning(
    resumed: ResumedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine(monkeypatch)
    result = check(resumed, resumed.sessions[2].file)
    assert (result.tier, result.simulated) == (Tier.WARNING, False)
    assert result.reservations == (reservations.UNCLOSED,)
    assert {claim.strength for claim in result.claims} == {"code"}


def test_freshness_of_an_unclosed_receipt(resumed: ResumedRun, tmp_path: Path) -> None:
    file = resumed.sessions[0].file
    result = check(resumed, file, challenge=None, freshness_rule="not_checked")
    assert result.freshness == "not_checked"
    assert reservations.NOT_CHECKED in result.reservations
    with pytest.raises(FreshnessError, match="answers a request that is not at hand"):
        check(resumed, file, challenge=None)
    with pytest.raises(FreshnessError, match="does not answer this request"):
        check(resumed, file, challenge=workshop.make_request(nonce="11" * 32))
    with pytest.raises(FreshnessError, match="the request expired at"):
        check(resumed, file, at=NOW + timedelta(days=1))
    free = relay.make_resumed_run(tmp_path / "keys", challenge=None)
    result = check(free, free.sessions[0].file, challenge=None)
    assert result.freshness == "unchallenged"
    assert reservations.UNCHALLENGED in result.reservations
    assert not any("the roles that the request asks for" in line for line in result.not_checked)


def test_code_and_packages_of_an_unclosed_receipt(resumed: ResumedRun) -> None:
    file = resumed.sessions[0].file
    result = check(resumed, file, policy=resumed.policy({"code": {"unreviewed": True}}))
    assert any(item.about == "code" for item in result.reservations)
    other = str(workshop.make_code().digest)[:-1] + "0"
    with pytest.raises(CodeError, match="is none of the 1 the policy names"):
        check(resumed, file, policy=resumed.policy({"code": {"digests": [other]}}))
    with pytest.raises(CodeError, match=r"installed packages palm-sha256:.* are none of those"):
        check(resumed, file, policy=resumed.policy({"code.packages": [other]}))


# Closed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_receipt_with_the_evidence_of_its_run_is_closed(resumed: ResumedRun, number: int) -> None:
    session = resumed.sessions[number - 1]
    for found in filter(None, (session.file, session.segment)):
        result = check(resumed, found, closing=resumed.data, time_source="somebody")
        assert (result.session, result.tier) == ("closed", Tier.WARNING)
        assert result.reservations == (reservations.SIMULATED,)
        assert result.run_id == resumed.bundle.run_id
        assert result.time == "2026-11-21T12:00:00+00:00 (somebody)"
        assert [item.name for item in result.checks][:4] == ["session", "signature", "encoding", "freshness"]
        assert receipts.NOT_CHECKED[0] not in result.not_checked


def test_on_hardware_a_closed_receipt_is_as_strong_as_its_evidence(
    resumed: ResumedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine(monkeypatch)
    result = check(resumed, resumed.sessions[1].file, closing=resumed.data)
    assert (result.tier, result.session, result.reservations) == (Tier.AFFIRMING, "closed", ())
    assert {claim.strength for claim in result.claims} == {"hardware"}
    result = check(
        resumed, resumed.sessions[1].file, closing=resumed.data, challenge=None, freshness_rule="not_checked"
    )
    assert (result.tier, result.reservations) == (Tier.WARNING, (reservations.NOT_CHECKED,))
    assert {claim.strength for claim in result.claims} == {
        "hardware"
    }  # a doubt about time, not about the claim
    unreviewed = resumed.policy({"code": {"unreviewed": True}})
    result = check(resumed, resumed.sessions[1].file, closing=resumed.data, policy=unreviewed)
    assert {claim.strength for claim in result.claims} == {"code"}


def test_the_evidence_serves_a_receipt_without_collateral(resumed: ResumedRun) -> None:
    bare = put(resumed.sessions[0].file, "session.collateral", None)
    assert check(resumed, bare, closing=resumed.data).session == "closed"
    with pytest.raises(EvidenceError, match="no collateral, which says"):
        check(resumed, bare)
    empty = put(resumed.bundle, "collateral", None).encode()
    with pytest.raises(EvidenceError, match="no collateral"):
        check(resumed, bare, closing=empty)


def test_newer_collateral_takes_the_place_of_the_receipts_own(resumed: ResumedRun) -> None:
    later = NOW + timedelta(days=40)
    options: dict[str, Any] = {"challenge": None, "freshness_rule": "not_checked", "at": later}
    fields = platforms.fields_of(workshop.machine(resumed.folder, later).collateral())
    newer = CollateralFile(type=collateral_file.TYPE, attester="tdx", collateral=fields)
    for bare in (resumed.sessions[0].file, put(resumed.sessions[0].file, "session.collateral", None)):
        assert check(resumed, bare, collateral=newer, **options).session == "unclosed"
        closed = check(resumed, bare, collateral=newer, closing=resumed.data, **options)
        assert closed.session == "closed"
    with pytest.raises(SignatureError):
        check(resumed, resumed.sessions[0].file, **options)
    with pytest.raises(SignatureError):
        resumed.verify(challenge=workshop.NEVER, freshness_rule="not_checked", at=later)


def test_evidence_of_another_run_closes_nothing(resumed: ResumedRun) -> None:
    other = relay.make(resumed.machine, resumed.request)
    for session in resumed.sessions:
        with pytest.raises(
            BindingError, match=r"closing evidence: it is of run .* in 3 sessions, none of them the"
        ):
            check(resumed, session.file, closing=other.data)


def test_evidence_that_is_rejected_closes_nothing(resumed: ResumedRun) -> None:
    file = resumed.sessions[0].file
    with pytest.raises(ClaimError, match="steps") as caught:
        check(resumed, file, closing=resumed.data, policy=resumed.policy({"claims.steps": {"greatest": 3}}))
    names = [item.name for item in caught.value.checks]  # type: ignore[attr-defined]
    assert names[:3] == ["session", "signature", "encoding"]
    with pytest.raises(EvidenceError, match="closing evidence: not a JSON document"):
        check(resumed, file, closing=b"")


def test_a_receipt_that_the_log_does_not_hold(resumed: ResumedRun) -> None:
    for number in (1, 3):
        session = resumed.sessions[number - 1]
        content = receipt.decode_content(session.file.envelope.payload)
        size = content.issued.log_size
        for path, new in (
            ("artifacts.checkpoint.digest", sha256_digest(b"never logged")),
            ("issued.sequence", 5),
            ("issued.log_size", size - 1),
            ("issued.log_size", size + 1),
            ("issued.log_size", 100),
            ("issued.log_root", sha256_digest(b"another log")),
        ):
            found = relay.signed(put(content, path, new), session)
            assert check(resumed, found).session == "unclosed"
            with pytest.raises(
                BindingError, match=r"the event log of \d entries does not hold receipt sha256:"
            ):
                check(resumed, found, closing=resumed.data)


def test_a_logged_receipt_that_names_another_log(resumed: ResumedRun) -> None:
    bend = relay.only("file", 3, lambda file: put(file, "issued.log_root", sha256_digest(b"another log")))
    run = relay.make(resumed.machine, resumed.request, bend=bend)
    with pytest.raises(BindingError, match="does not hold receipt"):
        check(run, run.sessions[2].file, closing=run.data)


def test_code_that_the_evidence_does_not_know(resumed: ResumedRun) -> None:
    more = workshop.statement.SourceFile(module="zz_extra", digest=sha256_digest(b"extra"), reason=None)
    files = (*workshop.FILES, more)
    whole = dataclasses.replace(
        workshop.make_code(), files=files, digest=workshop.statement.code_digest(files)
    )
    code = receipt.CodeSoFar.of(whole, relay.fixed_code(1))
    run = relay.make(
        resumed.machine,
        resumed.request,
        bend=relay.only("file", 3, lambda file: put(file, "issued.code", code)),
    )
    with pytest.raises(CodeError, match="source file of zz_extra is missing later"):
        check(run, run.sessions[2].file, closing=run.data)


# What every receipt needs -------------------------------------------------------------------------


def test_another_operation(resumed: ResumedRun) -> None:
    claims = {"property": "infer", "model": ["any"], "tokenizer": ["none"]}
    policy: Policy = resumed.policy({"claims": claims})
    with pytest.raises(ClaimError, match="the policy asks for 'infer', the session is of 'train'") as caught:
        check(resumed, resumed.sessions[0].file, policy=policy)
    assert [item.name for item in caught.value.checks] == ["session", "signature"]  # type: ignore[attr-defined]


def test_another_platform(resumed: ResumedRun) -> None:
    with pytest.raises(PlatformError, match="mr_td: expected"):
        check(resumed, resumed.sessions[0].file, policy=resumed.policy({"platform.tdx.mr_td": ["00" * 48]}))
    with pytest.raises(TrustAnchorError) as caught:
        check(resumed, resumed.sessions[0].file, policy=resumed.policy(hardware=True))
    assert isinstance(caught.value, RejectedError)
    assert caught.value.checks == ()


# Files at hand ------------------------------------------------------------------------------------


def test_files_at_hand(resumed: ResumedRun, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.pt", tmp_path / "bad.pt"
    good.write_bytes(b"step 1")
    bad.write_bytes(b"step 2")
    file = resumed.sessions[0].file
    for options in ({}, {"closing": resumed.data}):
        result = check(resumed, file, files={"checkpoint": good}, **options)
        assert f"{good} is the checkpoint of the receipt" in {item.detail for item in result.checks}
        with pytest.raises(ArtifactError, match=r"bad\.pt is not the checkpoint of the evidence"):
            check(resumed, file, files={"checkpoint": bad}, **options)
        with pytest.raises(DataError, match=r"gone\.pt: cannot be read"):
            check(resumed, file, files={"checkpoint": tmp_path / "gone.pt"}, **options)
        with pytest.raises(ArtifactError, match="no role 'model' to compare a file with; it has checkpoint"):
            check(resumed, file, files={"model": good}, **options)
    with pytest.raises(ArtifactError, match="no role 'model' to compare a file with; it has none"):
        check(resumed, state(resumed, 1), files={"model": good})


def test_a_role_without_a_file(resumed: ResumedRun, tmp_path: Path) -> None:
    session = resumed.sessions[0]
    content = receipt.decode_content(session.file.envelope.payload)
    assert isinstance(content, receipt.ArtifactsReceipt)
    absent = Artifact(source=Source.DECLARED, kind="none", digest=None)
    found = relay.signed(
        dataclasses.replace(content, artifacts={**content.artifacts, "tokenizer": absent}), session
    )
    with pytest.raises(ArtifactError, match="no role 'tokenizer' to compare"):
        check(resumed, found, files={"tokenizer": tmp_path})


# receipts: what the checks say in full, and that every choice of the caller reaches the closing evidence


def test_each_check_says_what_it_established(resumed: ResumedRun, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"step 1")
    found = check(resumed, resumed.sessions[0].file, files={"checkpoint": path})
    assert [(item.name, item.detail) for item in found.checks] == [
        ("session", "its begin quote leads to simulated TEE"),
        ("signature", "the receipt is signed by the session's key"),
        ("artifact", f"{path} is the checkpoint of the receipt"),
    ]
    assert found.co_location == "unproven"
    assert found.time == "2026-11-21T12:00:00+00:00 (given by the caller)"


def test_closing_evidence_is_judged_by_the_same_rule_of_freshness(resumed: ResumedRun) -> None:
    file = resumed.sessions[0].file
    with pytest.raises(FreshnessError, match="answers a request that is not at hand"):
        check(resumed, file, closing=resumed.data, challenge=None)
    found = check(resumed, file, closing=resumed.data, challenge=None, freshness_rule="not_checked")
    assert (found.session, found.freshness) == ("closed", "not_checked")
    assert reservations.NOT_CHECKED in found.reservations


def test_every_role_that_there_is_is_named(resumed: ResumedRun, tmp_path: Path) -> None:
    session = resumed.sessions[0]
    content = receipt.decode_content(session.file.envelope.payload)
    assert isinstance(content, receipt.ArtifactsReceipt)
    note = Artifact(source=Source.MEASURED, kind="bytes", digest=sha256_digest(b"note"))
    more = receipt.ArtifactsReceipt(issued=content.issued, artifacts={**content.artifacts, "note": note})
    with pytest.raises(ArtifactError, match=r"'model' to compare a file with; it has checkpoint, note$"):
        check(resumed, relay.signed(more, session), files={"model": tmp_path})


def test_a_time_has_a_zone(resumed: ResumedRun) -> None:
    with pytest.raises(InputError, match=r"^at: expected a time with a time zone$"):
        check(resumed, resumed.sessions[0].file, at=NOW.replace(tzinfo=None))


# what a receipt leaves open by itself, beside what its evidence leaves open


def on_host(run: ResumedRun, names: tuple[str, ...] = ("b", "a")) -> Receipt:
    """Returns a receipt of the first session, on files that were hashed where they lay."""
    session = run.sessions[0]
    content = receipt.decode_content(session.file.envelope.payload)
    lay = Artifact(source=Source.MEASURED, kind="file", digest=sha256_digest(b"lay there"))
    return relay.signed(put(content, "artifacts", lambda old: {**old, **dict.fromkeys(names, lay)}), session)


HASHED_WHERE_THEY_LAY = Reservation(
    about="claims",
    reason="2 files were hashed where they lay, such as a: what the script wrote may differ",
    advice=(
        "storage of the host is not to be trusted: ask for a script that hands on bytes, in run.input(...), "
        "run.output(...) or run.receipt(...), or reads its data through palm-torch"
    ),
)


def test_files_on_the_hosts_storage_are_a_reservation(resumed: ResumedRun) -> None:
    result = check(resumed, on_host(resumed))
    assert result.reservations == (reservations.SIMULATED, reservations.UNCLOSED, HASHED_WHERE_THEY_LAY)
    assert result.tier is Tier.WARNING


def test_files_on_the_hosts_storage_keep_a_closed_receipt_from_being_affirming(
    resumed: ResumedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay = Artifact(source=Source.MEASURED, kind="file", digest=sha256_digest(b"lay there"))
    bend = relay.only("file", 3, lambda file: put(file, "artifacts", {"a": lay, "b": lay}))
    run = relay.make(resumed.machine, resumed.request, bend=bend)
    genuine(monkeypatch)
    assert run.verify().tier is Tier.AFFIRMING
    result = check(run, run.sessions[2].file, closing=run.data)
    assert (result.session, result.tier) == ("closed", Tier.WARNING)
    assert result.reservations == (HASHED_WHERE_THEY_LAY,)


@pytest.mark.parametrize("closed", [False, True])
def test_that_no_file_was_compared_is_said_once_and_only_then(
    resumed: ResumedRun, tmp_path: Path, *, closed: bool
) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"step 1")
    closing = resumed.data if closed else None
    without = check(resumed, resumed.sessions[0].file, closing=closing)
    assert without.not_checked[-1] == NO_FILE
    compared = check(resumed, resumed.sessions[0].file, closing=closing, files={"checkpoint": path})
    assert compared.not_checked == without.not_checked[:-1]
    assert NO_FILE not in compared.not_checked
    assert compared.not_checked


def test_code_of_an_unclosed_receipt_that_the_policy_does_not_name(resumed: ResumedRun) -> None:
    other = str(workshop.make_code().digest)[:-1] + "0"
    with pytest.raises(CodeError) as caught:
        check(resumed, resumed.sessions[0].file, policy=resumed.policy({"code": {"digests": [other]}}))
    assert str(caught.value) == (
        f"code {workshop.make_code().digest} is none of the 1 the policy names; if the policy names the code "
        "of the whole run, some of it loaded later, give the sealed evidence with --closing"
    )


def test_collateral_that_the_closing_evidence_lacks_is_missed_in_its_name(resumed: ResumedRun) -> None:
    empty = put(resumed.bundle, "collateral", None).encode()
    with pytest.raises(EvidenceError, match=r"^closing evidence: no collateral, which says"):
        check(resumed, resumed.sessions[0].file, closing=empty)
