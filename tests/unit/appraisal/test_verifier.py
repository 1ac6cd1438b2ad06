"""The verifier, step by step: what it accepts and says, and what each of its thirteen steps refuses."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, Any

import pytest
import relay
import workshop
from workshop import NEVER, NOW, put

from palm_torch.appraisal import reservations, verifier
from palm_torch.appraisal.at_hand import NO_FILE
from palm_torch.collateral_file import CollateralFile
from palm_torch.cvm import certificates, platforms
from palm_torch.digest import sha256_digest
from palm_torch.encoding import encode_json
from palm_torch.errors import (
    ArtifactError,
    BindingError,
    ClaimError,
    CodeError,
    EncodingError,
    EvidenceError,
    FreshnessError,
    InputError,
    PalmTorchError,
    PlatformError,
    RejectedError,
    SignatureError,
    TrustAnchorError,
)
from palm_torch.evidence import GpuEvidence
from palm_torch.result import Tier
from palm_torch.sessions import openings, segments
from palm_torch.statement import CodeSource, Device, SourceFile, code_digest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from booted import BootedRun
    from relay import ResumedRun
    from workshop import GoodRun

CHECKS = [
    "encoding",
    "freshness",
    "signatures",
    "platform",
    "one machine",
    "binding",
    "event log",
    "continuation",
    "devices",
    "consistency",
    "code",
    "claims",
]


@pytest.fixture(scope="module")
def unchallenged(tmp_path_factory: pytest.TempPathFactory) -> GoodRun:
    return workshop.make_good_run(tmp_path_factory.mktemp("machine") / "keys", challenge=None)


# What is accepted, and what is said about it ------------------------------------------------------


def test_good_evidence_passes_every_check_and_is_still_only_simulated(good: GoodRun) -> None:
    result = good.verify()
    assert [check.name for check in result.checks] == CHECKS
    assert result.tier is Tier.WARNING
    assert result.simulated
    assert result.freshness == "challenged"
    assert result.operation == "train"
    assert result.run_id == good.bundle.run_id
    assert result.co_location == "unproven"
    assert result.time == f"{NOW.isoformat()} (given by the caller)"
    assert result.warnings == ("simulated TEE: no hardware vouches for any of this",)
    assert result.not_checked == (*verifier.NOT_CHECKED, NO_FILE)
    assert {claim.strength for claim in result.claims} == {"simulated", "reported by code", "declared"}


def test_evidence_under_a_hardware_root_would_be_affirming(
    good: GoodRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin of every "only a warning": nothing but simulation keeps the good run from affirming."""
    monkeypatch.setattr(platforms.Requirements, "anchor", hardware_anchor(good))
    result = good.verify(policy=good.policy(hardware=True))
    assert result.tier is Tier.AFFIRMING
    assert not result.simulated
    assert result.warnings == ()
    assert {claim.name: claim.strength for claim in result.claims}["model"] == "hardware"
    unreviewed = good.policy({"code": {"unreviewed": True}}, hardware=True)
    result = good.verify(policy=unreviewed)
    assert result.tier is Tier.WARNING
    assert {claim.name: claim.strength for claim in result.claims}["model"] == "code"


def hardware_anchor(good: GoodRun) -> Callable[[Any, Any], certificates.TrustAnchor]:
    root = certificates.TrustAnchor.from_certificate(good.machine.root_certificate(), name="hardware")
    return lambda _requirements, _kind: dataclasses.replace(root, simulated=False)


def test_what_the_policy_waves_through_is_listed_as_not_checked(good: GoodRun) -> None:
    result = good.verify(policy=good.policy({"claims.initial": ["any"], "claims.data": ["any"]}))
    assert result.not_checked[len(verifier.NOT_CHECKED) : -1] == (
        "data: the policy accepts any",
        "initial: the policy accepts any",
    )


def test_the_source_of_the_time_is_repeated(good: GoodRun) -> None:
    assert good.verify(time_source="asserted by you").time.endswith("(asserted by you)")


def test_any_time_zone_will_do(good: GoodRun) -> None:
    assert good.verify(at=NOW.astimezone(timezone(timedelta(hours=-11)))).checks


def test_a_rejection_carries_the_checks_that_had_passed(good: GoodRun) -> None:
    with pytest.raises(RejectedError) as caught:
        good.verify(good.sealed_end("run.devices", (Device("cuda", "H100", "GPU-1"),)))
    assert [check.name for check in caught.value.checks] == CHECKS[: CHECKS.index("devices")]


# Time ---------------------------------------------------------------------------------------------


