"""The host cuts a manifest short while the verifier reads it: an error in words, where a mapping dies."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import records_at_hand as at_hand

from palm_torch.commit import manifest_file, records
from palm_torch.errors import ManifestError

if TYPE_CHECKING:
    from pathlib import Path

RECORDS = 100_000
"""Their digests fill hundreds of pages, and several of the pieces in which a manifest is read."""


@pytest.fixture
def large(tmp_path: Path) -> Path:
    digests = b"".join(map(records.record_digest, (b"one", b"other"))) * (RECORDS // 2)
    good = at_hand.MANIFEST
    header = dataclasses.replace(
        good,
        records=RECORDS,
        shards=(dataclasses.replace(good.shards[0], records=RECORDS, bytes=RECORDS * good.record_bytes),),
        digests_root=manifest_file.groups_root(records.group_digests(digests)),
        multiset=dataclasses.replace(good.multiset, count=RECORDS),
    )
    return at_hand.write_manifest(tmp_path / "large", header, digests)


def test_the_host_cuts_the_manifest(large: Path) -> None:
    assert manifest_file.read(large).records == RECORDS
    half = large.stat().st_size // 2

    def cut(_digests: bytes) -> None:
        os.truncate(large, half)

    with pytest.raises(ManifestError, match="truncated or extended"):
        manifest_file.read(large, each=cut)


def test_twin_a_mapping_of_it_kills_the_process(large: Path) -> None:
    program = (
        "import os, pathlib, sys\n"
        "from palm_torch.commit.manifest_file import ManifestFile\n"
        "file = ManifestFile.open(pathlib.Path(sys.argv[1]))\n"
        "os.truncate(sys.argv[1], 4096)\n"
        "file.group_digests()\n"
    )
    died = subprocess.run([sys.executable, "-c", program, large], check=False).returncode
    assert died == -signal.SIGBUS


def test_the_host_rewrites_what_was_read(large: Path) -> None:
    """There is no second look at the file: what was handed on is what was hashed."""
    original, seen = large.read_bytes(), bytearray()

    def rewrite(digests: bytes) -> None:
        seen.extend(digests)
        large.write_bytes(original[: -len(digests)] + bytes(len(digests)))

    with pytest.raises(ManifestError, match="root"):
        manifest_file.read(large, each=rewrite)
    assert len(seen) == RECORDS * records.DIGEST_BYTES
