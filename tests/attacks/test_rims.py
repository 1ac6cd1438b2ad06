"""Reference measurements that must not be believed: bent, of another maker, of another GPU, wrapped."""

from __future__ import annotations

import base64
import dataclasses
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import rim_world

from palm_torch.cvm import (
    certificates,
    gpu_measurements,
    gpu_opaque,
    rim,
    rim_signature,
    simulated_rim,
    spdm,
)
from palm_torch.errors import EncodingError, EvidenceError, PlatformError, SignatureError, TrustAnchorError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Vectors = Callable[[str], bytes]

NVTRUST = "nvidia/nvtrust/"
SDK = "nvidia/attestation-sdk/"
PROD = f"{NVTRUST}1010_0200_882_96005E0001_PROD.swidtag"
MISMATCH = f"{SDK}sample_rims/NV_GPU_VBIOS_1010_0200_882_96005E0001_measurement_mismatch.xml"
DEBUG = f"{SDK}incorrect_cert_chain_driver_rim.xml"
DRIVER = f"{SDK}NV_GPU_DRIVER_GH100_550.144.03.xml"
REPORT = f"{SDK}gpu/hopperAttestationReport.txt"
IN_2024 = datetime(2024, 6, 1, tzinfo=UTC)
IN_2025 = datetime(2025, 6, 1, tzinfo=UTC)
VALUE, OTHER = b"\x01" * 48, b"\x02" * 48


def genuine(data: bytes, now: datetime) -> rim.VerifiedRim:
    return rim.verify_rim(data, anchors=[certificates.NVIDIA_CORIM_ROOT], now=now)


def report(vectors: Vectors) -> tuple[spdm.SpdmReport, gpu_opaque.GpuClaims]:
    """Returns the report of driver 535.86.09, whose firmware image has two manifests among the vectors."""
    parsed = spdm.parse_report(bytes.fromhex(vectors(REPORT).decode("ascii").strip()))
    return parsed, gpu_opaque.read_claims(parsed.opaque)


def simulated(
    version: str, golden: Mapping[int, tuple[bytes, ...]], product: str = "GH100"
) -> rim.VerifiedRim:
    return rim_world.verify(rim_world.manifest(version=version, golden=golden, product=product))


def compare(
    driver: rim.VerifiedRim, vbios: rim.VerifiedRim, measurements: tuple[bytes, ...], **changes: str
) -> None:
    claims = gpu_opaque.GpuClaims(
        driver_version=rim_world.DRIVER,
        vbios_version=rim_world.VBIOS,
        project="1010",
        project_sku="0200",
        chip_sku="882",
        nvdec0_on=True,
        fwid=None,
        mode="spt",
    )
    rims = gpu_measurements.Rims(driver, vbios)
    gpu_measurements.check(measurements, dataclasses.replace(claims, **changes), rims, chip="GH100")


def test_the_twin_agrees(vectors: Vectors) -> None:
    """What every attack below bends: a real report with the manifest of its firmware, twelve of twelve."""
    parsed, claims = report(vectors)
    found = genuine(vectors(PROD), IN_2024)
    gpu_measurements.compare(parsed.measurements, found.golden, nvdec0_on=claims.nvdec0_on)
    assert len(found.golden) == 12
    assert found.version == claims.vbios_version
    driver = simulated(rim_world.DRIVER, {0: (VALUE,)})
    compare(driver, simulated(rim_world.VBIOS, {1: (OTHER,)}), (VALUE, OTHER))


def test_attack_25_manifest_of_another_build(vectors: Vectors) -> None:
    parsed, claims = report(vectors)
    found = genuine(vectors(MISMATCH), IN_2025)
    assert found.version == claims.vbios_version
    with pytest.raises(PlatformError, match="GPU measurement 9: expected"):
        gpu_measurements.compare(parsed.measurements, found.golden, nvdec0_on=claims.nvdec0_on)


