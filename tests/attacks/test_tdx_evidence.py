"""Quotes and collateral that lie: each attack by its number, on a real quote wherever there is one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import tdx_flips
import tdx_vectors as real

from palm_torch.cvm import (
    appraisal,
    certificate_bytes,
    certificates,
    collateral,
    dcap,
    quote,
    simulated_authority,
    simulated_collateral,
    simulated_quote,
    td_attributes,
    tdx,
)
from palm_torch.errors import (
    BindingError,
    EvidenceError,
    FreshnessError,
    InputError,
    PalmTorchError,
    PlatformError,
    SignatureError,
    TrustAnchorError,
)

if TYPE_CHECKING:
    from workshop import GoodRun

    from palm_torch.cvm.collateral import Collateral
    from palm_torch.cvm.quote import TdReport

Vectors = Callable[[str], bytes]

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
TEXTS = ("tcb_info", "qe_identity")


class Simulated:
    """A simulated vendor and its platform, whose every statement a test can bend before it is signed."""

    def __init__(self) -> None:
        self.authority = simulated_authority.make_authority(NOW)

    def quote(self, *, version: simulated_quote.Version = 4, **changes: bytes) -> bytes:
        report = simulated_quote.make_td_report(bytes(range(64)), version=version)
        return simulated_quote.sign_quote(self.authority, dataclasses.replace(report, **changes))

    def collateral(self, **documents: Any) -> Collateral:
        made = {
            "tcb_info": simulated_collateral.make_tcb_info(NOW),
            "qe_identity": simulated_collateral.make_qe_identity(NOW),
            "root_crl": simulated_collateral.make_crl(self.authority.root, NOW),
            "pck_crl": simulated_collateral.make_crl(self.authority.pck_ca, NOW),
        }
        return simulated_collateral.sign_collateral(self.authority, **(made | documents))

    def verify(self, raw: bytes, endorsements: Collateral | None = None) -> tdx.VerifiedQuote:
        anchor = certificates.TrustAnchor.from_certificate(self.authority.root.der, name="simulated")
        return tdx.verify_quote(raw, endorsements or self.collateral(), anchors=[anchor], now=NOW)


@pytest.fixture(scope="module")
def vendor() -> Simulated:
    return Simulated()


def rules_of(report: TdReport, **changes: Any) -> appraisal.TdxRules:
    """Rules that a report satisfies, with some of them changed."""
    images = {name: (getattr(report, name).hex(),) for name in appraisal.IMAGE_REGISTERS}
    return appraisal.TdxRules(**(images | changes))


def accepted_by_dcap(raw: bytes, endorsements: Collateral, root: bytes, now: datetime) -> bool:
    return dcap.verify(raw, endorsements, root=root, now=now).status is not None


@pytest.mark.parametrize(("name", "stride"), [("v4", 97), ("v5", 97), ("collateral", 331)])
def test_attack_01_flipped_bits(vectors: Vectors, name: str, stride: int) -> None:
    target = tdx_flips.targets(vectors)[name]
    target.ours(target.data)
    for bit in range(0, 8 * len(target.data), stride):
        assert tdx_flips.flip(target, bit, ask_both=False).error is not None, bit


def test_attack_02_a_root_of_the_same_name(vectors: Vectors) -> None:
    raw = quote.canonical(vectors(real.PRE_PRODUCTION_QUOTE))
    root = certificate_bytes.load_certificate(quote.parse_quote(raw).certificates[-1], what="root")
    assert "Intel SGX Root CA" in root.subject.rfc4514_string()
    for name, now in (("june", real.JUNE_2025), ("outdated", real.FEBRUARY_2026), ("2023", real.JULY_2023)):
        with pytest.raises(TrustAnchorError, match="not a configured trust anchor"):
            real.verify(raw, real.read(vectors, name), now)
    with pytest.raises(TrustAnchorError, match="not a configured trust anchor"):
        real.verify(vectors(real.V4_QUOTE), Simulated().collateral(), NOW)


def test_attack_03_a_domain_open_to_its_host(vectors: Vectors) -> None:
    raw = quote.canonical(vectors(real.DEBUG_QUOTE))
    assert quote.parse_quote(raw).td_report.td_attributes[0] & 1
    with pytest.raises(PlatformError, match="debug mode is on"):
        real.verify(raw, real.read(vectors, "2023"), real.JULY_2023)


def test_attack_04_exceptions_injected_by_the_host(vectors: Vectors, vendor: Simulated) -> None:
    report = quote.parse_quote(real.truncated(vectors(real.OLD_QUOTE))).td_report
    with pytest.raises(PlatformError, match="SEPT_VE_DISABLE is off"):
        td_attributes.check(report)
    with pytest.raises(PlatformError, match="SEPT_VE_DISABLE is off"):
        vendor.verify(vendor.quote(td_attributes=report.td_attributes))


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("bit", sorted({*range(1, 64)} - td_attributes.OPTIONAL_BITS - {28}))
def test_attack_05_reserved_attributes(vendor: Simulated, bit: int, version: Any) -> None:
    attributes = (1 << 28 | 1 << bit).to_bytes(8, "little")
    with pytest.raises(PlatformError, match=f"bit {bit} can never be allowed"):
        vendor.verify(vendor.quote(version=version, td_attributes=attributes))
    with pytest.raises(InputError, match=f"bit {bit} can never be allowed"):
        appraisal.TdxRules(td_attributes=(bit,))


@pytest.mark.parametrize(
    ("name", "endorsements", "time"),
    [
        (real.V4_QUOTE, "june", "2025-06-19T10:32:26+00:00"),
        (real.V4_QUOTE, "june", "2025-07-19T10:00:35+00:00"),
        (real.V5_QUOTE, "outdated", "2026-02-18T10:58:50+00:00"),
        (real.V5_QUOTE, "outdated", "2026-03-20T10:41:15+00:00"),
        (real.V5_QUOTE, "outdated", "2027-01-01T00:00:00+00:00"),
    ],
)
def test_attack_06_collateral_of_another_time(
    vectors: Vectors, name: str, endorsements: str, time: str
) -> None:
    with pytest.raises((PlatformError, SignatureError), match=r"expected .* time"):
        real.verify(vectors(name), real.read(vectors, endorsements), real.at(time))


def test_attack_06_missing_collateral(vectors: Vectors, good: GoodRun) -> None:
    document = json.loads(vectors("tdx/dcap-qvl/tdx_quote_collateral.json"))
    for name in document:
        with pytest.raises(EvidenceError, match=f"missing key '{name}'"):
            collateral.from_json({key: value for key, value in document.items() if key != name})
        with pytest.raises(PalmTorchError):
            real.verify(vectors(real.V4_QUOTE), collateral.from_json({**document, name: ""}), real.JUNE_2025)
    with pytest.raises(EvidenceError, match="no collateral"):
        good.verify(dataclasses.replace(good.bundle, collateral=None))


COLLATERALS = {"june": real.JUNE_2025, "outdated": real.FEBRUARY_2026, "sgx": real.SGX_TIME}


@pytest.mark.parametrize("other", ["outdated", "sgx"])
def test_attack_07_collateral_of_another_platform(vectors: Vectors, other: str) -> None:
    """As it is, and with its own FMSPC's texts alone put into the right collateral."""
    raw, right, wrong = vectors(real.V4_QUOTE), real.read(vectors, "june"), real.read(vectors, other)
    with pytest.raises((PlatformError, SignatureError), match=r"FMSPC|PCK CRL issuer chain"):
        real.verify(raw, wrong, COLLATERALS[other])
    now = real.at("2025-06-19T11:00:00+00:00") if other == "sgx" else COLLATERALS[other]
    for name in TEXTS:
        fields = {
            f"{name}{end}": getattr(wrong, f"{name}{end}") for end in ("", "_signature", "_issuer_chain")
        }
        with pytest.raises((PlatformError, EvidenceError, SignatureError)):
            real.verify(raw, dataclasses.replace(right, **fields), now)
    with pytest.raises(TrustAnchorError, match="time"):
        real.verify(vectors(real.V5_QUOTE), right, real.JUNE_2025)


