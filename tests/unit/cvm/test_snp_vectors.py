"""Real SNP reports with AMD's certificates, and what must become of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import snp_flips

from palm_torch.cvm import certificate_bytes, certificates, snp_report, snp_rules, vcek
from palm_torch.errors import PlatformError, SignatureError, TrustAnchorError

if TYPE_CHECKING:
    from cryptography import x509

Vectors = Callable[[str], bytes]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def certificate(data: bytes) -> x509.Certificate:
    return certificate_bytes.load_certificate(
        data, what="certificate", algorithms=certificate_bytes.AMD, zero_serial=True
    )


def rules_of(report: snp_report.SnpReport, **changes: Any) -> snp_rules.SnpRules:
    rules = snp_rules.SnpRules(measurement=(report.measurement.hex(),), min_tcb=report.reported_tcb)
    return dataclasses.replace(rules, **changes)


def test_the_pinned_root_is_amds(vectors: Vectors) -> None:
    _, ark, _ = snp_flips.amd(vectors)
    pinned = certificates.TrustAnchor.from_certificate(ark, name="AMD ARK-Milan", simulated=False)
    assert pinned == certificates.AMD_ARK_MILAN


@pytest.mark.parametrize("key", snp_flips.KEYS)
def test_reports_are_written_as_they_are_read(vectors: Vectors, key: str) -> None:
    raw, _ = snp_flips.real(vectors, key)
    assert snp_report.encode_report(snp_report.parse_report(raw)) == raw


@pytest.mark.parametrize("now", ["2023-01-24T17:58:26+00:00", "2026-11-21T00:00:00Z", "2030-01-24T17:58:26Z"])
def test_a_report_signed_by_the_chip(vectors: Vectors, now: str) -> None:
    raw, chain = snp_flips.real(vectors, "vcek")
    verified = snp_flips.verify(raw, chain, now=at(now))
    assert (verified.signing_key, verified.report.version, verified.report.vmpl) == ("vcek", 2, 0)
    assert verified.state == "TCB boot loader 3, TEE 0, SNP 8, microcode 115"
    assert verified.report.policy == 0x3001F
    assert verified.endorsed.hardware_id == verified.machine
    assert verified.endorsed.product == "Milan-B0"
    assert verified.report_data[32:] == bytes(32)
    assert not verified.simulated
    assert verified.caveats == ("no revocation list of AMD was at hand",)
    snp_rules.appraise(verified, rules_of(verified.report, chip_id=(verified.machine.hex(),)))


@pytest.mark.parametrize("now", ["2024-12-10T22:14:21Z", "2025-12-10T22:14:21Z"])
def test_a_report_signed_by_a_cloud_providers_key(vectors: Vectors, now: str) -> None:
    raw, chain = snp_flips.real(vectors, "vlek")
    verified = snp_flips.verify(raw, chain, now=at(now))
    assert (verified.signing_key, verified.report.version, verified.report.vmpl) == ("vlek", 3, 1)
    assert verified.state == "TCB boot loader 4, TEE 0, SNP 24, microcode 217"
    assert verified.endorsed.csp_id == "CN=cc-us-east-2.amazonaws.com"
    assert (verified.machine, len(verified.caveats)) == (bytes(64), 2)
    snp_rules.appraise(verified, rules_of(verified.report, vmpl=(1,), require_alias_check=True))
    with pytest.raises(PlatformError, match="vmpl: expected 0, got 1"):
        snp_rules.appraise(verified, rules_of(verified.report))
    with pytest.raises(PlatformError, match="chip_id: expected"):
        snp_rules.appraise(verified, rules_of(verified.report, vmpl=(1,), chip_id=("ab" * 64,)))


@pytest.mark.parametrize(
    ("key", "now"),
    [
        ("vcek", "2023-01-24T17:58:25Z"),
        ("vcek", "2030-01-24T17:58:27Z"),
        ("vcek", "2045-10-22T18:24:21Z"),
        ("vlek", "2024-12-10T22:14:20Z"),
        ("vlek", "2025-12-10T22:14:22Z"),
    ],
)
def test_outside_the_window(vectors: Vectors, key: str, now: str) -> None:
    raw, chain = snp_flips.real(vectors, key)
    with pytest.raises(TrustAnchorError, match=r"expected .* time"):
        snp_flips.verify(raw, chain, now=at(now))


@pytest.mark.parametrize("name", ["legacy", "new"])
@pytest.mark.parametrize("now", [snp_flips.NOW, datetime(2020, 1, 1, tzinfo=UTC)])
def test_certificates_that_somebody_edited(vectors: Vectors, name: str, now: datetime) -> None:
    raw, (_, *above) = snp_flips.real(vectors, "vcek")
    leaf = vectors(f"snp/trustee/test-vcek-invalid-{name}.der")
    with pytest.raises((SignatureError, TrustAnchorError)):
        snp_flips.verify(raw, (leaf, *above), now=now)
    endorsed = vcek.read_endorsed(certificate(leaf), what=name)
    report = snp_report.parse_report(raw)
    assert endorsed.hardware_id == bytes(range(64)) != report.chip_id  # both spellings of it are read
    assert endorsed.tcb != report.reported_tcb


@pytest.mark.parametrize("key", snp_flips.KEYS)
def test_leaves_belong_to_one_issuer(vectors: Vectors, key: str) -> None:
    raw, (leaf, _, ark) = snp_flips.real(vectors, key)
    ask, _, asvk = snp_flips.amd(vectors)
    with pytest.raises(SignatureError, match="certificate 0: not signed by"):
        snp_flips.verify(raw, (leaf, asvk if key == "vcek" else ask, ark))


def test_amds_certificates(vectors: Vectors) -> None:
    ask, ark, asvk = (certificate(data) for data in snp_flips.amd(vectors))
    for child in (ask, ark, asvk):
        child.verify_directly_issued_by(ark)
    assert ask.not_valid_after_utc == at("2045-10-22T18:24:20Z")
    assert (asvk.not_valid_before_utc.year, asvk.not_valid_after_utc.year) == (2022, 2047)
