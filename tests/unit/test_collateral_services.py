"""What is asked for a platform, and what is made of the answers."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import publishing
import pytest
import web

from palm_torch import codec, collateral_services, evidence, fetching
from palm_torch.commands import collateral as command
from palm_torch.cvm import (
    certificates,
    collateral,
    quote,
    simulated,
    simulated_snp,
    snp,
    snp_endorsements,
    snp_report,
    tdx,
)
from palm_torch.errors import EncodingError, EvidenceError, FetchError, InputError, PlatformError

if TYPE_CHECKING:
    from collections.abc import Callable

    from relay import ResumedRun
    from workshop import GoodRun

Vectors = "Callable[[str], bytes]"
REPORT_DATA = bytes(range(64))
JULY_2023 = datetime(2023, 7, 1, tzinfo=UTC)
JANUARY_2025 = datetime(2025, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def tdx_machine() -> simulated.SimulatedTdx:
    return simulated.SimulatedTdx()


@pytest.fixture(scope="module")
def snp_machine() -> simulated_snp.SimulatedSnp:
    return simulated_snp.SimulatedSnp()


def fetch(data: bytes, service: publishing.Service, **options: Any) -> Any:
    with web.serving(service) as server:
        options.setdefault("source", f"{server.url}/")
        return collateral_services.fetch(data, what="e", timeout_s=60, **options)


def test_a_cache_of_intels_service_is_asked(tdx_machine: simulated.SimulatedTdx) -> None:
    published = tdx_machine.collateral()
    service = publishing.pccs(published)
    found = fetch(tdx_machine.quote(REPORT_DATA), service)
    assert (found.attester, found.collateral) == ("tdx", codec.to_json(published))
    fmspc = json.loads(published.tcb_info)["fmspc"].lower()
    assert service.asked == [
        f"{publishing.TCB_INFO}?fmspc={fmspc}",
        publishing.QE_IDENTITY,
        f"{publishing.PCK_CRL}?ca=platform&encoding=der",
        publishing.ROOT_CRL,
    ]


def test_zeros_behind_a_raw_quote_are_taken_off(tdx_machine: simulated.SimulatedTdx) -> None:
    raw = tdx_machine.quote(REPORT_DATA)
    service = publishing.pccs(tdx_machine.collateral())
    assert fetch(raw + bytes(70), service).attester == "tdx"
    with pytest.raises(EvidenceError, match="e: quote: expected nothing but zeros"):
        fetch(raw + b"\0x", service)


def test_a_bundle_is_asked_for(good: GoodRun) -> None:
    assert good.bundle.collateral is not None
    service = publishing.pccs(collateral.from_json(dict(good.bundle.collateral)))
    assert fetch(good.data, service).collateral == good.bundle.collateral


def test_a_receipt_is_asked_for(resumed: ResumedRun) -> None:
    file = resumed.sessions[0].file
    assert file.session.collateral is not None
    service = publishing.pccs(collateral.from_json(dict(file.session.collateral)))
    bare = dataclasses.replace(file, session=dataclasses.replace(file.session, collateral=None))
    assert fetch(bare.encode(), service).collateral == file.session.collateral


@pytest.mark.parametrize("path", [publishing.TCB_INFO, publishing.QE_IDENTITY, publishing.PCK_CRL])
@pytest.mark.parametrize(
    "instead",
    [
        web.answer(status="404 Not Found"),
        web.answer(b"{}"),
        web.answer(b"<html>captive portal</html>", TCB_Info_Issuer_Chain="x"),
        web.answer(bytes(3_000_000)),
    ],
    ids=["404", "headers missing", "html", "large"],
)
def test_an_answer_that_is_none_is_refused(
    path: str, instead: bytes, tdx_machine: simulated.SimulatedTdx
) -> None:
    service = publishing.pccs(tdx_machine.collateral())
    service.instead[path] = instead
    with pytest.raises((InputError, FetchError)):
        fetch(tdx_machine.quote(REPORT_DATA), service)


def test_an_error_says_what_was_asked_for(tdx_machine: simulated.SimulatedTdx) -> None:
    service = publishing.pccs(tdx_machine.collateral())
    service.instead[publishing.ROOT_CRL] = web.answer(status="404 Not Found")
    with pytest.raises(FetchError, match=r"^root CRL: http://127\.0\.0\.1:\d+/sgx/.*rootcacrl: expected sta"):
        fetch(tdx_machine.quote(REPORT_DATA), service)


class Vendors:
    """Stands for the vendors' own services: serves what it is told to, whatever the host."""

    def __init__(self, service: publishing.Service) -> None:
        self.service, self.urls = service, list[str]()

    def __call__(self, url: str, *, max_bytes: int, deadline: Any) -> fetching.Answer:
        self.urls.append(url)
        bare = url.removeprefix(collateral_services.INTEL).removeprefix(collateral_services.AMD)
        path = publishing.ROOT_CRL if url == collateral_services.INTEL_ROOT_CRL else bare
        with web.serving(self.service) as server:
            return self.get(server.url + path, max_bytes=max_bytes, deadline=deadline)

    get = staticmethod(fetching.get)