@pytest.mark.parametrize("name", TEXTS)
def test_attack_08_tampered_texts(vectors: Vectors, name: str) -> None:
    raw, found = vectors(real.V4_QUOTE), real.read(vectors, "june")
    text, signature = getattr(found, name), getattr(found, f"{name}_signature")
    other = TEXTS[1 - TEXTS.index(name)]
    changes: dict[str, dict[str, str]] = {
        "number": {name: text.replace('"tcbEvaluationDataNumber":17', '"tcbEvaluationDataNumber":18')},
        "status": {name: text.replace("UpToDate", "OutOfDate", 1)},
        "written again": {name: json.dumps(json.loads(text))},
        "more": {name: text + " "},
        "less": {name: text[:-1]},
        "signature": {f"{name}_signature": signature[:-1] + ("0" if signature[-1] != "0" else "1")},
        "signature of the other": {f"{name}_signature": getattr(found, f"{other}_signature")},
        "zero signature": {f"{name}_signature": "00" * 64},
    }
    for change in changes.values():
        assert change != {field: getattr(found, field) for field in change}
        with pytest.raises(SignatureError, match=f"collateral: {name}: signature does not verify"):
            real.verify(raw, dataclasses.replace(found, **change), real.JUNE_2025)


def test_attack_09_a_platform_that_is_out_of_date(vectors: Vectors, vendor: Simulated) -> None:
    info = simulated_collateral.make_tcb_info(NOW)
    info["tcbLevels"][0] |= {"tcbStatus": "OutOfDate", "advisoryIDs": ["INTEL-SA-00837"]}
    verified = vendor.verify(vendor.quote(), vendor.collateral(tcb_info=info))
    rules = rules_of(verified.quote.td_report)
    with pytest.raises(PlatformError, match=r"expected UpToDate, got OutOfDate \(advisories: INTEL-SA-00837"):
        appraisal.appraise(verified, rules)
    appraisal.appraise(verified, dataclasses.replace(rules, tcb_statuses=("UpToDate", "OutOfDate")))
    with pytest.raises(PlatformError, match="no matching TCB level"):
        real.verify(vectors(real.LOW_QUOTE), real.read(vectors, "outdated"), real.FEBRUARY_2026)


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("part", ["platform", "module", "quoting enclave"])
def test_attack_10_what_intel_revoked(vendor: Simulated, part: str, version: Any) -> None:
    info, identity = simulated_collateral.make_tcb_info(NOW), simulated_collateral.make_qe_identity(NOW)
    entry = {"platform": info, "module": info["tdxModuleIdentities"][0], "quoting enclave": identity}[part]
    entry["tcbLevels"][0]["tcbStatus"] = "Revoked"
    with pytest.raises(PlatformError, match="TCB status: revoked"):
        vendor.verify(vendor.quote(version=version), vendor.collateral(tcb_info=info, qe_identity=identity))