class Nowhere(tzinfo):
    """A time zone that does not know its own offset."""

    def utcoffset(self, _when: datetime | None) -> None:
        return None


@pytest.mark.parametrize("zone", [None, Nowhere()])
def test_a_time_without_a_zone_is_no_time(good: GoodRun, zone: Any) -> None:
    with pytest.raises(InputError, match="with a time zone"):
        good.verify(at=NOW.replace(tzinfo=zone))


@pytest.mark.parametrize(
    ("at", "error"),
    [
        (NOW - timedelta(hours=2), SignatureError),
        (NOW + timedelta(days=31), SignatureError),
        (NOW - timedelta(days=400), TrustAnchorError),
        (datetime.min.replace(tzinfo=NOW.tzinfo), TrustAnchorError),
        (datetime.max.replace(tzinfo=NOW.tzinfo), TrustAnchorError),
    ],
)
def test_outside_the_window_of_the_collateral(unchallenged: GoodRun, at: Any, error: Any) -> None:
    with pytest.raises(error):
        unchallenged.verify(challenge=NEVER, at=at)


# 1: encoding --------------------------------------------------------------------------------


def test_evidence_that_is_not_evidence(good: GoodRun) -> None:
    with pytest.raises(EvidenceError):
        good.verify(b"{}")
    with pytest.raises(EvidenceError, match="no collateral"):
        good.verify(put(good.bundle, "collateral", None))
    with pytest.raises(EvidenceError, match="SNP endorsements: unknown key"):
        good.verify(put(good.bundle, "attester", "snp"))


# 3 to 5: quotes, platform, one machine ------------------------------------------------------------


def test_a_policy_for_hardware_refuses_the_simulated_root(good: GoodRun) -> None:
    with pytest.raises(TrustAnchorError, match="not a configured trust anchor"):
        good.verify(policy=good.policy(hardware=True))


@pytest.mark.parametrize("register", ["mr_td", "rtmr0", "rtmr1", "rtmr2"])
def test_each_register_is_pinned(good: GoodRun, register: Any) -> None:
    with pytest.raises(PlatformError, match=register):
        good.verify(policy=good.policy({f"platform.tdx.{register}": ["00" * 48]}))
    with pytest.raises(PlatformError, match="names no accepted value"):
        good.verify(policy=good.policy({f"platform.tdx.{register}": None}))


@pytest.mark.parametrize("phase", ["begin", "end"])
def test_each_phase_has_the_registers_pinned(good: GoodRun, phase: Any) -> None:
    bent = good.resealed(
        good.bundle, phases=(phase,), report=lambda report: dataclasses.replace(report, rtmr2=bytes(48))
    )
    with pytest.raises(PlatformError, match="rtmr2"):
        good.verify(bent)


def test_two_accepted_trust_domains_are_still_two(good: GoodRun) -> None:
    policy = good.policy({"platform.tdx.mr_td": [good_register(good, "mr_td"), "00" * 48]})
    bent = good.resealed(
        good.bundle, phases=("end",), report=lambda report: dataclasses.replace(report, mr_td=bytes(48))
    )
    with pytest.raises(BindingError, match="mr_td differs"):
        good.verify(bent, policy=policy)


def good_register(good: GoodRun, name: str) -> str:
    value: str = getattr(good.policy().platform.tdx, name)[0]
    return value


# 6 to 9: binding, log, continuation, devices ------------------------------------------------------


def test_log_entries_are_canonical_numbered_objects(good: GoodRun) -> None:
    first = good.bundle.log[0]
    for entry, error in (
        (b" " + first, EvidenceError),
        (b"[]", EvidenceError),
        (encode_json({"seq": 1, "type": "t", "payload": {}}), EvidenceError),
        (encode_json({"seq": False, "type": "t", "payload": {}}), EvidenceError),
        (encode_json({"type": "t", "payload": {}}), EvidenceError),
    ):
        bent = good.resealed(put(good.bundle, "log.0", entry))
        with pytest.raises(error, match="log entry 0"):
            good.verify(bent)
    assert good.verify(good.resealed(good.bundle)).checks


def test_an_empty_log_is_a_log(good: GoodRun) -> None:
    assert good.verify(good.resealed(put(good.bundle, "log", ()))).checks[6].detail.startswith("0 entries")


def test_the_register_at_begin_is_the_one_the_statement_names(good: GoodRun) -> None:
    with pytest.raises(BindingError, match="begin statement names"):
        good.verify(good.sealed_begin("register", "11" * 48))


