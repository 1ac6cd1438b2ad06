"""The proof that a record is in a dataset: found, written, read, checked, and no bit of it changed."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any

import pytest
import records_at_hand as at_hand

from palm_torch.commit import manifest, manifest_file, multiset, record_proof, records
from palm_torch.digest import sha256_digest
from palm_torch.errors import ArtifactError, DataError, InputError, ManifestError, RejectedError
from palm_torch.roles import Multiset

if TYPE_CHECKING:
    from pathlib import Path


def dataset(folder: Path, size: int, *, repeat: int = 10**9) -> tuple[Path, manifest.Manifest, bytes]:
    """Writes a manifest of that many records; record n is that of n modulo `repeat`."""
    digests = b"".join(hashlib.sha256(b"%d" % (number % repeat)).digest() for number in range(size))
    hashed = multiset.MultisetHash()
    header = dataclasses.replace(
        at_hand.MANIFEST,
        records=size,
        shards=(manifest.Shard("a.bin", size * at_hand.RECORD_BYTES, size, None),),
        digests_root=manifest_file.groups_root(records.group_digests(digests)),
        multiset=Multiset(scheme=hashed.parameters.name, count=size, state=hashed.state.hex()),
    )
    return at_hand.write_manifest(folder / "a.palm-manifest", header, digests), header, digests


@pytest.mark.parametrize("size", [1, 63, 64, 65, 40_000])
def test_a_record_by_its_number(tmp_path: Path, size: int) -> None:
    path, header, digests = dataset(tmp_path, size)
    for index in {0, size // 2, size - 1}:
        search = record_proof.Search(index=index)
        proof = search.read(path)
        assert proof is not None
        assert (search.found, search.count) == ([index], 1)
        (tmp_path / "p.json").write_bytes(proof.encode())
        proven = record_proof.check(record_proof.read(tmp_path / "p.json"), header.digest)
        assert (proven.manifest, proven.index) == (header, index)
        assert proven.digest == digests[index * 32 : index * 32 + 32]
    assert record_proof.Search(index=size).read(path) is None


def test_a_record_by_its_digest(tmp_path: Path) -> None:
    path, header, digests = dataset(tmp_path, 40_000, repeat=150)
    search = record_proof.Search(digest=digests[149 * 32 : 150 * 32])
    proof = search.read(path)
    assert proof is not None
    assert search.found == list(range(149, 40_000, 150))[: search.MOST]
    assert search.count == len(range(149, 40_000, 150))
    assert record_proof.check(proof, header.digest).index == 149
    assert record_proof.Search(digest=bytes(32)).read(path) is None


def test_a_digest_that_lies_across_two_is_no_record(tmp_path: Path) -> None:
    path, _, digests = dataset(tmp_path, 3)
    assert record_proof.Search(digest=digests[16:48]).read(path) is None


def test_a_manifest_whose_digests_are_not_its_own_proves_nothing(tmp_path: Path) -> None:
    path, _, digests = dataset(tmp_path, 70)
    path.write_bytes(path.read_bytes().replace(digests[:32], bytes(32)))
    with pytest.raises(ManifestError, match="do not lead to the header's root"):
        record_proof.Search(index=1).read(path)


def test_digests_that_come_in_other_pieces_than_groups_are_refused() -> None:
    search = record_proof.Search(index=1)
    search._look(bytes(32))
    with pytest.raises(ManifestError, match="other than whole groups"):
        search._look(bytes(32))


@pytest.fixture
def proof(tmp_path: Path) -> Any:
    path, header, _ = dataset(tmp_path, 200)
    return record_proof.Search(index=130).read(path), header.digest


def test_a_proof_for_other_data(proof: Any) -> None:
    shown, _ = proof
    with pytest.raises(ArtifactError, match="it is of other data"):
        record_proof.check(shown, at_hand.MANIFEST.digest)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"index": 200}, DataError),
        ({"index": -1}, DataError),
        ({"index": 3}, ArtifactError),
        ({"group": bytes(2048)}, ArtifactError),
        ({"group": b""}, DataError),
        ({"proof": ()}, InputError),
        ({"proof": (bytes(32),) * 3}, InputError),
    ],
)
def test_a_proof_of_something_else(proof: Any, changes: Any, error: type[Exception]) -> None:
    shown, digest = proof
    with pytest.raises(error):
        record_proof.check(dataclasses.replace(shown, **changes), digest)


def test_a_header_that_is_none(proof: Any) -> None:
    shown, _ = proof
    with pytest.raises(ManifestError):
        record_proof.check(dataclasses.replace(shown, header=b"{}"), sha256_digest(b"{}"))


def test_every_byte_counts(proof: Any) -> None:
    shown, digest = proof
    good, expected = shown.encode(), record_proof.check(shown, digest)
    for at in range(len(good)):
        bent = bytearray(good)
        bent[at] ^= 1
        try:
            found = record_proof.check(record_proof.decode(bytes(bent), what="proof"), digest)
        except (InputError, RejectedError):
            continue
        assert found.index != expected.index, at  # another record of the group, which is proven too
        assert found.index // 64 == 130 // 64


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff"])
def test_what_is_no_proof(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "p.json").write_bytes(data)
    with pytest.raises(DataError):
        record_proof.read(tmp_path / "p.json")
    with pytest.raises(DataError, match="cannot read the proof"):
        record_proof.read(tmp_path / "missing.json")
