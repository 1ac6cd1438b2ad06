"""Reference values that a trusted authority signs: what a policy may ask for instead of listing it.

An authority (a firmware vendor, a reviewer of code, a curator of data) lists the digests it stands for and
signs the list with an ordinary key. A verifier that holds the authority's public key writes ``[authority]``
in a policy where those digests shall count. The key always comes from the verifier, never from the file.

Source: the trusted authority of PAL*M (arXiv 2601.16199, section 3), the Reference Value Provider of RATS
(RFC 9334, section 7.1).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from palm_torch import codec, dsse, files
from palm_torch.cvm import appraisal, gpu_rules, pck, quote, snp_rules
from palm_torch.digest import Digest
from palm_torch.encoding import decode_hex, encode_json
from palm_torch.errors import EncodingError, FreshnessError, InputError, PolicyError
from palm_torch.policies import signing_keys, strict_yaml
from palm_torch.request import parse_time

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from palm_torch.dsse import Envelope, PrivateKey, PublicKey

TYPE: Final = "palm-torch/reference-values/v1"
PAYLOAD_TYPE: Final = "application/vnd.palm-torch.reference-values+json"

MAX_BYTES: Final = 4 << 20
MAX_ISSUER_CHARACTERS: Final = 200

_REGISTERS: Final = (*appraisal.IMAGE_REGISTERS, *appraisal.HOST_REGISTERS, "mr_seam")


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxValues:
    """Values of a TDX quote in lower-case hex; the lists are those of `palm_torch.cvm.appraisal.TdxRules`."""

    mr_td: tuple[str, ...] = ()
    rtmr0: tuple[str, ...] = ()
    rtmr1: tuple[str, ...] = ()
    rtmr2: tuple[str, ...] = ()
    mr_config_id: tuple[str, ...] = ()
    mr_owner: tuple[str, ...] = ()
    mr_owner_config: tuple[str, ...] = ()
    mr_seam: tuple[str, ...] = ()
    xfam: tuple[str, ...] = ()
    ppid: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuses values of another length."""
        sizes = {**dict.fromkeys(_REGISTERS, quote.REGISTER_BYTES), "xfam": 8, "ppid": pck.PPID_BYTES}
        for name, size in sizes.items():
            for index, value in enumerate(getattr(self, name)):
                decode_hex(value, what=f"{name}[{index}]", length_bytes=size)


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpValues:
    """Values of an SNP report in lower-case hex, for the lists of `palm_torch.cvm.snp_rules.SnpRules`."""

    measurement: tuple[str, ...] = ()
    host_data: tuple[str, ...] = ()
    id_key_digest: tuple[str, ...] = ()
    author_key_digest: tuple[str, ...] = ()
    family_id: tuple[str, ...] = ()
    image_id: tuple[str, ...] = ()
    chip_id: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuses values of another length, by the checks of the rules that they are for."""
        snp_rules.SnpRules(**{field.name: getattr(self, field.name) for field in dataclasses.fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuValues:
    """Identities of GPUs, for the list of `palm_torch.cvm.gpu_rules.GpuRules`."""

    chip_ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuses values of another form, by the check of the rules that they are for."""
        gpu_rules.GpuRules(count=0, chip_ids=self.chip_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformValues:
    """Measurements of machines and images, by kind of machine, and identities of GPUs."""

    tdx: TdxValues | None = None
    snp: SnpValues | None = None
    gpu: GpuValues | None = None

    def __post_init__(self) -> None:
        """Refuses a platform part that speaks of no kind of machine."""
        if self.tdx is None and self.snp is None and self.gpu is None:
            raise EncodingError("names no kind of machine; list values under 'tdx', 'snp' or 'gpu'")


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeValues:
    """Digests of reviewed code, and of reviewed lists of installed packages."""

    digests: tuple[Digest, ...] = ()
    packages: tuple[Digest, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimValues:
    """Digests of manifests, initial weights, tokenizers and architectures."""

    data: tuple[Digest, ...] = ()
    initial: tuple[Digest, ...] = ()
    tokenizer: tuple[Digest, ...] = ()
    architecture: tuple[Digest, ...] = ()


_LISTS: Final = {
    path: tuple(field.name for field in dataclasses.fields(kind))
    for path, kind in (
        ("platform.tdx", TdxValues),
        ("platform.snp", SnpValues),
        ("platform.gpu", GpuValues),
        ("code", CodeValues),
        ("claims", ClaimValues),
    )
}
"""Part of a policy → the lists in it that an authority may bring."""
PATHS: Final = tuple(f"{path}.{name}" for path, names in _LISTS.items() for name in names)
"""Paths of these lists, in an authority's document and in a policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceValues:
    """What an authority stands for, from one moment to another.

    Attributes:
        issuer: Who the authority says it is, printable text; what counts is its key.
        issued: First moment at which the values hold, ``YYYY-MM-DDTHH:MM:SSZ``.
        expires: Last moment at which they hold.
        platform: Values for the platform part of a policy.
        code: Values for the code part.
        claims: Values for the claims part.
        type: Always `TYPE`.
    """

    issuer: str
    issued: str
    expires: str
    platform: PlatformValues | None = None
    code: CodeValues | None = None
    claims: ClaimValues | None = None
    type: str = TYPE

    def __post_init__(self) -> None:
        """Refuses other types, names that cannot be printed, times in another form, and empty documents."""
        if self.type != TYPE:
            raise EncodingError(f"type: expected {TYPE!r}, got {self.type[:80]!r}")
        if not 0 < len(self.issuer) <= MAX_ISSUER_CHARACTERS or not self.issuer.isprintable():
            raise EncodingError(
                f"issuer: expected 1 to {MAX_ISSUER_CHARACTERS} printable characters, got "
                f"{self.issuer[:40]!r}"
            )
        if parse_time(self.issued, what="issued") > parse_time(self.expires, what="expires"):
            raise EncodingError(f"expires: expected a time after {self.issued}, got {self.expires}")
        if not any(self.lists().values()):
            raise EncodingError("names no value; list some under 'platform', 'code' or 'claims'")

    def lists(self) -> dict[str, tuple[str, ...]]:
        """Returns every list by its path in a policy, such as ``claims.data``, values as text."""
        parts = {
            "platform.tdx": self.platform.tdx if self.platform else None,
            "platform.snp": self.platform.snp if self.platform else None,
            "platform.gpu": self.platform.gpu if self.platform else None,
            "code": self.code,
            "claims": self.claims,
        }
        return {
            f"{path}.{name}": tuple(map(str, getattr(parts[path], name, ())))
            for path, names in _LISTS.items()
            for name in names
        }

    def encode(self) -> bytes:
        """Returns the canonical JSON that is signed."""
        return encode_json(codec.to_json(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedValues:
    """Reference values that verified under a key of the verifier's choice; see `verify`.

    Attributes:
        values: What the authority stands for.
        key_id: The key that signed: SHA-256 of its SubjectPublicKeyInfo, in hex.
    """

    values: ReferenceValues
    key_id: str

    def __str__(self) -> str:
        """Returns who signed and until when it holds, in words."""
        return f"{self.values.issuer}, key {self.key_id}, until {self.values.expires}"


def decode(data: bytes, *, what: str = "reference values") -> Envelope:
    """Decodes a file of reference values that nobody has verified, accepting exactly what `sign` makes.

    Raises:
        PolicyError: If the bytes are not a canonical envelope with one signature.
    """
    document = codec.parse(data, what=what, max_bytes=MAX_BYTES, error=PolicyError)
    return dsse.from_json(document, what=what, error=PolicyError)


def verify(data: bytes, *, key: PublicKey, at: datetime, what: str = "reference values") -> VerifiedValues:
    """Verifies a file of reference values.

    1. The envelope is canonical and has one signature.
    2. The signature is of this payload, as this type of document, under the key the verifier gave.
    3. The payload is a canonical document of this version.
    4. It holds at the time given.

    Args:
        data: The file's bytes.
        key: The authority's public key, from the verifier.
        at: Time of verification, aware.
        what: Name of the file, for messages.

    Raises:
        InputError: If the file is malformed (`PolicyError`), or the time has no time zone.
        SignatureError: If the key did not sign it.
        FreshnessError: If it does not hold yet, or no longer.
    """
    if at.utcoffset() is None:
        raise InputError("at: expected a time with a time zone")
    envelope = decode(data, what=what)  # 1
    payload = dsse.verify(envelope, payload_type=PAYLOAD_TYPE, key=key, what=what)  # 2
    document = codec.parse(payload, what=what, max_bytes=MAX_BYTES, error=PolicyError)  # 3
    values = codec.from_json(ReferenceValues, document, what=what, error=PolicyError)
    if not parse_time(values.issued) <= at <= parse_time(values.expires):  # 4
        raise FreshnessError(
            f"{what}: they hold from {values.issued} to {values.expires}, the time is {at.isoformat()}; ask "
            f"{values.issuer!r} for current ones"
        )
    return VerifiedValues(values=values, key_id=dsse.key_id(key))


def load(path: Path, *, key: Path, at: datetime) -> VerifiedValues:
    """Reads a file of reference values and the authority's public key; see `verify`.

    Args:
        path: The signed values.
        key: The public key, PEM.
        at: Time at which they must hold, aware.

    Raises:
        PolicyError: If a file cannot be read or is malformed.
        SignatureError: If the key did not sign it.
        FreshnessError: If it does not hold yet, or no longer.
    """
    data = files.read_bounded(path, what="the reference values", max_bytes=MAX_BYTES, error=PolicyError)
    pem = files.read_bounded(
        key, what="the authority's key", max_bytes=signing_keys.MAX_KEY_BYTES, error=PolicyError
    )
    return verify(data, key=signing_keys.load_public(pem, what=str(key)), at=at, what=str(path))


def sign(values: ReferenceValues, *, key: PrivateKey) -> bytes:
    """Signs reference values and returns the file's bytes, canonical JSON.

    Args:
        values: What the authority stands for.
        key: Its key, ECDSA on P-256 or Ed25519; an ordinary one, nothing attests it.

    Raises:
        PolicyError: If the file would be larger than `verify` reads.
    """
    data = encode_json(dsse.sign(values.encode(), payload_type=PAYLOAD_TYPE, key=key).to_json())
    if len(data) > MAX_BYTES:
        raise PolicyError(
            f"reference values: expected at most {MAX_BYTES} bytes when signed, got {len(data)}"
        )
    return data


def parse(text: bytes, *, what: str = "reference values") -> ReferenceValues:
    """Parses reference values as an authority writes them, in YAML; see `palm_torch.policies.strict_yaml`.

    Raises:
        PolicyError: If the text is not YAML, has unknown keys, or a value of another form.
    """
    document = strict_yaml.parse(text, what=what, max_bytes=MAX_BYTES, error=PolicyError)
    return codec.from_json(ReferenceValues, document, what=what, error=PolicyError, defaults=True)