@pytest.mark.parametrize(
    ("victim", "issuer", "crl"),
    [("pck", "pck_ca", "pck_crl"), ("pck_ca", "root", "root_crl"), ("tcb_signer", "root", "root_crl")],
)
def test_attack_10_certificates_that_were_revoked(
    vendor: Simulated, victim: str, issuer: str, crl: str
) -> None:
    revoked = getattr(vendor.authority, victim).certificate
    made = simulated_collateral.make_crl(getattr(vendor.authority, issuer), NOW, revoked=[revoked])
    with pytest.raises(SignatureError, match="has been revoked"):
        vendor.verify(vendor.quote(), vendor.collateral(**{crl: made}))


def test_attack_11_collateral_from_before_a_recovery(vectors: Vectors) -> None:
    verified = real.verify(vectors(real.V4_QUOTE), real.read(vectors, "june"), real.JUNE_2025)
    report = verified.quote.td_report
    appraisal.appraise(verified, rules_of(report, min_tcb_evaluation_data_number=17))
    with pytest.raises(PlatformError, match="expected at least 18, got 17"):
        appraisal.appraise(verified, rules_of(report, min_tcb_evaluation_data_number=18))
    appraisal.appraise(verified, rules_of(report, max_collateral_age_days=1))
    with pytest.raises(PlatformError, match="collateral: expected it to be issued"):
        appraisal.appraise(verified, rules_of(report, max_collateral_age_days=0))