def test_attack_25_manifest_of_another_version(vectors: Vectors) -> None:
    parsed, claims = report(vectors)
    rims = gpu_measurements.Rims(genuine(vectors(DRIVER), IN_2025), genuine(vectors(PROD), IN_2025))
    with pytest.raises(PlatformError, match=r"expected driver GH100 535\.86\.09, got a manifest of driver"):
        gpu_measurements.check(parsed.measurements, claims, rims, chip="GH100")


def test_attack_25_manifest_of_another_board() -> None:
    driver, vbios = simulated(rim_world.DRIVER, {0: (VALUE,)}), simulated(rim_world.VBIOS, {1: (OTHER,)})
    with pytest.raises(PlatformError, match=r"expected vbios GH100 96\.00\.5E\.00\.02"):
        compare(driver, vbios, (VALUE, OTHER), vbios_version="96.00.5E.00.02")


def test_attack_26_signature_of_another_manifest(vectors: Vectors) -> None:
    """The signature of one genuine manifest under the content of another."""
    content, signed = vectors(PROD), vectors(MISMATCH)
    cut = b"<ds:Signature "
    spliced = content[: content.index(cut)] + signed[signed.index(cut) :]
    with pytest.raises(SignatureError, match="expected the digest"):
        genuine(spliced, IN_2025)


def test_attack_26_signature_by_the_attacker() -> None:
    """A key of one's own with the vendor's certificates."""
    mine = simulated_rim.make_authority(rim_world.NOW)
    data = rim_signature.sign(rim_world.document(), key=mine.signer.key, chain=rim_world.authority().chain)
    with pytest.raises(SignatureError, match="signature does not verify"):
        rim_world.verify(data)


def test_attack_26_certificates_of_the_attacker() -> None:
    mine = simulated_rim.make_authority(rim_world.NOW)
    with pytest.raises(TrustAnchorError, match="is not a configured trust anchor"):
        rim_world.verify(rim_signature.sign(rim_world.document(), key=mine.signer.key, chain=mine.chain))
    mixed = (*mine.chain[:3], rim_world.authority().root.der)
    with pytest.raises(SignatureError, match="certificate 2: not signed by the next certificate"):
        rim_world.verify(rim_signature.sign(rim_world.document(), key=mine.signer.key, chain=mixed))


def test_attack_26_expired_at_the_time(vectors: Vectors) -> None:
    with pytest.raises(TrustAnchorError, match=r"certificate chain, certificate 1: expected .* time"):
        genuine(vectors(PROD), datetime(2026, 11, 21, tzinfo=UTC))


@pytest.mark.parametrize(
    "name",
    [
        "NV_GPU_DRIVER_GH100_535.86.09_measurement_mismatch.xml",
        "NV_GPU_DRIVER_GH100_570.124.03_expired.xml",
        "NV_SWITCH_BIOS_5612_0002_890_9610550001_invalid_signature.xml",
        "NV_SWITCH_BIOS_5612_0002_890_9610550001_measurement_mismatch.xml",
    ],
)
def test_attack_26_edited_manifest(vectors: Vectors, name: str) -> None:
    with pytest.raises(SignatureError, match="expected the digest"):
        genuine(vectors(f"{SDK}sample_rims/{name}"), IN_2025)


def test_attack_26_manifest_of_a_switch_or_of_another_chip() -> None:
    with pytest.raises(PlatformError, match="expected edition 'GPU', got 'SWITCH'"):
        rim_world.verify(rim_world.manifest(product="LS10", edition="SWITCH"))
    driver = simulated(rim_world.DRIVER, {0: (VALUE,)}, product="GB100")
    with pytest.raises(PlatformError, match="expected driver GH100"):
        compare(driver, simulated(rim_world.VBIOS, {1: (OTHER,)}), (VALUE, OTHER))