def test_a_register_that_the_session_could_not_extend_stays_as_it_was(good: GoodRun) -> None:
    with pytest.raises(BindingError, match=r"RTMR\[3\] changed during a session that could not extend it"):
        good.verify(good.sealed_begin("register", None))
    unmoved = put(good.bundle, "begin.statement", put(good.begin, "register", None).encode())
    before = workshop.register_before(workshop.EARLIER)
    sealed = good.resealed(unmoved, report=lambda report: dataclasses.replace(report, rtmr3=before))
    said = {check.name: check.detail for check in good.verify(sealed).checks}
    assert said["event log"] == (
        "3 entries in order, their root sealed; the session could not extend RTMR[3], which stayed as it was"
    )


def test_the_register_at_end_follows_from_the_log(good: GoodRun) -> None:
    bent = good.resealed(
        good.bundle, phases=("end",), report=lambda report: dataclasses.replace(report, rtmr3=bytes(48))
    )
    with pytest.raises(BindingError, match="does not follow"):
        good.verify(bent)


OTHER_FILE = SourceFile(module="helper", digest=sha256_digest(b"edited"), reason=None)

CONTINUATION = {
    "run of the begin statement": ("begin", "run_id", "another", BindingError),
    "run of the end statement": ("end", "run.run_id", "another", BindingError),
    "operation": ("begin", "operation", "optimize", BindingError),
    "packages": ("end", "run.environment.value.packages", [], ClaimError),
    "packages at begin": ("begin", "environment.value", {}, ClaimError),
    "source of the code": ("begin", "code.source", CodeSource.SELF_REPORTED, CodeError),
    "a file at begin was another": ("begin", "code.files.1", OTHER_FILE, CodeError),
    "a file at begin is gone": ("begin", "code.files.1.module", "vanished", CodeError),
    "an input at begin was another": ("begin", "inputs.recipe.digest", sha256_digest(b"?"), ClaimError),
    "an input at begin is gone": ("end", "run.inputs", {}, ClaimError),
    "GPU state nobody vouches for": ("begin", "gpu", ({"cc": "on"},), PlatformError),
    "a GPU": ("end", "run.devices", (Device("cpu", None, None), Device("cuda", "H", "G")), PlatformError),
    "no device": ("end", "run.devices", (), PlatformError),
}


@pytest.mark.parametrize("name", CONTINUATION)
def test_what_is_sealed_and_does_not_hold_together(good: GoodRun, name: str) -> None:
    statement, path, new, error = CONTINUATION[name]
    sealed = good.sealed_begin if statement == "begin" else good.sealed_end
    with pytest.raises(error) as caught:
        good.verify(sealed(path, new))
    assert type(caught.value) is error


def test_the_run_of_the_bundle_is_that_of_the_statements(good: GoodRun) -> None:
    with pytest.raises(BindingError, match=r"different runs|is of"):
        good.verify(good.resealed(put(good.bundle, "run_id", "another")))


def test_code_may_be_loaded_after_the_begin(good: GoodRun) -> None:
    files = (*workshop.FILES, SourceFile(module="later", digest=sha256_digest(b"later"), reason=None))
    end = put(put(good.end, "run.code.files", files), "run.code.digest", code_digest(files))
    policy = good.policy({"code": {"digests": [str(code_digest(files))]}})
    assert good.verify(good.resealed(good.with_end(end.encode())), policy=policy).checks


# 11: code -----------------------------------------------------------------------------------------


def test_other_code_than_the_policy_names(good: GoodRun) -> None:
    policy = good.policy({"code": {"digests": ["palm-sha256:" + "00" * 32]}})
    with pytest.raises(CodeError, match="none of the 1 the policy names"):
        good.verify(policy=policy)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"unreviewed": True}, ["unreviewed code", "self-reported code"]),
        ({"covered_by_image": True}, []),
        ({"digests": [str(workshop.make_code().digest)]}, ["self-reported code", "unpinned packages"]),
    ],
)
def test_self_reported_code_is_a_warning_unless_the_image_covers_it(
    good: GoodRun, rule: Any, expected: list[str]
) -> None:
    reported = CodeSource.SELF_REPORTED
    begin = put(good.begin, "code.source", reported)
    bundle = put(good.with_end(put(good.end, "run.code.source", reported).encode()), "begin.statement", b"")
    bundle = good.resealed(put(bundle, "begin.statement", begin.encode()))
    warnings = good.verify(bundle, policy=good.policy({"code": rule})).warnings
    assert [item.partition(":")[0] for item in warnings[1:]] == expected


