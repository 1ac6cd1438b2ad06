"""Real TDX quotes with the collateral of their time, and what must become of them."""

from __future__ import annotations

import dataclasses
import json
import re
import urllib.parse
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from palm_torch.cvm import appraisal, certificate_bytes, certificates, collateral, quote, tdx
from palm_torch.errors import EvidenceError, PalmTorchError, PlatformError, SignatureError, TrustAnchorError

Vectors = Callable[[str], bytes]
Read = Callable[[str], collateral.Collateral]

JUNE_2025 = 1750332747
FEBRUARY_2026 = 1771459200
JULY_2023 = 1688169600


@pytest.fixture
def read(vectors: Vectors) -> Read:
    def read_collateral(name: str) -> collateral.Collateral:
        return collateral.from_json(json.loads(vectors(f"tdx/dcap-qvl/{name}_collateral.json")))

    return read_collateral


@pytest.fixture
def collateral_2023(vectors: Vectors) -> collateral.Collateral:
    """Puts together what the service answered in June 2023: bodies, and chains from response headers."""
    source = vectors("tdx/go-tdx-guest/test_cases.go.issuer-chains.txt").decode()
    chains = {}
    for name in ("pckCrlIssuerChain", "tcbInfoIssuerChain", "qeIdentityIssuerChain"):
        encoded = re.search(rf'(?i){name}\w*\s*=\s*"([^"]+)"|{name}[^"]*"(-----BEGIN[^"]+)"', source)
        if encoded is None:
            pytest.fail(f"{name} is not in the vector")
        chains[name] = urllib.parse.unquote(encoded.group(1) or encoded.group(2))
    texts = {}
    for name, key in (
        ("sample_tcbInfo_response", "tcbInfo"),
        ("sample_qeIdentity_response", "enclaveIdentity"),
    ):
        response = vectors(f"tdx/go-tdx-guest/{name}").decode()
        start = response.index("{", response.index(f'"{key}"'))
        _, end = json.JSONDecoder().raw_decode(response, start)
        texts[key] = response[start:end], json.loads(response)["signature"]
    return collateral.Collateral(
        pck_crl_issuer_chain=chains["pckCrlIssuerChain"],
        root_ca_crl=vectors("tdx/go-tdx-guest/rootcrl.der").hex(),
        pck_crl=vectors("tdx/go-tdx-guest/pckcrl").hex(),
        tcb_info_issuer_chain=chains["tcbInfoIssuerChain"],
        tcb_info=texts["tcbInfo"][0],
        tcb_info_signature=texts["tcbInfo"][1],
        qe_identity_issuer_chain=chains["qeIdentityIssuerChain"],
        qe_identity=texts["enclaveIdentity"][0],
        qe_identity_signature=texts["enclaveIdentity"][1],
    )


def verify(raw: bytes, endorsements: collateral.Collateral, at: int) -> tdx.VerifiedQuote:
    return tdx.verify_quote(
        quote.canonical(raw),
        endorsements,
        anchors=[certificates.INTEL_SGX_ROOT],
        now=datetime.fromtimestamp(at, UTC),
    )


def test_a_current_platform_is_up_to_date(vectors: Vectors, read: Read) -> None:
    raw = vectors("tdx/dcap-qvl/tdx_quote")
    verified = verify(raw, read("tdx_quote"), JUNE_2025)
    assert (len(raw), len(verified.quote.raw), verified.quote.version) == (5006, 4936, 4)
    assert verified.tcb_status == "UpToDate"
    assert verified.advisory_ids == ()
    assert verified.ppid.hex() == "811dca2a26b952e85bb6448b097ba4fd"
    assert verified.fmspc.hex() == "b0c06f000000"
    assert verified.tcb_evaluation_data_number == 17
    assert not verified.simulated
    assert not any(verified.quote.td_report.rtmr3)


def test_a_version_5_quote_is_up_to_date(vectors: Vectors, read: Read) -> None:
    verified = verify(
        vectors("tdx/go-tdx-guest/quote_v5_sample.dat"), read("tdx_quote_outdated"), FEBRUARY_2026
    )
    assert (verified.tcb_status, verified.quote.version) == ("UpToDate", 5)
    assert verified.quote.td_report.mr_service_td == bytes(48)
    assert verified.tcb_evaluation_data_number == 18


def test_rules_of_a_real_trust_domain(vectors: Vectors, read: Read) -> None:
    verified = verify(vectors("tdx/dcap-qvl/tdx_quote"), read("tdx_quote"), JUNE_2025)
    report = verified.quote.td_report
    rules = appraisal.TdxRules(
        **{name: (getattr(report, name).hex(),) for name in ("mr_td", "rtmr0", "rtmr1", "rtmr2")},
        min_tcb_evaluation_data_number=17,
    )
    appraisal.appraise(verified, rules)
    with pytest.raises(PlatformError, match="at least 18, got 17"):
        appraisal.appraise(verified, dataclasses.replace(rules, min_tcb_evaluation_data_number=18))


