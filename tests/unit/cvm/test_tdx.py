"""The verification of quotes, against a simulated vendor whose statements are bent one at a time."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from palm_torch.cvm import (
    certificate_bytes,
    certificates,
    dcap,
    quote,
    simulated_authority,
    simulated_collateral,
    simulated_quote,
    tdx,
)
from palm_torch.errors import (
    EncodingError,
    EvidenceError,
    InputError,
    PalmTorchError,
    PlatformError,
    SignatureError,
    TrustAnchorError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = datetime.fromisoformat("2026-11-21T12:00:00+00:00")


def bent(document: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    change(changed)
    return changed


def test_a_simulated_quote_is_accepted_as_simulated(vendor: Any) -> None:
    verified = vendor.verify()
    assert verified.simulated
    assert verified.anchor == vendor.anchor
    assert verified.tcb_status == "UpToDate"
    assert verified.advisory_ids == ()
    assert verified.tcb_evaluation_data_number == simulated_collateral.EVALUATION_DATA_NUMBER
    assert verified.fmspc == b"SIMULA"
    assert len(verified.ppid) == 16
    assert verified.collateral_issued < vendor.now < verified.collateral_next_update
    assert verified.quote.td_report.report_data == bytes(range(64))
    assert verified.quote.td_report.rt_mrs[3] == verified.runtime_register == bytes(48)
    assert (verified.kind, verified.state, verified.caveats) == ("tdx", "TCB UpToDate", ())
    assert (verified.machine, verified.report_data) == (verified.ppid, bytes(range(64)))


def test_a_verified_quote_cannot_be_made_elsewhere(vendor: Any) -> None:
    verified = vendor.verify()
    fields = {field.name: getattr(verified, field.name) for field in dataclasses.fields(verified)}
    with pytest.raises(TypeError, match="made by verify_quote alone"):
        tdx.VerifiedQuote(**fields, token=object())
    with pytest.raises((TypeError, ValueError)):
        dataclasses.replace(verified, tcb_status="UpToDate")


@pytest.mark.parametrize("anchors", [[], [certificates.INTEL_SGX_ROOT]])
def test_a_simulated_root_must_be_configured(vendor: Any, anchors: list[certificates.TrustAnchor]) -> None:
    with pytest.raises(TrustAnchorError, match="not a configured trust anchor"):
        tdx.verify_quote(vendor.quote(), vendor.collateral(), anchors=anchors, now=NOW)


def test_another_simulated_root_is_another_root(vendor: Any) -> None:
    other = type(vendor)(simulated_authority.make_authority(NOW))
    with pytest.raises(TrustAnchorError):
        other.verify(vendor.quote())
    with pytest.raises(TrustAnchorError, match="PCK CRL issuer chain"):
        vendor.verify(endorsements=other.collateral())


def test_collateral_under_another_admitted_root_is_refused(vendor: Any) -> None:
    other = type(vendor)(simulated_authority.make_authority(NOW))
    mixed = dataclasses.replace(
        vendor.collateral(),
        **{
            name: getattr(other.collateral(), name)
            for name in ("tcb_info", "tcb_info_signature", "tcb_info_issuer_chain")
        },
    )
    with pytest.raises(TrustAnchorError, match="tcb_info: issuer chain"):
        tdx.verify_quote(vendor.quote(), mixed, anchors=[vendor.anchor, other.anchor], now=NOW)


def test_time_must_say_its_zone(vendor: Any) -> None:
    with pytest.raises(InputError, match="aware datetime"):
        vendor.verify(now=datetime(2026, 11, 21))  # noqa: DTZ001 (a naive time is the point)


@pytest.mark.parametrize(
    ("shift", "error", "message"),
    [
        (timedelta(hours=-2), SignatureError, "root CA CRL: expected"),
        (timedelta(days=31), SignatureError, "root CA CRL: expected"),
        (timedelta(days=-2), TrustAnchorError, "expected .* ≤ time ≤"),
        (timedelta(days=40 * 365), TrustAnchorError, "expected .* ≤ time ≤"),
    ],
)
def test_outside_the_window_of_collateral_and_certificates(
    vendor: Any, shift: timedelta, error: type[PalmTorchError], message: str
) -> None:
    with pytest.raises(error, match=message):
        vendor.verify(endorsements=vendor.collateral(), now=NOW + shift)


@pytest.mark.parametrize("name", ["tcb_info", "qe_identity"])
@pytest.mark.parametrize("shift", [timedelta(days=-60), timedelta(days=60)])
def test_documents_have_their_own_window(vendor: Any, name: str, shift: timedelta) -> None:
    document = getattr(simulated_collateral, f"make_{name}")(NOW + shift)
    with pytest.raises(PlatformError, match="≤ time ≤"):
        vendor.verify(endorsements=vendor.collateral(**{name: document}))


def test_the_last_second_of_a_document_counts(vendor: Any) -> None:
    document = simulated_collateral.make_tcb_info(NOW - simulated_collateral.VALID)
    assert vendor.verify(endorsements=vendor.collateral(tcb_info=document)).tcb_status == "UpToDate"


@pytest.mark.parametrize("status", ["OutOfDate", "SWHardeningNeeded", "OutOfDateConfigurationNeeded"])
def test_the_status_is_reported_and_not_judged(vendor: Any, status: str) -> None:
    info = simulated_collateral.make_tcb_info(NOW)
    info["tcbLevels"][0] |= {"tcbStatus": status, "advisoryIDs": ["INTEL-SA-00001"]}
    verified = vendor.verify(endorsements=vendor.collateral(tcb_info=info))
    assert verified.tcb_status == status
    assert verified.advisory_ids == ("INTEL-SA-00001",)
    assert verified.state == f"TCB {status} (INTEL-SA-00001)"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda info: info["tcbLevels"][0].update(tcbStatus="Revoked"), "revoked"),
        (lambda info: info["tdxModuleIdentities"][0]["tcbLevels"][0].update(tcbStatus="Revoked"), "revoked"),
        (lambda info: info.update(tcbLevels=[]), "no matching TCB level"),
        (lambda info: info["tcbLevels"][0]["tcb"].update(pcesvn=99), "no matching TCB level"),
        (lambda info: info["tcbLevels"][0]["tcb"]["sgxtcbcomponents"][15].update(svn=9), "no matching TCB"),
        (lambda info: info["tcbLevels"][0]["tcb"]["tdxtcbcomponents"][2].update(svn=9), "no matching TCB"),
        (lambda info: info.update(tdxModuleIdentities=[]), "no identity TDX_01"),
        (lambda info: info.pop("tdxModuleIdentities"), "no identity TDX_01"),
        (lambda info: info["tdxModuleIdentities"][0].update(id="TDX_03"), "no identity TDX_01"),
        (lambda info: info["tdxModuleIdentities"][0].update(mrsigner="11" * 48), "expected signer 1111"),
        (lambda info: info["tdxModuleIdentities"][0].update(attributes="01" * 8), "expected attributes 0101"),
        (lambda info: info["tdxModuleIdentities"][0].update(tcbLevels=[]), "version 4 reaches no level"),
    ],
)
@pytest.mark.parametrize("version", [4, 5])
def test_tcb_info_that_does_not_speak_for_the_platform(
    vendor: Any, change: Callable[[dict[str, Any]], object], message: str, version: int
) -> None:
    info = bent(simulated_collateral.make_tcb_info(NOW), change)
    with pytest.raises(PlatformError, match=f"^TCB appraisal: .*{message}"):
        vendor.verify(vendor.quote(version=version), vendor.collateral(tcb_info=info))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("fmspc", "00806F050000", "expected FMSPC 53494d554c41"),
        ("pceId", "0001", "PCE-ID 0000"),
    ],
)
def test_tcb_info_of_another_platform(vendor: Any, name: str, value: str, message: str) -> None:
    info = simulated_collateral.make_tcb_info(NOW) | {name: value}
    with pytest.raises(PlatformError, match=message):
        vendor.verify(endorsements=vendor.collateral(tcb_info=info))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda identity: identity.update(mrsigner="11" * 32), "mr_signer: expected 1111"),
        (lambda identity: identity.update(isvprodid=3), "isv_prod_id: expected 3, got 2"),
        (lambda identity: identity.update(miscselect="00000001"), "misc_select: expected 00000001"),
        (lambda identity: identity.update(attributesMask="FF" * 16), "attributes: expected 1100"),
        (lambda identity: identity["tcbLevels"][0]["tcb"].update(isvsvn=9), "version 4 reaches no level"),
        (lambda identity: identity["tcbLevels"][0].update(tcbStatus="Revoked"), "revoked"),
    ],
)
def test_qe_identity_that_does_not_speak_for_the_enclave(
    vendor: Any, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    identity = bent(simulated_collateral.make_qe_identity(NOW), change)
    with pytest.raises(PlatformError, match=f"^TCB appraisal: .*{message}"):
        vendor.verify(endorsements=vendor.collateral(qe_identity=identity))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("tcb_info", lambda document: document.update(id="SGX")),
        ("tcb_info", lambda document: document.update(version=2)),
        ("tcb_info", lambda document: document.update(tcbType=1)),
        ("tcb_info", lambda document: document.update(fmspc=7)),
        ("tcb_info", lambda document: document.update(fmspc="00")),
        ("tcb_info", lambda document: document.update(issueDate="2026-11-21")),
        ("tcb_info", lambda document: document.update(issueDate="2026-13-21T00:00:00Z")),
        ("tcb_info", lambda document: document.pop("nextUpdate")),
        ("tcb_info", lambda document: document.update(tcbEvaluationDataNumber=True)),
        ("tcb_info", lambda document: document.update(tcbEvaluationDataNumber=-1)),
        ("qe_identity", lambda document: document.update(id="QE")),
        ("qe_identity", lambda document: document.update(version=1)),
    ],
)
def test_signed_documents_of_another_kind(
    vendor: Any, name: str, change: Callable[[dict[str, Any]], object]
) -> None:
    document = bent(getattr(simulated_collateral, f"make_{name}")(NOW), change)
    with pytest.raises(InputError):
        vendor.verify(endorsements=vendor.collateral(**{name: document}))


def test_two_verifiers_that_disagree(vendor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of the two is stricter, nobody is believed, and the message has both verdicts."""
    quote_of_debug = vendor.quote(td_attributes=bytes.fromhex("0100001000000000"))
    with pytest.raises(PlatformError, match=r"TD attributes: debug mode is on \(0100001000000000\)$"):
        vendor.verify(quote_of_debug)
    both = "^TCB appraisal: two verifiers disagree: palm-torch: {}; dcap-qvl: {}$"
    for verdict, shown in (
        (dcap.Verdict("OutOfDate"), r"OutOfDate \(advisories: none\)"),
        (dcap.Verdict("UpToDate", ("INTEL-SA-00001",)), r"UpToDate \(advisories: INTEL-SA-00001\)"),
        (dcap.Verdict(None, reason="why"), r"refused \(why\)"),
    ):
        monkeypatch.setattr(dcap, "verify", lambda *_, verdict=verdict, **__: verdict)
        with pytest.raises(PlatformError, match=both.format(r"UpToDate \(advisories: none\)", shown)):
            vendor.verify()
    monkeypatch.setattr(dcap, "verify", lambda *_, **__: dcap.Verdict("UpToDate"))
    refused = r"refused \(TD attributes: debug mode is on .*\)"
    with pytest.raises(PlatformError, match=both.format(refused, r"UpToDate \(advisories: none\)")):
        vendor.verify(quote_of_debug)


