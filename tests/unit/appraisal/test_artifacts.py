"""Files at hand: the right one is accepted, every other one is named."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
import records_at_hand as at_hand
import workshop
from workshop import put

from palm_torch.appraisal import artifacts
from palm_torch.digest import sha256_digest
from palm_torch.errors import ArtifactError, DataError, ManifestError

if TYPE_CHECKING:
    from pathlib import Path

    from workshop import GoodRun

GOOD = workshop.make_statement("run")
USES = "claims.data.dataset1.uses"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return at_hand.write_manifest(tmp_path / "corpus.palm-manifest")


def test_the_weights_of_the_evidence(tmp_path: Path) -> None:
    artifacts.compare("model", at_hand.write_safetensors(tmp_path / "m.safetensors", at_hand.AFTER), GOOD)
    artifacts.compare("initial", at_hand.write_safetensors(tmp_path / "i.safetensors", at_hand.BEFORE), GOOD)


def test_weights_swapped_after_training(good: GoodRun, tmp_path: Path) -> None:
    path = at_hand.write_safetensors(tmp_path / "model.safetensors", at_hand.BEFORE)
    with pytest.raises(ArtifactError, match=r"body\.weight"):
        good.verify(files={"model": path})
    path = at_hand.write_safetensors(tmp_path / "model.safetensors", at_hand.AFTER)
    assert good.verify(files={"model": path}).checks[-1].detail == f"{path} is the model of the evidence"


@pytest.mark.parametrize("role", ["data", "data.dataset1"])
def test_the_manifest_of_the_evidence(manifest: Any, role: str) -> None:
    artifacts.compare(role, manifest, GOOD)


def test_with_two_datasets_the_role_says_which(manifest: Any) -> None:
    dataset = GOOD.claims.data["dataset1"]
    other = dataclasses.replace(dataset, manifest=sha256_digest(b"another"))
    two = put(GOOD, "claims.data", {"dataset1": dataset, "dataset2": other})
    artifacts.compare("data.dataset1", manifest, two)
    with pytest.raises(ArtifactError, match=r"is not the manifest of data\.dataset2"):
        artifacts.compare("data.dataset2", manifest, two)
    with pytest.raises(ArtifactError, match="no role 'data'"):
        artifacts.compare("data", manifest, two)


def test_a_manifest_of_other_data(tmp_path: Path) -> None:
    changed = dataclasses.replace(at_hand.MANIFEST, dtype="int16")
    path = at_hand.write_manifest(tmp_path / "m.palm-manifest", changed)
    with pytest.raises(ArtifactError, match="is not the manifest of data"):
        artifacts.compare("data", path, GOOD)


def test_a_manifest_whose_record_digests_are_not_its_own(tmp_path: Path) -> None:
    path = at_hand.write_manifest(tmp_path / "m.palm-manifest", digests=bytes(len(at_hand.DIGESTS)))
    with pytest.raises(ManifestError, match="do not lead to the header's root"):
        artifacts.compare("data", path, GOOD)


@pytest.mark.parametrize(("field", "value"), [("records", 9), ("record_bytes", 8)])
def test_numbers_that_are_not_those_of_the_manifest(manifest: Any, field: Any, value: Any) -> None:
    with pytest.raises(ArtifactError, match="10 records of 16 bytes, not those of data"):
        artifacts.compare("data", manifest, put(GOOD, f"claims.data.dataset1.{field}", value))


def unnamed(uses: dict[str, Any]) -> Any:
    return put(put(GOOD, "claims.data.dataset1.manifest", None), USES, uses)


def test_without_a_manifest_in_the_evidence_whole_epochs_bind(manifest: Any) -> None:
    artifacts.compare("data", manifest, unnamed({"train": at_hand.delivered(bytes([3]) * 10)}))
    other = at_hand.delivered(bytes([3]) * 9 + bytes([4]))
    claimed = put(put(other, "counts.least", 3), "counts.greatest", 3)
    with pytest.raises(ArtifactError, match="3 whole epochs of it are not what data delivered for train"):
        artifacts.compare("data", manifest, unnamed({"train": claimed}))


@pytest.mark.parametrize(
    "uses",
    [{}, {"eval": at_hand.delivered(bytes([1, 0] * 5))}, {"train": at_hand.delivered(bytes(10))}],
    ids=["no use", "part of an epoch", "nothing delivered"],
)
def test_with_nothing_to_compare_nothing_is_said_to_match(manifest: Any, uses: Any) -> None:
    with pytest.raises(ArtifactError, match="cannot be compared"):
        artifacts.compare("data", manifest, unnamed(uses))


def test_files_known_by_their_digest(good: GoodRun, tmp_path: Path) -> None:
    for role, content in (("recipe", b"recipe"), ("log", b"log"), ("architecture", b"architecture")):
        path = tmp_path / role
        path.write_bytes(content)
        assert good.verify(files={role: path}).checks[-1].name == "artifact"
        path.write_bytes(content + b"\n")
        with pytest.raises(ArtifactError, match=f"is not the {role} of the evidence: expected sha256:"):
            good.verify(files={role: path})


@pytest.mark.parametrize(
    "role",
    [
        "model",
        "model.dataset1",
        "model.",
        "nothing",
        "",
        ".",
        "data.",
        "data.dataset2",
        "OUTPUTS",
        "seeds",
        "run",
    ],
)
def test_a_role_the_evidence_does_not_have(good: GoodRun, tmp_path: Path, role: str) -> None:
    end = put(good.end, "claims.model", None) if role == "model" else good.end
    with pytest.raises(ArtifactError, match="has no role"):
        artifacts.compare(role, tmp_path / "any", end)


def test_a_role_the_evidence_left_empty(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="tokenizer: the evidence says there was none"):
        artifacts.compare("tokenizer", tmp_path / "tokenizer.json", GOOD)


@pytest.mark.parametrize("role", ["model", "data", "recipe"])
def test_a_file_that_is_not_there_is_bad_input(tmp_path: Path, role: str) -> None:
    with pytest.raises(DataError, match="cannot be"):
        artifacts.compare(role, tmp_path / "missing.safetensors", GOOD)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        artifacts.compare("recipe", tmp_path, GOOD)


# files at hand: several uses of one dataset, and what a manifest may and may not leave out


PART = at_hand.delivered(bytes([1]) + bytes(at_hand.RECORDS - 1))
ANOTHER = put(at_hand.delivered(bytes([2]) * (at_hand.RECORDS - 1) + bytes([3])), "counts.greatest", 2)


def test_a_manifest_that_is_named_needs_no_whole_epoch(manifest: Any) -> None:
    artifacts.compare("data", manifest, put(GOOD, USES, {"eval": PART}))
    artifacts.compare("data", manifest, put(GOOD, USES, {}))


@pytest.mark.parametrize("named", [True, False])
def test_every_use_is_compared_also_after_one_that_cannot_be(manifest: Any, named: Any) -> None:
    end = put(GOOD, USES, {"eval": PART, "train": ANOTHER})
    if not named:
        end = put(end, "claims.data.dataset1.manifest", None)
    with pytest.raises(ArtifactError, match="2 whole epochs of it are not what data delivered for train"):
        artifacts.compare("data", manifest, end)


def test_an_unsalted_manifest_that_is_named_is_taken_by_its_digest(tmp_path: Path) -> None:
    shard = dataclasses.replace(at_hand.MANIFEST.shards[0], sha256=None)
    salted = dataclasses.replace(at_hand.MANIFEST, salted=True, shards=(shard,))
    path = at_hand.write_manifest(tmp_path / "corpus.palm-manifest", salted)
    artifacts.compare("data", path, put(GOOD, "claims.data.dataset1.manifest", salted.digest))


def test_a_folder_is_told_from_the_manifest_in_it(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        artifacts.compare("data", tmp_path, GOOD)
    assert str(caught.value) == f"{tmp_path}: a folder; its manifest is {tmp_path / 'manifest.palm-manifest'}"
