"""Records are left out of training, and coverage maps, manifests or proofs are exchanged to hide it."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

import pytest
import records_at_hand as at_hand
from workshop import put

from palm_torch.appraisal import coverage_maps
from palm_torch.appraisal.at_hand import Data, Held
from palm_torch.commit import coverage, coverage_file, manifest_file, records
from palm_torch.commit.coverage_proof import CoverageProof
from palm_torch.digest import Digest, sha256_digest
from palm_torch.errors import ArtifactError, BindingError, ClaimError, EvidenceError

if TYPE_CHECKING:
    from pathlib import Path

    from workshop import GoodRun

    from palm_torch.evidence import Bundle

USE = "claims.data.dataset1.uses.train"
TRUTH = bytes([4] + [2] * 8 + [0])
"""Record 9 was left out, and record 0 seen twice as often."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the map of the run lies, beside its evidence."""
    at_hand.write_manifest(tmp_path / "corpus.palm-manifest")
    coverage.write_sidecar(tmp_path / "run.dataset1.train.coverage", TRUTH, 1)
    return tmp_path / "run.dataset1.train.coverage"


def verify(good: GoodRun, bundle: Bundle, place: Path, **more: Any) -> Any:
    held = (("", Held(place.with_name("corpus.palm-manifest"))),)
    data = Data(datasets=held, evidence=place.with_name("run.palm.json"), **more)
    return good.verify(bundle, policy=good.policy({"claims.epochs": None}), data_at_hand=data)


def test_told_honestly_it_is_shown(good: GoodRun, place: Path) -> None:
    honest = good.sealed_end(USE, at_hand.delivered(TRUTH))
    assert "20 deliveries of 9 records" in verify(good, honest, place).checks[-1].detail


def test_a_nicer_map_beside_the_evidence(good: GoodRun, place: Path) -> None:
    honest = good.sealed_end(USE, at_hand.delivered(TRUTH))
    coverage.write_sidecar(place, bytes([2]) * 9 + b"\3", 1)
    with pytest.raises(ArtifactError, match="expected the coverage map"):
        verify(good, honest, place)
    with pytest.raises(ArtifactError, match="expected a coverage map of the evidence"):
        verify(good, honest, place, coverage=(place,))


def test_a_nicer_root_after_the_seal(good: GoodRun, place: Path) -> None:
    honest = good.sealed_end(USE, at_hand.delivered(TRUTH))
    nicer = bytes([3, 1] + [2] * 8)
    coverage.write_sidecar(place, nicer, 1)
    edited = good.with_end(put(good.end, USE, at_hand.delivered(nicer)).encode())
    with pytest.raises(BindingError):
        verify(good, dataclasses.replace(honest, end=edited.end), place)


@pytest.mark.parametrize("part", ["multiset", "counts"])
def test_code_that_seals_a_map_of_other_records(good: GoodRun, place: Path, part: str) -> None:
    """Only code that nobody reviewed could seal this: the map of one run, the product of another."""
    nicer = at_hand.delivered(bytes([3, 1] + [2] * 8))
    lie = good.sealed_end(USE, put(at_hand.delivered(TRUTH), part, getattr(nicer, part)))
    coverage.write_sidecar(place, TRUTH if part == "multiset" else bytes([3, 1] + [2] * 8), 1)
    with pytest.raises(ArtifactError, match="are not those of the sealed multiset hash"):
        verify(good, lie, place)


def test_code_that_seals_a_nicer_summary_than_its_map(good: GoodRun, place: Path) -> None:
    counts = dataclasses.replace(at_hand.delivered(TRUTH).counts, least=1, distinct=10)
    lie = good.sealed_end(USE, put(at_hand.delivered(TRUTH), "counts", counts))
    with pytest.raises(ClaimError, match="its own coverage map"):
        verify(good, lie, place)