@pytest.mark.parametrize("source", [None, "intel"])
def test_intels_own_answers_of_2023(
    source: str | None, vectors: Callable[[str], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = publishing.pccs_2023(vectors)
    service.answers[publishing.ROOT_CRL] = web.answer(vectors("tdx/go-tdx-guest/rootcrl.der"))
    vendors = Vendors(service)
    monkeypatch.setattr(fetching, "get", vendors)
    raw = vectors("tdx/trustee/tdx_quote_4.dat")
    found = collateral_services.fetch(raw, source=source, timeout_s=60)
    assert vendors.urls == [
        "https://api.trustedservices.intel.com/tdx/certification/v4/tcb?fmspc=50806f000000",
        "https://api.trustedservices.intel.com/tdx/certification/v4/qe/identity",
        "https://api.trustedservices.intel.com/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
        "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der",
    ]
    with pytest.raises(PlatformError, match=r"(?i)debug"):  # everything else about this quote is in order
        tdx.verify_quote(
            raw,
            collateral.from_json(dict(found.collateral)),
            anchors=[certificates.INTEL_SGX_ROOT],
            now=JULY_2023,
        )


def test_the_processor_ca_is_asked_for_its_own_list(vectors: Callable[[str], bytes]) -> None:
    sgx = vectors("tdx/dcap-qvl/sgx_quote")
    start = sgx.index(b"-----BEGIN")
    chain = sgx[start:].rstrip(b"\0")
    simulated_quote = simulated.SimulatedTdx().quote(REPORT_DATA)
    parsed = quote.parse_quote(simulated_quote)
    at = simulated_quote.index(b"-----BEGIN")
    raw = _with_chain(simulated_quote[:at], chain)
    assert quote.parse_quote(raw).certificates[0] != parsed.certificates[0]
    found = collateral_services.platform_of(raw, what="e")
    assert isinstance(found, collateral_services.TdxPlatform)
    assert (found.ca, found.fmspc.hex(), found.simulated) == ("processor", "00a067110000", False)


def _with_chain(before: bytes, chain: bytes) -> bytes:
    """Puts another certificate chain at the end of a version 4 quote, and sets the three lengths."""
    signature_data = 632
    head = bytearray(before)
    head[-4:] = len(chain).to_bytes(4, "little")
    total = len(head) - signature_data - 4 + len(chain)
    head[signature_data : signature_data + 4] = total.to_bytes(4, "little")
    head[766:770] = (total - 134).to_bytes(4, "little")
    return bytes(head) + chain


def test_a_certificate_by_somebody_else_is_refused(tdx_machine: simulated.SimulatedTdx) -> None:
    raw = tdx_machine.quote(REPORT_DATA)
    at = raw.index(b"-----BEGIN")
    pem = raw[at:].rstrip(b"\0")
    parts = pem.split(b"-----BEGIN")[1:]
    chain = b"".join(b"-----BEGIN" + part for part in (parts[2], parts[1], parts[2]))  # the root as the leaf
    with pytest.raises(
        EvidenceError, match="e: expected a PCK certificate by Intel's Platform or Processor CA"
    ):
        collateral_services.platform_of(_with_chain(raw[:at], chain), what="e")


@pytest.mark.parametrize("source", [None, "intel"])
def test_nobody_publishes_about_a_simulated_tdx(
    source: str | None, tdx_machine: simulated.SimulatedTdx
) -> None:
    with pytest.raises(EvidenceError, match="of a simulated TEE, about which nobody publishes"):
        collateral_services.fetch(tdx_machine.quote(REPORT_DATA), source=source)


@pytest.mark.parametrize("source", ["amd", "", "pccs.example", "http://pccs.example", "https://u:p@a/"])
def test_a_source_that_is_none(source: str, tdx_machine: simulated.SimulatedTdx) -> None:
    with pytest.raises(InputError, match=r"^source: URL"):
        collateral_services.fetch(tdx_machine.quote(REPORT_DATA), source=source)


@pytest.mark.parametrize(
    "data", [b"", b"x", b"{", b"{}", bytes(1184), bytes(5000), b'{"payload":', b'{"a":1}', b"\xff" * 1184]
)
def test_what_is_no_evidence(data: bytes) -> None:
    with pytest.raises(InputError):
        collateral_services.fetch(data)


def test_a_chip_is_asked_for_by_its_name_and_versions(snp_machine: simulated_snp.SimulatedSnp) -> None:
    raw = snp_machine.quote(REPORT_DATA)
    report = snp_report.parse_report(raw)
    endorsements = snp_machine.collateral()
    service = publishing.kds_of(endorsements, chip=report.chip_id)
    found = fetch(raw, service)
    assert (found.attester, found.collateral) == ("snp", codec.to_json(endorsements))
    tcb = report.reported_tcb
    versions = (
        f"blSPL={tcb.boot_loader:02d}&teeSPL={tcb.tee:02d}&snpSPL={tcb.snp:02d}&ucodeSPL={tcb.microcode:02d}"
    )
    assert service.asked == [
        f"/vcek/v1/Milan/{report.chip_id.hex()}?{versions}",
        "/vcek/v1/Milan/cert_chain",
        "/vcek/v1/Milan/crl",
    ]


def amd_vectors(vectors: Callable[[str], bytes]) -> tuple[bytes, bytes]:
    """Returns the PEM above a VCEK and above a VLEK, as AMD's service spells it."""
    ask, ark, asvk = (
        b"-----BEGIN" + part
        for part in vectors("snp/trustee/milan_ask_ark_asvk.pem").split(b"-----BEGIN")[1:]
    )
    return tuple((first.rstrip(b"\n") + b"\n" + ark.rstrip(b"\n") + b"\n") for first in (ask, asvk))  # type: ignore[return-value]


def test_amds_own_answers(
    vectors: Callable[[str], bytes], snp_machine: simulated_snp.SimulatedSnp, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = vectors("snp/trustee/test-report.bin")
    crl = snp_machine.collateral().revocation_list() or b""  # there is no real one at hand
    above, _ = amd_vectors(vectors)
    chip = snp_report.parse_report(raw).chip_id
    service = publishing.kds(
        vectors("snp/trustee/test-vcek.der"), above.replace(b"\n", b"\r\n"), crl, chip=chip
    )
    vendors = Vendors(service)
    monkeypatch.setattr(fetching, "get", vendors)
    found = collateral_services.fetch(raw, timeout_s=60)
    assert vendors.urls[0] == (
        f"https://kdsintf.amd.com/vcek/v1/Milan/{chip.hex()}?blSPL=03&teeSPL=00&snpSPL=08&ucodeSPL=115"
    )
    verified = snp.verify_report(
        raw,
        dataclasses.replace(snp_endorsements.from_json(dict(found.collateral)), crl=""),
        anchors=[certificates.AMD_ARK_MILAN],
        now=JANUARY_2025,
    )
    assert verified.machine == chip


def bundle_of(good: GoodRun, raw: bytes, carried: dict[str, str] | None) -> bytes:
    end = dataclasses.replace(good.bundle.end, quote=raw)
    changed: evidence.Bundle = dataclasses.replace(good.bundle, attester="snp", end=end, collateral=carried)
    return changed.encode()


def test_the_leaf_that_evidence_carries_is_not_asked_for(
    vectors: Callable[[str], bytes], good: GoodRun, snp_machine: simulated_snp.SimulatedSnp
) -> None:
    raw = vectors("snp/trustee/test-vlek-report.bin")
    crl = snp_machine.collateral().revocation_list() or b""
    _, above = amd_vectors(vectors)
    leaf = vectors("snp/trustee/test-vlek.der")
    carried = snp_endorsements.make_endorsements([leaf])
    service = publishing.kds(leaf, above, crl, chip=b"", key="vlek")
    found = fetch(bundle_of(good, raw, codec.to_json(carried)), service)  # type: ignore[arg-type]
    assert service.asked == ["/vlek/v1/Milan/cert_chain", "/vlek/v1/Milan/crl"]
    assert snp_endorsements.from_json(found.collateral).chain()[0] == leaf
    for data in (raw, bundle_of(good, raw, None)):
        with pytest.raises(
            EvidenceError, match="signed with a VLEK, whose certificate only the cloud provider"
        ):
            fetch(data, service)


def test_nobody_publishes_about_a_simulated_snp(
    good: GoodRun, snp_machine: simulated_snp.SimulatedSnp
) -> None:
    carried: Any = codec.to_json(snp_machine.collateral())
    data = bundle_of(good, snp_machine.quote(REPORT_DATA), carried)
    with pytest.raises(EvidenceError, match="of a simulated TEE"):
        collateral_services.fetch(data, source="amd")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"chip_id": bytes(64)}, "the host masks the chip's identity"),
        (
            {"cpuid": bytes((0x19, 0x11, 0))},
            "of a processor of family 0x19, model 0x11; this version knows Milan",
        ),
        ({"cpuid": bytes((0x1A, 0x01, 0))}, "of a processor of family 0x1a"),
        ({"flags": 7 << 2}, "signed by no key of AMD's"),
    ],
)
def test_a_report_that_names_no_certificate(
    changes: dict[str, Any], said: str, snp_machine: simulated_snp.SimulatedSnp
) -> None:
    report = snp_report.parse_report(snp_machine.quote(REPORT_DATA))
    raw = snp_report.encode_report(dataclasses.replace(report, **changes))
    with pytest.raises(EvidenceError, match=f"^e: .*{said}"):
        collateral_services.fetch(raw, what="e", source="https://127.0.0.1:1")


