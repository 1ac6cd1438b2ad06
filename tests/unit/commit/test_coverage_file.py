"""A coverage map read once, a piece at a time: the same root, summary and proofs as read whole."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import pytest

from palm_torch.commit import coverage, coverage_file
from palm_torch.errors import EvidenceError

if TYPE_CHECKING:
    from pathlib import Path

FORMS = {1: "B", 2: "H", 4: "I"}
SIZES = [1, 1023, 1024, 1025, 40_000]
HEAD = coverage.MAGIC + struct.pack(">BQ", 1, 3)


def written(path: Path, counts: list[int]) -> Path:
    coverage.write_sidecar(path, struct.pack(f"<{len(counts)}I", *counts), 4)
    return path


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("factor", [1, 300, 70_000])
def test_it_is_the_same_map_whatever_is_taken_at_once(tmp_path: Path, size: int, factor: int) -> None:
    counts = [number % 7 * factor for number in range(size)]
    path = written(tmp_path / "map", counts)
    data = struct.pack(f"<{size}I", *counts)
    expected = coverage_file.Read(coverage.coverage_root(data, 4), coverage.summary(data, 4))
    for step in (1000, 1024, size):
        with coverage_file.opened(path) as file:
            found: list[int] = []
            for start in range(0, size, step):
                found += coverage_file.numbers(file.take(min(step, size - start)), file.width)
            assert found == counts
            assert file.finish() == expected
    assert coverage_file.read(path) == expected


@pytest.mark.parametrize("size", SIZES)
def test_inclusion_is_that_of_the_map_in_memory(tmp_path: Path, size: int) -> None:
    counts = [number % 5 for number in range(size)]
    path = written(tmp_path / "map", counts)
    for index in {0, size // 2, size - 1}:
        shown, root = coverage_file.inclusion(path, index)
        assert shown == coverage.inclusion(bytes(counts), 1, index)
        assert coverage.verify_inclusion(shown, root, records=size) == counts[index]
    with pytest.raises(EvidenceError, match=f"record from 0 to {size - 1}, got {size}"):
        coverage_file.inclusion(path, size)


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
def test_malformed_maps_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "map").write_bytes(MALFORMED[name])
    with pytest.raises(EvidenceError):
        coverage_file.read(tmp_path / "map")


def test_a_map_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="cannot be read"):
        coverage_file.read(tmp_path / "map")


def test_more_counts_than_there_are(tmp_path: Path) -> None:
    with coverage_file.opened(written(tmp_path / "map", [1, 2, 3])) as file:
        file.take(2)
        with pytest.raises(EvidenceError, match="more records than 3"):
            file.take(2)


def test_a_map_that_is_cut_while_it_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "map", [1] * 100_000)
    with coverage_file.opened(path) as file:
        file.take(1)
        os.truncate(path, 60_000)
        with pytest.raises(EvidenceError, match="expected 100000 counters"):
            file.finish()


def test_a_map_that_grows_while_it_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "map", [1] * 100_000)
    with coverage_file.opened(path) as file:
        with path.open("ab") as stream:
            stream.write(b"\1")
        with pytest.raises(EvidenceError, match="bytes follow"):
            file.finish()