@pytest.mark.parametrize(
    ("at", "error"),
    [
        ("2025-06-19T10:32:26+00:00", PlatformError),
        ("2025-06-19T10:00:34+00:00", SignatureError),
        ("2025-07-19T10:00:35+00:00", SignatureError),
        ("2026-04-03T11:21:57+00:00", SignatureError),
        ("2018-01-01T00:00:00+00:00", TrustAnchorError),
        ("2050-01-01T00:00:00+00:00", TrustAnchorError),
    ],
)
def test_outside_the_window(vectors: Vectors, read: Read, at: str, error: type[PalmTorchError]) -> None:
    with pytest.raises(error, match=r"expected .* time"):
        verify(
            vectors("tdx/dcap-qvl/tdx_quote"),
            read("tdx_quote"),
            int(datetime.fromisoformat(at).timestamp()),
        )


@pytest.mark.parametrize("at", ["2025-06-19T10:32:27+00:00", "2025-07-19T10:00:34+00:00"])
def test_at_the_edges_of_the_window(vectors: Vectors, read: Read, at: str) -> None:
    when = int(datetime.fromisoformat(at).timestamp())
    assert verify(vectors("tdx/dcap-qvl/tdx_quote"), read("tdx_quote"), when).tcb_status == "UpToDate"


@pytest.mark.parametrize(
    ("name", "endorsements", "at", "error", "message"),
    [
        ("tdx/dcap-qvl/tdx_quote", "tdx_quote_outdated", FEBRUARY_2026, PlatformError, "FMSPC b0c06f000000"),
        ("tdx/dcap-qvl/tdx_quote", "sgx_quote", 1750334171, SignatureError, "PCK CRL issuer chain"),
        ("tdx/dcap-qvl/sgx_quote", "sgx_quote", 1750334171, EvidenceError, "expected version 4 or 5, got 3"),
        ("tdx/dcap-qvl/tdx_quote_outdated", "tdx_quote_outdated", FEBRUARY_2026, PlatformError, "TCB level"),
        ("tdx/trustee/tdx_quote_4.dat", "tdx_quote", JUNE_2025, PlatformError, "FMSPC 50806f000000"),
        ("tdx/cc-trusted-api/quote.bin", "tdx_quote", JUNE_2025, TrustAnchorError, "not a configured trust"),
        ("tdx/go-tdx-guest/tdx_prod_quote_SPR_E4.dat", "tdx_quote", JUNE_2025, EvidenceError, "but zeros"),
        ("tdx/go-tdx-guest/ccel/cos-113-tdx-quote.dat", "tdx_quote", JUNE_2025, PlatformError, "FMSPC"),
        ("tdx/go-tdx-guest/report.dat", "tdx_quote", JUNE_2025, EvidenceError, "version"),
    ],
)
def test_refused(
    vectors: Vectors,
    read: Read,
    name: str,
    endorsements: str,
    at: int,
    error: type[PalmTorchError],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        verify(vectors(name), read(endorsements), at)


def test_a_platform_below_every_level(vectors: Vectors, read: Read) -> None:
    text = vectors("tdx/dcap-qvl/tdx-quote.hex").decode().strip().removeprefix("0x")
    with pytest.raises(PlatformError, match="No matching TCB level"):
        verify(bytes.fromhex(text), read("tdx_quote"), JUNE_2025)


def test_a_debug_trust_domain(vectors: Vectors, collateral_2023: collateral.Collateral) -> None:
    with pytest.raises(PlatformError, match=r"(?i)debug"):
        verify(vectors("tdx/trustee/tdx_quote_4.dat"), collateral_2023, JULY_2023)


def test_an_old_platform_with_sept_exceptions_on(
    vectors: Vectors, collateral_2023: collateral.Collateral
) -> None:
    raw = vectors("tdx/go-tdx-guest/tdx_prod_quote_SPR_E4.dat")[:4935]
    assert quote.parse_quote(raw).td_report.td_attributes.hex() == "0000004000000000"
    with pytest.raises(PlatformError, match="TCB appraisal"):
        verify(raw, collateral_2023, JULY_2023)


def test_the_pinned_root_is_intels(vectors: Vectors) -> None:
    root = vectors("tdx/dcap-qvl/TrustedRootCA.der")
    pinned = certificates.TrustAnchor.from_certificate(root, name="Intel SGX Root CA", simulated=False)
    assert pinned == certificates.INTEL_SGX_ROOT


def test_the_tail_of_zeros_is_not_part_of_a_quote(vectors: Vectors) -> None:
    raw = vectors("tdx/dcap-qvl/tdx_quote")
    with pytest.raises(EvidenceError, match="signature data size"):
        quote.parse_quote(raw)
    with pytest.raises(EvidenceError, match="nothing but zeros"):
        quote.canonical(raw[:-1] + b"\x01")
    assert quote.canonical(quote.canonical(raw)) == quote.canonical(raw)


@pytest.mark.parametrize(
    "name", ["tdx/dcap-qvl/tdx_quote", "tdx/go-tdx-guest/quote_v5_sample.dat", "tdx/trustee/tdx_quote_4.dat"]
)
def test_chains_of_real_quotes_have_the_one_spelling(vectors: Vectors, name: str) -> None:
    parsed = quote.parse_quote(quote.canonical(vectors(name)))
    pem = certificate_bytes.encode_pem(parsed.certificates)
    assert parsed.raw.endswith((pem, pem + b"\x00"))
