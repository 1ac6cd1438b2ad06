"""Making fingerprints: rows of activations to the few numbers that stay close on another machine.

Of every row x of every chosen site:

1. its scale s, the mean magnitude;
2. y = asinh(x / s), so that a few channels which are a thousand times larger than the others, as
   transformers have them, do not hide what happens in the others;
3. the projection of y to 16 orthonormal directions, drawn from the site's name and a seed;
4. the channels of the largest magnitudes of x, and what stands there.

The directions are the same for all rows: a change that pushes all tokens one way, as other weights do, adds
up over tokens, while rounding does not. Without a verifier's seed they are public: a prover can look for
changes that they do not see, and the largest elements are then what is left.

Specification: docs/spec/58-fingerprint.md.
"""

from __future__ import annotations

import functools
import hashlib
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import ml_dtypes
import numpy as np

from palm_torch.audit import fingerprint_file
from palm_torch.audit.fingerprint_file import MEDIA_TYPE, PROJECTIONS, Fingerprint, SiteFingerprint
from palm_torch.commit.trace_groups import Site
from palm_torch.digest import tagged_hash
from palm_torch.errors import BindingError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    Rows: TypeAlias = npt.NDArray[Any]
    Floats: TypeAlias = npt.NDArray[np.float32]

TOP: Final = 8
"""How many of the largest elements of a row are kept if nothing else is said."""

_TAG: Final = "palm-torch/fingerprint-directions/v1"
_CHUNK_ELEMENTS: Final = 1 << 17
"""Elements that are looked at at once: temporaries stay within a processor's cache."""
_LARGEST: Final = (2 - 2**-7) * 2.0**127
"""The largest bfloat16."""
_HALF: Final = 1 << 31
_KINDS: Final = frozenset({"float16", "bfloat16", "float32", "float64"})
_FLOAT16_STEP: Final = 2**-10
"""Two float16 next to each other differ by at most this, relative to either."""
_SMALLEST_STEP: Final = 2**-10
"""Projections of one row below this differ by what float32 sums do, in any order."""


def make(
    activations: Mapping[Site | str, Rows], *, seed: bytes = b"", top: int = TOP, counts: Rows | None = None
) -> Fingerprint:
    """Returns the fingerprint of activations.

    Args:
        activations: Site, or canonical path of a module → floats [sequences, tokens, channels], or
            [tokens, channels] of one sequence: float16, bfloat16 (of `ml_dtypes`), float32 or float64.
        seed: Nothing for the public directions, or 32 bytes that a verifier drew after the seal.
        top: How many of the largest elements of each row are kept, at most 64; where a site has fewer
            channels, all are.
        counts: Booleans [sequences, tokens]: which tokens count. Padding does not.

    Raises:
        DataError: If an array is no such, or has a number that is not finite.
        EvidenceError: If there are no sites, or a number is out of range.
    """
    parts = []
    for named, array in activations.items():
        site = Site(named) if isinstance(named, str) else named
        if array.dtype.name not in _KINDS or array.ndim not in {2, 3} or not array.size:
            raise DataError(
                f"{site}: expected floats of {', '.join(sorted(_KINDS))}, sequences × tokens × channels, "
                f"got {array.dtype.name} {list(array.shape)}"
            )
        whole = array.reshape(1, *array.shape) if array.ndim == 2 else array  # noqa: PLR2004 (one sequence)
        parts.append(_of_site(site, whole, seed=seed, top=top, counts=counts))
    return Fingerprint(media_type=MEDIA_TYPE, seed=seed, sites=tuple(parts))


