"""What a manifest says, once its signature has been verified."""

from __future__ import annotations

import hashlib
import re
from datetime import timedelta
from typing import Any

import pytest
import rim_world
from lxml import etree

from palm_torch.cvm import rim, simulated_rim
from palm_torch.errors import EncodingError, EvidenceError, PlatformError, TrustAnchorError

ZERO = "00" * 48


def test_a_manifest_of_a_firmware_image() -> None:
    data = rim_world.manifest()
    verified = rim_world.verify(data)
    assert verified.rim == rim.Rim("vbios", "96.00.5E.00.01", "GH100", "GPU", rim_world.GOLDEN)
    assert (verified.kind, verified.version, verified.product) == ("vbios", "96.00.5E.00.01", "GH100")
    assert verified.golden == rim_world.GOLDEN
    assert verified.simulated
    assert verified.anchor == rim_world.anchor()
    root = etree.fromstring(data)
    root.remove(root[-1])
    assert verified.sha256 == hashlib.sha256(etree.tostring(root, method="c14n")).digest()


@pytest.mark.parametrize("version", ["545.00", "550.144.03", "570.1.2.3"])
def test_a_manifest_of_a_driver(version: str) -> None:
    verified = rim_world.verify(rim_world.manifest(version=version, product="GB100"))
    assert (verified.kind, verified.version, verified.product) == ("driver", version, "GB100")


def test_made_at_once() -> None:
    data = simulated_rim.make_rim(rim_world.authority(), version="1.2", golden={63: [bytes(48)]})
    assert rim_world.verify(data).golden == {63: (bytes(48),)}


def test_made_by_its_verifier_alone() -> None:
    good = rim_world.verify()
    with pytest.raises(TypeError, match="made by verify_rim alone"):
        rim.VerifiedRim(good.rim, good.sha256, good.chain, None, token=None)


@pytest.mark.parametrize(
    ("version", "other", "product", "name"),
    [
        ("550.90.07", "550.90.08", "GH100", "NV_GPU_DRIVER_GH100_550.90.07"),
        ("575.32", "575.3", "GB100", "NV_GPU_CC_DRIVER_GB100_575.32"),
        ("96.00.9F.00.01", "96.00.9F.00.02", "GH100", "NV_GPU_VBIOS_1010_0200_882_96009F0001"),
    ],
)
@pytest.mark.parametrize("by", ["verifier", "evidence"])
def test_kept_under_a_name(version: str, other: str, product: str, name: str, by: Any) -> None:
    data, kept = rim_world.manifest(version=version, product=product), rim.RimName(name, by)
    assert rim_world.verify(data, name=kept).name == kept
    assert rim_world.verify(data).name is None
    for wrong in (f"{name}0", name.lower(), "", "x"):
        with pytest.raises(PlatformError, match=f"RIM: kept under the name '{wrong}', but it is of"):
            rim_world.verify(data, name=rim.RimName(wrong, by))
    with pytest.raises(PlatformError, match=f"{name}', but it is of (driver|vbios) {product} {other}: fetch"):
        rim_world.verify(rim_world.manifest(version=other, product=product), name=kept)


def test_the_name_is_of_what_is_said_and_not_of_how() -> None:
    """Two spellings of one statement have one name: attributes may stand in another order."""
    plain = rim_world.document()
    other = rim_world.edited(plain, 'corpus="false" name="GH100"', 'name="GH100" corpus="false"')
    assert plain != other
    found = {rim_world.verify(rim_world.sign(data)).sha256 for data in (plain, other)}
    assert len(found) == 1
    assert rim_world.verify(rim_world.manifest(version="96.00.5E.00.02")).sha256 not in found


@pytest.mark.parametrize("after", [b"", b"\n", b"\n\n"])
def test_line_feeds_after_it(after: bytes) -> None:
    assert rim_world.verify(rim_world.manifest() + after) == rim_world.verify(rim_world.manifest() + after)