@pytest.mark.parametrize("victim", ["pck_ca", "tcb_signer"])
def test_the_root_can_revoke(vendor: Any, victim: str) -> None:
    certificate = getattr(vendor.authority, victim).certificate
    crl = simulated_collateral.make_crl(vendor.authority.root, NOW, revoked=[certificate])
    with pytest.raises(SignatureError, match="has been revoked"):
        vendor.verify(endorsements=vendor.collateral(root_crl=crl))


def test_the_pck_ca_can_revoke(vendor: Any) -> None:
    certificate = vendor.authority.pck.certificate
    crl = simulated_collateral.make_crl(vendor.authority.pck_ca, NOW, revoked=[certificate])
    with pytest.raises(SignatureError, match=r"PCK certificate: serial number .* has been revoked"):
        vendor.verify(endorsements=vendor.collateral(pck_crl=crl))


def test_revocation_lists_cannot_be_swapped(vendor: Any) -> None:
    root_crl = simulated_collateral.make_crl(vendor.authority.root, NOW)
    pck_crl = simulated_collateral.make_crl(vendor.authority.pck_ca, NOW)
    with pytest.raises(SignatureError, match="root CA CRL: not signed by"):
        vendor.verify(endorsements=vendor.collateral(root_crl=pck_crl, pck_crl=root_crl))


