"""Everything at hand, through the verifier: which dataset is meant, maps by their root, proofs of counts."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
import records_at_hand as at_hand
import workshop
from workshop import put

from palm_torch.appraisal import coverage_maps, files_at_hand
from palm_torch.appraisal.at_hand import NO_FILE, Data, Held
from palm_torch.commit import coverage
from palm_torch.commit.coverage_proof import CoverageProof
from palm_torch.digest import sha256_digest
from palm_torch.errors import ArtifactError, BindingError, EvidenceError

if TYPE_CHECKING:
    from pathlib import Path

    from workshop import GoodRun

GOOD = workshop.make_statement("run")
PART = bytes([1, 0, 3]) + bytes(at_hand.RECORDS - 3)
DATASET = GOOD.claims.data["dataset1"]
OTHER = dataclasses.replace(DATASET, manifest=sha256_digest(b"another"))


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return at_hand.write_manifest(tmp_path / "corpus.palm-manifest")


@pytest.fixture
def map_(tmp_path: Path) -> Path:
    coverage.write_sidecar(tmp_path / "some map", PART, 1)
    return tmp_path / "some map"


def write_proof(path: Path, index: int = 2, **changes: Any) -> Path:
    shown, root = coverage.inclusion(PART, 1, index), coverage.coverage_root(PART, 1)
    proof = CoverageProof.of(
        shown, dataset="dataset1", manifest=at_hand.MANIFEST.digest, use="eval", root=root
    )
    path.write_bytes(dataclasses.replace(proof, **changes).encode())
    return path


def compared(end: Any, held: Data, **files: Path) -> tuple[list[tuple[str, str]], list[str]]:
    checks: list[Any] = []
    left_open: list[str] = []
    files_at_hand.compare(end, files, held, checks=checks, left_open=left_open)
    return [(check.name, check.detail) for check in checks], left_open


def test_the_verifier_says_what_was_established(good: GoodRun, manifest: Path, map_: Path) -> None:
    without = good.verify()
    proof = write_proof(manifest.with_name("proof.json"))
    data = Data(datasets=(("", Held(manifest)),), coverage=(map_,), inclusions=(proof,))
    result = good.verify(data_at_hand=data)
    assert [check.name for check in result.checks[len(without.checks) :]] == ["dataset", "inclusion"]
    assert f"as often as {map_} says" in result.checks[-2].detail
    assert result.checks[-1].detail == (
        "record 2 of dataset1 was delivered 3 times for eval; "
        f"manifest: {at_hand.MANIFEST.digest}, which numbers the records"
    )
    assert NO_FILE in without.not_checked
    assert NO_FILE not in result.not_checked
    assert result.tier == without.tier


def test_artifact_and_dataset_are_one_road(manifest: Path, map_: Path) -> None:
    by_dataset, left = compared(GOOD, Data(datasets=(("data", Held(manifest)),), coverage=(map_,)))
    by_artifact, also = compared(GOOD, Data(coverage=(map_,)), data=manifest)
    assert [name for name, _ in by_artifact] == ["artifact"]
    assert by_artifact[0][1].replace("of data;", "of data.dataset1;") == by_dataset[0][1]
    assert left == also


@pytest.mark.parametrize("role", ["", "data", "data.dataset1"])
def test_the_role_or_the_manifest_says_which_dataset(manifest: Path, role: str) -> None:
    ((_, detail),), _ = compared(GOOD, Data(datasets=((role, Held(manifest)),)))
    assert detail.startswith(f"{manifest} is the manifest of data.dataset1")


def test_of_several_datasets_the_manifest_is_the_name(manifest: Path) -> None:
    two = put(GOOD, "claims.data", {"a": OTHER, "b": DATASET})
    ((_, detail),), _ = compared(two, Data(datasets=(("", Held(manifest)),)))
    assert "is the manifest of data.b" in detail
    for role in ("data", "data.c", "model"):
        with pytest.raises(
            ArtifactError, match=rf"no dataset of the role '{role}'; it has data\.a \(sha256:"
        ):
            compared(two, Data(datasets=((role, Held(manifest)),)))
    neither = put(GOOD, "claims.data", {"a": OTHER, "b": OTHER})
    with pytest.raises(ArtifactError, match="no dataset of this manifest"):
        compared(neither, Data(datasets=(("", Held(manifest)),)))
    none = put(GOOD, "claims.data", {})
    with pytest.raises(ArtifactError, match="it has none"):
        compared(none, Data(datasets=(("", Held(manifest)),)))


def test_one_manifest_that_was_opened_twice_is_compared_twice(manifest: Path) -> None:
    two = put(GOOD, "claims.data", {"a": DATASET, "b": DATASET})
    checks, _ = compared(two, Data(datasets=(("", Held(manifest)),)))
    assert len(checks) == 2


def test_a_map_that_is_none_of_the_evidence(manifest: Path, tmp_path: Path) -> None:
    coverage.write_sidecar(tmp_path / "map", bytes([1] * 9 + [7]), 1)
    data = Data(datasets=(("", Held(manifest)),), coverage=(tmp_path / "map",))
    with pytest.raises(
        ArtifactError, match=r"expected a coverage map of the evidence \(data\.dataset1, train"
    ):
        compared(GOOD, data)


def test_maps_beside_the_evidence_have_its_name(tmp_path: Path) -> None:
    for name in ("run.palm.json", "run.simulated.palm.json"):
        maps = coverage_maps.Maps(evidence=tmp_path / name)
        assert maps.place("corpus", "train") == tmp_path / "run.corpus.train.coverage"
    assert coverage_maps.Maps(evidence=tmp_path / "run.palm.json").place("../x", "train") is None
    assert coverage_maps.Maps(evidence=tmp_path / "run.palm.json").place("a\0b", "train") is None
    assert coverage_maps.Maps().place("corpus", "train") is None


def test_a_map_that_was_handed_in_goes_before_one_beside(tmp_path: Path, map_: Path) -> None:
    root = coverage.coverage_root(PART, 1)
    (tmp_path / "run.dataset1.eval.coverage").write_bytes(b"no map at all")
    maps = coverage_maps.recognised((map_,), tmp_path / "run.palm.json", GOOD)
    assert maps.find("dataset1", "eval", root) == map_


def test_a_proof_for_another_dataset_or_run(good: GoodRun, tmp_path: Path) -> None:
    for changes, error in (
        ({"dataset": "dataset2"}, ArtifactError),
        ({"use": "train"}, ArtifactError),
        ({"leaf": bytes(40)}, ArtifactError),
        ({"records": 9}, EvidenceError),
    ):
        path = write_proof(tmp_path / "proof.json", **changes)
        with pytest.raises(error):
            good.verify(data_at_hand=Data(inclusions=(path,)))


def test_a_proof_is_worth_what_the_evidence_is_worth(good: GoodRun, tmp_path: Path) -> None:
    forged = good.with_end(put(good.end, "claims.data.dataset1.uses.train.counts.greatest", 3).encode())
    with pytest.raises(BindingError):
        good.verify(forged, data_at_hand=Data(inclusions=(write_proof(tmp_path / "proof.json"),)))
