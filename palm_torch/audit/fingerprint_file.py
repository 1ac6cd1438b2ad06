"""A fingerprint as a file: for every token of chosen sites, what little is kept of what a module computed.

Unlike a trace root, a fingerprint of the same computation on another machine is close, not equal. Whoever has
one knows something of the activations and cannot have them back. Specification: docs/spec/58-fingerprint.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import ml_dtypes
import numpy as np

from palm_torch import codec, files
from palm_torch.commit import answer_facts
from palm_torch.commit.trace_groups import Site
from palm_torch.digest import Digest, tagged_digest
from palm_torch.encoding import encode_json
from palm_torch.errors import EvidenceError

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.float32]
    Places: TypeAlias = npt.NDArray[np.uint32]

MEDIA_TYPE: Final = "application/vnd.palm-torch.fingerprint+json;version=1"
SUFFIX: Final = ".palm-fingerprint.json"

FACT: Final = answer_facts.FINGERPRINT
"""Name of the fact of a trace that binds the digest of a fingerprint."""

PROJECTIONS: Final = 16
"""Numbers that a row is projected to; as many as it has channels where these are fewer."""
MAX_TOP: Final = 64
"""Most of the largest elements of a row that are kept."""
SEED_BYTES: Final = 32
MAX_BYTES: Final = 256 << 20
"""Largest file, in bytes."""
MAX_ROWS: Final = 1 << 20
"""Most rows of one site."""

_TAG: Final = "palm-torch/fingerprint/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteFingerprint:
    """What is kept of one site; row t + s · tokens is token t of sequence s.

    Attributes:
        site: The site.
        channels: How many channels it has.
        sequences: How many sequences.
        tokens: How many tokens each.
        scales: Of each row, the mean magnitude: float32, little endian; 0 for a row that does not count.
        projections: Of each row, `PROJECTIONS` float16 or as many as there are channels.
        places: Of each row, the channels of its `top` largest magnitudes, ascending: uint32.
        values: Of each row, what stands there: bfloat16.

    Raises:
        EvidenceError: If the parts do not fit together, or a number is none.
    """

    site: Site
    channels: int
    sequences: int
    tokens: int
    scales: bytes
    projections: bytes
    places: bytes
    values: bytes

    def __post_init__(self) -> None:
        """Refuses what no activations have: a comparison must not meet a NaN."""
        rows = self.sequences * self.tokens
        if min(self.channels, self.sequences, self.tokens) < 1 or rows > MAX_ROWS:
            raise EvidenceError(
                f"{self.site}: expected 1 to {MAX_ROWS} rows of channels, got {self.sequences} × "
                f"{self.tokens} of {self.channels}"
            )
        parts = (
            ("scales", self.scales, 4),
            ("projections", self.projections, 2 * self.width),
            ("places", self.places, 4 * self.top),
            ("values", self.values, 2 * self.top),
        )
        for what, data, size in parts:
            if len(data) != rows * size:
                raise EvidenceError(
                    f"{self.site}: {what}: expected {rows} rows of {size} bytes, got {len(data)} bytes"
                )
        if not 1 <= self.top <= min(MAX_TOP, self.channels):
            raise EvidenceError(
                f"{self.site}: places: expected 1 to {min(MAX_TOP, self.channels)} of each row, "
                f"got {self.top}"
            )
        numbers = (self.scale_array(), self.projection_array(), self.value_array())
        if not all(np.isfinite(array).all() for array in numbers) or (numbers[0] < 0).any():
            raise EvidenceError(f"{self.site}: expected finite numbers, and scales from 0 on")
        places = self.place_array().astype(np.int64)
        if (np.diff(places, axis=1) <= 0).any() or places.max() >= self.channels:
            raise EvidenceError(f"{self.site}: places: expected ascending numbers below {self.channels}")

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.sequences * self.tokens

    @property
    def width(self) -> int:
        """How many numbers a row is projected to."""
        return min(PROJECTIONS, self.channels)

    @property
    def top(self) -> int:
        """How many elements of each row are kept."""
        return len(self.places) // (4 * self.rows)

    def scale_array(self) -> Floats:
        """Returns the scales, float32 [rows]."""
        return np.frombuffer(self.scales, "<f4").astype(np.float32)

    def projection_array(self) -> Floats:
        """Returns the projections, float32 [rows, width]."""
        return np.frombuffer(self.projections, "<f2").astype(np.float32).reshape(self.rows, self.width)

    def place_array(self) -> Places:
        """Returns the channels of the largest elements, uint32 [rows, top]."""
        return np.frombuffer(self.places, "<u4").astype(np.uint32).reshape(self.rows, self.top)

    def value_array(self) -> Floats:
        """Returns these elements, float32 [rows, top]."""
        values = np.frombuffer(self.values, np.dtype(ml_dtypes.bfloat16).newbyteorder("<"))
        return values.astype(np.float32).reshape(self.rows, self.top)

    def sequence(self, number: int) -> SiteFingerprint:
        """Returns the fingerprint of one sequence alone.

        Raises:
            EvidenceError: If there is none with this number.
        """
        if not 0 <= number < self.sequences:
            raise EvidenceError(
                f"{self.site}: expected a sequence from 0 to {self.sequences - 1}, got {number}"
            )

        def part(data: bytes) -> bytes:
            size = len(data) // self.sequences
            return data[number * size : (number + 1) * size]

        return SiteFingerprint(
            site=self.site,
            channels=self.channels,
            sequences=1,
            tokens=self.tokens,
            scales=part(self.scales),
            projections=part(self.projections),
            places=part(self.places),
            values=part(self.values),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """What is kept of a computation.

    Attributes:
        media_type: `MEDIA_TYPE`, which carries the version.
        seed: What the projections were drawn with: nothing, or 32 bytes of a verifier.
        sites: The sites, each once.

    Raises:
        EvidenceError: If it is of another version or has no sites, or one twice.
    """

    media_type: str
    seed: bytes
    sites: tuple[SiteFingerprint, ...]

    def __post_init__(self) -> None:
        """Refuses another version."""
        if self.media_type != MEDIA_TYPE:
            raise EvidenceError(f"media_type: expected {MEDIA_TYPE!r}, got {self.media_type[:80]!r}")
        if len(self.seed) not in (0, SEED_BYTES):
            raise EvidenceError(f"seed: expected nothing or {SEED_BYTES} bytes, got {len(self.seed)}")
        if not self.sites or len({part.site for part in self.sites}) != len(self.sites):
            raise EvidenceError(f"sites: expected one or more, each once, got {len(self.sites)}")

    def encode(self) -> bytes:
        """Returns the file's bytes, canonical JSON."""
        return encode_json(codec.to_json(self))

    @property
    def digest(self) -> Digest:
        """What a trace binds as its fact ``fingerprint``."""
        return digest(self.encode())

    def sequence(self, number: int) -> Fingerprint:
        """Returns the fingerprint of one sequence of the batch alone.

        Raises:
            EvidenceError: If there is none with this number.
        """
        parts = tuple(part.sequence(number) for part in self.sites)
        return Fingerprint(media_type=self.media_type, seed=self.seed, sites=parts)

    def save(self, path: str | Path) -> None:
        """Writes the fingerprint to a file, whole or not at all.

        Raises:
            EvidenceError: If it cannot be written.
        """
        files.write_atomically(Path(path), [self.encode()], error=EvidenceError)


def digest(data: bytes) -> Digest:
    """Returns the digest of a fingerprint's bytes."""
    return tagged_digest(_TAG, data)


def decode(data: bytes, *, what: str = "fingerprint") -> Fingerprint:
    """Decodes a fingerprint that nobody has checked, accepting exactly what `Fingerprint.encode` makes.

    Raises:
        EvidenceError: If the bytes are anything else.
    """
    return codec.from_bytes(Fingerprint, data, what=what, max_bytes=MAX_BYTES, error=EvidenceError)


def read(path: str | Path) -> Fingerprint:
    """Reads a fingerprint from a file.

    Raises:
        EvidenceError: If it cannot be read or is none.
    """
    return codec.from_file(
        Fingerprint, Path(path), what="the fingerprint", max_bytes=MAX_BYTES, error=EvidenceError
    )
