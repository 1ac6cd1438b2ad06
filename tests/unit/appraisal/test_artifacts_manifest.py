"""A manifest at hand against what evidence says of a dataset."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
import records_at_hand as at_hand
import workshop
from workshop import put

from palm_torch.appraisal import artifacts
from palm_torch.errors import ArtifactError, DataError

if TYPE_CHECKING:
    from pathlib import Path


GOOD = workshop.make_statement("run")


def test_a_manifest_that_evidence_does_not_name_is_recomputed(tmp_path: Path) -> None:
    path = at_hand.write_manifest(tmp_path / "corpus.palm-manifest")
    unnamed = put(GOOD, "claims.data.dataset1.manifest", None)
    artifacts.compare("data", path, unnamed)
    honest = path.read_bytes()
    path.write_bytes(honest.replace(at_hand.MANIFEST.multiset.state.encode(), b"01" * 384))
    assert path.read_bytes() != honest
    artifacts.compare("data", path, unnamed)  # the header's word on the multiset counts for nothing


def test_a_salted_manifest_that_evidence_does_not_name(tmp_path: Path) -> None:
    path = tmp_path / "corpus.palm-manifest"
    shard = dataclasses.replace(at_hand.MANIFEST.shards[0], sha256=None)
    at_hand.write_manifest(path, dataclasses.replace(at_hand.MANIFEST, salted=True, shards=(shard,)))
    with pytest.raises(ArtifactError, match="salted"):
        artifacts.compare("data", path, put(GOOD, "claims.data.dataset1.manifest", None))


def test_the_roles_a_file_can_be_compared_with_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        ArtifactError, match=r"it has architecture, data\.dataset1, tokenizer, initial, model"
    ):
        artifacts.compare("data.dataset9", tmp_path / "any", GOOD)


def test_a_folder_is_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"its manifest is .*manifest\.palm-manifest"):
        artifacts.compare("data", tmp_path, GOOD)