@pytest.mark.parametrize("path", ["cert_chain", "crl", "leaf"])
@pytest.mark.parametrize("instead", [b"", b"<html>", b"\x30\x00", b"-----BEGIN CERTIFICATE-----\n"])
def test_an_answer_of_amds_that_is_none_is_refused(
    path: str, instead: bytes, snp_machine: simulated_snp.SimulatedSnp
) -> None:
    raw = snp_machine.quote(REPORT_DATA)
    chip = snp_report.parse_report(raw).chip_id
    service = publishing.kds_of(snp_machine.collateral(), chip=chip)
    service.instead[f"/vcek/v1/Milan/{chip.hex() if path == 'leaf' else path}"] = web.answer(instead)
    with pytest.raises(InputError):
        fetch(raw, service)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf"), 3601.0])
def test_a_time_out_that_is_none(seconds: float, tdx_machine: simulated.SimulatedTdx) -> None:
    with pytest.raises(InputError, match="time-out: expected up to 3600 seconds, got"):
        collateral_services.fetch(tdx_machine.quote(REPORT_DATA), timeout_s=seconds)


def test_the_command_offers_the_same_time() -> None:
    options = {option.name: option for option in command.fetch.params}
    assert options["timeout"].default == collateral_services.TIMEOUT_S
    assert options["timeout"].type.max == collateral_services.MAX_TIMEOUT_S  # type: ignore[attr-defined]


