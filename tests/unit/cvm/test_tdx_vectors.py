"""Real TDX quotes with the collateral of their time, and what must become of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime

import pytest
import tdx_vectors as real

from palm_torch.cvm import (
    appraisal,
    certificate_bytes,
    certificates,
    pcs,
    quote,
    quote_signatures,
    revocation,
    td_attributes,
    tdx,
)
from palm_torch.errors import (
    EvidenceError,
    PalmTorchError,
    PlatformError,
    SignatureError,
    TrustAnchorError,
)

Vectors = Callable[[str], bytes]

SECOND_BEFORE_ROOT_CRL_ENDS = "2026-04-03T11:21:56+00:00"


@pytest.mark.parametrize(
    ("name", "endorsements", "now", "version", "ppid", "number"),
    [
        (real.V4_QUOTE, "june", real.JUNE_2025, 4, "811dca2a26b952e85bb6448b097ba4fd", 17),
        (real.V5_QUOTE, "outdated", real.FEBRUARY_2026, 5, "", 18),
        (real.V5_QUOTE, "mixed", real.at("2026-02-20T00:00:00+00:00"), 5, "", 18),
    ],
)
def test_accepted(
    vectors: Vectors, name: str, endorsements: str, now: datetime, version: int, ppid: str, number: int
) -> None:
    raw = vectors(name)
    verified = real.verify(raw, real.read(vectors, endorsements), now)
    assert (verified.tcb_status, verified.advisory_ids) == ("UpToDate", ())
    assert verified.quote.version == version
    assert verified.quote.raw == real.truncated(raw)
    assert verified.ppid.hex().startswith(ppid)
    assert verified.tcb_evaluation_data_number == number
    assert not verified.simulated
    assert not any(verified.runtime_register)
    assert (verified.kind, verified.state, verified.caveats) == ("tdx", "TCB UpToDate", ())
    assert verified.machine == verified.ppid
    assert verified.report_data == verified.quote.td_report.report_data
    td15 = (verified.opinion.current, verified.quote.td_report.mr_service_td)
    assert td15 == ((None, None) if version == 4 else (verified.opinion.platform, bytes(48)))


def test_lengths_of_a_real_quote(vectors: Vectors) -> None:
    raw = vectors(real.V4_QUOTE)
    assert (len(raw), len(quote.canonical(raw))) == (5006, 4936)


WINDOWS = [
    (real.V4_QUOTE, "june", "2025-06-19T10:32:27+00:00", "2025-07-19T10:00:34+00:00"),
    (real.V5_QUOTE, "outdated", "2026-02-18T10:58:51+00:00", "2026-03-20T10:41:14+00:00"),
    (real.V5_QUOTE, "mixed", "2026-02-18T10:42:15+00:00", "2026-03-03T14:49:26+00:00"),
]


@pytest.mark.parametrize(("name", "endorsements", "first", "last"), WINDOWS)
def test_at_the_edges_of_the_window(
    vectors: Vectors, name: str, endorsements: str, first: str, last: str
) -> None:
    for time in (first, last):
        verified = real.verify(vectors(name), real.read(vectors, endorsements), real.at(time))
        assert verified.tcb_status == "UpToDate"


@pytest.mark.parametrize(
    ("name", "endorsements", "time", "error"),
    [
        (real.V4_QUOTE, "june", "2025-06-19T10:32:26+00:00", PlatformError),
        (real.V4_QUOTE, "june", "2025-06-19T10:00:34+00:00", SignatureError),
        (real.V4_QUOTE, "june", "2025-07-19T10:00:35+00:00", SignatureError),
        (real.V4_QUOTE, "june", "2025-02-06T23:25:50+00:00", TrustAnchorError),
        (real.V4_QUOTE, "june", "2018-01-01T00:00:00+00:00", TrustAnchorError),
        (real.V4_QUOTE, "june", "2050-01-01T00:00:00+00:00", TrustAnchorError),
        (real.V5_QUOTE, "outdated", "2026-02-18T10:58:50+00:00", PlatformError),
        (real.V5_QUOTE, "outdated", "2026-03-20T10:41:15+00:00", SignatureError),
        (real.V5_QUOTE, "mixed", "2026-02-18T10:42:14+00:00", PlatformError),
        (real.V5_QUOTE, "mixed", "2026-03-03T14:49:27+00:00", PlatformError),
        (real.V4_QUOTE, "june", "2026-04-03T11:21:57+00:00", SignatureError),
        (real.V5_QUOTE, "outdated", "2026-04-03T11:21:57+00:00", SignatureError),
        (real.LOW_QUOTE, "outdated", "2026-03-20T10:41:15+00:00", SignatureError),
        (real.LOW_QUOTE, "outdated", "2026-02-18T10:58:50+00:00", PlatformError),
        (real.HEX_QUOTE, "june", "2026-04-03T11:21:57+00:00", SignatureError),
        (real.DEBUG_QUOTE, "2023", "2023-06-18T08:42:57+00:00", PlatformError),
        (real.DEBUG_QUOTE, "2023", "2023-07-08T07:25:00+00:00", PlatformError),
        (real.DEBUG_QUOTE, "2023", "2023-07-08T07:27:52+00:00", SignatureError),
        (real.V5_QUOTE, "no-window", "2026-02-15T00:00:00+00:00", SignatureError),
        (real.DEBUG_QUOTE, "no-window", "2023-07-01T00:00:00+00:00", PlatformError),
        (real.DEBUG_QUOTE, "no-window", "2025-01-01T00:00:00+00:00", SignatureError),
    ],
)
def test_outside_the_window(
    vectors: Vectors, name: str, endorsements: str, time: str, error: type[PalmTorchError]
) -> None:
    with pytest.raises(error, match=r"expected .* time"):
        real.verify(real.raw_quote(vectors, name), real.read(vectors, endorsements), real.at(time))


def test_rules_of_a_real_trust_domain(vectors: Vectors) -> None:
    verified = real.verify(vectors(real.V4_QUOTE), real.read(vectors, "june"), real.JUNE_2025)
    report = verified.quote.td_report
    rules = appraisal.TdxRules(
        **{name: (getattr(report, name).hex(),) for name in ("mr_td", "rtmr0", "rtmr1", "rtmr2")},
        min_tcb_evaluation_data_number=17,
    )
    appraisal.appraise(verified, rules)
    with pytest.raises(PlatformError, match="at least 18, got 17"):
        appraisal.appraise(verified, dataclasses.replace(rules, min_tcb_evaluation_data_number=18))


@pytest.mark.parametrize(
    ("name", "endorsements", "now", "error", "message"),
    [
        (real.V4_QUOTE, "outdated", real.FEBRUARY_2026, PlatformError, "FMSPC b0c06f000000"),
        (real.V4_QUOTE, "sgx", real.SGX_TIME, SignatureError, "PCK CRL issuer chain"),
        (real.V4_QUOTE, "2023", real.JULY_2023, TrustAnchorError, "≤ time ≤"),
        (real.V5_QUOTE, "june", real.JUNE_2025, TrustAnchorError, "≤ time ≤"),
        (real.SGX_QUOTE, "sgx", real.SGX_TIME, EvidenceError, "expected version 4 or 5, got 3"),
        (real.SGX_QUOTE, "june", real.JUNE_2025, EvidenceError, "expected version 4 or 5, got 3"),
        (real.LOW_QUOTE, "outdated", real.FEBRUARY_2026, PlatformError, "no matching TCB level"),
        (real.HEX_QUOTE, "june", real.JUNE_2025, PlatformError, "no matching TCB level"),
        (real.DEBUG_QUOTE, "2023", real.JULY_2023, PlatformError, "debug mode is on"),
        (real.DEBUG_QUOTE, "june", real.JUNE_2025, PlatformError, "FMSPC 50806f000000"),
        (real.OLD_QUOTE, "2023", real.JULY_2023, EvidenceError, "nothing but zeros"),
        (real.OLD_QUOTE, "june", real.JUNE_2025, EvidenceError, "nothing but zeros"),
        (real.CLOUD_QUOTE, "june", real.JUNE_2025, PlatformError, "FMSPC"),
        (real.CLOUD_QUOTE, "outdated", real.FEBRUARY_2026, PlatformError, "FMSPC"),
        (real.CLOUD_QUOTE, "2023", real.JULY_2023, TrustAnchorError, "≤ time ≤"),
        (real.PRE_PRODUCTION_QUOTE, "june", real.JUNE_2025, TrustAnchorError, "not a configured trust"),
        (real.PRE_PRODUCTION_QUOTE, "outdated", real.FEBRUARY_2026, TrustAnchorError, "not a configured"),
        (real.PRE_PRODUCTION_QUOTE, "sgx", real.SGX_TIME, TrustAnchorError, "not a configured trust"),
        (real.PRE_PRODUCTION_QUOTE, "2023", real.JULY_2023, TrustAnchorError, "not a configured trust"),
        (real.PRE_PRODUCTION_QUOTE, "2023", real.at("2031-01-01T00:00:00Z"), TrustAnchorError, "not a conf"),
        ("tdx/go-tdx-guest/report.dat", "june", real.JUNE_2025, EvidenceError, "version"),
        ("tdx/go-tdx-guest/ccel/nonce.dat", "june", real.JUNE_2025, EvidenceError, "version"),
    ],
)
def test_refused(
    vectors: Vectors,
    name: str,
    endorsements: str,
    now: datetime,
    error: type[PalmTorchError],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        real.verify(real.raw_quote(vectors, name), real.read(vectors, endorsements), now)


def test_collateral_of_sgx_is_of_no_use_to_tdx(vectors: Vectors) -> None:
    """Whatever else is right, TCB info and QE identity have to be those of TDX."""
    for name in ("tcb_info", "qe_identity"):
        names = [f"{name}{suffix}" for suffix in ("", "_signature", "_issuer_chain")]
        other = {field: getattr(real.read(vectors, "sgx"), field) for field in names}
        mixed = dataclasses.replace(real.read(vectors, "june"), **other)
        with pytest.raises(EvidenceError, match=r"expected id '(TDX|TD_QE)'"):
            real.verify(vectors(real.V4_QUOTE), mixed, real.SGX_TIME)


def test_an_old_platform_with_sept_exceptions_on(vectors: Vectors) -> None:
    raw = real.truncated(vectors(real.OLD_QUOTE))
    assert len(raw) == 4935
    assert quote.parse_quote(raw).td_report.td_attributes.hex() == "0000004000000000"
    with pytest.raises(PlatformError, match="no matching TCB level"):
        real.verify(raw, real.read(vectors, "2023"), real.JULY_2023)
    with pytest.raises(PlatformError, match="SEPT_VE_DISABLE is off"):
        td_attributes.check(quote.parse_quote(raw).td_report)


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        (real.V4_QUOTE, "2025-02-06T23:25:51+00:00", "2032-02-06T23:25:51+00:00"),
        (real.LOW_QUOTE, "2026-01-23T18:09:41+00:00", "2033-01-23T18:09:41+00:00"),
        (real.HEX_QUOTE, "2024-08-02T11:15:37+00:00", "2031-08-02T11:15:37+00:00"),
        (real.V5_QUOTE, "2026-01-27T14:36:27+00:00", "2033-01-27T14:36:27+00:00"),
        (real.OLD_QUOTE, "2022-09-20T13:20:31+00:00", "2029-09-20T13:20:31+00:00"),
        (real.CLOUD_QUOTE, "2024-07-02T12:07:37+00:00", "2031-07-02T12:07:37+00:00"),
        (real.DEBUG_QUOTE, "2023-02-07T08:02:55+00:00", "2030-02-07T08:02:55+00:00"),
    ],
)
def test_signatures_alone(vectors: Vectors, name: str, first: str, last: str) -> None:
    """Steps 5 and 7 to 9, inside and outside the window of the certificates: not a verdict on a platform."""
    parsed = quote.parse_quote(real.truncated(real.raw_quote(vectors, name)))

    def check(now: datetime) -> None:
        chain = certificates.verify_chain(
            parsed.certificates, anchors=[certificates.INTEL_SGX_ROOT], now=now, what="quote"
        )
        quote_signatures.check(parsed, chain.leaf)

    for time in (first, last):
        check(real.at(time))
    for time, seconds in ((first, -1), (last, 1)):
        outside = datetime.fromtimestamp(real.at(time).timestamp() + seconds, real.at(time).tzinfo)
        with pytest.raises(TrustAnchorError, match="≤ time ≤"):
            check(outside)


@pytest.mark.parametrize(
    ("endorsements", "first", "last"),
    [
        ("june", "2025-03-20T11:21:57+00:00", "2026-04-03T11:21:56+00:00"),
        ("2023", "2023-04-03T10:22:51+00:00", "2024-04-02T10:22:50+00:00"),
    ],
)
def test_windows_of_the_roots_lists(vectors: Vectors, endorsements: str, first: str, last: str) -> None:
    data = real.read(vectors, endorsements).der("root_ca_crl")
    root = certificate_bytes.load_certificate(vectors("tdx/dcap-qvl/TrustedRootCA.der"), what="root")
    for time in (first, last):
        revocation.verify_crl(data, issuer=root, now=real.at(time), what="list")
    for time, seconds in ((first, -1), (last, 1)):
        outside = datetime.fromtimestamp(real.at(time).timestamp() + seconds, real.at(time).tzinfo)
        with pytest.raises(SignatureError, match="time <"):
            revocation.verify_crl(data, issuer=root, now=outside, what="list")


def test_a_list_of_the_platform_ca(vectors: Vectors) -> None:
    found = real.read(vectors, "2023")
    issuer = certificate_bytes.load_certificate(found.chain("pck_crl_issuer_chain")[0], what="PCK CA")
    for time in ("2023-06-08T07:27:52+00:00", "2023-07-08T07:27:51+00:00"):
        revocation.verify_crl(found.der("pck_crl"), issuer=issuer, now=real.at(time), what="list")
    for time in ("2023-06-08T07:27:51+00:00", "2023-07-08T07:27:52+00:00"):
        with pytest.raises(SignatureError, match="time <"):
            revocation.verify_crl(found.der("pck_crl"), issuer=issuer, now=real.at(time), what="list")


@pytest.mark.parametrize(
    ("name", "key", "chain"),
    [
        ("sample_tcbInfo_response", pcs.TCB_INFO_KEY, "tcbInfoIssuerChain"),
        ("sample_tcbinfo_response_v5", pcs.TCB_INFO_KEY, "tcbInfoIssuerChain"),
        ("sample_qeIdentity_response", pcs.QE_IDENTITY_KEY, "qeIdentityIssuerChain"),
    ],
)
def test_signatures_of_raw_answers(vectors: Vectors, name: str, key: str, chain: str) -> None:
    text, signature = pcs.cut(vectors(f"tdx/go-tdx-guest/{name}"), key)
    pem = pcs.decode_chain(real.header(vectors, chain), what=chain).encode()
    signer = certificate_bytes.decode_pem(pem, what=chain, count=2)[0]
    public = certificates.p256_key(certificate_bytes.load_certificate(signer, what=chain), what=chain)
    quote_signatures.verify_raw(public, bytes.fromhex(signature), text.encode(), name)
    with pytest.raises(SignatureError):
        quote_signatures.verify_raw(public, bytes.fromhex(signature), text.encode() + b" ", name)


def test_the_pinned_root_is_intels(vectors: Vectors) -> None:
    root = vectors("tdx/dcap-qvl/TrustedRootCA.der")
    pinned = certificates.TrustAnchor.from_certificate(root, name="Intel SGX Root CA", simulated=False)
    assert pinned == certificates.INTEL_SGX_ROOT
    parsed = certificate_bytes.load_certificate(root, what="root")
    for time, ok in (
        ("2018-05-21T10:45:09+00:00", False),
        ("2018-05-21T10:45:10+00:00", True),
        ("2049-12-31T23:59:59+00:00", True),
        ("2050-01-01T00:00:00+00:00", False),
    ):
        try:
            certificates.check_certificate(parsed, real.at(time), is_ca=True, below=1, what="root")
        except TrustAnchorError:
            assert not ok
        else:
            assert ok


def test_the_report_data_of_a_cloud_quote(vectors: Vectors) -> None:
    report = quote.parse_quote(quote.canonical(vectors(real.CLOUD_QUOTE))).td_report
    assert report.report_data == vectors("tdx/go-tdx-guest/ccel/nonce.dat") == bytes(64)
    assert not any(report.rtmr3)


def test_the_tail_of_zeros_is_not_part_of_a_quote(vectors: Vectors) -> None:
    raw = vectors(real.V4_QUOTE)
    with pytest.raises(EvidenceError, match="signature data size"):
        quote.parse_quote(raw)
    with pytest.raises(EvidenceError, match="nothing but zeros"):
        quote.canonical(raw[:-1] + b"\x01")
    assert quote.canonical(quote.canonical(raw)) == quote.canonical(raw)


@pytest.mark.parametrize("name", [real.V4_QUOTE, real.V5_QUOTE, real.DEBUG_QUOTE])
def test_chains_of_real_quotes_have_the_one_spelling(vectors: Vectors, name: str) -> None:
    parsed = quote.parse_quote(quote.canonical(vectors(name)))
    pem = certificate_bytes.encode_pem(parsed.certificates)
    assert parsed.raw.endswith((pem, pem + b"\x00"))


def test_a_verdict_needs_collateral(vectors: Vectors) -> None:
    """There is no way to a verified quote that leaves the platform unappraised."""
    assert tdx.verify_quote.__kwdefaults__ is None
    with pytest.raises(TypeError):
        tdx.verify_quote(vectors(real.V4_QUOTE), anchors=[], now=real.JUNE_2025)  # type: ignore[call-arg]