def test_attack_12_an_enclave_for_a_trust_domain(vectors: Vectors) -> None:
    raw, found = vectors(real.SGX_QUOTE), real.read(vectors, "sgx")
    intel = vectors("tdx/dcap-qvl/TrustedRootCA.der")
    assert accepted_by_dcap(raw, found, intel, real.SGX_TIME)
    with pytest.raises(EvidenceError, match="expected version 4 or 5, got 3"):
        real.verify(raw, found, real.SGX_TIME)
    for version in (4, 5):
        relabelled = bytes((version,)) + raw[1:]
        with pytest.raises(EvidenceError, match="TEE type: expected 129, got 0"):
            real.verify(relabelled, found, real.SGX_TIME)


@pytest.mark.parametrize(
    ("kind", "size"),
    [(2, 648), (3, 584), (4, 584), (4, 648), (4, 885), (1, 384), (3, 0), (3, 649), (2, 2**32 - 1)],
)
def test_attack_13_bodies_of_another_type(vendor: Simulated, kind: int, size: int) -> None:
    """Signed by the quoting enclave all the same: the body is as long as it says, or as TD 1.5."""
    for length in {min(size, 1000), 648}:
        signed = simulated_quote.make_header(5, body=(kind, size)) + bytes(length)
        with pytest.raises(EvidenceError, match="expected body"):
            vendor.verify(simulated_quote.sign_bytes(vendor.authority, signed))


def test_attack_13_a_version_with_the_body_of_another(vendor: Simulated) -> None:
    four, five = vendor.quote(), vendor.quote(version=5)
    td10 = simulated_quote.make_header(5, body=quote.BODY_TD10) + four[48:632]
    assert vendor.verify(simulated_quote.sign_bytes(vendor.authority, td10)).quote.version == 5
    for raw in (b"\x05" + four[1:], b"\x04" + five[1:], five[:48] + five[54:]):
        with pytest.raises(EvidenceError):
            vendor.verify(raw)


def patched(raw: bytes, at: int, data: bytes) -> bytes:
    return raw[:at] + data + raw[at + len(data) :]


def test_attack_14_other_spellings_of_a_quote(vectors: Vectors) -> None:
    """Each is accepted by dcap-qvl, and has the same meaning; none is the quote."""
    machine, found = vectors(real.V4_QUOTE), real.read(vectors, "june")
    raw = quote.canonical(machine)
    intel = vectors("tdx/dcap-qvl/TrustedRootCA.der")
    root_at = raw.index(b"-----BEGIN", raw.rindex(b"-----END CERTIFICATE-----\n", 0, -60))
    line_end = raw.index(b"\n", 1300)
    spellings = {
        "a tail of zeros": raw + bytes(70),
        "a tail of text": raw + b"trailing text",
        "signature data size": patched(machine, 632, bytes((raw[632] ^ 1,))),
        "outer type 5": patched(raw, 764, b"\x05\x00"),
        "outer type 9": patched(raw, 764, b"\x09\x00"),
        "line break": patched(raw, line_end, b"\r"),
        "embedded root": patched(raw, root_at + 100, b"AAAA"),
    }
    for name, spelled in spellings.items():
        assert spelled != raw, name
        assert accepted_by_dcap(spelled, found, intel, real.JUNE_2025), name
        with pytest.raises((InputError, TrustAnchorError)):
            tdx.verify_quote(spelled, found, anchors=[certificates.INTEL_SGX_ROOT], now=real.JUNE_2025)
    with pytest.raises(EvidenceError):
        real.verify(spellings["signature data size"], found, real.JUNE_2025)
    with pytest.raises(EvidenceError, match="nothing but zeros"):
        quote.canonical(vectors(real.OLD_QUOTE))


