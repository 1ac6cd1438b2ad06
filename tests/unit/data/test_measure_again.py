"""Measuring again: what was multiplied before is not multiplied again, and nothing else is believed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from recording import LENGTH

from palm_torch.commit import multiset
from palm_torch.data import measure
from palm_torch.data.measuring import pool, private, products, units
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

PRODUCTS = "manifest.palm-products"


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def multiplied(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many records each call multiplied."""
    seen: list[int] = []
    product_of = pool.worker.product_of

    def counting(digests: bytes) -> bytes:
        seen.append(len(digests) // 32)
        return product_of(digests)

    monkeypatch.setattr(pool.worker, "product_of", counting)
    return seen


def again(path: Path, **words: Any) -> Any:
    return measure.measure(path, record_length=LENGTH, incremental=True, **words)


@pytest.mark.parametrize("file_digests", [True, False])
def test_added_file_is_all_that_is_multiplied(
    tokens: Path, multiplied: list[int], *, file_digests: bool
) -> None:
    again(tokens, file_digests=file_digests)
    assert sum(multiplied) == 123
    multiplied.clear()
    (tokens / "a-first.bin").write_bytes(bytes(range(256)))
    found = again(tokens, file_digests=file_digests)
    assert sum(multiplied) == 256 // 32
    assert found == measure.measure(tokens, record_length=LENGTH, file_digests=file_digests)


def test_renamed_and_removed_files_are_known_by_their_content(tokens: Path, multiplied: list[int]) -> None:
    again(tokens)
    multiplied.clear()
    (tokens / "part-0.bin").rename(tokens / "z.bin")
    (tokens / "part-1.bin").unlink()
    found = again(tokens)
    assert multiplied == []
    assert found == measure.measure(tokens, record_length=LENGTH)


def test_changed_record_is_found_whatever_its_times_say(tokens: Path) -> None:
    again(tokens)
    path = tokens / "part-1.bin"
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert again(tokens) == measure.measure(tokens, record_length=LENGTH)


def test_with_a_salt_nothing_made_without_it_is_reused(tokens: Path, multiplied: list[int]) -> None:
    again(tokens)
    multiplied.clear()
    salted = again(tokens, salt=b"a secret of salt")
    assert sum(multiplied) == 123
    assert salted == measure.measure(tokens, record_length=LENGTH, salt=b"a secret of salt")


def test_entries_of_others_and_torn_ones_are_left_out(tokens: Path, multiplied: list[int]) -> None:
    honest = again(tokens)
    file = tokens / PRODUCTS
    entries = file.read_bytes()
    start = len(products.MAGIC)
    assert len(entries) == start + 6 * products.ENTRY_BYTES  # one block and one file for each of three
    for at in range(start, len(entries), products.ENTRY_BYTES):
        forged = bytearray(entries)
        forged[at + 40] ^= 1  # the value of an entry
        file.write_bytes(forged[:-5])
        multiplied.clear()
        assert again(tokens) == honest
        changed = any(entries[at + 64 : at + 96])  # a product; the SHA-256 of a file ends before
        assert bool(multiplied) == changed
    assert len(file.read_bytes()) == len(entries)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(private, "reuse_key", lambda: bytes(32))  # somebody else
        multiplied.clear()
        assert again(tokens) == honest
        assert sum(multiplied) == 123


def test_file_that_changes_between_its_two_passes(tokens: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again(tokens)
    with (tokens / "part-2.bin").open("r+b") as stream:
        stream.write(b"new")  # its SHA-256 is not known: it is read twice
    run = measure.Digester.run

    def rewriting(digester: Any, unit: units.Unit) -> Any:
        if unit.hash_file:
            with (tokens / "part-2.bin").open("r+b") as stream:
                stream.write(b"other")
        return run(digester, unit)

    monkeypatch.setattr(measure.Digester, "run", rewriting)
    with pytest.raises(DataError, match=r"part-2\.bin: it changed while it was measured"):
        again(tokens)


def test_key_that_others_can_read_is_refused(tokens: Path, tmp_path: Path) -> None:
    again(tokens)
    (tmp_path / "state" / "palm-torch" / "measure.key").chmod(0o644)
    with pytest.raises(DataError, match="only you can read, got mode 0644"):
        again(tokens)


def test_killed_in_the_middle_goes_on(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    np.random.default_rng(1).integers(0, 60_000, 150_000 * LENGTH, dtype=np.uint16).tofile(data / "a.bin")
    command = [sys.executable, "-m", "palm_torch", "measure", str(data), "--record-length", str(LENGTH)]
    started = subprocess.Popen([*command, "--incremental", "--processes", "2"])
    file = data / PRODUCTS
    deadline = time.monotonic() + 60
    while (
        not file.exists() or file.stat().st_size < 2 * products.ENTRY_BYTES
    ) and time.monotonic() < deadline:
        time.sleep(0.005)
    started.send_signal(signal.SIGKILL)
    assert started.wait() == -signal.SIGKILL
    left = {item.name for item in data.iterdir()}
    assert left == {"a.bin", PRODUCTS}
    kept = file.stat().st_size // products.ENTRY_BYTES
    assert 2 <= kept < 10
    seen: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        product_of = pool.worker.product_of
        patch.setattr(
            pool.worker, "product_of", lambda digests: seen.append(len(digests) // 32) or product_of(digests)
        )
        resumed = again(data)
    assert len(seen) == 10 - kept
    assert resumed == measure.measure(data, record_length=LENGTH)


def test_disk_full_keeps_the_entries_that_were_there(tokens: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again(tokens)
    before = (tokens / PRODUCTS).read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("palm_torch.files.os.fsync", full)
    with pytest.raises(DataError, match="No space left"):
        again(tokens)
    assert (tokens / PRODUCTS).read_bytes() == before


def test_product_of_an_entry_is_that_of_its_records(tokens: Path) -> None:
    made = again(tokens)
    with products.Products(tokens / PRODUCTS, private.reuse_key()) as known:
        whole = multiset.MultisetHash()
        for value in (value for value in known._known.values() if any(value[32:])):
            whole.multiply(value, 41)
        assert whole.state.hex() == made.multiset.state
