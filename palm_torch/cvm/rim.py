"""Reference integrity manifests (RIMs): what NVIDIA says that a driver, or a firmware image, measures to.

A manifest is a software identification tag in XML with a signature inside. It names a version and a chip,
and for each index of a GPU's report one or more values; those that are active must be found there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING, Final, Literal

from palm_torch.cvm import certificates, gpu_names, rim_signature
from palm_torch.encoding import decode_hex
from palm_torch.errors import EvidenceError, PlatformError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

SWID: Final = "{http://standards.iso.org/iso/19770/-2/2015/schema.xsd}"
SHA384: Final = "{http://www.w3.org/2001/04/xmlenc#sha384}"
RIM: Final = (
    "{https://trustedcomputinggroup.org/resource/tcg-reference-integrity-manifest-rim-information-model/}"
)

EDITION: Final = "GPU"
"""The edition that speaks of GPUs; the one of switches is "SWITCH"."""

MANUFACTURER: Final = "5703"
"""NVIDIA's private enterprise number at IANA."""

MAX_MEASUREMENTS: Final = 64
MAX_ALTERNATIVES: Final = 256
MEASUREMENT_BYTES: Final = 48

_ACTIVE: Final = {"True": True, "False": False}
_VBIOS_VERSION: Final = re.compile(r"[0-9A-F]{2}(\.[0-9A-F]{2}){4}")
_DRIVER_VERSION: Final = re.compile(r"[0-9]{1,5}(\.[0-9]{1,5}){1,3}")
_CHIP: Final = re.compile(r"[A-Z0-9_]{1,16}")
_RESOURCE: Final = frozenset({"type", "index", "active", "alternatives", "name", "size"})
_MADE_HERE: Final = object()


@dataclass(frozen=True, slots=True)
class RimName:
    """Name under which a manifest was kept, which nobody signs.

    For which board a firmware image is stands in this name, and nowhere in the manifest.

    Attributes:
        id: The name, "NV_GPU_VBIOS_1010_0200_882_96005E0001".
        by: Who says so: the verifier's own configuration, or the evidence that the manifest came with.
    """

    id: str
    by: Literal["verifier", "evidence"]


@dataclass(frozen=True, slots=True)
class Rim:
    """What a manifest says.

    Attributes:
        kind: "driver", or "vbios" for the firmware image of a board; the form of its version tells.
        version: The driver's ("550.144.03") or the image's ("96.00.5E.00.01").
        product: The chip, "GH100".
        edition: "GPU".
        golden: Index in a report, from 0, → the values that may stand there, 48 bytes each.
    """

    kind: gpu_names.RimKind
    version: str
    product: str
    edition: str
    golden: Mapping[int, tuple[bytes, ...]]


@dataclass(frozen=True, slots=True)
class VerifiedRim:
    """A manifest of the vendor (or a genuinely simulated one); `verify_rim` alone makes it.

    Attributes:
        rim: What it says.
        sha256: SHA-256 of its canonical form, 32 bytes: what names it, for its bytes do not.
        chain: The certificates of its signer; whether one was revoked is for `ocsp` to say.
        name: Under which name it was kept; None if nobody said.
    """

    rim: Rim
    sha256: bytes
    chain: certificates.VerifiedChain
    name: RimName | None
    token: InitVar[object]

    def __post_init__(self, token: object) -> None:
        """Refuses to be made elsewhere."""
        if token is not _MADE_HERE:
            raise TypeError("a VerifiedRim is made by verify_rim alone")

    @property
    def kind(self) -> gpu_names.RimKind:
        """Whether it is a driver's, or a firmware image's."""
        return self.rim.kind

    @property
    def version(self) -> str:
        """Version of the driver or of the image."""
        return self.rim.version

    @property
    def product(self) -> str:
        """The chip, "GH100"."""
        return self.rim.product

    @property
    def golden(self) -> Mapping[int, tuple[bytes, ...]]:
        """Index → the values that may stand there."""
        return self.rim.golden

    @property
    def anchor(self) -> certificates.TrustAnchor:
        """The configured root that the certificates lead to."""
        return self.chain.anchor

    @property
    def simulated(self) -> bool:
        """Whether that root is one of a simulator; decided by the verifier's configuration."""
        return self.anchor.simulated


