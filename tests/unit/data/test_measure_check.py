"""`check` reads everything again and names what is not as the manifest says."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from recording import LENGTH, RECORDS

from palm_torch.commit import manifest_file
from palm_torch.data import measure
from palm_torch.errors import DataError, ManifestError, RecordError

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = "manifest.palm-manifest"


def flip(path: Path, *places: int) -> None:
    data = bytearray(path.read_bytes())
    for place in places:
        data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("salt", [None, b"a secret of salt"])
def test_untouched_data_is_accepted(tokens: Path, salt: bytes | None, processes: int) -> None:
    made = measure.measure(tokens, record_length=LENGTH, salt=salt)
    seen: list[tuple[int, int]] = []
    found = measure.check(tokens, salt=salt, processes=processes, progress=lambda *done: seen.append(done))
    assert found == made
    assert seen[-1] == (RECORDS * 32, RECORDS * 32)


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("salt", [None, b"a secret of salt"])
def test_first_bad_record_is_named(tokens: Path, salt: bytes | None, processes: int) -> None:
    measure.measure(tokens, record_length=LENGTH, salt=salt)
    flip(tokens / "part-1.bin", 5 * 32 + 3, 5 * 32 + 9, 40 * 32)
    flip(tokens / "part-2.bin", 0)
    with pytest.raises(
        RecordError,
        match=r"part-1\.bin: record 45 \(bytes 160 to 191 of the file\) is not .*; 2 more records differ",
    ):
        measure.check(tokens, salt=salt, processes=processes)


def test_only_one_bad_record(tokens: Path) -> None:
    measure.measure(tokens, record_length=LENGTH)
    flip(tokens / "part-0.bin", 39 * 32)
    with pytest.raises(RecordError, match=r"record 39 \(bytes 1248 to 1279 of the file\).*meant$"):
        measure.check(tokens)


def test_rows_say_where_they_lie(tmp_path: Path) -> None:
    lines = [json.dumps({"n": number}) + "\n" for number in range(100, 400)]
    (tmp_path / "a.jsonl").write_text("".join(lines), encoding="utf-8")
    measure.measure(tmp_path)
    flip(tmp_path / "a.jsonl", 11 * 17 + 8)
    with pytest.raises(RecordError, match=r"record 17 \(.*187"):
        measure.check(tmp_path)


def test_header_outside_of_the_records(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(600, dtype=np.int16).reshape(100, 6))
    measure.measure(tmp_path)
    at = (tmp_path / "a.npy").read_bytes().index(b"   ")
    data = bytearray((tmp_path / "a.npy").read_bytes())
    data[at] = 10  # another kind of white space: the same array
    (tmp_path / "a.npy").write_bytes(data)
    with pytest.raises(
        RecordError, match=r"a\.npy: every record is as the manifest says, but the file is not"
    ):
        measure.check(tmp_path)
    assert measure.check(tmp_path, file_digests=False).records == 100


def test_multiset_that_is_not_that_of_the_records(tokens: Path) -> None:
    made = measure.measure(tokens, record_length=LENGTH)
    target = tokens / MANIFEST
    with manifest_file.ManifestFile.open(target) as file:
        digests = file.mapping[file.offset :]
    state = "00" * 383 + "05"
    lies = dataclasses.replace(made, multiset=dataclasses.replace(made.multiset, state=state))
    target.write_bytes(manifest_file.head(lies) + digests)
    with pytest.raises(ManifestError, match="the multiset in the header is not that of the records"):
        measure.check(tokens)


def test_manifest_without_file_digests(tokens: Path) -> None:
    made = measure.measure(tokens, record_length=LENGTH, file_digests=False)
    assert measure.check(tokens) == made


def test_what_cannot_be_checked(tokens: Path) -> None:
    with pytest.raises(ManifestError, match="no manifest there"):
        measure.check(tokens)
    measure.measure(tokens, record_length=LENGTH, salt=b"a secret of salt")
    with pytest.raises(ManifestError, match="made with a salt, but none was given"):
        measure.check(tokens)
    with pytest.raises(RecordError, match=r"record 0 .*122 more records differ"):
        measure.check(tokens, salt=b"some other salt!")
    (tokens / "part-2.bin").unlink()
    with pytest.raises(ManifestError, match=r"not the manifest of .*part-2"):
        measure.check(tokens, salt=b"a secret of salt")
    with pytest.raises(DataError, match="processes: expected at least 1, got 0"):
        measure.measure(tokens, record_length=LENGTH, processes=0)
