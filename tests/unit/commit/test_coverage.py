from __future__ import annotations

import hashlib
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from palm_torch.commit import coverage
from palm_torch.digest import Digest
from palm_torch.errors import ArtifactError, BindingError, EvidenceError, SealError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SIZES = [1, 2, 1023, 1024, 1025, 5000]
FORMS = {1: "B", 2: "H", 4: "I"}


def packed(counts: Sequence[int], itemsize: int) -> bytes:
    return struct.pack(f"<{len(counts)}{FORMS[itemsize]}", *counts)


def naive_root(counts: Sequence[int]) -> bytes:
    def tree(leaves: Any) -> bytes:
        if len(leaves) == 1:
            return hashlib.sha256(b"\0" + leaves[0]).digest()
        half = 1
        while half * 2 < len(leaves):
            half *= 2
        return hashlib.sha256(b"\1" + tree(leaves[:half]) + tree(leaves[half:])).digest()

    return tree([packed(counts[at : at + 1024], 4) for at in range(0, len(counts), 1024)])


def some_counts(size: int) -> list[int]:
    return [(number * 7) % 251 for number in range(size)]


@pytest.mark.parametrize("size", SIZES)
def test_root_is_that_of_the_plain_recursion_in_every_width(size: int) -> None:
    counts = some_counts(size)
    expected = Digest("palm-sha256", naive_root(counts))
    for itemsize in FORMS:
        assert coverage.coverage_root(packed(counts, itemsize), itemsize) == expected
        assert coverage.coverage_root(memoryview(packed(counts, itemsize)), itemsize) == expected


def test_large_counts() -> None:
    counts = [2**32 - 1, 0, 70_000]
    assert coverage.coverage_root(packed(counts, 4), 4).value == naive_root(counts)
    assert coverage.summary(packed(counts, 4), 4) == coverage.Summary(2**32 - 1 + 70_000, 2, 0, 2**32 - 1)


def test_summary() -> None:
    assert coverage.summary(bytes([0, 3, 1, 0, 3]), 1) == coverage.Summary(7, 3, 0, 3)
    assert coverage.summary(b"", 1) == coverage.Summary(0, 0, 0, 0)


@pytest.mark.parametrize("size", SIZES)
def test_inclusion(size: int) -> None:
    counts = some_counts(size)
    data = packed(counts, 2)
    root = coverage.coverage_root(data, 2)
    for index in {0, size // 2, size - 1}:
        shown = coverage.inclusion(data, 2, index)
        assert coverage.verify_inclusion(shown, root, records=size) == counts[index]


def test_inclusion_refused() -> None:
    data = packed(some_counts(3000), 1)
    root = coverage.coverage_root(data, 1)
    shown = coverage.inclusion(data, 1, 1500)
    changed = bytearray(shown.leaf)
    changed[0] ^= 1
    for bad, error in (
        (replace(shown, leaf=bytes(changed)), BindingError),
        (replace(shown, index=200), BindingError),
        (replace(shown, leaf=shown.leaf[:-4]), EvidenceError),
        (replace(shown, proof=shown.proof[1:]), EvidenceError),
        (replace(shown, records=3001), EvidenceError),
        (replace(shown, index=3000), EvidenceError),
        (replace(shown, index=-1), EvidenceError),
    ):
        with pytest.raises(error):
            coverage.verify_inclusion(bad, root, records=3000)
    for index in (-1, 3000):
        with pytest.raises(EvidenceError, match="record from 0 to 2999"):
            coverage.inclusion(data, 1, index)


@pytest.mark.parametrize(("itemsize", "length"), [(3, 6), (0, 4), (2, 3), (4, 6)])
def test_counters_of_another_width(itemsize: int, length: int) -> None:
    with pytest.raises(EvidenceError, match="whole counters"):
        coverage.coverage_root(bytes(length), itemsize)


@pytest.mark.parametrize(
    ("greatest", "width"), [(0, 1), (255, 1), (256, 2), (65_535, 2), (65_536, 4), (2**32 - 1, 4)]
)
def test_sidecar_takes_the_smallest_width(tmp_path: Path, greatest: int, width: int) -> None:
    counts = [0, greatest, *some_counts(1500)]
    data = packed(counts, 4)
    coverage.write_sidecar(tmp_path / "map", data, 4)
    assert (tmp_path / "map").stat().st_size == len(coverage.MAGIC) + 9 + width * len(counts)
    read = coverage.read_sidecar(tmp_path / "map", coverage.coverage_root(data, 4))
    assert read == (packed(counts, width), width)


def test_count_beyond_every_width() -> None:
    with pytest.raises(EvidenceError, match="4 bytes"):
        coverage.narrowest(2**32)


def test_sidecar_of_another_run(tmp_path: Path) -> None:
    coverage.write_sidecar(tmp_path / "map", bytes([1, 2, 3]), 1)
    with pytest.raises(ArtifactError, match="root"):
        coverage.read_sidecar(tmp_path / "map", coverage.coverage_root(bytes([1, 2, 4]), 1))


HEAD = coverage.MAGIC + struct.pack(">BQ", 1, 3)
MALFORMED = {
    "empty": b"",
    "magic": b"x" + HEAD[1:] + bytes(3),
    "no head": coverage.MAGIC,
    "short": HEAD + bytes(2),
    "long": HEAD + bytes(4),
    "width": coverage.MAGIC + struct.pack(">BQ", 3, 1) + bytes(3),
    "too many": coverage.MAGIC + struct.pack(">BQ", 1, 1 << 41) + bytes(3),
    "wider than needed": coverage.MAGIC + struct.pack(">BQ", 2, 3) + bytes(6),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_sidecar(tmp_path: Path, name: str) -> None:
    (tmp_path / "map").write_bytes(MALFORMED[name])
    with pytest.raises(EvidenceError):
        coverage.read_sidecar(tmp_path / "map", coverage.coverage_root(bytes(3), 1))


def test_sidecar_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="cannot be read"):
        coverage.read_sidecar(tmp_path / "map", coverage.coverage_root(bytes(3), 1))


def test_sidecar_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(SealError, match="nowhere"):
        coverage.write_sidecar(tmp_path / "nowhere" / "map", bytes(3), 1)