def verify_rim(
    xml: bytes,
    *,
    anchors: Sequence[certificates.TrustAnchor],
    now: datetime,
    what: str = "RIM",
    name: RimName | None = None,
) -> VerifiedRim:
    """Verifies a manifest, at a time, under pinned roots.

    1. Its signature, in the one profile that is accepted, by a key that leads to one of `anchors`:
       `rim_signature.verify`. From here on only what that signature covers is looked at.
    2. A software identity of an entity, metadata and a payload, and nothing else.
    3. It is about GPUs, by NVIDIA, for one chip and one version.
    4. Measurements: each index from 0 to 63 at most once; active is "True" or "False" and nothing else; as
       many values as it says, SHA-384 in lower-case hex; one is active.
    5. Its name, where it has one, is that of a manifest of this kind and version, and a driver's of this
       chip.

    Whether it is the manifest of a GPU's driver or firmware image is for `gpu_measurements` to say.

    Args:
        xml: The manifest.
        anchors: The roots that the verifier's own configuration admits.
        now: Time of verification, aware.
        what: What messages call it.
        name: Under which name it was kept, and who says so; None if nobody does.

    Raises:
        EvidenceError: If it does not parse, or is not in the profile (EncodingError: certificates, hex or
            base64 are not in canonical form).
        TrustAnchorError: If its certificates do not lead to an anchor, or not at that time.
        SignatureError: If its digest or signature is wrong.
        PlatformError: If it is not about GPUs, or kept under the name of another manifest.

    Source: ISO/IEC 19770-2:2015; TCG Reference Integrity Manifest Information Model 1.01.
    """
    signed = rim_signature.verify(xml, anchors=anchors, now=now, what=what)  # 1
    root = signed.root
    if root.tag != f"{SWID}SoftwareIdentity" or root.text:  # 2
        raise EvidenceError(f"{what}: expected a SoftwareIdentity, got {root.tag!r}")
    tags = [child.tag for child in root.children]
    if tags != [f"{SWID}Entity", f"{SWID}Meta", f"{SWID}Payload"]:
        raise EvidenceError(f"{what}: expected Entity, Meta and Payload, got {tags!r}")
    entity, meta, payload = root.children
    for element in (entity, meta):
        if element.children or element.text:
            raise EvidenceError(f"{what}: {element.tag}: expected attributes alone")
    kind, version, product = _read_meta(root, meta, what)  # 3
    found = Rim(kind, version, product, EDITION, _read_payload(payload, what))  # 4
    if name is not None and not gpu_names.rim_id_fits(name.id, kind=kind, chip=product, version=version):  # 5
        raise PlatformError(
            f"{what}: kept under the name {name.id[:120]!r}, but it is of {kind} {product} {version}: fetch "
            "it again, under the name of what the GPUs run"
        )
    return VerifiedRim(found, signed.sha256, signed.chain, name, token=_MADE_HERE)


def _read_meta(
    root: rim_signature.Element, meta: rim_signature.Element, what: str
) -> tuple[gpu_names.RimKind, str, str]:
    """Step 3: kind, version and chip."""
    edition = meta.attributes.get("edition")
    if edition != EDITION:
        raise PlatformError(f"{what}: expected edition {EDITION!r}, got {edition!r}")
    manufacturer = meta.attributes.get(f"{RIM}FirmwareManufacturerId")
    if manufacturer != MANUFACTURER:
        raise PlatformError(f"{what}: expected firmware manufacturer {MANUFACTURER!r}, got {manufacturer!r}")
    product, name = meta.attributes.get("product", ""), root.attributes.get("name", "")
    if product != name or not _CHIP.fullmatch(product):
        raise EvidenceError(f"{what}: expected one chip, got {name!r} and {product!r}")
    version = meta.attributes.get("colloquialVersion", "")
    if _VBIOS_VERSION.fullmatch(version):
        return "vbios", version, product
    if _DRIVER_VERSION.fullmatch(version):
        return "driver", version, product
    raise EvidenceError(f"{what}: expected the version of a driver or of a VBIOS, got {version!r}")


def _read_payload(payload: rim_signature.Element, what: str) -> dict[int, tuple[bytes, ...]]:
    """Step 4: the active measurements."""
    if payload.text or payload.attributes:
        raise EvidenceError(f"{what}: payload: expected measurements alone")
    seen: set[int] = set()
    golden: dict[int, tuple[bytes, ...]] = {}
    for resource in payload.children:
        index = _number(resource, "index", MAX_MEASUREMENTS - 1, what)
        if index in seen:
            raise EvidenceError(f"{what}: measurement {index} is there twice")
        seen.add(index)
        values = _read_values(resource, f"{what}: measurement {index}")
        active = _ACTIVE.get(resource.attributes.get("active", ""))
        if active is None:
            raise EvidenceError(
                f"{what}: measurement {index}: expected active to be 'True' or 'False', "
                f"got {resource.attributes.get('active')!r}"
            )
        if active:
            golden[index] = values
    if not golden:
        raise EvidenceError(f"{what}: no measurement is active")
    return golden


def _read_values(resource: rim_signature.Element, what: str) -> tuple[bytes, ...]:
    attributes = resource.attributes
    count = _number(resource, "alternatives", MAX_ALTERNATIVES, what)
    names = [f"{SHA384}Hash{number}" for number in range(count)]
    if not names or attributes.keys() != _RESOURCE | set(names):
        raise EvidenceError(f"{what}: expected {count} alternatives, at least one, and nothing unknown")
    shape = (resource.tag, attributes["type"], attributes["size"], resource.children, resource.text)
    if shape != (f"{SWID}Resource", "Measurement", str(MEASUREMENT_BYTES), (), ""):
        raise EvidenceError(f"{what}: expected a measurement of {MEASUREMENT_BYTES} bytes, got {shape!r}")
    return tuple(decode_hex(attributes[name], what=what, length_bytes=MEASUREMENT_BYTES) for name in names)


def _number(resource: rim_signature.Element, name: str, most: int, what: str) -> int:
    text = resource.attributes.get(name, "")
    if not text.isdecimal() or len(text) > len(str(most)) or str(int(text)) != text or int(text) > most:
        raise EvidenceError(f"{what}: {resource.tag}: expected {name} from 0 to {most}, got {text!r}")
    return int(text)
