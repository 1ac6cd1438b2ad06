"""A manifest and coverage maps at hand against what was delivered: what they establish, and what not."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
import records_at_hand as at_hand
import workshop
from workshop import put

from palm_torch.appraisal import coverage_maps, datasets_at_hand
from palm_torch.appraisal.at_hand import Held
from palm_torch.commit import coverage, records
from palm_torch.errors import ArtifactError, ClaimError, DataError, EvidenceError, InputError

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.appraisal.datasets_at_hand import Compared
    from palm_torch.roles import Dataset

GOOD = workshop.make_statement("run").claims.data["dataset1"]
ROLE = "data.dataset1"
PART = bytes([1, 0, 3]) + bytes(at_hand.RECORDS - 3)
SAMPLINGS = {
    "a part of an epoch": bytes([1] * 7 + [0] * 3),
    "an epoch and a half": bytes([2, 1] * 5),
    "with replacement": bytes([0, 3, 1, 1, 0, 2, 0, 1, 1, 1]),
    "weighted": bytes([200, 100, 50, 1, 0, 0, 0, 0, 0, 9]),
    "drop_last over three epochs": bytes([3, 3, 3, 3, 3, 3, 3, 2, 2, 2]),
}


class AtHand:
    """The records of the good run, some of which may have changed."""

    def __init__(self, changed: int | None = None) -> None:
        self.asked: list[int] = []
        self.changed = changed

    def digest(self, number: int) -> bytes:
        self.asked.append(number)
        start = number * at_hand.RECORD_BYTES
        content = at_hand.CONTENT[start : start + at_hand.RECORD_BYTES]
        return records.record_digest(content if number != self.changed else content[::-1])

    def where(self, number: int) -> str:
        return f"record {number} on a disk"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return at_hand.write_manifest(tmp_path / "corpus.palm-manifest")


@pytest.fixture
def maps(tmp_path: Path) -> coverage_maps.Maps:
    """The maps of the good run, beside its evidence."""
    coverage.write_sidecar(tmp_path / "run.dataset1.eval.coverage", PART, 1)
    return coverage_maps.Maps(evidence=tmp_path / "run.simulated.palm.json")


def dataset(**uses: bytes) -> Dataset:
    return dataclasses.replace(GOOD, uses={use: at_hand.delivered(counts) for use, counts in uses.items()})


def unnamed(found: Dataset) -> Dataset:
    return dataclasses.replace(found, manifest=None)


def compare(manifest: Path, found: Dataset, maps: Any = None, again: Any = None) -> Compared:
    at = maps if maps is not None else coverage_maps.Maps()
    return datasets_at_hand.compare(ROLE, "dataset1", Held(manifest, again), found, at)


def write_map(folder: Path, counts: bytes, use: str = "train") -> coverage_maps.Maps:
    coverage.write_sidecar(folder / f"run.dataset1.{use}.coverage", counts, 1)
    return coverage_maps.Maps(evidence=folder / "run.palm.json")


def test_whole_epochs_by_power_and_others_by_map(manifest: Path, maps: Any) -> None:
    compared = compare(manifest, GOOD, maps)
    assert compared.detail == (
        f"{manifest} is the manifest of {ROLE}; train: 2 whole epochs; eval: 4 deliveries of 2 records, each "
        f"as often as {maps.place('dataset1', 'eval')} says, are those of the sealed multiset hash"
    )
    assert compared.left_open == (datasets_at_hand.BY_HEADER.format(path=manifest),)


def test_without_a_map_it_says_what_is_left_open(manifest: Path, tmp_path: Path) -> None:
    compared = compare(manifest, GOOD)
    assert compared.detail == f"{manifest} is the manifest of {ROLE}; train: 2 whole epochs"
    assert compared.left_open[0] == (
        "which records of data.dataset1 were delivered for eval: the coverage map is not at hand "
        "(--coverage FILE), so the sealed multiset hash was not compared"
    )
    missing = coverage_maps.Maps(evidence=tmp_path / "run.palm.json")
    assert f"({tmp_path / 'run.dataset1.eval.coverage'})" in compare(manifest, GOOD, missing).left_open[0]


@pytest.mark.parametrize("name", SAMPLINGS)
@pytest.mark.parametrize("named", [True, False])
def test_any_sampling_is_established_by_its_map(
    manifest: Path, tmp_path: Path, name: str, *, named: bool
) -> None:
    found = dataset(train=SAMPLINGS[name])
    compared = compare(manifest, found if named else unnamed(found), write_map(tmp_path, SAMPLINGS[name]))
    assert f"train: {sum(SAMPLINGS[name])} deliveries of" in compared.detail
    assert bool(compared.left_open) == named  # with a name the header's multiset hash is believed


@pytest.mark.parametrize("named", [True, False])
def test_the_records_of_the_map_are_not_those_of_the_multiset_hash(
    manifest: Path, tmp_path: Path, *, named: bool
) -> None:
    honest, lie = bytes([2, 1] * 5), bytes([1, 2] * 5)
    found = put(dataset(train=honest), "uses.train.multiset", at_hand.multiset_of(lie))
    with pytest.raises(ArtifactError, match="are not those of the sealed multiset hash"):
        compare(manifest, found if named else unnamed(found), write_map(tmp_path, honest))


def test_a_map_beside_the_evidence_that_is_another_one(manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"expected the coverage map of data\.dataset1, train with root"):
        compare(manifest, dataset(train=bytes([2, 1] * 5)), write_map(tmp_path, bytes([1, 2] * 5)))
    with pytest.raises(ArtifactError, match="expected counts of 10 records, got 9"):
        compare(manifest, dataset(train=bytes([2, 1] * 5)), write_map(tmp_path, bytes([1, 2, 1] * 3)))


@pytest.mark.parametrize(("field", "value"), [("distinct", 8), ("greatest", 4), ("least", 1)])
def test_a_map_shows_that_the_evidence_contradicts_itself(
    manifest: Path, tmp_path: Path, field: str, value: int
) -> None:
    counts = bytes([3] + [0] + [2] * 8)
    found = put(dataset(train=counts), f"uses.train.counts.{field}", value)
    with pytest.raises(ClaimError, match=r"data\.dataset1, train: the evidence says .* its own coverage map"):
        compare(manifest, found, write_map(tmp_path, counts))


def test_a_malformed_map(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "run.dataset1.train.coverage").write_bytes(b"no map")
    with pytest.raises(EvidenceError, match="expected a coverage file"):
        compare(manifest, dataset(train=PART), coverage_maps.Maps(evidence=tmp_path / "run.palm.json"))


def test_a_header_that_lies_about_the_multiset_hash(tmp_path: Path) -> None:
    """Whoever measured could do that; by the records themselves it shows."""
    lying = dataclasses.replace(
        at_hand.MANIFEST, multiset=at_hand.multiset_of(bytes([2, 0]) + bytes([1]) * 8)
    )
    path = at_hand.write_manifest(tmp_path / "corpus.palm-manifest", lying)
    told = put(dataset(train=bytes([1]) * 10), "uses.train.multiset", lying.multiset)
    told = dataclasses.replace(told, manifest=lying.digest)
    assert compare(path, told).left_open == (datasets_at_hand.BY_HEADER.format(path=path),)
    with pytest.raises(ArtifactError, match="1 whole epochs of it are not what"):
        compare(path, told, again=AtHand())


# Records at hand ----------------------------------------------------------------------------------


def test_delivered_records_are_hashed_again_and_no_others(manifest: Path, maps: Any) -> None:
    again = AtHand()
    compared = compare(manifest, dataset(eval=PART), maps, again)
    assert again.asked == [0, 2]
    assert compared.detail.endswith("; 2 records were read and hashed again")
    assert compared.left_open == ()
    assert compare(manifest, GOOD, maps, AtHand()).left_open == ()


@pytest.mark.parametrize("named", [True, False])
def test_a_record_that_changed_is_named(manifest: Path, maps: Any, *, named: bool) -> None:
    found = dataset(eval=PART)
    for changed, refused in ((2, True), (1, False)):
        again = AtHand(changed)
        if refused:
            with pytest.raises(ArtifactError, match=r"^record 2 \(record 2 on a disk\) is not the one that"):
                compare(manifest, found if named else unnamed(found), maps, again)
        else:
            compare(manifest, found if named else unnamed(found), maps, again)


def test_whole_epochs_hash_every_record_again(manifest: Path) -> None:
    again = AtHand()
    compare(manifest, dataset(train=bytes([2]) * 10), again=again)
    assert again.asked == list(range(10))


def test_with_no_map_nothing_says_which_to_hash_again(manifest: Path) -> None:
    with pytest.raises(DataError, match="nothing at hand says which records were delivered: give --coverage"):
        compare(manifest, dataset(eval=PART), again=AtHand())


# Streams ------------------------------------------------------------------------------------------


def stream(counts: bytes) -> Dataset:
    uses = {"train": put(at_hand.delivered(counts), "counts", None)}
    return dataclasses.replace(unnamed(GOOD), records=None, record_bytes=None, uses=uses)


def test_a_stream_of_whole_epochs_is_recognised(manifest: Path) -> None:
    compared = compare(manifest, stream(bytes([3]) * 10))
    assert compared.detail == f"{manifest} has the records of {ROLE}; train: 3 whole epochs"
    assert compared.left_open == ()
    assert "hashed again" in compare(manifest, stream(bytes([1]) * 10), again=AtHand()).detail


@pytest.mark.parametrize("counts", [bytes([1] * 9 + [2]), bytes([2] + [1] * 8 + [0])])
def test_any_other_stream_cannot_be_compared(manifest: Path, counts: bytes) -> None:
    with pytest.raises(ArtifactError, match="cannot be compared"):
        compare(manifest, stream(counts))


# Files that are not what they should be --------------------------------------------------------------


def test_a_manifest_that_is_rewritten_while_it_is_read(manifest: Path, monkeypatch: Any) -> None:
    other = dataclasses.replace(at_hand.MANIFEST, format="npy")
    monkeypatch.setattr(datasets_at_hand.manifest_file, "read", lambda path, each: other)  # noqa: ARG005 (read's own)
    with pytest.raises(ArtifactError, match="rewritten while it was read"):
        compare(manifest, GOOD)


def test_nothing_foreign_escapes(tmp_path: Path, manifest: Path, maps: Any) -> None:
    good = manifest.read_bytes()
    for length in (0, 10, 23, 27, 100, len(good) - 1):
        manifest.write_bytes(good[:length])
        with pytest.raises(InputError):
            compare(manifest, GOOD, maps)
    with pytest.raises(InputError):
        compare(tmp_path / "missing", GOOD, maps)
    with pytest.raises(DataError, match="a folder"):
        compare(tmp_path, GOOD, maps)
