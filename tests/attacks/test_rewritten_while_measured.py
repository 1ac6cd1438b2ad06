"""The host rewrites what measuring writes to disk while it works: what comes of it is detected or nothing."""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from recording import LENGTH, write_tokens
from safetensors.numpy import save_file

from palm_torch.commit import manifest_file
from palm_torch.data import measure, shards
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.measuring import products
from palm_torch.data.measuring.writing import ManifestWriter
from palm_torch.errors import DataError, ManifestError, MeasurementError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    write_tokens(tmp_path / "corpus")
    return tmp_path / "corpus"


def test_digests_rewritten_before_they_are_in_the_manifest(
    tokens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = measure.measure(tokens, record_length=LENGTH)
    put = ManifestWriter.put

    def then_rewrite(writer: ManifestWriter, first: int, digests: bytes) -> None:
        put(writer, first, digests)
        os.pwrite(writer._spool.fileno(), bytes(32), first * 32)

    monkeypatch.setattr(ManifestWriter, "put", then_rewrite)
    made = measure.measure(tokens, record_length=LENGTH)
    assert made == honest  # the header says what was read
    with pytest.raises(ManifestError, match="do not lead to the header's root"):
        manifest_file.read(tokens / "manifest.palm-manifest")


def test_products_put_there_by_somebody_else(tokens: Path) -> None:
    honest = measure.measure(tokens, record_length=LENGTH, incremental=True)
    file = tokens / "manifest.palm-products"
    entries = file.read_bytes()
    one = (1).to_bytes(384, "big")
    forged = [
        entries[at : at + 32] + one + products.blake3(entries[at : at + 32] + one, key=bytes(32)).digest()
        for at in range(0, len(entries), products.ENTRY_BYTES)
    ]
    file.write_bytes(b"".join(forged))
    assert measure.measure(tokens, record_length=LENGTH, incremental=True) == honest


def test_products_of_one_block_given_to_another(tokens: Path) -> None:
    honest = measure.measure(tokens, record_length=LENGTH, incremental=True)
    file = tokens / "manifest.palm-products"
    data = file.read_bytes()
    size = products.ENTRY_BYTES
    first, *rest = (data[at : at + size] for at in range(0, len(data), size))
    file.write_bytes(b"".join(entry[:32] + first[32:] for entry in (first, *rest)))
    assert measure.measure(tokens, record_length=LENGTH, incremental=True) == honest


def test_file_rewritten_between_two_reads_of_its_records(
    tokens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both hashes come of one read: there is no moment between them."""
    path = tokens / "part-0.bin"
    before = path.read_bytes()
    put = ManifestWriter.put

    def then_rewrite(writer: ManifestWriter, first: int, digests: bytes) -> Any:
        put(writer, first, digests)
        if first == 0:
            path.write_bytes(bytes(len(before)))

    honest = measure.measure(tokens, record_length=LENGTH)
    monkeypatch.setattr(ManifestWriter, "put", then_rewrite)
    made = measure.measure(tokens, record_length=LENGTH)
    assert made == honest  # of the bytes that were there when they were read, in both respects


def _swapped(path: Path, *pairs: tuple[bytes, bytes]) -> bytes:
    data = path.read_bytes()
    for old, new in pairs:
        assert old in data
        data = data.replace(old, new, 1)
    return data


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("name", ["rows.npy", "rows.safetensors"])
def test_header_rewritten_between_its_parsing_and_the_hashing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, processes: int
) -> None:
    """Otherwise the manifest would call a file by its SHA-256 and read it as the file before it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path, rows = tmp_path / name, np.arange(12, dtype=np.uint16).reshape(3, 4)
    if name.endswith("npy"):
        np.save(path, rows)
        tensor, other = None, _swapped(path, (b"<u2", b"<i2"))
    else:
        save_file({"bad": rows + 1, "fit": rows}, path)
        swaps = (b"bad", b"???"), (b"fit", b"bad"), (b"???", b"fit")
        tensor, other = "fit", _swapped(path, *swaps)
    open_all = shards.open_all

    def then_rewrite(*arguments: Any) -> Any:
        files = open_all(*arguments)
        path.write_bytes(other)
        return files

    honest = measure.measure(path, tensor=tensor)
    with monkeypatch.context() as patch:
        patch.setattr(shards, "open_all", then_rewrite)
        with pytest.raises((DataError, MeasurementError), match=r"header changed|sees another dataset"):
            measure.measure(path, processes=processes, tensor=tensor)
        path.write_bytes(other)
    assert manifest_file.read(manifest_file.path_beside(path)) == honest  # and it is not replaced


def test_header_rewritten_while_a_dataset_is_on_its_way_to_a_worker(tmp_path: Path) -> None:
    path, rows = tmp_path / "rows.safetensors", np.arange(12, dtype=np.uint16).reshape(3, 4)
    save_file({"bad": rows + 1, "fit": rows}, path)
    sent = pickle.dumps(AttestedMmapDataset(path, tensor="fit", manifest=None))
    path.write_bytes(_swapped(path, (b"bad", b"???"), (b"fit", b"bad"), (b"???", b"fit")))
    with pytest.raises(DataError, match="files changed while it was on its way to a worker"):
        pickle.loads(sent)  # noqa: S301 (its own bytes)
