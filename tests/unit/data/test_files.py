from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING

import pytest

from palm_torch.commit import rows
from palm_torch.data import measure, shards
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.formats import files, table
from palm_torch.errors import DataError, ManifestError, RecordError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EXPECTED = [("cat.txt", b"0"), ("cat/1.png", b"one"), ("cat/2.png", b""), ("dog/é.png", b"three")]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    for name, content in (*EXPECTED, (".hidden", b"x"), ("dog/.git/config", b"x")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_every_file_is_a_record_with_its_name(images: Path) -> None:
    data = AttestedMmapDataset(images, format="files")
    assert [(item["name"], item["content"]) for item in data.__getitems__(range(4))] == EXPECTED
    (file,) = shards.open_all(images, table.Wanted(format="files"))
    codec = rows.Codec(files.LAYOUT.columns or ())
    assert file.view.copy(1) == codec.encode((b"one", "cat/1.png"))
    assert (file.view.records, file.size_bytes, file.name) == (4, 9, "files")
    assert file.view.where(3) == "the file 'dog/é.png'"


def test_manifest_beside_them_and_copies(images: Path) -> None:
    measured = measure.measure(images, format="files")
    assert measured.shards[0].sha256 is None
    data = AttestedMmapDataset(images)  # the manifest, which is no record, tells the format
    assert (len(data), data.manifest) == (4, measured)
    again = pickle.loads(pickle.dumps(data))  # noqa: S301 (bytes this test made)
    assert again[3] == {"name": "dog/é.png", "content": b"three"}


def test_a_changed_file_is_named(images: Path) -> None:
    measure.measure(images, format="files")
    data = AttestedMmapDataset(images)
    (images / "cat" / "1.png").write_bytes(b"uno")
    with pytest.raises(RecordError, match=r"images: record 1 \(the file 'cat/1.png'\)"):
        data.__getitems__([0, 1])


def test_a_class_cannot_be_renamed(images: Path) -> None:
    measure.measure(images, format="files")
    (images / "cat").rename(images / "cow")
    data = AttestedMmapDataset(images)
    with pytest.raises(RecordError, match=r"'cow/1\.png'"):
        data.__getitems__(range(4))


def test_contents_cannot_change_places(images: Path) -> None:
    (images / "cat" / "2.png").write_bytes(b"two")
    measure.measure(images, format="files")
    (images / "cat" / "2.png").write_bytes(b"one")
    (images / "cat" / "1.png").write_bytes(b"two")
    with pytest.raises(RecordError, match=r"'cat/2\.png'"):
        AttestedMmapDataset(images)[2]


def test_a_file_that_is_added_or_gone(images: Path) -> None:
    measure.measure(images, format="files")
    data = AttestedMmapDataset(images)
    (images / "new").write_bytes(b"x")
    with pytest.raises(ManifestError, match="another dataset's"):
        AttestedMmapDataset(images)
    (images / "cat" / "1.png").unlink()
    with pytest.raises(DataError, match=r"1\.png: record 1 cannot be read"):
        data[1]
    (images / "cat" / "1.png").symlink_to(images / "cat.txt")
    with pytest.raises(DataError, match=r"1\.png: record 1 cannot be read"):
        data[1]


def test_a_file_that_becomes_a_pipe(images: Path) -> None:
    data = AttestedMmapDataset(images, format="files")
    (images / "cat.txt").unlink()
    os.mkfifo(images / "cat.txt")
    with pytest.raises(DataError, match="expected a file of at most"):
        data[0]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: (folder / "a").symlink_to(folder / "cat.txt"), "a: is a link"),
        (lambda folder: (folder / "a").symlink_to(folder / "cat"), "a: is a link"),
        (lambda folder: os.mkfifo(folder / "cat" / "a"), "cat/a: is neither a file nor a folder"),
        (lambda folder: (folder / os.fsdecode(b"\xff")).write_bytes(b"x"), "is not UTF-8"),
    ],
)
def test_what_is_refused(images: Path, make: Callable[[Path], object], says: str) -> None:
    make(images)
    with pytest.raises(DataError, match=says):
        AttestedMmapDataset(images, format="files")


def test_folders_without_a_byte(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(DataError, match="no dataset files there"):
        AttestedMmapDataset(tmp_path, format="files")
    with pytest.raises(DataError, match="expected a folder"):
        AttestedMmapDataset(tmp_path / "empty", format="files")
    with pytest.raises(DataError, match="no rows of elements"):
        AttestedMmapDataset(tmp_path, format="files", record_length=3)


def test_folder_that_cannot_be_listed(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(DataError, match=r"images: cannot be read: Permission denied"):
        AttestedMmapDataset(images, format="files")


def test_names_and_files_that_are_too_long(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = AttestedMmapDataset(images, format="files")
    monkeypatch.setattr("palm_torch.commit.manifest.MAX_RECORD_BYTES", 2)
    with pytest.raises(DataError, match="expected a file of at most 2 bytes, got 3 bytes"):
        data[1]
    monkeypatch.setattr("palm_torch.commit.manifest.MAX_NAME_BYTES", 9)
    with pytest.raises(DataError, match="expected a name of at most 9 bytes"):
        AttestedMmapDataset(images, format="files")


def test_bytes_that_are_no_file_and_name() -> None:
    make = table.FORMATS["files"].decoder
    assert make is not None
    with pytest.raises(DataError):
        make(files.LAYOUT)(b"x")


def test_only_where_the_caller_names_the_format(images: Path) -> None:
    with pytest.raises(DataError, match="no dataset files"):
        AttestedMmapDataset(images)


def test_only_this_librarys_own_files_are_left_out(tmp_path: Path) -> None:
    names = [
        "a.palm-tree.txt",
        "b.palm-manifest.txt",
        "c",
        "x.palm-manifest",
        "y.palm-index",
        "z.palm-products",
    ]
    for name in names:
        (tmp_path / name).write_text("x")
    (tmp_path / "d.palm-index").mkdir()
    (tmp_path / "d.palm-index" / "e").write_text("x")
    data = AttestedMmapDataset(tmp_path, format="files")
    assert [data[at]["name"] for at in range(len(data))] == [*names[:3], "d.palm-index/e"]
