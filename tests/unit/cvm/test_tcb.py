"""The TCB appraisal: which level counts, and what several opinions are together."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest

from palm_torch.cvm import (
    enclave_report,
    pck,
    quote,
    simulated_authority,
    simulated_collateral,
    simulated_quote,
    tcb,
    tcb_documents,
    td_attributes,
)
from palm_torch.cvm.tcb_documents import Opinion, PlatformLevel, SoftwareLevel
from palm_torch.errors import EvidenceError, PlatformError

VERSIONS = pck.SecurityVersions(simulated_authority.SGX_COMPONENTS, simulated_authority.PCE_SVN)
UP_TO_DATE = Opinion("UpToDate", ())


def of(status: str, *advisories: str) -> Opinion:
    return Opinion(status, advisories)


def svns(*first: int) -> bytes:
    return bytes(first).ljust(16, b"\x00")


@pytest.fixture
def documents(vendor: Any) -> tuple[tcb_documents.TcbInfo, tcb_documents.QeIdentity]:
    made = vendor.collateral()
    return (
        tcb_documents.read_tcb_info(made.signed_text("tcb_info")),
        tcb_documents.read_qe_identity(made.signed_text("qe_identity")),
    )


def parsed(vendor: Any, **changes: bytes) -> quote.Quote:
    version: Any = 5 if "tee_tcb_svn2" in changes else 4
    return quote.parse_quote(vendor.quote(version=version, **changes))


def appraised(
    vendor: Any,
    documents: Any,
    *,
    levels: tuple[PlatformLevel, ...] | None = None,
    module: tuple[SoftwareLevel, ...] | None = None,
    enclave: Opinion = UP_TO_DATE,
    **changes: bytes,
) -> tcb.Appraisal:
    info, identity = documents
    if levels is not None:
        info = dataclasses.replace(info, levels=levels)
    if module is not None:
        found = info.modules["TDX_01"]
        info = dataclasses.replace(info, modules={"TDX_01": dataclasses.replace(found, levels=module)})
    identity = dataclasses.replace(identity, levels=(SoftwareLevel(0, enclave),))
    return tcb.appraise(parsed(vendor, **changes), VERSIONS, tcb_info=info, qe_identity=identity)


def level(opinion: Opinion, *tdx: int, sgx: tuple[int, ...] | None = None, pce: int = 11) -> PlatformLevel:
    return PlatformLevel(sgx or VERSIONS.components, pce, tuple(svns(*tdx)), opinion)


def test_a_platform_at_its_only_level(vendor: Any, documents: Any) -> None:
    assert appraised(vendor, documents) == tcb.Appraisal(
        "UpToDate", (), UP_TO_DATE, UP_TO_DATE, UP_TO_DATE, None
    )


def test_the_greatest_level_that_is_reached_counts(vendor: Any, documents: Any) -> None:
    lower = tuple(max(0, svn - 1) for svn in VERSIONS.components)
    higher = (*VERSIONS.components[:-1], 1)
    rows = (
        level(of("OutOfDate"), sgx=lower),
        level(of("Revoked"), sgx=higher),
        level(of("Revoked"), pce=12),
        level(of("Revoked"), 4, 1, 4),
        level(of("SWHardeningNeeded"), 4, 1, 3),
        level(of("ConfigurationNeeded"), 4, 1, 2),
        level(of("OutOfDate"), 4, 1, 3, pce=10),
    )
    for order in (rows, rows[::-1], rows[3:] + rows[:3]):
        assert appraised(vendor, documents, levels=order).platform == of("SWHardeningNeeded")
    with pytest.raises(PlatformError, match=r"no matching TCB level for components 2, 2, .* TDX 040103"):
        appraised(vendor, documents, levels=rows[1:4])


def test_versions_of_a_module_with_an_identity_are_no_versions_of_the_platform(
    vendor: Any, documents: Any
) -> None:
    above = (level(UP_TO_DATE, 5, 2, 3),)
    assert appraised(vendor, documents, levels=above).status == "UpToDate"
    without = {"tee_tcb_svn": svns(4, 0, 3)}
    assert appraised(vendor, documents, levels=(level(UP_TO_DATE, 4, 0, 3),), **without).module is None
    for rows in ((level(UP_TO_DATE, 5, 0, 3),), (level(UP_TO_DATE, 4, 1, 3),)):
        with pytest.raises(PlatformError, match="no matching TCB level"):
            appraised(vendor, documents, levels=rows, **without)


def test_the_first_level_of_the_module_that_is_reached_counts(vendor: Any, documents: Any) -> None:
    rows = (
        SoftwareLevel(5, of("Revoked")),
        SoftwareLevel(4, of("OutOfDate", "INTEL-SA-00002", "INTEL-SA-00001")),
        SoftwareLevel(3, of("Revoked")),
    )
    found = appraised(vendor, documents, module=rows, enclave=of("UpToDate", "INTEL-SA-00001"))
    assert (found.status, found.advisory_ids) == ("OutOfDate", ("INTEL-SA-00001", "INTEL-SA-00002"))
    assert found.module == rows[1].opinion
    with pytest.raises(PlatformError, match="TDX module TDX_01: security version 4 reaches no level"):
        appraised(vendor, documents, module=rows[:1])


def test_the_module_of_another_major_version(vendor: Any, documents: Any) -> None:
    with pytest.raises(PlatformError, match="TCB info has no identity TDX_0A"):
        appraised(vendor, documents, tee_tcb_svn=svns(4, 10, 3))
    with pytest.raises(PlatformError, match="TCB info has no identity TDX_0A"):
        appraised(vendor, documents, tee_tcb_svn2=svns(4, 10, 3))


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("mask", ["FF" * 8, "00" * 8])
def test_attributes_of_the_module(vendor: Any, version: int, mask: str) -> None:
    """Under the mask they are the expected ones, outside of it they are zero."""
    info = simulated_collateral.make_tcb_info(vendor.now)
    info["tdxModuleIdentities"][0] |= {"attributesMask": mask, "attributes": "0000000000000000"}
    endorsements = vendor.collateral(tcb_info=info)
    assert vendor.verify(vendor.quote(version=version), endorsements).tcb_status == "UpToDate"
    for attributes in ("0100000000000000", "0000000000000080"):
        raw = vendor.quote(version=version, seam_attributes=bytes.fromhex(attributes))
        with pytest.raises(PlatformError, match=f"expected attributes 0000000000000000, got {attributes}"):
            vendor.verify(raw, endorsements)


ORDER = tcb_documents.STATUSES
CONFIGURATION = ("ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded")


@pytest.mark.parametrize(
    ("platform", "software", "enclave"), list(itertools.product(ORDER[:-1], ORDER[::4][:2], ORDER[::4][:2]))
)
def test_the_worst_status_counts(
    vendor: Any, documents: Any, platform: str, software: str, enclave: str
) -> None:
    expected = max((platform, software, enclave), key=ORDER.index)
    if "OutOfDate" in (software, enclave) and platform in CONFIGURATION:
        expected = "OutOfDateConfigurationNeeded"
    found = appraised(
        vendor,
        documents,
        levels=(level(of(platform)),),
        module=(SoftwareLevel(0, of(software)),),
        enclave=of(enclave),
    )
    assert found.status == expected


@pytest.mark.parametrize("part", ["levels", "module", "enclave"])
def test_nothing_may_be_revoked(vendor: Any, documents: Any, part: str) -> None:
    revoked = of("Revoked")
    parts: dict[str, Any] = {
        "levels": (level(revoked),),
        "module": (SoftwareLevel(0, revoked),),
        "enclave": revoked,
    }
    with pytest.raises(PlatformError, match="TCB status: revoked"):
        appraised(vendor, documents, **{part: parts[part]})


@pytest.mark.parametrize(
    ("launch", "current", "expected"),
    [
        ("OutOfDate", "UpToDate", "TDRelaunchAdvised"),
        ("OutOfDate", "SWHardeningNeeded", "TDRelaunchAdvised"),
        ("OutOfDate", "ConfigurationNeeded", "TDRelaunchAdvisedConfigurationNeeded"),
        ("OutOfDateConfigurationNeeded", "UpToDate", "TDRelaunchAdvisedConfigurationNeeded"),
        ("OutOfDate", "OutOfDate", "OutOfDate"),
        ("UpToDate", "UpToDate", "UpToDate"),
        ("ConfigurationNeeded", "UpToDate", "ConfigurationNeeded"),
        ("UpToDate", "OutOfDate", "OutOfDate"),
        ("OutOfDate", "OutOfDateConfigurationNeeded", "OutOfDateConfigurationNeeded"),
    ],
)
def test_launched_on_one_module_and_running_on_another(
    vendor: Any, documents: Any, launch: str, current: str, expected: str
) -> None:
    rows = (level(of(current, "INTEL-SA-00002"), 4, 1, 4), level(of(launch, "INTEL-SA-00001"), 4, 1, 3))
    changes = {"tee_tcb_svn": svns(4, 1, 3), "tee_tcb_svn2": svns(4, 1, 4)}
    found = appraised(vendor, documents, levels=rows, **changes)
    assert found.status == expected
    assert found.status in tcb.STATUSES
    counts = found.current if expected == current != launch else found.platform
    assert counts is not None
    assert found.advisory_ids == counts.advisory_ids


@pytest.mark.parametrize("name", ["tee_tcb_svn", "tee_tcb_svn2"])
def test_both_sets_of_versions_are_appraised(vendor: Any, documents: Any, name: str) -> None:
    changes = {"tee_tcb_svn2": svns(4, 1, 3)} | {name: svns(4, 1, 2)}
    with pytest.raises(PlatformError, match="no matching TCB level"):
        appraised(vendor, documents, levels=(level(UP_TO_DATE, 4, 1, 3),), **changes)
    rows = (level(UP_TO_DATE, 4, 1, 3), level(of("Revoked"), 4, 1, 2))
    with pytest.raises(PlatformError, match="revoked"):
        appraised(vendor, documents, levels=rows, **changes)


def test_a_quoting_enclave_open_to_a_debugger(vendor: Any, documents: Any) -> None:
    found = parsed(vendor)
    report = bytearray(found.qe_report)
    report[48] |= enclave_report.DEBUG_MASK
    bent = dataclasses.replace(found, qe_report=bytes(report))
    info, identity = documents
    with pytest.raises(PlatformError, match="quoting enclave: its debug bit is set"):
        tcb.appraise(bent, VERSIONS, tcb_info=info, qe_identity=identity)


def test_fields_of_an_enclave_report(vendor: Any) -> None:
    raw = parsed(vendor).qe_report
    report = enclave_report.parse(raw)
    assert report.mr_signer == simulated_quote.QE_MR_SIGNER
    assert report.mr_enclave == simulated_quote.QE_MR_ENCLAVE
    assert report.attributes == simulated_quote.QE_ATTRIBUTES
    assert (report.isv_prod_id, report.isv_svn) == (2, 4)
    assert report.misc_select == bytes(4)
    assert report.report_data == raw[320:]
    for other in (raw[:-1], raw + b"\x00", b""):
        with pytest.raises(EvidenceError, match="expected 384 bytes"):
            enclave_report.parse(other)


@pytest.mark.parametrize("bit", range(64))
def test_every_attribute_bit_of_a_trust_domain(vendor: Any, bit: int) -> None:
    """Ours and the other verifier agree on each of them, or `verify_quote` would say so."""
    value = 1 << td_attributes.SEPT_VE_DISABLE_BIT ^ 1 << bit
    raw = vendor.quote(td_attributes=value.to_bytes(8, "little"))
    if bit in td_attributes.OPTIONAL_BITS:
        assert vendor.verify(raw).tcb_status == "UpToDate"
        return
    message = {0: "debug mode is on", td_attributes.SEPT_VE_DISABLE_BIT: "SEPT_VE_DISABLE is off"}
    with pytest.raises(PlatformError, match=message.get(bit, f"bit {bit} can never be allowed")) as caught:
        vendor.verify(raw)
    assert "disagree" not in str(caught.value)


def test_a_service_domain_is_refused(vendor: Any) -> None:
    with pytest.raises(PlatformError, match="expected no service TD, got 01"):
        vendor.verify(vendor.quote(version=5, mr_service_td=b"\x01" * 48))
