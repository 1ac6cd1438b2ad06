"""A folder of files is open, and a folder in it is exchanged for a link to other files of the same names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from palm_torch.data import measure
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.formats import files, table
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for folder, content in (("images/cat/deep", b"meow"), ("elsewhere/deep", b"woof")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "1.png").write_bytes(content)
    return tmp_path / "images"


@pytest.mark.parametrize("manifest", ["auto", None])
@pytest.mark.parametrize(("link", "to"), [("cat", "elsewhere"), ("cat/deep", "elsewhere/deep")])
def test_link_in_the_place_of_a_folder(
    images: Path, tmp_path: Path, link: str, to: str, manifest: str | None
) -> None:
    measure.measure(images, format="files")
    data = AttestedMmapDataset(images, format="files", manifest=manifest)
    assert data[0] == {"name": "cat/deep/1.png", "content": b"meow"}
    (images / link).rename(tmp_path / "away")
    (images / link).symlink_to(tmp_path / to)
    with pytest.raises(DataError, match=r"1\.png: record 0 cannot be read: "):
        data[0]
    with pytest.raises(DataError, match="is a link, and links are not followed"):
        measure.measure(images, format="files")


def test_the_folder_itself_is_the_one_that_was_opened(images: Path, tmp_path: Path) -> None:
    data = AttestedMmapDataset(images, format="files", manifest=None)
    images.rename(tmp_path / "away")
    (tmp_path / "images/cat/deep").mkdir(parents=True)
    (tmp_path / "images/cat/deep/1.png").write_bytes(b"woof")
    assert data[0] == {"name": "cat/deep/1.png", "content": b"meow"}


def test_link_put_there_while_the_folder_is_listed(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = files._place

    def exchanging(folder: Path, prefix: str, entry: object) -> bytes:
        found = place(folder, prefix, entry)  # type: ignore[arg-type]
        if found == b"cat/":
            (images / "cat").rename(tmp_path / "away")
            (images / "cat").symlink_to(tmp_path / "elsewhere")
        return found

    monkeypatch.setattr(files, "_place", exchanging)
    with pytest.raises(DataError, match="cannot be read: "):
        files.open_files(images, table.Wanted())
