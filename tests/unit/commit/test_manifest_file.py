"""The file of a manifest: opened or read, it is whole and leads to the root in its header, or is refused."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

import pytest
import records_at_hand as at_hand

from palm_torch.commit import manifest_file, records
from palm_torch.errors import ManifestError

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 70
"""Records: more than one group of them."""

DIGESTS = b"".join(records.record_digest(bytes([number])) for number in range(COUNT))
HEADER = dataclasses.replace(
    at_hand.MANIFEST,
    records=COUNT,
    shards=(dataclasses.replace(at_hand.MANIFEST.shards[0], records=COUNT, bytes=COUNT * 16),),
    digests_root=manifest_file.groups_root(records.group_digests(DIGESTS)),
    multiset=dataclasses.replace(at_hand.MANIFEST.multiset, count=COUNT),
)


def whole() -> bytes:
    return manifest_file.head(HEADER) + DIGESTS


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_round_trip(tmp_path: Path) -> None:
    with manifest_file.ManifestFile.open(write(tmp_path / "m", whole())) as file:
        assert file.manifest == HEADER
        assert file.manifest.digest == HEADER.digest
        assert file.offset % 64 == 0
        assert file.mapping[file.offset :] == DIGESTS
        assert file.group_digests() == records.group_digests(DIGESTS)
    assert file.mapping.closed


MALFORMED = {
    "empty": b"",
    "another file": b"\x93NUMPY" + bytes(100),
    "magic alone": manifest_file.MAGIC,
    "version in the magic": whole().replace(b" v1\n", b" v2\n", 1),
    "cut in the header": whole()[:200],
    "cut in the digests": whole()[:-1],
    "digest missing": whole()[:-32],
    "longer": whole() + b"\0",
    "header length beyond the limit": manifest_file.MAGIC + b"\xff\xff\xff\xff" + bytes(100),
    "header length beyond the file": manifest_file.MAGIC + b"\x00\x0f\xff\xff" + bytes(100),
    "padding not zero": whole().replace(b'"version":1}\0', b'"version":1}\1', 1),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "m", MALFORMED[name])
    for reader in (manifest_file.ManifestFile.open, manifest_file.read):
        with pytest.raises(ManifestError, match=re.escape(str(path))):
            reader(path)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="nowhere"):
        manifest_file.ManifestFile.open(tmp_path / "nowhere")


def test_the_header_alone(tmp_path: Path) -> None:
    """Only the array is left out of account: what stands before it is as strict."""
    assert manifest_file.read_header(write(tmp_path / "m", manifest_file.head(HEADER))) == HEADER
    for content in (b"", MALFORMED["padding not zero"], MALFORMED["cut in the header"]):
        with pytest.raises(ManifestError):
            manifest_file.read_header(write(tmp_path / "m", content))
    with pytest.raises(ManifestError, match="cannot be read"):
        manifest_file.read_header(tmp_path / "nowhere")


@pytest.mark.parametrize("at", [1, 7 * 32, COUNT * 32])
def test_changed_digest_is_not_under_the_root(tmp_path: Path, at: int) -> None:
    content = bytearray(whole())
    content[-at] ^= 1
    with (
        manifest_file.ManifestFile.open(write(tmp_path / "m", bytes(content))) as file,
        pytest.raises(ManifestError, match="root"),
    ):
        file.group_digests()


def test_read_gives_the_header_and_every_digest(tmp_path: Path) -> None:
    digests = bytearray()
    assert manifest_file.read(write(tmp_path / "m", whole()), each=digests.extend) == HEADER
    assert digests == DIGESTS
    assert manifest_file.read(tmp_path / "m") == HEADER


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (whole()[:-1], "truncated"),
        (whole()[:-32], "truncated"),
        (whole() + b"\0", "extended"),
        (whole()[:-1] + b"\0", "root"),
        (manifest_file.head(HEADER), "truncated"),
        (manifest_file.MAGIC, "truncated"),
    ],
)
def test_read_of_another_array(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(ManifestError, match=says):
        manifest_file.read(write(tmp_path / "m", content))


def test_read_of_what_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(ManifestError, match="cannot be read"):
            manifest_file.read(path)
