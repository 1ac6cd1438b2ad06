"""The collateral file: what vendors publish about a platform, to verify evidence that does not carry it.

One canonical JSON document: ``{"attester": …, "collateral": {…}, "type": "palm-torch/collateral/v1"}``.
Nothing in it needs to be trusted: every part is signed under a root that the verifier pins, and dated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from palm_torch import codec
from palm_torch.cvm import collateral, snp_endorsements
from palm_torch.encoding import Json, encode_json
from palm_torch.errors import EvidenceError
from palm_torch.files import read_bounded, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TYPE: Final = "palm-torch/collateral/v1"
MAX_BYTES: Final = 8 << 20

_READERS: Final[dict[str, Callable[[Json], object]]] = {
    "tdx": collateral.from_json,
    "snp": snp_endorsements.from_json,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CollateralFile:
    """What a collateral file holds; its form is checked, nothing in it is verified.

    Attributes:
        type: Always `TYPE`.
        attester: Kind of the platform it is about.
        collateral: As `palm_torch.evidence.Bundle` carries it: the nine texts of TDX, or the two of SEV-SNP.

    Raises:
        EvidenceError: If the type is another one, or texts are missing, unknown, too long or not canonical.
    """

    type: str
    attester: Literal["tdx", "snp"]
    collateral: dict[str, str]

    def __post_init__(self) -> None:
        """Refuses other types, and collateral that does not parse."""
        if self.type != TYPE:
            raise EvidenceError(f"expected type {TYPE!r}, got {self.type[:80]!r}")
        _READERS[self.attester](dict(self.collateral))

    def fields_for(self, attester: str) -> dict[str, str]:
        """Returns the texts, for evidence of the kind of platform they are about.

        Raises:
            EvidenceError: If the evidence is of another kind.
        """
        if attester != self.attester:
            raise EvidenceError(
                f"collateral file: it is about {self.attester!r}, the evidence is of {attester!r}: fetch "
                "collateral for this evidence"
            )
        return self.collateral

    def encode(self) -> bytes:
        """Returns the file's bytes: canonical JSON without a trailing newline."""
        return encode_json(codec.to_json(self))


def decode(data: bytes, *, what: str = "collateral file") -> CollateralFile:
    """Decodes a collateral file, accepting exactly what `CollateralFile.encode` makes.

    Args:
        data: The file's bytes.
        what: Name of the file, for messages.

    Raises:
        EvidenceError: If the bytes are too many, not canonical, or not a collateral file.
    """
    return codec.from_bytes(CollateralFile, data, what=what, max_bytes=MAX_BYTES, error=EvidenceError)


def read(path: Path) -> CollateralFile:
    """Reads a collateral file.

    Raises:
        EvidenceError: If it is missing, unreadable, too large or not a collateral file.
    """
    data = read_bounded(path, what="the collateral", max_bytes=MAX_BYTES, error=EvidenceError)
    return decode(data, what=str(path))


def write(path: Path, content: CollateralFile) -> None:
    """Writes a collateral file, whole or not at all, once it was read back from its own bytes.

    Raises:
        EvidenceError: If it is larger than a reader takes, or cannot be written.
    """
    data = content.encode()
    decode(data)
    write_atomically(path, [data], error=EvidenceError)
