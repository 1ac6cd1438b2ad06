"""What proves on one machine that two datasets without a manifest are of the same files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

from palm_torch.data import chunks, same_files
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.measure import measure

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.bin", "b.bin"):
        np.arange(20, dtype=np.uint16).tofile(tmp_path / name)
    return tmp_path


def opened(path: Path, **options: bytes) -> AttestedMmapDataset:
    return AttestedMmapDataset(path, record_length=2, **options)


def test_the_same_files_are_the_same_and_equal_ones_are_not(folder: Path) -> None:
    first, again, other = (opened(folder / name).info.same for name in ("a.bin", "a.bin", "b.bin"))
    assert first == again
    assert None not in (first, other)
    assert first != other
    assert opened(folder).info.same not in (first, other)
    assert opened(folder / "a.bin", salt=bytes(32)).info.same != first
    (folder / "else").mkdir()
    os.link(folder / "a.bin", folder / "else" / "a.bin")  # an index beside it would be another
    assert opened(folder / "else" / "a.bin").info.same != first


def test_a_file_that_was_written_to_in_between_is_another(folder: Path) -> None:
    first = opened(folder / "a.bin").info.same
    os.utime(folder / "a.bin", ns=(0, 0))
    assert opened(folder / "a.bin").info.same != first


def test_a_manifest_needs_no_proof_and_what_is_no_file_has_none(folder: Path) -> None:
    measure(folder / "a.bin", record_length=2)
    assert AttestedMmapDataset(folder / "a.bin").info.same is None
    assert same_files.proof([], b"") is None
    assert same_files.proof([folder / "none"], b"") is None


def test_chunks_have_a_proof_too(folder: Path) -> None:
    first, other = (chunks.open_file(folder / name).info.same for name in ("a.bin", "b.bin"))
    assert None not in (first, other)
    assert first != other