@pytest.mark.parametrize(
    "attributes",
    ["0100001000000000", "0000000000000000", "0000003000000000", "0200001000000000", "0000021000000000"],
    ids=["debug", "no-sept-ve-disable", "migratable", "reserved", "service-td"],
)
def test_td_attributes_that_no_policy_admits(vendor: Any, attributes: str) -> None:
    with pytest.raises(PlatformError, match="TCB appraisal"):
        vendor.verify(vendor.quote(td_attributes=bytes.fromhex(attributes)))


def test_another_module_signer_is_refused(vendor: Any) -> None:
    with pytest.raises(PlatformError, match="TCB appraisal"):
        vendor.verify(vendor.quote(mr_signer_seam=b"\x01" * 48))


def rebuilt(vendor: Any, **changes: bytes) -> bytes:
    """A quote with single fields of its signature data replaced."""
    parsed = quote.parse_quote(vendor.quote())
    fields = {field.name: getattr(parsed, field.name) for field in dataclasses.fields(parsed)} | changes
    chain = certificate_bytes.encode_pem(fields["certificates"]) + b"\x00"
    certification = (
        fields["qe_report"]
        + fields["qe_report_signature"]
        + b"\x20\x00"
        + fields["qe_authentication_data"]
        + b"\x05\x00"
        + len(chain).to_bytes(4, "little")
        + chain
    )
    data = (
        fields["signature"]
        + fields["attestation_key"]
        + b"\x06\x00"
        + len(certification).to_bytes(4, "little")
        + certification
    )
    return fields["signed"] + len(data).to_bytes(4, "little") + data