@pytest.mark.parametrize(
    "declared",
    [
        b'<!DOCTYPE SoftwareIdentity [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>',
        b'<!DOCTYPE SoftwareIdentity SYSTEM "file:///etc/passwd">',
        b'<!DOCTYPE SoftwareIdentity [<!ATTLIST SoftwareIdentity name CDATA "GB100">]>',
        b'<?xml version="1.0"?>',
        b"<!-- nothing -->",
    ],
)
def test_attack_27_document_type_or_comment(vectors: Vectors, declared: bytes) -> None:
    with pytest.raises(EvidenceError, match="is not allowed"):
        genuine(declared + vectors(PROD), IN_2024)


def test_attack_27_comment_inside(vectors: Vectors) -> None:
    """The canonical form leaves comments out, so the signature would still be good."""
    data = rim_world.edited(vectors(PROD), "<ns0:Payload", "<!-- --><ns0:Payload")
    with pytest.raises(EvidenceError, match="a comment"):
        genuine(data, IN_2024)


def test_attack_27_two_signatures(vectors: Vectors) -> None:
    data = vectors(PROD)
    signature = data[data.index(b"<ds:Signature ") : data.index(b"</SoftwareIdentity>")]
    with pytest.raises(EvidenceError, match="expected one signature, got 2"):
        genuine(data.replace(signature, signature * 2), IN_2024)


def test_attack_27_moved_signature(vectors: Vectors) -> None:
    """First instead of last, and inside the payload: the digest of what is left would be the same."""
    data = vectors(PROD)
    signature = data[data.index(b"<ds:Signature ") : data.index(b"</SoftwareIdentity>")]
    without = data.replace(signature, b"")
    for place in (b"<ns0:Entity", b"<ns0:Payload", b"</ns0:Payload>"):
        moved = without.replace(place, signature + place)
        with pytest.raises(EvidenceError, match="expected the signature to be the last thing"):
            genuine(moved, IN_2024)


def test_attack_27_wrapped_document(vectors: Vectors) -> None:
    """The genuine document, signature and all, in the attacker's; or the attacker's in its signature."""
    data = vectors(PROD).rstrip(b"\n")
    evil = rim_world.edited(data, 'active="False"', 'active="True"')
    cut = data.index(b"<ds:Signature ")
    evil_cut = evil.index(b"<ds:Signature ")
    inside = evil[:evil_cut] + data + b"</SoftwareIdentity>"
    with pytest.raises(EvidenceError, match="expected the signature to be the last thing"):
        genuine(inside, IN_2024)
    twice = evil[:evil_cut] + data + evil[evil_cut:]
    with pytest.raises(EvidenceError, match="expected one signature, got 2"):
        genuine(twice, IN_2024)
    held = b"<ds:Object>" + data[:cut] + b"</SoftwareIdentity></ds:Object></ds:Signature>"
    with pytest.raises(EvidenceError, match="not in the one form that is accepted"):
        genuine(evil.replace(b"</ds:Signature>", held), IN_2024)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("</ds:Reference>", '</ds:Reference><ds:Reference URI=""/>'),
        ('<ds:Reference URI="">', '<ds:Reference URI="#payload">'),
        ('<ds:Reference URI="">', "<ds:Reference>"),
        (
            "</ds:Transforms>",
            '<ds:Transform Algorithm="http://www.w3.org/TR/1999/REC-xpath-19991116"/></ds:Transforms>',
        ),
        ("enveloped-signature", "base64"),
        ("xmldsig-more#ecdsa-sha384", "xmldsig-more#hmac-sha384"),
        ("xmldsig-more#sha384", "xmldsig#sha1"),
        ("</ds:SignedInfo>", "</ds:SignedInfo><ds:SignedInfo/>"),
        ("<ds:X509Data>", "<ds:X509Data><ds:X509SubjectName>NVIDIA</ds:X509SubjectName>"),
        ("<ds:KeyInfo>", "<ds:KeyInfo><ds:KeyName>root</ds:KeyName>"),
        ("ds:Signature>", "ds:Signature >"),
    ],
)
def test_attack_27_another_reference_or_profile(vectors: Vectors, old: str, new: str) -> None:
    with pytest.raises(EvidenceError):
        genuine(rim_world.edited(vectors(PROD), old, new), IN_2024)


