"""The commitment to weights: one pass over a file, the root of training evidence, and a list that travels."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest
import weights_at_hand as at_hand

from palm_torch import encoding
from palm_torch.commit import weights_commitment, weights_reading
from palm_torch.commit.weights_root import TensorSpec, tensor_root, weights_root
from palm_torch.digest import Digest
from palm_torch.errors import ArtifactError, DataError

if TYPE_CHECKING:
    from pathlib import Path

TORCH = {"F32": "float32", "BF16": "bfloat16", "I64": "int64"}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return at_hand.write(tmp_path / "m.safetensors")


def test_the_root_is_the_weights_root(model: Path) -> None:
    made = at_hand.committed(model)
    pairs = []
    for name, (dtype, shape, data) in at_hand.MODEL.items():
        spec = TensorSpec(name, TORCH[dtype], tuple(shape))
        pairs.append((spec, tensor_root(spec, data)))
    assert made.root == weights_root(pairs)
    assert [tensor.name for tensor in made.tensors] == sorted(at_hand.MODEL)


def test_shards_and_folders_make_no_difference(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sharded"
    folder.mkdir()
    names = list(at_hand.MODEL)
    placed = {name: f"model-{number % 2}.safetensors" for number, name in enumerate(names)}
    for shard in set(placed.values()):
        at_hand.write(folder / shard, {name: at_hand.MODEL[name] for name in names if placed[name] == shard})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}), encoding="utf-8")
    assert at_hand.committed(folder) == at_hand.committed(model)
    assert at_hand.committed(folder / "model.safetensors.index.json") == at_hand.committed(model)


def test_progress_is_told_in_bytes(model: Path) -> None:
    said: list[tuple[int, int]] = []
    at_hand.committed(model, progress=lambda done, total: said.append((done, total)))
    size = sum(len(data) for _, _, data in at_hand.MODEL.values())
    assert said[-1] == (size, size)
    assert [done for done, _ in said] == sorted({done for done, _ in said})


TIED = {name: at_hand.MODEL[name] for name in ("body.weight", "body.bias")}


def tied(tmp_path: Path) -> weights_commitment.WeightsCommitment:
    """Returns what evidence of a model says whose body.weight is also its head."""
    plain = at_hand.committed(at_hand.write(tmp_path / "plain.safetensors", TIED))
    listed = [
        dataclasses.replace(tensor, aliases=("head.weight",)) if tensor.name == "body.weight" else tensor
        for tensor in plain.tensors
    ]
    return weights_commitment.WeightsCommitment.of(listed, "hash")


@pytest.mark.parametrize("stored", [("body.weight",), ("head.weight",), ("body.weight", "head.weight")])
def test_tied_weights_are_one_tensor_whichever_names_a_file_stores(
    tmp_path: Path, stored: tuple[str, ...]
) -> None:
    listed = tied(tmp_path)
    tensors = {"body.bias": TIED["body.bias"], **dict.fromkeys(stored, TIED["body.weight"])}
    path = at_hand.write(tmp_path / "m.safetensors", tensors)
    assert at_hand.committed(path, like=listed.tensors) == listed
    assert at_hand.committed(path).root != listed.root


def test_tied_weights_that_differ(tmp_path: Path) -> None:
    listed = tied(tmp_path)
    other = ("F32", TIED["body.weight"][1], at_hand.some_bytes(len(TIED["body.weight"][2]), 9))
    path = at_hand.write(tmp_path / "m.safetensors", {**TIED, "head.weight": other})
    with pytest.raises(
        ArtifactError, match=r"'body.weight' and 'head.weight' are names of one tensor, but their"
    ):
        at_hand.committed(path, like=listed.tensors)


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"body.bias": TIED["body.bias"]}, "tensor 'body.weight' is missing"),
        ({**TIED, "more": TIED["body.bias"]}, "tensor 'more' is not among the 2"),
        (
            {**TIED, "body.bias": ("F32", [2, 100], bytes(800))},
            r"expected float32 \[200\], got float32 \[2, 100\]",
        ),
    ],
)
def test_other_tensors_than_listed(tmp_path: Path, tensors: Any, says: str) -> None:
    listed = tied(tmp_path)
    with pytest.raises(ArtifactError, match=says):
        at_hand.committed(at_hand.write(tmp_path / "m.safetensors", tensors), like=listed.tensors)


def test_a_file_that_shrinks(model: Path) -> None:
    def cut(done: int, _total: int) -> None:
        if done < 500_000:
            with model.open("r+b") as stream:
                stream.truncate(1_000_000)

    with pytest.raises(DataError, match=r"expected .* bytes at offset"):
        at_hand.committed(model, progress=cut)


def test_the_list_travels(model: Path, tmp_path: Path) -> None:
    made = at_hand.committed(model)
    (tmp_path / "list.json").write_bytes(made.encode())
    assert made.encode().startswith(weights_commitment.START)
    assert weights_commitment.read(tmp_path / "list.json") == made
    assert made.find("body.bias") == 0
    assert made.find("nothing") is None


def test_a_list_is_of_its_root(model: Path) -> None:
    made = at_hand.committed(model)
    for field, bent in (
        ("root", Digest("palm-sha256", bytes(32))),
        ("root", Digest("sha256", made.root.value)),
        ("tensors", made.tensors[::-1]),
        ("tensors", made.tensors + made.tensors[:1]),
        ("tensors", made.tensors[1:]),
        ("media_type", "application/json"),
    ):
        with pytest.raises(DataError, match=r"root|sorted|twice|media_type"):
            dataclasses.replace(made, **{field: bent})


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"media_type":1}'])
def test_what_is_no_list(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "l.json").write_bytes(data)
    with pytest.raises(DataError):
        weights_commitment.read(tmp_path / "l.json")
    with pytest.raises(DataError, match="cannot read the commitment"):
        weights_commitment.read(tmp_path / "missing.json")


@pytest.mark.parametrize("limit", ["MAX_BYTES", "MAX_VALUES"])
def test_what_is_written_can_be_read(model: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """A list that its own reader would refuse is not made, and weights are not read for it."""
    made = at_hand.committed(model)
    data = made.encode()
    most = len(data) if limit == "MAX_BYTES" else data.count(b",") + data.count(b":")
    for module in (weights_commitment, encoding):
        monkeypatch.setattr(module, limit, most, raising=module is weights_commitment)
    assert weights_commitment.decode(made.encode(), what="list") == made
    assert at_hand.committed(model, to_file=True) == made
    for module in (weights_commitment, encoding):
        monkeypatch.setattr(module, limit, most - 1, raising=module is weights_commitment)
    with pytest.raises(DataError, match=r"a list of 6 tensors has \d+ bytes and \d+ commas and colons"):
        made.encode()
    with pytest.raises(DataError, match=f"expected at most {most - 1}"):
        weights_commitment.decode(data, what="list")
    monkeypatch.setattr(weights_reading, "tiles", None)
    with pytest.raises(DataError, match="the root needs none"):
        at_hand.committed(model, to_file=True)


def test_brackets_in_names_count_where_a_list_is_written(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = at_hand.committed(model)
    named = [dataclasses.replace(made.tensors[0], name="[" * 300, aliases=())]
    for module in (weights_commitment, encoding):
        monkeypatch.setattr(module, "MAX_VALUES", 200, raising=module is weights_commitment)
    with pytest.raises(DataError, match="opening brackets: expected at most"):
        weights_commitment.WeightsCommitment.of(named, "hash").encode()


@pytest.mark.parametrize("scheme", ["hash", "kzg"])
def test_the_root_is_computed_again(model: Path, scheme: Any) -> None:
    made = at_hand.committed(model, scheme=scheme)
    made.check_root()
    if scheme == "kzg":
        false = dataclasses.replace(made, root=Digest("palm-sha256", bytes(32)))
        with pytest.raises(DataError, match=f"root: expected {made.root}, which the tensors give, got"):
            false.check_root()
