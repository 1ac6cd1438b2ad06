"""Records at hand, hashed again: every format gives the digests of its manifest, and shows what changed."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import records_at_hand as at_hand

from palm_torch.commit import manifest_file
from palm_torch.data import measure
from palm_torch.errors import DataError, ManifestError
from palm_torch.recomputation import RecordsAtHand

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def tokens(folder: Path) -> tuple[Path, dict[str, Any], Path]:
    (folder / "d").mkdir()
    for number in range(3):
        np.arange(number, number + 8, dtype=np.uint16).tofile(folder / "d" / f"{number}.bin")
    return folder / "d", {"record_length": 4}, folder / "d" / "1.bin"


def arrays(folder: Path) -> tuple[Path, dict[str, Any], Path]:
    np.save(folder / "a.npy", np.arange(24, dtype="<f4").reshape(6, 4))
    return folder / "a.npy", {}, folder / "a.npy"


def lines(folder: Path) -> tuple[Path, dict[str, Any], Path]:
    (folder / "a.jsonl").write_bytes(b'{"a": 1}\n[2, "long line"]\n"x"\n4\n')
    return folder / "a.jsonl", {}, folder / "a.jsonl"


def files(folder: Path) -> tuple[Path, dict[str, Any], Path]:
    (folder / "d" / "cat").mkdir(parents=True)
    for number in range(4):
        (folder / "d" / "cat" / f"{number}").write_bytes(bytes(number + 3))
    return folder / "d", {"format": "files"}, folder / "d" / "cat" / "2"


MAKERS: list[Callable[[Path], tuple[Path, dict[str, Any], Path]]] = [tokens, arrays, lines, files]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("salt", [None, b"a secret of salt"])
def test_digests_are_those_of_the_manifest(tmp_path: Path, make: Any, salt: bytes | None) -> None:
    path, options, changed = make(tmp_path)
    header = measure.measure(path, salt=salt, **options)
    target = manifest_file.path_beside(path)
    digests = bytearray()
    manifest_file.read(target, each=digests.extend)

    def differing() -> list[int]:
        at_hand = RecordsAtHand(path, target, salt=salt)
        return [
            number
            for number in range(header.records)
            if at_hand.digest(number) != digests[number * 32 : number * 32 + 32]
        ]

    assert differing() == []
    with changed.open("r+b") as stream:
        stream.seek(-2, 2)
        stream.write(b"9")
    (number,) = differing()
    assert str(changed.name) in RecordsAtHand(path, target, salt=salt).where(number)


def test_items_of_a_program_lie_in_no_file(tmp_path: Path) -> None:
    items = dataclasses.replace(
        at_hand.MANIFEST, format="items", dtype=None, record_shape=None, record_bytes=None
    )
    path = at_hand.write_manifest(tmp_path / "items.palm-manifest", items)
    with pytest.raises(DataError, match="items of a program"):
        RecordsAtHand(tmp_path, path)


def test_another_salt_is_said(tmp_path: Path) -> None:
    path, options, _ = arrays(tmp_path)
    measure.measure(path, salt=b"a secret of salt", **options)
    with pytest.raises(ManifestError, match="with a salt"):
        RecordsAtHand(path, manifest_file.path_beside(path))
    other = RecordsAtHand(path, manifest_file.path_beside(path), salt=b"some other salt!")
    right = RecordsAtHand(path, manifest_file.path_beside(path), salt=b"a secret of salt")
    assert other.digest(0) != right.digest(0)


def test_data_that_is_not_there_or_another(tmp_path: Path) -> None:
    path, options, _ = tokens(tmp_path)
    measure.measure(path, **options)
    target = manifest_file.path_beside(path)
    with pytest.raises(DataError, match="no such file"):
        RecordsAtHand(tmp_path / "missing", target)
    np.arange(8, dtype=np.uint16).tofile(path / "3.bin")
    with pytest.raises(ManifestError, match="not the manifest of"):
        RecordsAtHand(path, target)