@pytest.mark.parametrize("after", [timedelta(days=-2), timedelta(days=730)])
def test_outside_the_signers_time(after: timedelta) -> None:
    with pytest.raises(TrustAnchorError, match=r"certificate chain, .*: expected .* time"):
        rim_world.verify(now=rim_world.NOW + after)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edition": "SWITCH"}, "expected edition 'GPU', got 'SWITCH'"),
        ({"manufacturer": "5704"}, "expected firmware manufacturer '5703', got '5704'"),
    ],
)
def test_not_about_gpus(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PlatformError, match=message):
        rim_world.verify(rim_world.manifest(**changes))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<ns0:Entity", "<ns0:Extra/><ns0:Entity", "expected Entity, Meta and Payload"),
        ('tagVersion="0">', 'tagVersion="0">x', "expected a SoftwareIdentity"),
        ('role="softwareCreator tagCreator"/>', 'role="x">x</ns0:Entity>', "Entity: expected attributes"),
        ('role="softwareCreator tagCreator"/>', 'role="x"><ns0:x/></ns0:Entity>', "expected attributes"),
        ('product="GH100"', 'product="GB100"', "expected one chip, got 'GH100' and 'GB100'"),
        (' product="GH100"', "", "expected one chip, got 'GH100' and ''"),
        ('edition="GPU"', 'edition="GPU" colloquialVersions=""', None),
        ('colloquialVersion="96.00.5E.00.01"', 'colloquialVersion="96.00.5e.00.01"', "expected the version"),
        (' colloquialVersion="96.00.5E.00.01"', "", "expected the version of a driver or of a VBIOS, got ''"),
        (' xmlns:SHA384="http://www.w3.org/2001/04/xmlenc#sha384"', "", None),
        ('xmlenc#sha384">\n', 'xmlenc#sha384" version="1">\n', "payload: expected measurements alone"),
        ("</ns0:Payload>", "x</ns0:Payload>", "payload: expected measurements alone"),
        ('index="1"', 'index="0"', "measurement 0 is there twice"),
        ('index="1"', 'index="01"', "expected index from 0 to 63, got '01'"),
        ('index="1"', 'index="64"', "expected index from 0 to 63, got '64'"),
        ('index="1"', 'index="-1"', "expected index from 0 to 63, got '-1'"),
        ('index="1"', 'index="100"', "expected index from 0 to 63, got '100'"),
        ('index="1" ', "", "expected index from 0 to 63, got ''"),
        ('index="1" active="False"', 'index="1" active="false"', "expected active to be 'True' or 'False'"),
        ('index="1" active="False"', 'index="1" active="1"', "measurement 1: expected active"),
        ('alternatives="2"', 'alternatives="1"', "measurement 9: expected 1 alternatives"),
        ('alternatives="2"', 'alternatives="3"', "measurement 9: expected 3 alternatives"),
        ('alternatives="2"', 'alternatives="257"', "expected alternatives from 0 to 256, got '257'"),
        (f'alternatives="1" ns2:Hash0="{ZERO}"', 'alternatives="0"', "expected 0 alternatives, at least one"),
        ("ns2:Hash1", "ns2:Hash2", "measurement 9: expected 2 alternatives"),
        ("ns2:Hash1", "Hash1", "measurement 9: expected 2 alternatives"),
        ('type="Measurement"', 'type="File"', "measurement 0: expected a measurement of 48 bytes"),
        ('size="48"/>', 'size="32"/>', "measurement 0: expected a measurement of 48 bytes"),
        ('size="48"/>', 'size="48">x</ns0:Resource>', "measurement 0: expected a measurement"),
        ('size="48"/>', 'size="48"><ns0:x/></ns0:Resource>', "measurement 0: expected a measurement"),
        ('size="48"/>', 'size="48" weight="2"/>', "nothing unknown"),
        ("ns0:Resource", "ns0:File", "measurement 0: expected a measurement of 48 bytes"),
    ],
)
def test_malformed(old: str, new: str, message: str | None) -> None:
    data = rim_world.sign(rim_world.edited(rim_world.document(), old, new))
    if message is None:  # other attributes and other namespaces change nothing
        assert rim_world.verify(data).golden == rim_world.GOLDEN
        return
    with pytest.raises(EvidenceError, match=re.escape(message)):
        rim_world.verify(data)


def test_nothing_active() -> None:
    with pytest.raises(EvidenceError, match="no measurement is active"):
        rim_world.verify(rim_world.manifest(golden={}))


def test_another_document() -> None:
    with pytest.raises(EvidenceError, match="expected a SoftwareIdentity, got 'Tag'"):
        rim_world.verify(rim_world.sign(b"<Tag><a/></Tag>"))


@pytest.mark.parametrize("value", ["01" * 47, "01" * 49, "0A" + "01" * 47, "0x" + "01" * 47])
def test_values_have_one_spelling(value: str) -> None:
    data = rim_world.edited(rim_world.document(), "01" * 48, value)
    with pytest.raises(EncodingError, match="measurement 0: "):
        rim_world.verify(rim_world.sign(data))
