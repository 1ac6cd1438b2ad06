"""The proof of one record's count as a file: written, read, checked, and no bit of it changed."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
import records_at_hand as at_hand

from palm_torch.commit import coverage, coverage_proof
from palm_torch.commit.coverage_proof import CoverageProof
from palm_torch.digest import TAGGED_SHA256, Digest, sha256_digest
from palm_torch.errors import ArtifactError, EvidenceError, InputError, RejectedError

if TYPE_CHECKING:
    from pathlib import Path

DATASET = at_hand.make_train().data["dataset1"]
COUNTS = bytes([1, 0, 3]) + bytes(at_hand.RECORDS - 3)


def proof(index: int = 2, **changes: Any) -> CoverageProof:
    shown = coverage.inclusion(COUNTS, 1, index)
    root = coverage.coverage_root(COUNTS, 1)
    made = CoverageProof.of(shown, dataset="dataset1", manifest=DATASET.manifest, use="eval", root=root)
    return dataclasses.replace(made, **changes)


@pytest.mark.parametrize("index", [0, 1, 2, 9])
def test_the_count_of_a_record(tmp_path: Path, index: int) -> None:
    (tmp_path / "p.json").write_bytes(proof(index).encode())
    found = coverage_proof.read(tmp_path / "p.json")
    assert found == proof(index)
    assert found.check(DATASET) == COUNTS[index]


UNNAMED = dataclasses.replace(DATASET, manifest=None)


def test_the_count_of_a_record_that_no_manifest_numbers() -> None:
    assert DATASET.manifest is not None
    assert proof(manifest=None).check(UNNAMED) == COUNTS[2]


STREAM = dataclasses.replace(
    DATASET,
    records=None,
    manifest=None,
    uses={"eval": dataclasses.replace(DATASET.uses["eval"], counts=None)},
)


@pytest.mark.parametrize(
    ("bent", "dataset", "message"),
    [
        (proof(use="train"), DATASET, "expected the coverage root"),
        (proof(), dataclasses.replace(DATASET, uses={}), "says nothing of eval"),
        (proof(root=Digest(TAGGED_SHA256, bytes(32))), DATASET, "of another run"),
        (proof(leaf=bytes(40)), DATASET, "expected root"),
        (proof(manifest=sha256_digest(b"another")), DATASET, "expected the manifest sha256:.*other numbers"),
        (proof(manifest=None), DATASET, "as the evidence says, got none: its records have other numbers"),
        (proof(), UNNAMED, "expected the manifest none, as the evidence says, got sha256:"),
        (proof(manifest=None), STREAM, "a stream"),
    ],
)
def test_a_proof_of_something_else(bent: CoverageProof, dataset: Any, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        bent.check(dataset)


@pytest.mark.parametrize("changes", [{"index": 10}, {"index": -1}, {"records": 11}, {"proof": (bytes(32),)}])
def test_a_proof_that_cannot_be(changes: Any) -> None:
    with pytest.raises(EvidenceError):
        proof(**changes).check(DATASET)


def test_every_bit_counts() -> None:
    good = proof().encode()
    for at in range(len(good) * 8):
        bent = bytearray(good)
        bent[at // 8] ^= 1 << at % 8
        try:
            changed = coverage_proof.decode(bytes(bent), what="proof")
            count = changed.check(DATASET)
        except (InputError, RejectedError):
            continue
        assert (changed.dataset, changed.index) != ("dataset1", 2)  # it speaks of another record, rightly
        assert count == COUNTS[changed.index]


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", proof().encode() + b"\n", b"\xff"])
def test_what_is_no_proof(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "p.json").write_bytes(data)
    with pytest.raises(EvidenceError):
        coverage_proof.read(tmp_path / "p.json")
    with pytest.raises(EvidenceError, match="cannot read the proof"):
        coverage_proof.read(tmp_path / "missing.json")
