"""A folder as one document: which files count, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from palm_torch.commit import file_list
from palm_torch.digest import sha256_digest
from palm_torch.errors import DataError


def test_files_are_listed_by_name_with_links_as_files(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "b").mkdir(parents=True)
    (folder / "b" / "x.json").write_bytes(b"x")
    (folder / "a.json").write_bytes(b"a")
    (tmp_path / "blob").write_bytes(b"blob")
    (folder / "link.json").symlink_to(tmp_path / "blob")
    listed = json.loads(file_list.read(folder, error=DataError))
    assert listed == {
        "type": "palm-torch/files/v1",
        "files": {
            "a.json": str(sha256_digest(b"a")),
            "b/x.json": str(sha256_digest(b"x")),
            "link.json": str(sha256_digest(b"blob")),
        },
    }
    (folder / "a.json").write_bytes(b"A")
    assert json.loads(file_list.read(folder, error=DataError)) != listed


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: folder.exists(), "expected 1 to"),
        (lambda folder: [(folder / str(n)).touch() for n in range(file_list.MAX_FILES + 1)], "expected 1 to"),
        (lambda folder: os.mkfifo(folder / "pipe"), "expected a file"),
        (lambda folder: (folder / "gone").symlink_to("nowhere"), "expected a file"),
        (lambda folder: (folder / "deep").symlink_to(folder), "expected a file"),
        (lambda folder: Path(os.fsdecode(os.fsencode(folder) + b"/\xff")).touch(), "no canonical form"),
    ],
)
def test_what_is_no_list_of_files_is_refused(tmp_path: Path, make: object, says: str) -> None:
    make(tmp_path)
    with pytest.raises(DataError, match=says):
        file_list.read(tmp_path, error=DataError)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        file_list.read(tmp_path / "gone", error=DataError)
    (tmp_path / "large").write_bytes(b"12")
    monkeypatch.setattr(file_list, "MAX_FILE_BYTES", 1)
    with pytest.raises(DataError, match="at most 1 bytes"):
        file_list.read(tmp_path, error=DataError)