def test_attack_27_identifiers(vectors: Vectors) -> None:
    for attribute in ('Id="payload"', 'xml:id="payload"', 'xml:base="x"', 'xml:lang="en"'):
        data = rim_world.edited(vectors(PROD), "<ns0:Resource ", f"<ns0:Resource {attribute} ")
        with pytest.raises(EvidenceError, match="is not allowed"):
            genuine(data, IN_2024)


def test_attack_27_respelled_base64(vectors: Vectors) -> None:
    """Spellings that decode to the same bytes: unused bits set, a line break, white space."""
    data = vectors(PROD)
    found = re.search(rb"<ds:X509Certificate>(.*?)=\n</ds:X509Certificate>", data, re.DOTALL)
    assert found
    last = found[1].replace(b"\n", b"").rstrip(b"=")[-4:]
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    bent = found[0].replace(last, last[:-1] + bytes([alphabet[alphabet.index(last[-1]) + 1]]))
    assert bent != found[0]
    assert base64.b64decode(b"AA==") == base64.b64decode(b"AB==")
    with pytest.raises(EncodingError, match="base64 is not in canonical form"):
        genuine(data.replace(found[0], bent), IN_2024)
    for old, new in (("<ds:SignatureValue>", "<ds:SignatureValue>\n"), ("<ds:X509Certificate>", "\n")):
        with pytest.raises((EncodingError, EvidenceError)):
            genuine(rim_world.edited(data, old, old + new), IN_2024)


def test_attack_28_one_index_active_in_both() -> None:
    driver = simulated(rim_world.DRIVER, {0: (VALUE,), 1: (VALUE, OTHER)})
    vbios = simulated(rim_world.VBIOS, {1: (OTHER,)})
    with pytest.raises(PlatformError, match=r"GPU measurement 1: .* both"):
        compare(driver, vbios, (VALUE, OTHER))


def test_attack_28_nothing_to_compare() -> None:
    with pytest.raises(EvidenceError, match="no measurement is active"):
        rim_world.verify(rim_world.manifest(golden={}))
    with pytest.raises(PlatformError, match="nothing to compare"):
        gpu_measurements.compare((VALUE,), {}, nvdec0_on=True)


def test_attack_28_fewer_measurements_than_described() -> None:
    driver, vbios = simulated(rim_world.DRIVER, {0: (VALUE,)}), simulated(rim_world.VBIOS, {63: (OTHER,)})
    compare(driver, vbios, (VALUE, *[bytes(48)] * 62, OTHER))
    with pytest.raises(PlatformError, match="GPU measurement 63: expected it in the report"):
        compare(driver, vbios, (VALUE, *[bytes(48)] * 62))


def test_attack_28_one_index_described_twice() -> None:
    unsigned = rim_world.edited(rim_world.document(golden={0: (VALUE,)}), 'index="1"', 'index="0"')
    with pytest.raises(EvidenceError, match="measurement 0 is there twice"):
        rim_world.verify(rim_world.sign(unsigned))


def test_attack_56_root_for_debugging(vectors: Vectors) -> None:
    """NVIDIA has a second root of that name, for tests: its signature is good, and proves nothing."""
    data = vectors(DEBUG)
    with pytest.raises(TrustAnchorError, match=r"root certificate with SHA-256 .* is not a configured"):
        genuine(data, datetime(2026, 2, 1, tzinfo=UTC))
    blocks = re.findall(rb"<ds:X509Certificate>(.*?)</ds:X509Certificate>", data, re.DOTALL)
    root = base64.b64decode(blocks[-1].replace(b"\n", b""))
    trusted = certificates.TrustAnchor.from_certificate(root, name="debug only")
    with pytest.raises(SignatureError, match="certificate 0: not signed by the next certificate"):
        rim.verify_rim(data, anchors=[trusted], now=datetime(2026, 2, 1, tzinfo=UTC))
