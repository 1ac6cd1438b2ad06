"""The coverage map of a dataset: how often each record was delivered, provable record by record.

A map is an array of counters, one per record. Its root is that of an RFC 9162 history tree whose leaves
are the counts of 1,024 records each, so that the count of one record is shown with 4 KiB and a short
proof. The map itself travels as a sidecar file. Specification: docs/spec/40-data.md, section 3.
"""

from __future__ import annotations

import collections
import itertools
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from palm_torch.commit import history
from palm_torch.digest import TAGGED_SHA256, Digest
from palm_torch.errors import ArtifactError, EvidenceError, SealError
from palm_torch.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LEAF_RECORDS: Final = 1024
LEAF_COUNT_BYTES: Final = 4
MAGIC: Final = b"palm-torch coverage v1\n"
MAX_RECORDS: Final = 1 << 40

_HEAD: Final = struct.Struct(">BQ")
HEAD_BYTES: Final = len(MAGIC) + _HEAD.size
"""Length of what stands before the counters in a file."""

_COUNT: Final = struct.Struct("<I")
_WIDTHS: Final = (1, 2, 4)


@dataclass(frozen=True, slots=True)
class Summary:
    """What a coverage map says at a glance.

    Attributes:
        delivered: Deliveries in all: the sum of the counts.
        distinct: Records delivered at least once.
        least: Smallest count.
        greatest: Greatest count.
    """

    delivered: int
    distinct: int
    least: int
    greatest: int


@dataclass(frozen=True, slots=True)
class Inclusion:
    """The count of one record, with what it takes to check it against the root.

    Attributes:
        index: The record.
        records: Number of records in the map.
        leaf: Counts of the 1,024 records (fewer at the end) around it, 4 bytes each, little endian.
        proof: Sibling hashes of the leaf, as RFC 9162 orders them.
    """

    index: int
    records: int
    leaf: bytes
    proof: tuple[bytes, ...]


def coverage_root(counts: bytes | memoryview, itemsize: int) -> Digest:
    """Returns the root of a coverage map.

    Args:
        counts: The counters, little endian, as bytes or a contiguous view of bytes.
        itemsize: Width of a counter in bytes: 1, 2 or 4. The root does not depend on it.

    Raises:
        EvidenceError: If the width is another or the length not a multiple of it.
    """
    return Digest(TAGGED_SHA256, _log(counts, itemsize).root())


def summary(counts: bytes | memoryview, itemsize: int) -> Summary:
    """Counts deliveries, distinct records, least and greatest count.

    Raises:
        EvidenceError: As in `coverage_root`.
    """
    tally: collections.Counter[int] = collections.Counter()
    for leaf in leaves(counts, itemsize):
        tally.update(number for (number,) in _COUNT.iter_unpack(leaf))
    if not tally:
        return Summary(0, 0, 0, 0)
    return Summary(
        delivered=sum(count * times for count, times in tally.items()),
        distinct=sum(times for count, times in tally.items() if count),
        least=min(tally),
        greatest=max(tally),
    )


def inclusion(counts: bytes | memoryview, itemsize: int, index: int) -> Inclusion:
    """Proves how often one record was delivered.

    Raises:
        EvidenceError: If there is no such record, or as in `coverage_root`.
    """
    log = _log(counts, itemsize)
    records = len(counts) // itemsize
    if not 0 <= index < records:
        raise EvidenceError(f"coverage: expected a record from 0 to {records - 1}, got {index}")
    at = index // LEAF_RECORDS
    step = LEAF_RECORDS * itemsize
    leaf = _widened(memoryview(counts)[at * step : (at + 1) * step], itemsize)
    return Inclusion(index, records, leaf, log.inclusion_proof(at))