def check_rows(part: SiteFingerprint, rows: Rows, *, sequence: int, token: int, seed: bytes = b"") -> None:
    """Checks that a fingerprint was made of rows that a trace shows.

    Args:
        part: The fingerprint of the site.
        rows: Rows of it that were opened from the trace, [tokens, channels].
        sequence: Of which sequence.
        token: Number of the first of them.
        seed: The seed of the fingerprint.

    Raises:
        DataError: If there are no such rows in the fingerprint, or they have another number of channels.
        BindingError: If they are not what it was made of.
    """
    count = len(rows)
    if rows.shape[1:] != (part.channels,) or token + count > part.tokens or sequence >= part.sequences:
        raise DataError(
            f"{part.site}: expected rows of {part.channels} channels, within {part.sequences} × "
            f"{part.tokens}, got {list(rows.shape)} from sequence {sequence}, token {token}"
        )
    made = _of_site(part.site, rows.reshape(1, *rows.shape), seed=seed, top=part.top, counts=None)
    at = slice(sequence * part.tokens + token, sequence * part.tokens + token + count)
    scales, expected = part.scale_array()[at], made.scale_array()
    projections, wanted = part.projection_array()[at], made.projection_array()
    near = np.abs(projections - wanted) <= _FLOAT16_STEP * np.abs(wanted) + _SMALLEST_STEP
    columns = part.place_array()[at].astype(np.int64)
    there = np.take_along_axis(rows, columns, axis=1).astype(ml_dtypes.bfloat16).astype(np.float32)
    values = part.value_array()[at]
    # of equal magnitudes, any may have been taken: what counts is that no larger one was left out
    largest = np.sort(np.abs(made.value_array()), axis=1) == np.sort(np.abs(values), axis=1)
    checks = (
        (np.abs(scales - expected) <= 2**-20 * expected)[:, None],
        near,
        there == values,
        largest,
    )
    for what, held in zip(("scale", "projection", "values", "largest elements"), checks, strict=True):
        if not held.all():
            wrong = token + int(np.flatnonzero(~held.all(axis=1))[0])
            raise BindingError(
                f"fingerprint of {part.site}, sequence {sequence}, token {wrong}: its {what} is not that of "
                "the row which the trace has there: it was made of something else"
            )


@functools.lru_cache(maxsize=64)
def directions(site: Site, channels: int, seed: bytes = b"") -> Floats:
    """Returns what rows of a site are projected to: orthonormal columns, float32 [channels, ≤ 16].

    Column after column is drawn, made orthogonal to those before, and normalised.

    Args:
        site: The site.
        channels: How many channels it has.
        seed: Nothing, or a verifier's 32 bytes.
    """
    width = min(PROJECTIONS, channels)
    drawn = tagged_hash(_TAG, seed, site.tree_id.encode("utf-8"), channels.to_bytes(8, "big"))
    stream = hashlib.shake_256(drawn).digest(4 * width * channels)
    words = np.frombuffer(stream, "<u4").astype(np.float64).reshape(width, channels)
    uniform = (words + 0.5) / _HALF - 1  # exact
    columns, triangle = np.linalg.qr(uniform.T)
    return np.ascontiguousarray(columns * np.sign(np.diag(triangle)), dtype=np.float32)


def _of_site(site: Site, array: Rows, *, seed: bytes, top: int, counts: Rows | None) -> SiteFingerprint:
    sequences, tokens, channels = array.shape
    if not 1 <= top <= fingerprint_file.MAX_TOP:
        raise DataError(f"top: expected 1 to {fingerprint_file.MAX_TOP}, got {top}")
    kept = None
    if counts is not None:
        if counts.shape != (sequences, tokens) or counts.dtype != np.bool_:
            raise DataError(
                f"counts: expected booleans [{sequences}, {tokens}], got {counts.dtype} {list(counts.shape)}"
            )
        kept = counts.reshape(-1)
    rows = array.reshape(-1, channels)
    columns = directions(site, channels, seed)
    pieces = list(_pieces(site, rows, kept, columns, min(top, channels)))
    scales, projections, places, values = (b"".join(part) for part in zip(*pieces, strict=True))
    return SiteFingerprint(
        site=site,
        channels=channels,
        sequences=sequences,
        tokens=tokens,
        scales=scales,
        projections=projections,
        places=places,
        values=values,
    )


def _pieces(
    site: Site, rows: Rows, kept: Rows | None, columns: Floats, top: int
) -> Iterator[tuple[bytes, bytes, bytes, bytes]]:
    step = max(1, _CHUNK_ELEMENTS // rows.shape[1])
    for start in range(0, len(rows), step):
        with np.errstate(over="ignore"):  # found below
            x = rows[start : start + step].astype(np.float32)
        if kept is not None:
            x *= kept[start : start + step, None]
        magnitudes = np.abs(x)
        if not magnitudes.max() <= _LARGEST:  # nor is a NaN
            raise DataError(
                f"{site}: expected finite activations, got an infinity, a NaN or one out of range"
            )
        scales = magnitudes.mean(axis=1, dtype=np.float64).astype(np.float32)
        compressed = np.arcsinh(x / np.where(scales > 0, scales, np.float32(1))[:, None])
        projections = compressed @ columns
        places = np.argpartition(magnitudes, -top, axis=1)[:, -top:]
        places.sort(axis=1)
        values = np.take_along_axis(x, places, axis=1)
        yield (
            scales.astype("<f4").tobytes(),
            projections.astype("<f2").tobytes(),
            places.astype("<u4").tobytes(),
            values.astype(ml_dtypes.bfloat16).view(np.uint16).astype("<u2").tobytes(),
        )