def test_rebuilding_changes_nothing(vendor: Any) -> None:
    assert vendor.verify(rebuilt(vendor)).simulated


def test_an_attestation_key_of_ones_own_is_refused(vendor: Any) -> None:
    mine = dataclasses.replace(vendor.authority, attestation_key=simulated_authority.new_key())
    theirs = quote.parse_quote(vendor.quote())
    forged = simulated_quote.sign_quote(mine, simulated_quote.make_td_report(bytes(64)))
    parsed = quote.parse_quote(forged)
    raw = rebuilt(
        vendor,
        signed=parsed.signed,
        signature=parsed.signature,
        attestation_key=parsed.attestation_key,
        qe_report=theirs.qe_report,
    )
    with pytest.raises(SignatureError):
        vendor.verify(raw)


def test_a_point_off_the_curve_is_refused(vendor: Any) -> None:
    key = bytes(63) + b"\x01"
    report = quote.parse_quote(vendor.quote())
    bound = hashlib.sha256(key + report.qe_authentication_data).digest()
    qe_report = simulated_quote.make_qe_report(bound + bytes(32))
    raw = rebuilt(
        vendor,
        attestation_key=key,
        qe_report=qe_report,
        qe_report_signature=simulated_quote.sign_raw(vendor.authority.pck.key, qe_report),
    )
    with pytest.raises(SignatureError, match="not a point of P-256"):
        vendor.verify(raw)


