"""A named pipe lies where a file is expected: whoever opens it gets an error, and is not kept waiting."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

import palm_torch
from palm_torch import cli
from palm_torch.commit import manifest_file
from palm_torch.data import measure
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.errors import DataError, ManifestError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("name", ["bin", "npy", "jsonl", "safetensors", "chunks", "arrow", "parquet"])
def test_data(pipe: Path, name: str) -> None:
    with pytest.raises(DataError, match=f"{pipe}: "):
        measure.measure(pipe, format=name)


def test_windows_and_slices(pipe: Path) -> None:
    with pytest.raises(DataError, match=f"{pipe}: "):
        palm_torch.memmap(pipe, manifest=None)
    with pytest.raises(DataError, match="pipe"):
        palm_torch.AttestedWindows(pipe.rename(pipe.with_suffix(".bin")), 4, manifest=None)


def test_manifest(pipe: Path, tmp_path: Path) -> None:
    for reader in (manifest_file.ManifestFile.open, manifest_file.read, manifest_file.read_header):
        with pytest.raises(ManifestError, match="expected a regular file, got a pipe"):
            reader(pipe)
    (tmp_path / "a.bin").write_bytes(bytes(64))
    with pytest.raises(ManifestError, match="expected a regular file, got a pipe"):
        AttestedMmapDataset(tmp_path / "a.bin", record_length=4, manifest=pipe)


def test_index_of_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"n": 1}\n')
    measure.measure(path)
    os.mkfifo(tmp_path / "x.jsonl.palm-index")
    with pytest.raises(DataError, match="expected a regular file, got a pipe"):
        AttestedMmapDataset(path)


def test_index_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(64))
    os.mkfifo(tmp_path / "index.json")
    assert measure.measure(tmp_path, record_length=4).records == 8


def test_salt(pipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = pipe.with_name("a.bin")
    data.write_bytes(bytes(64))
    for option in (["--record-length", "4"], ["--check"]):
        assert cli.main(["measure", str(data), *option, "--salt-file", str(pipe)]) == cli.MALFORMED
        assert "cannot read the salt: expected a regular file, got a pipe" in capsys.readouterr().err
