"""A token file and its manifest are rewritten by another process while a loop slices them.

Every read gives the bytes that were measured, or stops the run; no read gives others.
"""

from __future__ import annotations

import multiprocessing
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from any_data import digests_of
from recording import recording

from palm_torch.commit import records
from palm_torch.data import chunks, measure
from palm_torch.data.formats.chunks import CHUNK_BYTES, manifest_path
from palm_torch.data.generic import AttestedDataset
from palm_torch.data.item_digests import ItemDigests
from palm_torch.data.memmap import memmap
from palm_torch.data.windows import AttestedWindows
from palm_torch.errors import ManifestError, RecordError

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event
    from pathlib import Path

ELEMENTS = 64 * CHUNK_BYTES
MOST_TURNS = 100_000


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(chunks, "KEPT_CHUNKS", 2)  # so that nearly every read is of the file
    monkeypatch.setattr(chunks, "KEPT_GROUPS", 2)
    monkeypatch.setattr(chunks, "_kept_chunks", {})
    monkeypatch.setattr(chunks, "_kept_groups", {})
    (np.arange(ELEMENTS) % 50_000).astype(np.uint16).tofile(tmp_path / "a.bin")
    measure.measure(tmp_path / "a.bin", format="chunks")
    return tmp_path / "a.bin"


def rewrite(path: Path, stop: Event) -> None:
    """Flips one element back and forth, as fast as it can."""
    with path.open("r+b", buffering=0) as stream:
        while not stop.is_set():
            for value in (b"\xff\xff", b"\0\0"):
                stream.seek(10 * CHUNK_BYTES)
                stream.write(value)


def test_a_file_that_changes_all_the_time_gives_the_measured_bytes_or_none(path: Path) -> None:
    original = np.fromfile(path, np.uint16)
    original[5 * CHUNK_BYTES] = 0
    original.tofile(path)
    measure.measure(path, format="chunks")
    data, windows = memmap(path, np.uint16), AttestedWindows(path, 100, dtype=None)
    context = multiprocessing.get_context("fork")
    stop = context.Event()
    host = context.Process(target=rewrite, args=(path, stop))
    host.start()
    refused = given = turn = 0
    try:
        while turn < 3000 or (turn < MOST_TURNS and not (refused and given)):
            turn += 1
            start = 5 * CHUNK_BYTES - 50
            try:
                got = data[start : start + 100] if turn % 2 else windows[start].numpy()
            except RecordError:
                refused += 1
            else:
                given += 1
                np.testing.assert_array_equal(got, original[start : start + 100])
            data[ELEMENTS // 2 + turn % 1000 * 40]  # lets go of what is kept
    finally:
        stop.set()
        host.join()
    assert refused + given == turn
    assert refused
    assert given


def test_without_a_manifest_what_counts_is_what_was_read(path: Path) -> None:
    data = memmap(path, np.uint16, manifest=None)
    seen = []
    with recording() as session:
        for value in (b"\1\0", b"\2\0", b"\3\0"):
            with path.open("r+b") as stream:
                stream.write(value)
            seen.append(data[:2048].tobytes())
            data[4096:8192]  # lets go of what is kept
    got = [one for one, at in zip(digests_of(session.batches), session.indices(), strict=True) if at == 0]
    assert got == [records.record_digest(one) for one in seen]
    assert len(set(got)) == 3


def test_a_rewritten_manifest_is_noticed_where_it_is_read(path: Path) -> None:
    data = memmap(path, np.uint16)
    manifest = manifest_path(path)
    forged = bytearray(manifest.read_bytes())
    with path.open("r+b") as stream:
        stream.write(b"forged")
    forged[-128 * 32 : -128 * 32 + 32] = records.record_digest(path.read_bytes()[:CHUNK_BYTES])
    with manifest.open("r+b") as stream:
        stream.write(forged)
    with pytest.raises(ManifestError, match="rewritten after it was opened"):
        data[0]
    path.with_suffix(".copy").write_bytes(path.read_bytes())
    path.with_suffix(".copy").replace(path)  # another file: nothing is known of it yet
    with pytest.raises(ManifestError, match="do not lead to the header's root"):
        memmap(path, np.uint16)


def test_memory_that_is_shared_with_an_item_changes_nothing() -> None:
    shared = torch.zeros(4096).share_memory_()
    stop = threading.Event()

    def scribble() -> None:
        while not stop.is_set():
            shared.add_(1)

    writer = threading.Thread(target=scribble)
    data: AttestedDataset[Any] = AttestedDataset([{"x": shared}])
    digest = ItemDigests.of(None, None)
    writer.start()
    try:
        for _ in range(200):
            with recording() as session:
                got = data[0]
            assert digests_of(session.batches) == [digest.take(got)[1]]
    finally:
        stop.set()
        writer.join()
