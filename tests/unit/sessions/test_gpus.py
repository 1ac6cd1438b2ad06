"""The GPUs of a session: what is asked of them at each end, and what came with them."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import composite_run
import pytest
import relay
from workshop import NOW, put

from palm_torch.appraisal import receipts
from palm_torch.cvm import (
    gpu_names,
    gpu_rules,
    gpu_state,
    ocsp,
    rim,
    simulated_gpu,
    simulated_gpu_authority,
    simulated_rim,
)
from palm_torch.errors import (
    BindingError,
    EvidenceError,
    PlatformError,
    RejectedError,
    SignatureError,
    TrustAnchorError,
)
from palm_torch.evidence import GpuEndorsements, ReferenceManifest
from palm_torch.sessions import gpu_evidence, gpus, openings, seals, segments
from palm_torch.statement import Device

if TYPE_CHECKING:
    from composite_run import CompositeRun
    from relay import ResumedRun

    from palm_torch.evidence import Bundle

UUID = "GPU-simulated-0"


def attested(run: CompositeRun, **options: Any) -> gpus.Attested:
    """Verifies the GPUs at begin, as a verifier does that has what the run brought."""
    requirements = run.policy().platform.requirements()
    options.setdefault("requirements", requirements)
    if "at_hand" not in options:
        options["at_hand"] = gpus.read(
            run.bundle.gpu_endorsements, None, requirements=options["requirements"], now=NOW
        )
    phase = options.pop("phase", run.bundle.begin)
    said = options.pop("said", run.begin.gpu)
    return gpus.verify(phase, said, seals.begin_context(run.bundle.opening), **{"now": NOW, **options})


def endorsements(run: CompositeRun) -> GpuEndorsements:
    found = run.bundle.gpu_endorsements
    assert found is not None
    return found


def another_rim(run: CompositeRun, version: str = "560.35.03") -> ReferenceManifest:
    """Returns a well-signed manifest of a driver, by default one that no GPU here runs."""
    golden = simulated_gpu.golden(simulated_gpu.DRIVER_INDICES)
    xml = simulated_rim.make_rim(run.gpus._rims, version=version, golden=golden)
    return ReferenceManifest(id=gpu_names.driver_rim_id("GH100", version), xml=xml)


def test_the_gpus_of_a_good_run_are_verified(composite: CompositeRun, pair: CompositeRun) -> None:
    for run in (composite, pair):
        found = attested(run)
        assert [item.chip_id for item in found.gpus] == run.chip_ids
        assert [state.to_json() for state in found.states] == list(run.begin.gpu)
        assert found.simulated
        assert all(item.rims is not None and item.revocation.complete for item in found.gpus)


def test_without_rules_nothing_is_spoken_of(composite: CompositeRun) -> None:
    none = dataclasses.replace(composite.policy().platform.requirements(), gpu=None)
    empty = put(composite.bundle.begin, "gpus", ())
    for options in ({}, {"phase": empty}, {"said": ()}):
        with pytest.raises(PlatformError, match=r"policy accepts none: no platform\.gpu"):
            attested(composite, requirements=none, at_hand=gpus.NOTHING, **options)
    found = attested(composite, requirements=none, at_hand=gpus.NOTHING, phase=empty, said=())
    assert found == gpus.Attested((), ())
    assert not found.simulated
    with pytest.raises(PlatformError, match=r"policy accepts none: no platform\.gpu"):
        gpus.read(endorsements(composite), None, requirements=none, now=NOW)
    assert gpus.read(None, endorsements(composite), requirements=none, now=NOW) == gpus.NOTHING


def test_missing_manifests_are_asked_for_by_name(composite: CompositeRun) -> None:
    with pytest.raises(PlatformError) as caught:
        attested(composite, at_hand=gpus.NOTHING)
    assert str(caught.value) == (
        "GPU 0: the policy requires reference measurements, and none came with the evidence: fetch NVIDIA's "
        "manifests NV_GPU_DRIVER_GH100_550.90.07 and NV_GPU_VBIOS_SIM0_0200_882_96009F0001, and give each "
        "with --rim FILE"
    )
    lenient = put(composite.policy().platform.requirements(), "gpu.require_rims", new=False)
    assert attested(composite, requirements=lenient, at_hand=gpus.NOTHING).gpus[0].rims is None


@pytest.mark.parametrize(
    ("said", "error", "message"),
    [
        ((), PlatformError, "GPU states: expected 1, one for each GPU, got 0"),
        ([{"cc_mode": "off"}], PlatformError, "GPU 0: state: expected confidential computing to be on"),
        ([{"devtools": True}], PlatformError, "GPU 0: state: DevTools are on"),
        ([{"driver": "1.0"}], PlatformError, "GPU 0: state: driver: expected 550.90.07 of the report"),
        ([{"cc_mode": "ON"}], EvidenceError, "GPU 0: state.cc_mode: expected one of 'on', 'off', got 'ON'"),
        ([{"devtools": 0}], EvidenceError, "GPU 0: state.devtools: expected bool"),
        ([{"color": "red"}], EvidenceError, "GPU 0: state: unknown key 'color'"),
    ],
)
def test_states_are_as_the_rules_and_the_reports_say(
    composite: CompositeRun, said: Any, error: type[Exception], message: str
) -> None:
    (state,) = composite.begin.gpu
    with pytest.raises(error, match=f"^{message}"):
        attested(composite, said=[{**state, **change} for change in said])


def test_a_state_there_and_back(composite: CompositeRun) -> None:
    (state,) = composite.gpus.state()
    assert gpu_state.from_json(state.to_json(), what="state") == state
    for name in state.to_json():
        rest = {key: value for key, value in state.to_json().items() if key != name}
        with pytest.raises(EvidenceError, match=f"^state: missing key '{name}'"):
            gpu_state.from_json(rest, what="state")


def test_two_gpus_do_not_share_a_name(pair: CompositeRun) -> None:
    said = [{**state, "uuid": UUID} for state in pair.begin.gpu]
    with pytest.raises(PlatformError, match="two GPUs have one UUID"):
        attested(pair, said=said)


@pytest.mark.parametrize(
    "changes",
    [{"vbios": "96.00.9F.00.02"}, {"name": "Another GPU"}, {"uuid": UUID}, {"multi_gpu_mode": "unknown"}],
)
def test_both_ends_say_the_same(composite: CompositeRun, changes: dict[str, Any]) -> None:
    bundle = composite.with_states(phases=("end",), **changes)
    with pytest.raises(RejectedError, match=r"^GPU 0: (its state at begin was|state: )"):
        composite.verify(bundle)


# Endorsements -------------------------------------------------------------------------------------


def test_the_verifiers_own_files_take_the_place_of_those_that_came(composite: CompositeRun) -> None:
    came = endorsements(composite)
    bare = put(composite.bundle, "gpu_endorsements", None)
    assert composite.verify(bare, gpu_files=came).checks
    broken = dataclasses.replace(came, rims=(ReferenceManifest(id="a", xml=b"<a/>"),), ocsp=())
    with pytest.raises(EvidenceError, match=r"^RIM 0: "):
        composite.verify(put(composite.bundle, "gpu_endorsements", broken))
    own = GpuEndorsements(rims=came.rims, ocsp=(), crls=())
    assert composite.verify(put(composite.bundle, "gpu_endorsements", broken), gpu_files=own).checks
    more = GpuEndorsements(rims=(*came.rims, another_rim(composite)), ocsp=(), crls=())
    assert composite.verify(gpu_files=more).checks  # a collection of one's own may hold more


def test_what_came_is_about_some_gpu(composite: CompositeRun, pair: CompositeRun) -> None:
    came = endorsements(composite)
    crl = simulated_gpu_authority.make_crl(composite.gpus._authority.root, NOW)
    stranger = simulated_gpu_authority.make_crl(
        simulated_gpu_authority.make_issuer("Somebody Else", None, NOW - timedelta(days=1)), NOW
    )
    for changes, idle in (
        ({"rims": (another_rim(composite), *came.rims)}, r"rims\[0\]"),
        ({"ocsp": (*came.ocsp, endorsements(pair).ocsp[0])}, rf"ocsp\[{len(came.ocsp)}\]"),
        ({"crls": (crl, stranger)}, r"crls\[1\]"),
    ):
        bundle = put(composite.bundle, "gpu_endorsements", dataclasses.replace(came, **changes))
        with pytest.raises(EvidenceError, match=f"^GPU endorsements: {idle} is about no GPU"):
            composite.verify(bundle)
    with_list = dataclasses.replace(came, crls=(crl,))
    assert composite.verify(put(composite.bundle, "gpu_endorsements", with_list)).checks


def test_what_came_of_no_gpu_is_refused(composite: CompositeRun) -> None:
    rules = {"platform.gpu": {"count": 0}}
    states = put(put(composite.begin, "gpu", ()), "run_id", composite.bundle.run_id)
    bundle = put(composite.bundle, "begin.statement", states.encode())
    bundle = put(bundle, "end.statement", put(composite.end, "run.gpu", ()).encode())
    bundle = composite.attested_again(bundle, lambda *_: ())
    with pytest.raises(EvidenceError, match=r"^GPU endorsements: ocsp\[0\] is about no GPU"):
        composite.verify(bundle, policy=composite.policy(rules))
    assert composite.verify(put(bundle, "gpu_endorsements", None), policy=composite.policy(rules)).checks


def test_a_manifest_comes_once_however_it_is_spelled(composite: CompositeRun) -> None:
    came = endorsements(composite)
    again = another_rim(composite, composite_run.DRIVER)
    assert again not in came.rims  # another signature over the same words
    bundle = put(composite.bundle, "gpu_endorsements.rims", (*came.rims, again))
    with pytest.raises((EvidenceError, PlatformError)):
        composite.verify(bundle)


def test_a_manifest_twice_by_its_digest(composite: CompositeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    verified = rim.verify_rim(
        endorsements(composite).rims[0].xml,
        anchors=(composite.policy().platform.requirements().rim_anchor,),
        now=NOW,
    )
    monkeypatch.setattr(rim, "verify_rim", lambda *_, **__: verified)
    with pytest.raises(EvidenceError, match="a reference manifest came twice"):
        composite.verify()


def test_roots_are_the_verifiers_choice(composite: CompositeRun, pair: CompositeRun) -> None:
    others = pair.policy().platform
    for name, root in (
        ("simulated_gpu_root", others.simulated_gpu_root),
        ("simulated_rim_root", others.simulated_rim_root),
        ("simulated_gpu_root", None),
        ("simulated_rim_root", None),
    ):
        with pytest.raises(TrustAnchorError):
            composite.verify(policy=composite.policy({f"platform.{name}": root}))


def test_a_revoked_signer_of_manifests_is_refused(composite: CompositeRun) -> None:
    authority = composite.gpus._rims
    crl = simulated_gpu_authority.make_crl(authority.product, NOW, [authority.signer.certificate])
    with pytest.raises(SignatureError):
        composite.verify(put(composite.bundle, "gpu_endorsements.crls", (crl,)))
    with pytest.raises(SignatureError):
        composite.verify(gpu_files=GpuEndorsements(rims=(), ocsp=(), crls=(crl,)))


def test_status_is_demanded_where_the_policy_says_so(composite: CompositeRun) -> None:
    rules = composite.policy({"platform.gpu": {**plain(composite), "require_revocation": True}})
    assert composite.verify(policy=rules).checks
    bare = put(composite.bundle, "gpu_endorsements.ocsp", ())
    with pytest.raises(PlatformError, match="the policy requires the status of its certificates"):
        composite.verify(bare, policy=rules)
    assert any("revocation data" in line for line in composite.verify(bare).not_checked)
    with pytest.raises((SignatureError, RejectedError)):
        composite.verify(policy=rules, at=NOW + timedelta(days=40))


def plain(run: CompositeRun) -> dict[str, Any]:
    return {
        "count": len(run.chip_ids),
        "min_driver_version": composite_run.DRIVER,
        "min_vbios_version": composite_run.VBIOS,
    }


# Devices ------------------------------------------------------------------------------------------


def on(run: CompositeRun, *devices: Device) -> Bundle:
    bundle = run.with_end(put(run.end, "run.devices", devices).encode())
    return run.attested_again(bundle, phases=("end",))


def test_devices_are_the_cpu_and_attested_gpus(pair: CompositeRun) -> None:
    cpu = Device("cpu", None, None)
    first, second = (Device("cuda", state.name, state.uuid) for state in pair.gpus.state())
    said = {check.name: check.detail for check in pair.verify(on(pair, cpu, first, second)).checks}
    assert said["devices"] == (
        f"the model lived on nothing but the CPU and attested GPUs: {first.uuid}, {second.uuid}"
    )
    assert pair.verify(on(pair, second)).checks
    assert pair.verify(on(pair, cpu)).checks
    with pytest.raises(PlatformError, match="names no device"):
        pair.verify(on(pair))


@pytest.mark.parametrize(
    "device",
    [
        Device("cuda", "Simulated GPU", UUID),
        Device("cuda", "Simulated GPU", None),
        Device("mps", None, None),
        Device("CUDA", None, None),
    ],
)
def test_other_devices_are_refused(composite: CompositeRun, device: Device) -> None:
    (state,) = composite.gpus.state()
    for named in (device, dataclasses.replace(device, type="xla", uuid=state.uuid)):
        with pytest.raises(PlatformError, match="and no GPU evidence vouches for it"):
            composite.verify(on(composite, Device("cpu", None, None), named))


# Openings, receipts, segments -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def on_gpus(composite: CompositeRun) -> ResumedRun:
    """A resumed run, each session of which has the GPU of `composite`."""
    return relay.make(composite.machine, composite.request, gpus=composite.gpus)


def rules_of(run: CompositeRun, **changes: Any) -> dict[str, Any]:
    platform = run.policy().platform
    return {
        "platform.gpu": plain(run) | changes,
        "platform.simulated_gpu_root": platform.simulated_gpu_root,
        "platform.simulated_rim_root": platform.simulated_rim_root,
    }


def test_every_session_of_a_resumed_run_has_gpus(composite: CompositeRun, on_gpus: ResumedRun) -> None:
    policy = on_gpus.policy(rules_of(composite))
    assert on_gpus.verify(policy=policy).simulated
    with pytest.raises(PlatformError, match=r"^GPUs: expected 2, got 1"):
        on_gpus.verify(policy=on_gpus.policy(rules_of(composite, count=2)))
    bare = put(on_gpus.bundle, "segments.0.session.begin.gpus", ())
    with pytest.raises(BindingError, match=r"^segment 1: begin quote: report data seals other claims"):
        on_gpus.verify(bare, policy=policy)


def test_what_a_segment_measured_lived_on_gpus_known_by_then(
    composite: CompositeRun, on_gpus: ResumedRun
) -> None:
    policy = on_gpus.policy(rules_of(composite))
    (state,) = composite.gpus.state()
    cuda, stranger = Device("cuda", state.name, state.uuid), Device("cuda", "H100", UUID)

    def bent(*devices: Device) -> Bundle:
        def bend(what: str, number: int, value: Any) -> Any:
            if what == "end":
                return put(value, "run.devices", lambda found: (*found, *devices))
            return put(value, "devices", devices) if (what, number) == ("receipt", 1) else value

        return relay.make(composite.machine, composite.request, gpus=composite.gpus, bend=bend).bundle

    assert on_gpus.verify(bent(cuda), policy=policy).checks
    with pytest.raises(PlatformError, match=r"^segment 1: tensors lived on 'cuda' "):
        on_gpus.verify(bent(stranger), policy=policy)


def test_an_opening_is_verified_with_what_is_at_hand(composite: CompositeRun, on_gpus: ResumedRun) -> None:
    requirements = on_gpus.policy(rules_of(composite)).platform.requirements()
    opening = on_gpus.sessions[0].opening
    with pytest.raises(PlatformError, match="--rim FILE"):
        openings.verify(opening, requirements=requirements, at=NOW)
    at_hand = gpus.read(None, composite.gpus.endorsements(), requirements=requirements, now=NOW)
    found = openings.verify(opening, requirements=requirements, at=NOW, at_hand=at_hand)
    assert found.simulated
    assert [item.chip_id for item in found.gpus.gpus] == composite.chip_ids


def test_a_machine_goes_on_from_sessions_with_gpus_like_its_own(
    composite: CompositeRun, on_gpus: ResumedRun
) -> None:
    requirements = dataclasses.replace(
        on_gpus.policy(rules_of(composite)).platform.requirements(), gpu=gpu_evidence.rules_for_own(1)
    )
    chain = on_gpus.bundle.segments
    options = {"at": NOW, "collateral": on_gpus.bundle.collateral}
    assert len(segments.verify_chain(chain, requirements=requirements, **options)) == len(chain)
    more = dataclasses.replace(requirements, gpu=gpu_evidence.rules_for_own(2))
    with pytest.raises(PlatformError, match=r"^segment 1: GPUs: expected 2, got 1"):
        segments.verify_chain(chain, requirements=more, **options)
    assert gpu_evidence.rules_for_own(1) == gpu_rules.GpuRules(
        count=1,
        architectures=("HOPPER", "BLACKWELL"),
        min_driver_version="0.0",
        min_vbios_version="00.00.00.00.00",
        modes=("spt", "mpt", "ppcie", "unstated"),
        require_rims=False,
        require_fwid=False,
    )


def test_the_end_of_a_session_has_the_gpus_of_its_begin(pair: CompositeRun) -> None:
    both = attested(pair)
    gpus.check_same(both, both)
    swapped = gpus.Attested(both.gpus[::-1], both.states)
    with pytest.raises(BindingError, match=r"expected those at begin, .* in this order"):
        gpus.check_same(both, swapped)
    other = gpus.Attested(both.gpus, (both.states[0], dataclasses.replace(both.states[1], name="Another")))
    with pytest.raises(BindingError, match=r"^GPU 1: its state at begin was "):
        gpus.check_same(both, other)


def test_files_about_status_are_parsed_once_for_all_gpus(
    pair: CompositeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[int] = []
    parse = ocsp.parse

    def counted(answers: Any, **options: Any) -> Any:
        parsed.append(len(answers))
        return parse(answers, **options)

    monkeypatch.setattr(ocsp, "parse", counted)
    assert pair.verify().simulated
    assert pair.bundle.gpu_endorsements is not None
    assert parsed == [len(pair.bundle.gpu_endorsements.ocsp)]


def test_a_receipt_and_its_closing_evidence_share_what_was_read(
    composite: CompositeRun, on_gpus: ResumedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def counting(name: str, function: Any) -> Any:
        def counted(*arguments: Any, **options: Any) -> Any:
            read.append(name)
            return function(*arguments, **options)

        return counted

    monkeypatch.setattr(ocsp, "parse", counting("statuses", ocsp.parse))
    monkeypatch.setattr(rim, "verify_rim", counting("manifest", rim.verify_rim))
    options: dict[str, Any] = {"policy": on_gpus.policy(rules_of(composite)), "at": NOW}
    options |= {"challenge": on_gpus.request, "closing": on_gpus.data}
    for files in (None, composite.gpus.endorsements()):
        read.clear()
        found = receipts.verify(on_gpus.sessions[0].file, gpu_files=files, **options)
        assert found.session == "closed"
        assert sorted(read) == ["manifest", "manifest", "statuses"]