def test_an_unreadable_name_is_refused() -> None:
    class Unreadable:
        @property
        def issuer(self) -> None:
            raise ValueError("odd name")

    with pytest.raises(EvidenceError, match="the issuer of a certificate cannot be read: odd name"):
        collateral_services._names(Unreadable(), "issuer", certificates.x509.NameOID.COMMON_NAME)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["test-vcek-invalid-new.der", "test-vlek.der", "garbage"])
def test_a_leaf_that_the_host_got_wrong_is_asked_for(
    name: str, vectors: Callable[[str], bytes], good: GoodRun, snp_machine: simulated_snp.SimulatedSnp
) -> None:
    """Of other firmware, of another kind of key, or no certificate at all: AMD has the right one."""
    raw, right = vectors("snp/trustee/test-report.bin"), vectors("snp/trustee/test-vcek.der")
    wrong = b"oops" if name == "garbage" else vectors(f"snp/trustee/{name}")
    crl = snp_machine.collateral().revocation_list() or b""
    _, above = amd_vectors(vectors)
    chip = snp_report.parse_report(raw).chip_id
    for leaf, asked in ((wrong, 3), (right, 2)):
        service = publishing.kds(right, above, crl, chip=chip)
        carried = codec.to_json(snp_endorsements.make_endorsements([leaf]))
        found = fetch(bundle_of(good, raw, carried), service)  # type: ignore[arg-type]
        assert len(service.asked) == asked
        assert snp_endorsements.from_json(found.collateral).chain()[0] == right


def test_a_providers_certificate_that_does_not_parse_is_an_error(
    vectors: Callable[[str], bytes], good: GoodRun
) -> None:
    raw = vectors("snp/trustee/test-vlek-report.bin")
    carried: Any = codec.to_json(snp_endorsements.make_endorsements([b"oops"]))
    with pytest.raises(EncodingError, match=r"^e: VCEK or VLEK certificate: "):
        collateral_services.fetch(bundle_of(good, raw, carried), what="e", source="https://127.0.0.1:1")
