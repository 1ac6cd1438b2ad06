"""Kinds of machines: whatever is asked of one can be asked of the other, and they are never mixed up."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
from workshop import NOW

from palm_torch.cvm import certificate_bytes, certificates, platforms, snp_report
from palm_torch.errors import BindingError, EncodingError, EvidenceError, InputError, PlatformError

if TYPE_CHECKING:
    from conftest import Vendor
    from snp_run import SnpRun
    from workshop import GoodRun


def verified(run: GoodRun) -> platforms.Verified:
    kind, fields = run.bundle.attester, run.bundle.collateral
    assert fields is not None
    return platforms.verify(
        kind,
        run.bundle.begin.quote,
        platforms.read_endorsements(kind, fields),
        requirements=run.policy().platform.requirements(),
        now=NOW,
    )


def test_both_answer_the_same_questions(good: GoodRun, guest: SnpRun) -> None:
    trust_domain, snp_guest = verified(good), verified(guest)
    for found in (trust_domain, snp_guest):
        assert found.simulated
        assert found.report_data == platforms.report_data_of(found.kind, bundle_of(good, guest, found))
        assert found.machine
        assert found.state.startswith("TCB ")
        assert found.caveats == ()
    assert (trust_domain.kind, snp_guest.kind) == ("tdx", "snp")
    assert trust_domain.runtime_register is not None
    assert snp_guest.runtime_register is None


def bundle_of(good: GoodRun, guest: SnpRun, found: platforms.Verified) -> bytes:
    return (good if found.kind == "tdx" else guest).bundle.begin.quote


def test_evidence_under_the_name_of_another_kind(good: GoodRun, guest: SnpRun) -> None:
    kinds: Any = (("snp", good, guest), ("tdx", guest, good))
    for kind, run, other in kinds:
        raw, requirements = run.bundle.begin.quote, run.policy().platform.requirements()
        own = platforms.read_endorsements(run.bundle.attester, run.bundle.collateral)
        theirs = platforms.read_endorsements(kind, other.bundle.collateral)
        with pytest.raises(PlatformError, match=f"evidence of '{kind}' with collateral of another kind"):
            platforms.verify(kind, raw, own, requirements=requirements, now=NOW)
        with pytest.raises(EvidenceError):  # under the other kind's parser it is nothing
            platforms.verify(kind, raw, theirs, requirements=requirements, now=NOW)
        with pytest.raises(InputError):
            platforms.report_data_of(kind, raw)
        with pytest.raises(InputError):
            platforms.shown(kind, raw)


def test_machines_of_different_kinds_are_not_one(good: GoodRun, guest: SnpRun) -> None:
    trust_domain, snp_guest = verified(good), verified(guest)
    for begin, end in ((trust_domain, snp_guest), (snp_guest, trust_domain)):
        with pytest.raises(BindingError, match="begin and end come from machines of different kinds"):
            platforms.check_same_machine(begin, end)
    platforms.check_same_machine(trust_domain, trust_domain)
    platforms.check_same_machine(snp_guest, snp_guest)


def test_rules_of_one_kind_accept_nothing_of_the_other(good: GoodRun, guest: SnpRun) -> None:
    for run, other, kind in ((good, guest, "tdx"), (guest, good, "snp")):
        platforms.appraise(verified(run), run.policy().platform.requirements())
        with pytest.raises(PlatformError, match=rf"accepts no machine: no platform\.{kind}"):
            platforms.appraise(verified(run), other.policy().platform.requirements())


def test_each_kind_has_a_root_of_its_own(good: GoodRun) -> None:
    required = platforms.Requirements()
    assert required.anchor("tdx") is certificates.INTEL_SGX_ROOT
    assert required.anchor("snp") is certificates.AMD_ARK_MILAN
    simulated = good.policy().platform.requirements()
    assert simulated.anchor("tdx") == simulated.anchor("snp")
    assert simulated.anchor("tdx").simulated
    assert required.gpu_anchor is certificates.NVIDIA_DEVICE_ROOT
    assert required.rim_anchor is certificates.NVIDIA_CORIM_ROOT
    root = simulated.anchor("tdx")
    assert platforms.Requirements(simulated_gpu_root=root).gpu_anchor is root
    assert platforms.Requirements(simulated_rim_root=root).rim_anchor is root


def test_a_machine_meets_the_requirements_made_of_its_quote(good: GoodRun, guest: SnpRun) -> None:
    for run in (good, guest):
        root = run.policy().platform.requirements().simulated_root
        made = platforms.requirements_of(run.bundle.attester, run.bundle.end.quote, simulated_root=root)
        platforms.appraise(verified(run), made)


def test_what_endorsements_depend_on(good: GoodRun, guest: SnpRun, vendor: Vendor) -> None:
    """A PCK certificate may be issued anew; a VCEK is of one version of firmware."""
    bundle = good.bundle
    assert platforms.endorsed_by("tdx", bundle.begin.quote) == platforms.endorsed_by("tdx", bundle.end.quote)
    same_kind_of_platform = platforms.endorsed_by("tdx", vendor.quote())
    assert same_kind_of_platform == platforms.endorsed_by("tdx", bundle.begin.quote)
    pck = vendor.authority.pck
    text = b"Simulated SGX PCK Platform CA"
    old, new = (bytes((tag, len(text))) + text for tag in (0x0C, 0x09))
    nameless = certificate_bytes.load_certificate(pck.der.replace(old, new), what="PCK")
    other = dataclasses.replace(vendor.authority, pck=dataclasses.replace(pck, certificate=nameless))
    raw = dataclasses.replace(vendor, authority=other).quote()
    with pytest.raises(EncodingError, match="its issuer cannot be read"):
        platforms.endorsed_by("tdx", raw)
    changed = guest.bent(reported_tcb=snp_report.TcbVersion(boot_loader=3, tee=0, snp=8, microcode=116))
    before, after = (run.begin.quote for run in (guest.bundle, changed))
    assert platforms.endorsed_by("snp", before) != platforms.endorsed_by("snp", after)
