"""Weights at hand: read once, hashed, and refused unless they are those that a trace names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import weights_at_hand
from weights_at_hand import SMALL, some_bytes

from palm_torch.audit import weights_file
from palm_torch.commit import weights_commitment
from palm_torch.errors import ArtifactError, DataError

if TYPE_CHECKING:
    from pathlib import Path

TIED = ("embedding", "head")
MODEL = {
    "embedding": ("F32", [3, 4], some_bytes(48, 1)),
    "norm": ("F32", [4], some_bytes(16, 2)),
    "half": ("BF16", [2, 2], np.array([1.0, -2.0, 3.5, 0.0], np.float32).view(np.uint16)[1::2].tobytes()),
}


def test_what_is_read(tmp_path: Path) -> None:
    path = weights_at_hand.write(tmp_path / "a.safetensors", MODEL)
    root = weights_commitment.commit(path).root
    found = weights_file.read([path], ["embedding", "half"], root=root)
    assert found.root == root
    assert found.matrix("embedding").tobytes() == MODEL["embedding"][2]
    rows = MODEL["embedding"][2]
    assert found.rows("embedding", [2, 0]).tobytes() == rows[32:] + rows[:16]
    assert found.matrix("half").astype(np.float64).tolist() == [[1.0, -2.0], [3.5, 0.0]]
    assert not found.matrix("embedding").flags.writeable
    with pytest.raises(DataError, match="'norm' to be among the tensors asked for"):
        found.vector("norm")
    with pytest.raises(DataError, match="expected a row 3, it has 3"):
        found.rows("embedding", [3])


def test_vectors(tmp_path: Path) -> None:
    path = weights_at_hand.write(tmp_path / "a.safetensors", MODEL)
    found = weights_file.read([path], ["norm"], root=None)
    assert found.vector("norm").tobytes() == MODEL["norm"][2]
    with pytest.raises(DataError, match="expected a matrix, got shape"):
        found.matrix("norm")


def test_several_files_are_one_model(tmp_path: Path) -> None:
    whole = weights_at_hand.write(tmp_path / "whole.safetensors", MODEL)
    root = weights_commitment.commit(whole).root
    names = sorted(MODEL)
    paths = [weights_at_hand.write(tmp_path / f"{name}.safetensors", {name: MODEL[name]}) for name in names]
    found = weights_file.read(paths, names, root=root)
    assert found.vector("norm").tobytes() == MODEL["norm"][2]
    with pytest.raises(DataError, match=r"is in .*embedding\.safetensors too"):
        weights_file.read([*paths, paths[0]], names, root=root)
    with pytest.raises(ArtifactError, match="expected weights with the root"):
        weights_file.read(paths[1:], names[1:], root=root)


def test_other_weights(tmp_path: Path) -> None:
    path = weights_at_hand.write(tmp_path / "a.safetensors", MODEL)
    root = weights_commitment.commit(path).root
    other = weights_at_hand.write(tmp_path / "b.safetensors", {**MODEL, "norm": ("F32", [4], bytes(16))})
    with pytest.raises(ArtifactError, match="other weights, or the same in another element type"):
        weights_file.read([other], ["embedding"], root=root)  # what is not needed counts too
    with pytest.raises(DataError, match="tensor 'absent' is missing"):
        weights_file.read([path], ["absent"], root=root)


@pytest.mark.parametrize("stored", [("embedding",), ("head",), ("embedding", "head")])
def test_tied_weights_under_one_name_or_both(stored: tuple[str, ...], tmp_path: Path) -> None:
    both = weights_at_hand.write(tmp_path / "a.safetensors", dict.fromkeys(TIED, MODEL["embedding"]))
    claims = weights_commitment.commit(both).tensors
    (claim,) = (one for one in claims if one.name == "embedding")
    alias = type(claim)(
        name="embedding", aliases=("head",), dtype=claim.dtype, shape=claim.shape, root=claim.root
    )
    root = weights_commitment.WeightsCommitment.of([alias], "hash").root
    path = weights_at_hand.write(tmp_path / "b.safetensors", dict.fromkeys(stored, MODEL["embedding"]))
    found = weights_file.read([path], ["head"], root=root, tied=[("head", "embedding")])
    assert found.matrix("head") is found.matrix("embedding")


def test_tied_weights_that_differ(tmp_path: Path) -> None:
    other = ("F32", [3, 4], bytes(48))
    path = weights_at_hand.write(tmp_path / "a.safetensors", {"embedding": MODEL["embedding"], "head": other})
    with pytest.raises(ArtifactError, match="names of one tensor, but"):
        weights_file.read([path], ["head"], root=None, tied=[TIED])
    path = weights_at_hand.write(
        tmp_path / "b.safetensors", {"embedding": MODEL["embedding"], "head": ("F32", [4, 3], bytes(48))}
    )
    with pytest.raises(ArtifactError, match=r"expected float32 \[3, 4\], got float32 \[4, 3\]"):
        weights_file.read([path], ["head"], root=None, tied=[TIED])


def test_a_list_spares_hashing_the_rest(tmp_path: Path) -> None:
    path = weights_at_hand.write(tmp_path / "a.safetensors", MODEL)
    like = weights_commitment.commit(path)
    damaged = weights_at_hand.write(tmp_path / "b.safetensors", {**MODEL, "norm": ("F32", [4], bytes(16))})
    found = weights_file.read([damaged], ["embedding"], root=like.root, like=like)
    assert found.root == like.root
    with pytest.raises(ArtifactError, match="tensor 'norm': its bytes differ"):
        weights_file.read([damaged], ["norm"], root=like.root, like=like)
    short = weights_at_hand.write(tmp_path / "c.safetensors", {"half": MODEL["half"]})
    with pytest.raises(DataError, match="tensor 'norm' is missing"):
        weights_file.read([short], ["norm"], root=like.root, like=like)
    small = weights_at_hand.write(tmp_path / "d.safetensors", SMALL)
    other = weights_commitment.commit(small)
    with pytest.raises(ArtifactError, match="expected weights with the root"):
        weights_file.read([small], ["a"], root=like.root, like=other)


def test_element_types_that_nothing_is_computed_with(tmp_path: Path) -> None:
    path = weights_at_hand.write(tmp_path / "a.safetensors", {"a": ("I8", [4], bytes(4))})
    with pytest.raises(DataError, match="got int8: no audit computes with it"):
        weights_file.read([path], ["a"], root=None)


def test_a_shape_that_no_array_has(tmp_path: Path) -> None:
    path = weights_at_hand.write(tmp_path / "a.safetensors", {"a": ("F32", [2**40, 2**40, 0], b"")})
    with pytest.raises(DataError, match="tensor 'a': shape: cannot reshape"):
        weights_file.read([path], ["a"], root=None)


def test_a_file_of_holes_that_is_larger_than_memory(tmp_path: Path) -> None:
    size = 1 << 42
    header = f'{{"a":{{"dtype":"U8","shape":[{size}],"data_offsets":[0,{size}]}}}}'.replace("U8", "F32")
    header = header.replace(f"[{size}]", f"[{size // 4}]").encode()
    path = tmp_path / "a.safetensors"
    with path.open("wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        try:
            stream.truncate(8 + len(header) + size)
        except OSError:
            pytest.skip("this file system has no files with holes")
    with pytest.raises(DataError, match="too little memory for 4398046511104 bytes"):
        weights_file.read([path], ["a"], root=None)