def test_a_manifest_in_which_two_records_changed_places(good: GoodRun, place: Path) -> None:
    """Content is the same, so the multiset hash is; the indices that the map counts are not."""
    order = [9, *range(1, 9), 0]
    digests = b"".join(at_hand.DIGESTS[index * 32 : index * 32 + 32] for index in order)
    root = manifest_file.groups_root(records.group_digests(digests))
    other = dataclasses.replace(at_hand.MANIFEST, digests_root=root)
    at_hand.write_manifest(place.with_name("corpus.palm-manifest"), other, digests)
    honest = good.sealed_end(USE, at_hand.delivered(TRUTH))
    with pytest.raises(ArtifactError, match=r"this manifest|is not the manifest of"):
        verify(good, honest, place)
    unnamed = good.sealed_end(
        "claims.data.dataset1",
        lambda data: dataclasses.replace(data, manifest=None, uses={"train": at_hand.delivered(TRUTH)}),
    )
    held = Data(
        datasets=(("", Held(place.with_name("corpus.palm-manifest"))),),
        evidence=place.with_name("run.palm.json"),
    )
    with pytest.raises(ArtifactError, match="are not those of the sealed multiset hash"):
        good.verify(
            unnamed, policy=good.policy({"claims.epochs": None, "claims.data": ["none"]}), data_at_hand=held
        )


def test_a_map_that_is_exchanged_between_two_readings(
    good: GoodRun, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The map that was recognised by its root is another one when its counts are taken."""
    honest = good.sealed_end(USE, at_hand.delivered(TRUTH))
    genuine = coverage_maps.recognised

    def exchanging(*words: Any) -> Any:
        found = genuine(*words)
        coverage.write_sidecar(place, bytes([2]) * 9 + b"\3", 1)
        return found

    monkeypatch.setattr(coverage_maps, "recognised", exchanging)
    with pytest.raises(ArtifactError, match="expected the coverage map"):
        verify(good, honest, place, coverage=(place,))


def test_a_map_that_is_rewritten_while_it_is_read(
    good: GoodRun, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = good.sealed_end(USE, at_hand.delivered(TRUTH))
    genuine, calls = coverage_file.CoverageFile.take, itertools.count()

    def rewriting(file: coverage_file.CoverageFile, number: int) -> bytes:
        if next(calls) == 0:
            with place.open("r+b") as stream:
                stream.seek(-1, 2)
                stream.write(b"\2")
        return genuine(file, number)

    monkeypatch.setattr(coverage_file.CoverageFile, "take", rewriting)
    try:
        detail = verify(good, honest, place).checks[-1].detail
    except ArtifactError as error:
        assert "expected the coverage map" in str(error)  # noqa: PT017 (either is right)
    else:
        assert "20 deliveries of 9 records" in detail  # the bytes had been read already


def test_a_proof_of_another_run_or_record(good: GoodRun, place: Path) -> None:
    honest = good.sealed_end(USE, at_hand.delivered(TRUTH))
    nicer = bytes([3, 1] + [2] * 8)

    def refused(
        told: bytes,
        named: bytes,
        index: int = 9,
        error: Any = ArtifactError,
        says: str | None = None,
        of: Digest | None = at_hand.MANIFEST.digest,
    ) -> None:
        shown, root = coverage.inclusion(told, 1, index), coverage.coverage_root(named, 1)
        proof = CoverageProof.of(shown, dataset="dataset1", manifest=of, use="train", root=root)
        path = place.with_name("proof.json")
        path.write_bytes(proof.encode())
        with pytest.raises(error, match=says):
            verify(good, honest, place, inclusions=(path,))

    for other in (None, sha256_digest(b"a manifest in which record 9 is another one")):
        refused(TRUTH, TRUTH, says="expected the manifest .* as the evidence says", of=other)
    refused(nicer, nicer)
    refused(nicer, TRUTH)
    refused(TRUTH + b"\1", TRUTH, 10, EvidenceError)