def test_statements_of_other_encodings_are_refused_though_sealed(good: GoodRun) -> None:
    for data in (b"[]", b"{}", good.bundle.end.statement + b" "):
        with pytest.raises(EvidenceError):
            good.verify(good.resealed(good.with_end(data)))
        with pytest.raises(EvidenceError):
            good.verify(good.resealed(good.with_begin(data)))


def test_an_empty_session_key_is_refused(good: GoodRun) -> None:
    with pytest.raises(InputError, match="session key"):
        good.verify(put(good.bundle, "session_key", b""))


def test_malformed_collateral_is_malformed_input(good: GoodRun) -> None:
    for name, value in (("tcb_info_signature", "AB"), ("root_ca_crl", "zz"), ("pck_crl_issuer_chain", "")):
        with pytest.raises((EncodingError, EvidenceError)):
            good.verify(put(good.bundle, f"collateral.{name}", value))


# the verifier in full sentences: each check says what it established, each refusal what was found


def refusal(good: GoodRun, bundle: Any, kind: type[PalmTorchError], **options: Any) -> str:
    with pytest.raises(kind) as caught:
        good.verify(bundle, **options)
    assert type(caught.value) is kind
    return str(caught.value)


def test_each_check_says_what_it_established(good: GoodRun) -> None:
    found = {check.name: check.detail for check in good.verify().checks}
    ppid = found["one machine"].rpartition(" ")[2]
    assert len(bytes.fromhex(ppid)) == 16
    assert found == {
        "encoding": f"{len(good.data)} bytes, canonical, version 1",
        "freshness": "answers the request at hand",
        "signatures": "begin and end quotes lead to the root that counts, simulated TEE",
        "platform": "TCB UpToDate, measurements as the policy pins them",
        "one machine": f"both quotes come from one trust domain, PPID {ppid}",
        "binding": "both quotes seal this run, these statements, this log and this session key",
        "event log": "3 entries in order, RTMR[3] replays",
        "continuation": "the end statement continues the begin statement",
        "devices": "the model lived on the CPU alone; no GPU evidence needed",
        "consistency": "weights roots, counts and multiplicities agree with each other",
        "code": "2 source files, each hashed before it ran",
        "claims": "the train claims are what the policy demands",
    }


def test_what_begin_and_end_disagree_about_is_said(good: GoodRun) -> None:
    assert refusal(good, good.sealed_end("run.run_id", "another"), BindingError) == (
        "begin statement and end statement name different runs"
    )
    assert refusal(good, good.sealed_begin("operation", "optimize"), BindingError) == (
        "begun as 'optimize', ended as 'train'"
    )
    assert refusal(good, good.sealed_end("run.inputs", {}), ClaimError) == (
        "input 'recipe' at begin is missing or another one at end"
    )
    other = good.sealed_begin("inputs.recipe.digest", sha256_digest(b"?"))
    assert refusal(good, other, ClaimError) == "input 'recipe' at begin is missing or another one at end"


def test_devices_that_nobody_vouches_for_are_named(good: GoodRun) -> None:
    assert refusal(good, good.sealed_end("run.devices", ()), PlatformError) == (
        "the statement names no device on which the measured tensors lived"
    )
    devices = (Device("cpu", None, None), Device("cuda", "H100", "GPU-1"))
    assert refusal(good, good.sealed_end("run.devices", devices), PlatformError) == (
        "tensors lived on 'cuda' ('GPU-1'), and no GPU evidence vouches for it"
    )


def test_a_register_that_does_not_follow_is_named(good: GoodRun) -> None:
    bent = good.resealed(
        good.bundle, phases=("end",), report=lambda report: dataclasses.replace(report, rtmr3=bytes(48))
    )
    assert refusal(good, bent, BindingError) == (
        "RTMR[3] of the end quote does not follow from its value at begin and the event log"
    )
    assert refusal(good, good.sealed_begin("register", "11" * 48), BindingError) == (
        "RTMR[3] of the begin quote is not the one the begin statement names"
    )


def test_what_cannot_be_appraised_is_named(good: GoodRun) -> None:
    gpu = (GpuEvidence(evidence=b"e", chain=b"c"),)
    for phase in ("begin", "end"):
        bent = good.resealed(put(good.bundle, f"{phase}.gpus", gpu))
        assert refusal(good, bent, PlatformError) == (
            "evidence of GPUs, of which the policy accepts none: no platform.gpu"
        )
    assert refusal(good, put(good.bundle, "collateral", None), EvidenceError) == (
        f"evidence: {openings.NO_COLLATERAL}"
    )


