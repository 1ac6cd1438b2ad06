"""Sealing with attesters that work, refuse, lie and recover."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
import workshop

from palm_torch import dsse, evidence, receipt, statement
from palm_torch.attesting import sealing
from palm_torch.attesting.sealing import Sealer
from palm_torch.cvm import quote, simulated_snp, simulated_snp_authority
from palm_torch.digest import SHA256, Digest, sha256_digest
from palm_torch.encoding import decode_json
from palm_torch.errors import AttesterError, EncodingError, EvidenceError, SealError, SessionError
from palm_torch.evidence import Segment
from palm_torch.receipt import ArtifactsReceipt, CodeSoFar, Issued
from palm_torch.roles import Artifact, Source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from palm_torch.cvm.collateral import Collateral
    from palm_torch.cvm.simulated import SimulatedTdx

CODE = CodeSoFar.of(workshop.make_code(), workshop.make_code())


class Bent:
    """The simulated machine, except for what a test replaces."""

    def __init__(self, machine: SimulatedTdx, **replaced: Any) -> None:
        self.machine = machine
        self.replaced = replaced

    def __getattr__(self, name: str) -> Any:
        return self.replaced[name] if name in self.replaced else getattr(self.machine, name)


@pytest.fixture
def machine(tmp_path: Path) -> SimulatedTdx:
    return workshop.machine(tmp_path / "keys")


def begun(attester: Any) -> Sealer:
    sealer = Sealer(attester, nonce=bytes(32))
    sealer.begin(workshop.make_begin(sealer.run_id, sealer.register() or "", bytes(32)).encode())
    return sealer


def end_of(sealer: Sealer) -> bytes:
    return workshop.make_statement(sealer.run_id).encode()


def test_a_run_sealed_without_events(machine: Any) -> None:
    sealer = begun(machine)
    bundle = sealer.end(end_of(sealer))
    assert bundle.log == ()
    assert bundle.run_id == sealer.run_id
    assert len(bytes.fromhex(sealer.run_id)) == sealing.RUN_ID_BYTES
    assert bundle.challenge == evidence.Challenge(kind="challenged", nonce=bytes(32))


def test_each_run_has_a_name_and_a_key_of_its_own(machine: Any) -> None:
    first, second = (begun(machine) for _ in range(2))
    one, two = first.end(end_of(first)), second.end(end_of(second))
    assert one.run_id != two.run_id
    assert one.session_key != two.session_key


def test_without_a_request_the_nonce_is_random_and_the_run_unchallenged(machine: Any) -> None:
    first, second = (Sealer(machine, nonce=None) for _ in range(2))
    assert first.request is second.request is None
    assert first.challenge.kind == "unchallenged"
    assert first.challenge.nonce != second.challenge.nonce
    assert begun(machine).request == Digest(SHA256, bytes(32))


def test_events_are_numbered_and_extend_the_register(machine: Any) -> None:
    sealer = begun(machine)
    before = machine.register()
    sealer.record("epoch", {"number": 1})
    sealer.record("epoch", {"number": 2})
    bundle = sealer.end(end_of(sealer))
    assert [entry[:30] for entry in bundle.log] == [
        b'{"payload":{"number":1},"seq":',
        b'{"payload":{"number":2},"seq":',
    ]
    assert machine.register() == workshop.extended(workshop.extended(before, bundle.log[0]), bundle.log[1])
    assert quote.parse_quote(bundle.end.quote).td_report.rtmr3 == machine.register()
    assert quote.parse_quote(bundle.begin.quote).td_report.rtmr3 == before


def test_a_platform_without_a_register_has_none_to_name(machine: Any) -> None:
    sealer = Sealer(Bent(machine, runtime_register="none", register=lambda: None), nonce=None)
    assert sealer.register() is None
    sealer.begin(b"begin")
    sealer.record("epoch", {})
    assert machine.register() == bytes(48)


def test_the_end_needs_a_beginning(machine: Any) -> None:
    with pytest.raises(SessionError, match="has not begun"):
        Sealer(machine, nonce=None).end(b"end")


# Limits -------------------------------------------------------------------------------------------


def test_a_full_log(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "MAX_LOG_ENTRIES", 3)
    sealer = begun(machine)
    sealer.record("epoch", {})
    sealer.record("epoch", {})
    register = machine.register()
    with pytest.raises(
        SealError, match="the event log holds at most 3 entries, the last of them for 'final weights'"
    ):
        sealer.record("epoch", {})
    assert machine.register() == register
    sealer.record(sealing.FINAL_WEIGHTS, {})
    assert len(sealer.end(end_of(sealer)).log) == 3


def test_an_event_too_large_to_travel_is_refused_when_it_happens(machine: Any) -> None:
    sealer = begun(machine)
    register = machine.register()
    with pytest.raises(SealError, match="event 'big': expected at most 1048576 bytes"):
        sealer.record("big", {"text": "x" * evidence.MAX_LOG_ENTRY_BYTES})
    with pytest.raises(EncodingError):
        sealer.record("odd", {"number": float("nan")})
    assert machine.register() == register
    assert sealer.end(end_of(sealer)).log == ()


def test_statements_too_large_to_travel_cannot_be_sealed(machine: Any) -> None:
    sealer = Sealer(machine, nonce=None)
    too_large = bytes(statement.MAX_STATEMENT_BYTES + 1)
    with pytest.raises(
        SealError, match="the begin statement could not be sealed: statement: expected at most"
    ):
        sealer.begin(too_large)
    sealer = begun(machine)
    with pytest.raises(SealError, match="could not be sealed: statement: expected at most"):
        sealer.end(too_large)


def test_what_could_not_be_read_again_is_not_evidence(machine: Any) -> None:
    with pytest.raises(SealError, match="could not be sealed: statement: not a JSON document"):
        begun(machine).end(b"end")


# Attesters ----------------------------------------------------------------------------------------


def refuse(*_: Any) -> Any:
    raise AttesterError("the quoting service is away")


def test_an_attester_that_refuses_at_begin(machine: Any) -> None:
    with pytest.raises(AttesterError, match="is away"):
        begun(Bent(machine, quote=refuse))


@pytest.mark.parametrize("what", ["quote", "collateral"])
def test_an_attester_that_refuses_at_the_end_can_be_asked_again(machine: Any, what: Any) -> None:
    attester = Bent(machine)
    sealer = begun(attester)
    sealer.record("epoch", {})
    attester.replaced[what] = refuse
    with pytest.raises(SealError, match="measured but could not be sealed: the quoting service is away"):
        sealer.end(end_of(sealer))
    attester.replaced.clear()
    assert len(sealer.end(end_of(sealer)).log) == 1


def test_an_event_the_register_does_not_take_is_no_event(machine: Any) -> None:
    attester = Bent(machine)
    sealer = begun(attester)
    attester.replaced["extend"] = refuse
    with pytest.raises(AttesterError):
        sealer.record("epoch", {})
    attester.replaced.clear()
    sealer.record("epoch", {})
    assert len(sealer.end(end_of(sealer)).log) == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda machine: lambda _: machine.quote(bytes(64)), "carries other report data"),
        (lambda _: lambda _: b"", "does not parse"),
        (lambda machine: lambda data: machine.quote(data) + b"\0", "does not parse"),
    ],
    ids=["another report", "nothing", "trailing byte"],
)
def test_a_quote_that_is_not_what_was_asked_for(machine: Any, wrong: Any, message: Any) -> None:
    bent: Callable[[bytes], bytes] = wrong(machine)
    with pytest.raises(AttesterError, match=message):
        begun(Bent(machine, quote=bent))
    attester = Bent(machine)
    sealer = begun(attester)
    attester.replaced["quote"] = bent
    with pytest.raises(SealError, match=message):
        sealer.end(end_of(sealer))


def nothing() -> Collateral | None:
    return None


def test_a_machine_that_does_not_know_its_collateral(machine: Any) -> None:
    sealer = begun(Bent(machine, collateral=nothing))
    assert sealer.end(end_of(sealer)).collateral is None


# Diagnosis ----------------------------------------------------------------------------------------


def test_a_failed_seal_is_written_down_and_is_no_evidence(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "palm-ab.failed.json"
    failure = SealError("the quoting service is away")
    assert sealing.diagnose(failure, run_id="ab", operation="train") == f"diagnosis in {path}"
    found = decode_json(path.read_bytes(), what="diagnosis", max_bytes=1_000)
    assert found == {
        "type": sealing.FAILED_TYPE,
        "evidence": False,
        "run_id": "ab",
        "operation": "train",
        "error": "the quoting service is away",
    }
    with pytest.raises(EvidenceError):
        evidence.decode(path.read_bytes())


def test_a_diagnosis_that_cannot_be_written_does_not_hide_the_failure(
    tmp_path: Path, monkeypatch: Any
) -> None:
    (tmp_path / "palm-ab.failed.json").mkdir()
    monkeypatch.chdir(tmp_path)
    said = sealing.diagnose(SealError("away"), run_id="ab", operation="train")
    assert said.startswith("no diagnosis was written: palm-ab.failed.json: cannot write here")


def test_receipts_are_what_the_format_spells(machine: Any) -> None:
    sealer = begun(machine)
    file = Artifact(source=Source.MEASURED, kind="file", digest=sha256_digest(b"x"))
    seen: list[Issued] = []

    def content(issued: Issued) -> ArtifactsReceipt:
        seen.append(issued)
        return ArtifactsReceipt(issued=issued, artifacts={"x": file})

    for _ in range(2):
        envelope = sealer.issue(content, CODE)
        found = receipt.decode_content(envelope.payload)
        assert found == ArtifactsReceipt(issued=seen[-1], artifacts={"x": file})
        assert found.issued.code == CODE
        assert receipt.encode_content(found) == envelope.payload


def test_collateral_of_a_segment_is_spelled_once(machine: Any) -> None:
    collected = machine.collateral()
    sealer = begun(Bent(machine, collateral=lambda: collected))
    file = Artifact(source=Source.MEASURED, kind="file", digest=sha256_digest(b"x"))
    signed = sealer.issue(lambda issued: ArtifactsReceipt(issued=issued, artifacts={"x": file}), CODE)
    own = sealer.opening()
    other = dataclasses.replace(own, collateral={"pck_crl": "another"})
    sealer.segments = tuple(Segment(session=item, log=(), receipt=signed) for item in (own, other, own))
    carried = [item.session.collateral for item in sealer.end(end_of(sealer)).segments]
    assert carried == [None, {"pck_crl": "another"}, None]


def test_without_a_beginning_nothing_is_signed(machine: Any) -> None:
    sealer = Sealer(machine, nonce=None)
    with pytest.raises(SessionError, match="has not begun"):
        sealer.opening()
    with pytest.raises(SessionError, match="has not begun"):
        sealer.issue(lambda _: pytest.fail("asked for"), CODE)


def test_a_receipt_that_is_too_large(machine: Any) -> None:
    sealer = begun(machine)
    file = Artifact(source=Source.MEASURED, kind="file", digest=sha256_digest(b"x"))
    with pytest.raises(SealError, match="could not be signed: payload"):
        sealer.issue(
            lambda issued: ArtifactsReceipt(issued=issued, artifacts={"x" * dsse.MAX_PAYLOAD_BYTES: file}),
            CODE,
        )
    assert sealer.log == ()


def test_receipts_leave_room_for_what_the_run_has_to_log(
    machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "MAX_LOG_ENTRIES", 5)
    monkeypatch.setattr(sealing, "RESERVED_ENTRIES", 3)
    sealer, file = begun(machine), Artifact(source=Source.MEASURED, kind="file", digest=sha256_digest(b"x"))

    def issue() -> None:
        sealer.issue(lambda issued: ArtifactsReceipt(issued=issued, artifacts={"a": file}), CODE)

    issue()
    issue()
    register = machine.register()
    with pytest.raises(SealError, match=r"room for 2 entries until the last .*: issue fewer of them"):
        issue()
    assert machine.register() == register
    sealer.record("initial weights", {})
    sealer.record("resumed", {})
    sealer.record(sealing.FINAL_WEIGHTS, {})
    assert len(sealer.end(end_of(sealer)).log) == 5


# What no verifier could accept --------------------------------------------------------------------


def test_an_event_that_is_interrupted_between_register_and_log_ends_the_run(machine: Any) -> None:
    """Whoever swallows the interrupt would else seal evidence that every verifier rejects."""

    class Slow(Bent):
        def extend(self, digest: bytes) -> None:
            self.machine.extend(digest)
            raise KeyboardInterrupt

    attester = Bent(machine)
    sealer = begun(attester)
    attester.replaced["extend"] = Slow(machine).extend
    with pytest.raises(KeyboardInterrupt):
        sealer.record("epoch", {})
    attester.replaced.clear()
    sealer.record("epoch", {})
    with pytest.raises(SealError, match=r"does not hold what the event log says: .* run again"):
        sealer.end(end_of(sealer))
    attester.replaced["register"] = lambda: None
    with pytest.raises(SealError, match="got None"):
        sealer.end(end_of(sealer))


def test_firmware_that_is_updated_while_the_guest_runs_ends_the_run(tmp_path: Path) -> None:
    """One bundle has one chain of certificates, and it would be of the later key alone."""
    guest = simulated_snp.SimulatedSnp(directory=tmp_path / "keys")
    updated = dataclasses.replace(simulated_snp_authority.TCB, microcode=116)

    def after_update(data: bytes) -> bytes:
        report = simulated_snp.make_report(guest._authority, data, report_id=guest._report_id)
        return simulated_snp.sign_report(
            guest._authority.vcek_key, dataclasses.replace(report, reported_tcb=updated)
        )

    attester: Any = Bent(guest)  # type: ignore[arg-type]
    sealer = Sealer(attester, nonce=bytes(32))
    sealer.begin(b"begin")
    attester.replaced["quote"] = after_update
    with pytest.raises(SealError, match=r"firmware or key was updated while it ran, .* run again"):
        sealer.end(end_of(sealer))
    attester.replaced.clear()
    assert sealer.end(end_of(sealer)).attester == "snp"