def verify_inclusion(shown: Inclusion, root: Digest, *, records: int) -> int:
    """Checks a proof against the sealed root and returns how often the record was delivered.

    Args:
        shown: The proof.
        root: Coverage root of the evidence.
        records: Number of records in the dataset, as the evidence says.

    Raises:
        EvidenceError: If the proof speaks of another number of records, of a record that is not there,
            or its leaf has the wrong length.
        BindingError: If the leaf is not under the root.
    """
    if shown.records != records or not 0 <= shown.index < records:
        raise EvidenceError(f"coverage: expected a record of {records}, got {shown.index} of {shown.records}")
    at = shown.index // LEAF_RECORDS
    expected = min(LEAF_RECORDS, records - at * LEAF_RECORDS) * LEAF_COUNT_BYTES
    if len(shown.leaf) != expected:
        raise EvidenceError(f"coverage leaf {at}: expected {expected} bytes, got {len(shown.leaf)}")
    leaves = -(-records // LEAF_RECORDS)
    history.verify_inclusion(shown.leaf, at, leaves, root.value, shown.proof)
    start = shown.index % LEAF_RECORDS * LEAF_COUNT_BYTES
    return int.from_bytes(shown.leaf[start : start + LEAF_COUNT_BYTES], "little")


def narrowest(greatest: int) -> int:
    """Returns the smallest width, in bytes, that holds the greatest count: 1, 2 or 4.

    Raises:
        EvidenceError: If even 4 bytes do not hold it.
    """
    for width in _WIDTHS:
        if greatest < 1 << 8 * width:
            return width
    raise EvidenceError(f"coverage: a count of {greatest} does not fit in 4 bytes")


def write_sidecar(path: Path, counts: bytes | memoryview, itemsize: int) -> None:
    """Writes a map to a file of its own, in the smallest width that holds its greatest count.

    Raises:
        SealError: If the file cannot be written; nothing half-written stays.
        EvidenceError: As in `coverage_root`.
    """
    view = _checked(counts, itemsize)
    width = narrowest(summary(view, itemsize).greatest)
    head = MAGIC + _HEAD.pack(width, len(view) // itemsize)
    body = (_narrowed(leaf, width) for leaf in leaves(view, itemsize))
    write_atomically(path, itertools.chain([head], body), error=SealError)


def read_sidecar(path: Path, root: Digest) -> tuple[bytes, int]:
    """Reads a map from its file and checks it against the sealed root.

    Returns:
        The counters, little endian, and their width in bytes.

    Raises:
        EvidenceError: If the file cannot be read or is not exactly a coverage file.
        ArtifactError: If it is the map of something else.
    """
    try:
        with path.open("rb") as stream:
            width, records = read_head(path, stream.read(HEAD_BYTES))
            size = os.fstat(stream.fileno()).st_size - stream.tell()  # before the head is taken at its word
            counts = stream.read(width * records) if size == width * records else b""
    except OSError as error:
        raise EvidenceError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(counts) != width * records or size != len(counts):
        raise EvidenceError(f"{path}: expected {records} counters of {width} bytes each, got {size} bytes")
    if (least := narrowest(summary(counts, width).greatest)) != width:
        raise EvidenceError(f"{path}: expected the smallest width, {least} bytes, got {width}")
    if (found := coverage_root(counts, width)) != root:
        raise ArtifactError(f"{path}: expected the coverage map with root {root}, got {found}")
    return counts, width


def read_head(path: Path, head: bytes) -> tuple[int, int]:
    """Returns bytes per counter and number of records, as the head of a coverage file says them.

    Raises:
        EvidenceError: If these are not the first `HEAD_BYTES` bytes of a coverage file.
    """
    if not head.startswith(MAGIC) or len(head) != HEAD_BYTES:
        raise EvidenceError(f"{path}: expected a coverage file that begins {MAGIC!r}, got {head[:24]!r}")
    width, records = _HEAD.unpack_from(head, len(MAGIC))
    if width not in _WIDTHS or records > MAX_RECORDS:
        raise EvidenceError(
            f"{path}: expected counters of 1, 2 or 4 bytes for at most 2^40 records, got {records} of {width}"
        )
    return width, records


def _log(counts: bytes | memoryview, itemsize: int) -> history.History:
    log = history.History()
    for leaf in leaves(counts, itemsize):
        log.append(leaf)
    return log


def leaves(counts: bytes | memoryview, itemsize: int) -> Iterator[bytes]:
    """Yields the leaves of a map, or of a part from a leaf on: 1,024 counts of 4 bytes, fewer in the end.

    Raises:
        EvidenceError: As in `coverage_root`.
    """
    view = _checked(counts, itemsize)
    step = LEAF_RECORDS * itemsize
    for start in range(0, len(view), step):
        yield _widened(view[start : start + step], itemsize)


def _checked(counts: bytes | memoryview, itemsize: int) -> memoryview:
    if itemsize not in _WIDTHS or len(counts) % itemsize:
        raise EvidenceError(
            f"coverage: expected whole counters of 1, 2 or 4 bytes, got {len(counts)} bytes, width {itemsize}"
        )
    return memoryview(counts)


def _widened(part: memoryview, itemsize: int) -> bytes:
    """Spreads counters of `itemsize` bytes over 4 bytes each, byte column by byte column."""
    wide = bytearray(len(part) // itemsize * LEAF_COUNT_BYTES)
    for column in range(itemsize):
        wide[column::LEAF_COUNT_BYTES] = part[column::itemsize]
    return bytes(wide)


def _narrowed(wide: bytes, width: int) -> bytes:
    narrow = bytearray(len(wide) // LEAF_COUNT_BYTES * width)
    for column in range(width):
        narrow[column::width] = wide[column::LEAF_COUNT_BYTES]
    return bytes(narrow)