def test_attack_15_a_web_token_for_a_quote(vendor: Simulated) -> None:
    for start in (b"\xd2\x84\x43\xa1\x01\x26", b"\xd8\x3d\xd2\x84", bytes(6)):
        for size in (8193, 12_000, 16_384, 16_385, 1 << 20):
            with pytest.raises(EvidenceError):
                vendor.verify(start.ljust(size, b"\xa5"))
            with pytest.raises(EvidenceError):
                quote.canonical(start.ljust(size, b"\xa5"))


@pytest.mark.parametrize(
    "cut",
    [
        lambda data: data[:32] + bytes(32),
        lambda data: bytes(32) + data[32:],
        lambda data: data[32:] + data[:32],
        lambda data: data[:63] + bytes((data[63] ^ 1,)),
        lambda _: bytes(64),
        lambda data: data.hex().encode()[:64],
    ],
)
@pytest.mark.parametrize("phase", ["begin", "end"])
def test_attack_17_part_of_the_report_data(good: GoodRun, cut: Callable[[bytes], bytes], phase: Any) -> None:
    def bend(report: TdReport) -> TdReport:
        return dataclasses.replace(report, report_data=cut(report.report_data))

    with pytest.raises(BindingError):
        good.verify(good.resealed(good.bundle, phases=(phase,), report=bend))


@pytest.mark.parametrize("name", [real.LOW_QUOTE, real.CLOUD_QUOTE])
def test_attack_17_report_data_of_others(vectors: Vectors, good: GoodRun, name: str) -> None:
    """Real quotes over a padded digest and over zeros: no run of ours can ever be sealed by such."""
    theirs = quote.parse_quote(quote.canonical(vectors(name))).td_report.report_data
    assert theirs[32:] == bytes(32)

    def bend(report: TdReport) -> TdReport:
        return dataclasses.replace(report, report_data=theirs)

    with pytest.raises(BindingError):
        good.verify(good.resealed(good.bundle, phases=("begin",), report=bend))


def test_attack_18_a_quote_made_for_an_older_request(good: GoodRun) -> None:
    import workshop

    newer = workshop.make_request(nonce="a5" * 32)
    assert good.verify().freshness == "challenged"
    with pytest.raises(FreshnessError):
        good.verify(challenge=newer)
    asked = dataclasses.replace(good.bundle.challenge, nonce=b"\xa5" * 32)
    with pytest.raises((BindingError, FreshnessError)):
        good.verify(dataclasses.replace(good.bundle, challenge=asked), challenge=newer)


@pytest.mark.parametrize("name", ["mr_config_id", "mr_owner", "mr_owner_config"])
def test_attack_19_what_the_host_configured(vendor: Simulated, name: str) -> None:
    verified = vendor.verify(vendor.quote(version=5, **{name: b"\x01" * 48}))
    report = verified.quote.td_report
    with pytest.raises(PlatformError, match=f"{name}: expected 0000"):
        appraisal.appraise(verified, rules_of(report))
    appraisal.appraise(verified, rules_of(report, **{name: ("01" * 48,)}))


def test_attack_19_a_domain_that_serves_another(vendor: Simulated) -> None:
    with pytest.raises(PlatformError, match="expected no service TD"):
        vendor.verify(vendor.quote(version=5, mr_service_td=bytes(47) + b"\x01"))
    with pytest.raises(PlatformError, match="bit 17 can never be allowed"):
        vendor.verify(vendor.quote(version=5, td_attributes=(1 << 28 | 1 << 17).to_bytes(8, "little")))


def test_the_good_ones_pass(vendor: Simulated) -> None:
    """The twin of all these: what they bend is accepted as it is."""
    for version in (4, 5):
        verified = vendor.verify(vendor.quote(version=version))
        appraisal.appraise(verified, rules_of(verified.quote.td_report))
        assert verified.collateral_next_update - NOW == timedelta(days=30)