def test_malformed_bytes_are_named_as_the_caller_names_them(good: GoodRun) -> None:
    with pytest.raises(EvidenceError, match=r"^evidence: not a JSON document"):
        good.verify(b"")
    with pytest.raises(EvidenceError, match=r"^a\.json: not a JSON document"):
        verifier.verify(b"", policy=good.policy(), at=NOW, what="a.json")


def test_the_time_is_given_with_its_source(good: GoodRun) -> None:
    assert good.verify().time == f"{NOW.isoformat()} (given by the caller)"


def test_evidence_is_of_a_session_that_was_closed(good: GoodRun) -> None:
    assert good.verify().session == "closed"


def test_a_file_that_was_compared_is_a_check(good: GoodRun, tmp_path: Path) -> None:
    path = tmp_path / "recipe"
    path.write_bytes(b"recipe")
    last = good.verify(files={"recipe": path}).checks[-1]
    assert (last.name, last.detail) == ("artifact", f"{path} is the recipe of the evidence")
    path.write_bytes(b"another")
    with pytest.raises(ArtifactError, match="is not the recipe of the evidence"):
        good.verify(files={"recipe": path})


def test_without_the_request_freshness_is_required_unless_the_caller_waives_it(good: GoodRun) -> None:
    for options in ({}, {"freshness_rule": "required"}):
        with pytest.raises(FreshnessError, match="answers a request that is not at hand"):
            good.verify(challenge=NEVER, **options)
    found = good.verify(challenge=NEVER, freshness_rule="not_checked")
    assert found.freshness == "not_checked"
    assert found.reservations == (reservations.SIMULATED, reservations.NOT_CHECKED)
    assert "whether the evidence answers the request it was made for" in found.not_checked


def test_every_reservation_is_kept(good: GoodRun) -> None:
    policy = good.policy({"code": {"unreviewed": True}})
    found = good.verify(challenge=NEVER, freshness_rule="not_checked", policy=policy)
    assert [item.about for item in found.reservations] == ["platform", "freshness", "code"]


def test_the_segments_of_a_resumed_run_are_a_check(resumed: ResumedRun) -> None:
    found = resumed.verify()
    (check,) = [item for item in found.checks if item.name == "segments"]
    assert check.detail.startswith("resumed 2 times: from step 1 of session ")
    assert segments.NOT_CHECKED in found.not_checked


def test_what_a_checkpoint_said_is_compared_with_the_end(resumed: ResumedRun) -> None:
    bundle = resumed.bent(relay.only("receipt", 2, lambda state: put(state, "steps.taken", 5)))
    assert refusal(resumed, bundle, ClaimError) == "after segment 2: steps taken: 5 at the checkpoint, then 4"


# A boot log, and collateral of the verifier's own -------------------------------------------------


def test_a_boot_log_is_replayed_and_that_is_said(booted: BootedRun) -> None:
    said = {check.name: check.detail for check in booted.verify().checks}
    assert said["boot log"] == "it replays to RTMR[0] to RTMR[2] of both quotes"
    for log in (None, booted.bundle.boot_log[:-1] + b"X"):  # type: ignore[index]  # it has one
        with pytest.raises(BindingError, match="the begin statement names another boot log than the one"):
            booted.verify(put(booted.bundle, "boot_log", log))


def test_a_boot_log_that_leads_elsewhere_is_refused_at_either_quote(booted: BootedRun) -> None:
    for phase in ("begin", "end"):
        bent = booted.resealed(
            booted.bundle, phases=(phase,), report=lambda report: dataclasses.replace(report, rtmr0=bytes(48))
        )
        with pytest.raises((BindingError, PlatformError)):
            booted.verify(bent)


def test_collateral_of_the_verifiers_own_takes_the_place_of_what_travels(good: GoodRun) -> None:
    own = CollateralFile(
        type="palm-torch/collateral/v1", attester="tdx", collateral=dict(good.bundle.collateral or {})
    )
    bare = put(good.bundle, "collateral", None)
    assert [check.name for check in good.verify(bare, collateral=own).checks] == CHECKS
    stale = dict(good.bundle.collateral or {}) | {"tcb_info_signature": "00" * 64}
    with pytest.raises(SignatureError):
        good.verify(collateral=dataclasses.replace(own, collateral=stale))
    assert good.verify(put(good.bundle, "collateral", stale), collateral=own).checks
    with pytest.raises(EvidenceError, match="it is about 'tdx', the evidence is of 'snp'"):
        good.verify(put(good.bundle, "attester", "snp"), collateral=own)
