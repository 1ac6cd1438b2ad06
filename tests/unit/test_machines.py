"""A training run on every kind of machine, from the script's door to the verifier's verdict."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import machines
import pytest
import resumable
from machines import HARDWARE, KINDS, Place

from palm_torch import chain_verification, cli, collateral_file, evidence, statement, verification
from palm_torch.attesting import joining
from palm_torch.attesting.attested import attested, launched
from palm_torch.cvm import attester, eventlog, quote, simulated, simulated_snp
from palm_torch.digest import sha256_digest
from palm_torch.errors import AttesterError, BindingError, EvidenceError, TrustAnchorError
from palm_torch.result import AttestationResult, Tier

if TYPE_CHECKING:
    from collections.abc import Iterator

    from palm_torch.attesting.session import Session
    from palm_torch.evidence import Bundle

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("fresh_process")]

TDX_HARDWARE = ("tdx", "tdx v5")


@pytest.fixture(autouse=True)
def _not_announced() -> None:
    attester._announce.cache_clear()


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.chdir(tmp_path)
    kind, _, door = request.param.partition(" through ")
    with machines.in_place(kind, tmp_path, monkeypatch, door=door or "stand-in") as made:
        yield made


on = pytest.mark.parametrize


class Sealed(NamedTuple):
    """A run whose evidence was saved, and a policy that accepts it."""

    path: Path
    policy: Path
    bundle: Bundle

    def verify(self, bundle: Bundle | None = None, **options: Any) -> AttestationResult:
        path = self.path
        if bundle is not None:
            path = path.with_name("bent.palm.json")
            path.write_bytes(bundle.encode())
        return verification.verify(path, policy=self.policy, **options)


def trained(data: Path, place: Place, **options: Any) -> Session:
    with attested("train", **(place.options | options)) as run:
        resumable.script(data).train(run, 2)
    assert not isinstance(run, Place)
    return run


def sealed(run: Session, name: str = "run") -> Sealed:
    path = run.evidence.save(f"{name}.palm.json")
    policy = Path(f"{name}.yaml")
    assert cli.main(["policy", "init", str(path), "--simulated-root", "auto", "-o", str(policy)]) == 0
    return Sealed(path, policy, run.evidence.bundle)


# Every kind ---------------------------------------------------------------------------------------


@on("place", [*KINDS, "tdx through fuse"], indirect=True)
def test_a_run_is_sealed_and_accepted(data: Path, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    made = sealed(trained(data, place))
    assert made.path.name == ("run.simulated.palm.json" if place.kernel is None else "run.palm.json")
    assert made.bundle.attester == place.platform
    result = made.verify()
    assert (result.tier, result.simulated, result.session) == (Tier.WARNING, True, "closed")
    checks = {check.name: check.detail for check in result.checks}
    assert ("boot log" in checks) == (place.kernel is not None and place.platform == "tdx")
    assert checks["event log"].endswith(
        "no runtime register" if place.platform == "snp" else "RTMR[3] replays"
    )
    assert cli.main(["verify", str(made.path), "--policy", str(made.policy)]) == cli.ACCEPTED
    out = capsys.readouterr().out
    assert out.splitlines()[-1].startswith("ACCEPTED (warning): ")
    assert "NO. A simulated machine made it" in out


@on("place", [kind for kind in KINDS if " " not in kind], indirect=True)
def test_a_receipt_is_closed_by_its_evidence(data: Path, place: Place) -> None:
    with attested("train", **place.options) as run:
        resumable.script(data).train(run, 1)
        issued = run.receipt(note=b"half way")
    made = sealed(run)
    file = issued.save("note.palm-receipt.json")
    assert file.name.startswith("note.simulated.") == (place.kernel is None)
    options: dict[str, Any] = {"policy": made.policy, "artifacts": {"note": "note.txt"}}
    Path("note.txt").write_bytes(b"half way")
    assert verification.verify(file, **options).session == "unclosed"
    assert verification.verify(file, closing=made.path, **options).session == "closed"


@on("place", [kind for kind in KINDS if " " not in kind], indirect=True)
def test_a_run_goes_on_from_a_checkpoint(data: Path, place: Place) -> None:
    file = resumable.saved(data, steps=2, **place.options)
    made = sealed(resumable.finished(data, file, steps=2, **place.options))
    (segment,) = made.bundle.segments
    assert segment.session.collateral is None
    checks = {check.name: check.detail for check in made.verify().checks}
    assert checks["segments"].startswith("resumed once: from step 2 of session ")
    end = statement.decode(made.bundle.end.statement)
    assert end.claims.steps.taken == 4  # type: ignore[union-attr]  # of a training run


@on("place", ["simulated-snp"], indirect=True)
def test_runs_of_different_machines_in_one_chain(data: Path, place: Place, capsys: Any) -> None:
    one = sealed(trained(data, place), "one")
    other = sealed(trained(data, dataclasses.replace(place, name="simulated")), "other")
    policies = [one.policy, other.policy]
    verified = chain_verification.verify_chain([one.path, other.path], policies=policies)
    assert [result.tier for result in verified.results.values()] == [Tier.WARNING] * 2
    with pytest.raises(TrustAnchorError, match=f"{other.path}: quote: PCK certificate chain"):
        chain_verification.verify_chain([one.path, other.path], policies=policies[:1])
    words = [str(one.path), str(other.path), "--policy", str(one.policy), "--policy", str(other.policy)]
    assert cli.main(["verify", *words]) == cli.ACCEPTED
    assert "ACCEPTED (warning)" in capsys.readouterr().out.splitlines()[-1]


# What tells machines apart ------------------------------------------------------------------------


class Moved:
    """An attester that asks another machine for its second quote."""

    def __init__(self, first: Any, then: Any) -> None:
        self._first, self._then = first, then
        self._asked = 0

    def quote(self, report_data: bytes) -> bytes:
        self._asked += 1
        quoted: bytes = (self._first if self._asked == 1 else self._then).quote(report_data)
        return quoted

    def __getattr__(self, name: str) -> Any:
        return getattr(self._first, name)


@on("kind", [simulated_snp.SimulatedSnp, simulated.SimulatedTdx])
def test_a_run_that_moved_to_a_twin_on_the_same_machine(
    data: Path, tmp_path: Path, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(attester, "select", lambda _: Moved(kind(), kind()))
    made = sealed(trained(data, Place("", "tdx", None, None)))
    with pytest.raises(BindingError, match=r"report_id|does not follow from its value at begin"):
        made.verify()


# Hardware -----------------------------------------------------------------------------------------


@on("place", TDX_HARDWARE, indirect=True)
def test_a_session_begins_where_the_one_before_left_the_register(data: Path, place: Place) -> None:
    assert place.kernel is not None
    by_boot = eventlog.runtime_digests(eventlog.parse(machines.BOOT))
    first = trained(data, place).evidence.bundle
    assert first.boot_log == machines.BOOT
    assert first.register_log == by_boot
    left = quote.parse_quote(first.end.quote).td_report.rtmr3
    assert place.kernel.register == left
    second = sealed(trained(data, place))
    assert second.bundle.register_log[: len(by_boot)] == by_boot
    assert len(second.bundle.register_log) == len(by_boot) + len(first.log)
    begin = statement.decode_begin(second.bundle.begin.statement)
    assert begin.register == left.hex()
    assert begin.boot_log == sha256_digest(machines.BOOT)
    assert second.verify().checks


@on("place", ["simulated", "tdx", "snp"], indirect=True)
def test_a_launched_session_gives_way_to_one_that_resumes(data: Path, place: Place) -> None:
    """The one before has extended the register already: the one that resumes begins after it."""
    before = resumable.opened(resumable.saved(data, steps=1, **place.options))
    given = None if place.collateral is None else str(place.collateral)
    launched(
        "train", request=None, attester=place.name, collateral=given, opened=dict, command=["train.py"]
    ).__enter__()
    try:
        with attested("train", resume=before["palm"]) as run:
            resumable.script(data).load(before).train(run, 1)
    finally:
        joining.withdraw()
    made = sealed(run)
    assert made.bundle.collateral is not None
    assert made.verify().checks
    if place.kernel is not None and place.platform == "tdx":
        assert quote.parse_quote(made.bundle.end.quote).td_report.rtmr3 == place.kernel.register


@on("place", ["tdx"], indirect=True)
def test_one_session_at_a_time(data: Path, place: Place) -> None:
    with attested("train", **place.options) as run:
        resumable.script(data).train(run, 1)
        with pytest.raises(AttesterError, match="one session at a time can have it, and process "):
            attester.select(place.name).quote(bytes(64))
    assert sealed(run).verify().checks
    with contextlib.suppress(ZeroDivisionError), attested("train", **place.options):
        raise ZeroDivisionError
    assert sealed(trained(data, place), "later").verify().checks  # what ended badly gave the register back


def without(part: str) -> Any:
    return lambda bundle: dataclasses.replace(bundle, **{part: None})


REGISTER_LOG = (
    "RTMR\\[3\\] of the begin quote: its log replays to",
    "RTMR\\[3\\] of the begin quote is not zero, and no log explains it",
)
EDITED: dict[str, tuple[Any, str]] = {
    "no boot log": (without("boot_log"), "names another boot log than the one it travels with"),
    "another boot log": (
        lambda bundle: dataclasses.replace(bundle, boot_log=bundle.boot_log.replace(b"kernel", b"kernal")),
        "names another boot log than the one it travels with",
    ),
    "no register log": (lambda bundle: dataclasses.replace(bundle, register_log=()), REGISTER_LOG[1]),
    "a digest less": (
        lambda bundle: dataclasses.replace(bundle, register_log=bundle.register_log[:-1]),
        REGISTER_LOG[0],
    ),
    "a digest more": (
        lambda bundle: dataclasses.replace(bundle, register_log=(*bundle.register_log, bytes(48))),
        REGISTER_LOG[0],
    ),
    "digests exchanged": (
        lambda bundle: dataclasses.replace(bundle, register_log=bundle.register_log[::-1]),
        REGISTER_LOG[0],
    ),
}


@on("place", ["tdx"], indirect=True)
def test_logs_that_are_missing_or_edited(data: Path, place: Place) -> None:
    trained(data, place)
    made = sealed(trained(data, place))
    for name, (edit, said) in EDITED.items():
        with pytest.raises(BindingError, match=said):
            pytest.fail(f"{name}: {made.verify(edit(made.bundle))}")
    assert made.verify(dataclasses.replace(made.bundle)).checks


@on("place", ["tdx"], indirect=True)
def test_a_register_that_something_else_extended(data: Path, place: Place) -> None:
    assert place.kernel is not None
    place.kernel.register = bytes(range(48))
    with (
        pytest.raises(AttesterError, match="something else has extended it"),
        attested("train", **place.options),
    ):
        resumable.script(data)


@on("place", ["tdx"], indirect=True)
def test_a_kernel_whose_register_nobody_may_extend(data: Path, place: Place) -> None:
    assert place.kernel is not None
    trained(data, place)
    place.kernel.register_mode = 0o444
    made = sealed(trained(data, place))
    assert statement.decode_begin(made.bundle.begin.statement).register is None
    assert made.bundle.register_log  # what the boot, and who came before, extended it with
    checks = {check.name: check.detail for check in made.verify().checks}
    assert "could not extend RTMR[3]" in checks["event log"]
    with pytest.raises(BindingError, match="no log explains it"):
        made.verify(dataclasses.replace(made.bundle, register_log=()))


# Collateral ---------------------------------------------------------------------------------------


def other_kind(place: Place) -> Path:
    """Returns a collateral file about the other kind of machine."""
    machine: Any = simulated.SimulatedTdx() if place.platform == "snp" else simulated_snp.SimulatedSnp()
    path = Path("other.json")
    content = collateral_file.CollateralFile(
        type=collateral_file.TYPE,
        attester=machine.platform,
        collateral=machines.platforms.fields_of(machine.collateral()),
    )
    collateral_file.write(path, content)
    return path


@on("place", HARDWARE[::2], indirect=True)
def test_a_verifier_brings_the_collateral(
    data: Path, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    with attested("train", attester=place.name) as run:
        resumable.script(data).train(run, 1)
        issued = run.receipt(note=b"n").save("n.palm-receipt.json")
    made = sealed(run)
    assert made.bundle.collateral is None
    words = ["--policy", str(made.policy)]
    given = ["--collateral", str(place.collateral)]
    for path in (made.path, issued):
        capsys.readouterr()
        assert cli.main(["verify", str(path), *words]) == cli.MALFORMED
        said = capsys.readouterr()
        assert "fetch it with `palm-torch collateral fetch EVIDENCE -o FILE`" in said.out + said.err
        assert cli.main(["verify", str(path), *words, *given]) == cli.ACCEPTED
        assert (
            cli.main(["verify", str(path), *words, "--collateral", str(other_kind(place))]) == cli.MALFORMED
        )
        said = capsys.readouterr()
        assert "fetch collateral for this evidence" in said.out + said.err
    with pytest.raises(EvidenceError, match="no collateral"):
        verification.verify(issued, policy=made.policy, closing=made.path)
    closed = verification.verify(issued, policy=made.policy, closing=made.path, collateral=place.collateral)
    assert closed.session == "closed"


@on("place", HARDWARE[::2], indirect=True)
def test_a_resumed_run_needs_collateral(data: Path, place: Place) -> None:
    file = resumable.saved(data, steps=1, attester=place.name)
    with pytest.raises(EvidenceError, match="segment 1: no collateral"):
        resumable.finished(data, file, steps=1, attester=place.name)
    with pytest.raises(EvidenceError, match="fetch collateral for this evidence"):
        resumable.finished(data, file, steps=1, attester=place.name, collateral=other_kind(place))
    assert sealed(resumable.finished(data, file, steps=1, **place.options)).verify().checks


@on("place", ["snp"], indirect=True)
def test_certificates_that_the_host_hands_over_travel(data: Path, place: Place) -> None:
    assert place.kernel is not None
    chain = simulated_snp.SimulatedSnp()._authority.chain
    place.kernel.certificates = machines.certificate_table(*chain)
    made = sealed(trained(data, dataclasses.replace(place, collateral=None)))
    result = made.verify()
    assert any("revocation" in line for line in result.not_checked)
    newer = made.verify(collateral=place.collateral)
    assert not any("revocation" in line for line in newer.not_checked)


@on("place", ["simulated"], indirect=True)
def test_collateral_of_the_other_kind_is_refused_at_the_door(place: Place) -> None:
    with pytest.raises(EvidenceError, match="it is about 'snp', the evidence is of 'tdx'"):
        attested("train", attester=place.name, collateral=other_kind(place))  # and not after the training


# What a person sees -------------------------------------------------------------------------------


@on("place", ["tdx", "snp", "simulated-snp"], indirect=True)
def test_inspect_shows_it(data: Path, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    trained(data, place)
    path = trained(data, place).evidence.save("run.palm.json")
    assert cli.main(["inspect", str(path)]) == cli.ACCEPTED
    out = capsys.readouterr().out
    if place.platform == "tdx":
        assert f"4 events in {len(machines.BOOT)} bytes; --json shows them" in out
        found = evidence.decode(path.read_bytes()).register_log
        assert f"{len(found)} digests that extended RTMR[3] before the session began" in out
    else:
        assert any(line.split() == ["register", "log", "none"] for line in out.splitlines())
        for shown in ("begin measurement", "end report_id", "begin chip_id"):
            assert shown in out
    assert max(map(len, out.splitlines())) <= 160
    assert cli.main(["inspect", str(path), "--json"]) == cli.ACCEPTED
    out = capsys.readouterr().out
    assert ('"rtmr3"' in out) == (place.platform == "tdx")