def test_the_tail_of_the_qe_report_data_is_zero(vendor: Any) -> None:
    report = quote.parse_quote(vendor.quote())
    qe_report = report.qe_report[:-1] + b"\x01"
    raw = rebuilt(
        vendor,
        qe_report=qe_report,
        qe_report_signature=simulated_quote.sign_raw(vendor.authority.pck.key, qe_report),
    )
    with pytest.raises(SignatureError, match="does not vouch for the attestation key"):
        vendor.verify(raw)


@pytest.mark.parametrize("name", ["tcb_info", "qe_identity"])
def test_a_text_that_was_serialised_again_is_not_the_signed_one(vendor: Any, name: str) -> None:
    endorsements = vendor.collateral()
    changed = dataclasses.replace(endorsements, **{name: getattr(endorsements, name).replace(":", ": ")})
    with pytest.raises(SignatureError, match=f"collateral: {name}: signature does not verify"):
        vendor.verify(endorsements=changed)


@pytest.mark.parametrize("text", ["[]", "nonsense", '{"id":1,"id":1}', '{"a":NaN}', "[" * 100_000])
def test_signed_nonsense_is_still_malformed(vendor: Any, text: str) -> None:
    signature = simulated_quote.sign_raw(vendor.authority.tcb_signer.key, text.encode()).hex()
    changed = dataclasses.replace(vendor.collateral(), tcb_info=text, tcb_info_signature=signature)
    with pytest.raises(EvidenceError, match="TCB info"):
        vendor.verify(endorsements=changed)


def test_certificates_of_another_order_or_number(vendor: Any) -> None:
    pck, pck_ca, root = quote.parse_quote(vendor.quote()).certificates
    signer = vendor.authority.tcb_signer.der
    cases: list[tuple[tuple[bytes, ...], type[PalmTorchError]]] = [
        ((pck, root, pck_ca), TrustAnchorError),
        ((root, pck_ca, root), SignatureError),
        ((pck_ca, pck_ca, root), SignatureError),
        ((signer, pck_ca, root), SignatureError),
        ((pck, signer, root), TrustAnchorError),
        ((pck, pck_ca), EncodingError),
    ]
    for chain, error in cases:
        with pytest.raises(error):
            vendor.verify(rebuilt(vendor, certificates=chain))


def test_a_newer_certificate_of_the_same_ca_key_is_fine(vendor: Any) -> None:
    """The vendor may reissue the CA; the platform's own chain keeps the older certificate."""
    authority = vendor.authority
    old = authority.pck_ca
    builder = simulated_authority.x509.CertificateBuilder(
        issuer_name=authority.root.certificate.subject,
        subject_name=old.certificate.subject,
        public_key=old.key.public_key(),
        serial_number=12345,
        not_valid_before=NOW - timedelta(days=1),
        not_valid_after=NOW + timedelta(days=100),
        extensions=list(old.certificate.extensions),
    )
    new = builder.sign(authority.root.key, simulated_authority.hashes.SHA256())
    newer = dataclasses.replace(authority, pck_ca=simulated_authority.Identity(old.key, new))
    endorsements = type(vendor)(newer).collateral()
    assert vendor.verify(endorsements=endorsements).simulated
    revoking = simulated_collateral.make_crl(authority.root, NOW, revoked=[new])
    with pytest.raises(SignatureError, match="PCK CA certificate"):
        vendor.verify(endorsements=type(vendor)(newer).collateral(root_crl=revoking))
