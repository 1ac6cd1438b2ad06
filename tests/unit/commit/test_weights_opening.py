"""Openings of weights: honest ones are accepted and show the very bytes, everything else is refused."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
import weights_at_hand as at_hand

from palm_torch.commit import opening_file, weights_opening
from palm_torch.commit.weights_commitment import WeightsCommitment
from palm_torch.digest import Digest
from palm_torch.errors import ArtifactError, BindingError, DataError, EvidenceError, InputError, RejectedError

if TYPE_CHECKING:
    from pathlib import Path

SCHEMES = ("hash", "kzg")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return at_hand.write(tmp_path_factory.mktemp("model") / "m.safetensors")


@pytest.fixture(scope="module", params=SCHEMES)
def listed(request: pytest.FixtureRequest, model: Path) -> WeightsCommitment:
    return at_hand.committed(model, scheme=request.param)


def opened(model: Path, listed: WeightsCommitment, name: str, **options: Any) -> opening_file.WeightsOpening:
    return at_hand.opened(model, name, scheme=listed.scheme, like={"the list": listed}, **options)


@pytest.mark.parametrize(
    ("name", "rows", "columns"),
    [
        ("body.weight", (0, 8), None),
        ("body.weight", (63, 65), (1000, 1024)),
        ("body.weight", None, (7, 8)),
        ("body.weight", None, None),
        ("body.bias", None, (3, 5)),
        ("body.scale", None, None),
        ("conv.weight", (1, 2), None),
        ("conv.weight", None, (19, 20)),
        ("wide.weight", (1, 2), (262_143, 262_145)),
    ],
)
def test_what_is_shown_is_what_is_stored(
    model: Path, listed: WeightsCommitment, name: str, rows: Any, columns: Any
) -> None:
    made = opened(model, listed, name, rows=rows, columns=columns)
    shown = weights_opening.verify(opening_file.decode(made.encode(), what="opening"), listed.root)
    _, shape, data = at_hand.MODEL[name]
    height, width = shown.spec.view()
    item = len(data) // (height * width)
    (top, bottom), (left, right) = rows or (0, height), columns or (0, width)
    assert shown.values == b"".join(
        data[(row * width + left) * item : (row * width + right) * item] for row in range(top, bottom)
    )
    assert (shown.root, shown.spec.name, list(shown.spec.shape)) == (listed.root, name, shape)


def test_sizes(model: Path, listed: WeightsCommitment) -> None:
    """Four tiles and six tensors: with hashes two and three levels, with commitments one node each."""
    made = opened(model, listed, "body.weight", rows=(0, 1))
    assert (len(made.proof), len(made.entry_proof)) == {"hash": (64, 96), "kzg": (96, 96)}[listed.scheme]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_without_a_list_all_weights_are_read(model: Path, scheme: Any) -> None:
    made = at_hand.opened(model, rows=(0, 1), scheme=scheme)
    assert made.root == at_hand.committed(model, scheme=scheme).root


def test_with_a_list_only_the_tensor_is_read(model: Path, tmp_path: Path) -> None:
    listed = at_hand.committed(model)
    alone = {"body.bias": at_hand.MODEL["body.bias"]}
    path = at_hand.write(tmp_path / "m.safetensors", alone)
    made = at_hand.opened(path, "body.bias", like={"the list": listed})
    assert weights_opening.verify(made, listed.root).values == alone["body.bias"][2]


def test_the_list_that_has_the_tensor_counts(model: Path, tmp_path: Path) -> None:
    changed = {**at_hand.MODEL, "body.bias": ("F32", [200], bytes(800))}
    later = at_hand.committed(at_hand.write(tmp_path / "later.safetensors", changed))
    lists = {"later": later, "first": at_hand.committed(model)}
    read = weights_opening.read_block(model, "body.bias", like=lists)
    assert (read.what, read.opening().root) == ("first", lists["first"].root)
    read = weights_opening.read_block(model, "body.weight", like=lists)  # both have it
    assert (read.what, read.opening().root) == ("later", later.root)
    with pytest.raises(ArtifactError, match=r"'body.bias' is not as listed: later: expected the root"):
        at_hand.opened(model, "body.bias", like={"later": later})


def test_tied_names(model: Path, tmp_path: Path) -> None:
    plain = at_hand.committed(model)
    listed = WeightsCommitment.of(
        [
            dataclasses.replace(tensor, aliases=("head.weight",)) if tensor.name == "body.weight" else tensor
            for tensor in plain.tensors
        ],
        "hash",
    )
    stored = {"head.weight": at_hand.MODEL["body.weight"]}
    path = at_hand.write(tmp_path / "m.safetensors", stored)
    for name in ("head.weight", "body.weight"):
        made = at_hand.opened(path, name, rows=(0, 1), like={"the list": listed})
        shown = weights_opening.verify(made, listed.root)
        assert (shown.spec.name, shown.spec.aliases) == ("body.weight", ("head.weight",))
    with pytest.raises(
        DataError, match=r"as listed: the list: expected one of its tensors, 'body.bias', 'body.scale'"
    ):
        at_hand.opened(path, "nothing", like={"the list": listed})
    with pytest.raises(ArtifactError, match=r"tensor 'body.bias' is missing"):
        at_hand.opened(path, "body.bias", like={"the list": listed})
    # under the other scheme a list says names and aliases
    whole = at_hand.write(tmp_path / "whole.safetensors", {**at_hand.MODEL, **stored})
    made = at_hand.opened(whole, "head.weight", rows=(0, 1), scheme="kzg", like={"the list": listed})
    assert (made.count, made.tensor.aliases) == (len(at_hand.MODEL), ("head.weight",))


@pytest.mark.parametrize(
    ("name", "rows", "says"),
    [
        ("nothing", None, r"expected one of its tensors, 'body.bias', 'body.scale', .*, got 'nothing'"),
        ("body.weight", (0, 201), "within 0:200"),
        ("empty", None, "no elements"),
    ],
)
def test_what_cannot_be_opened_is_said_before_the_weights_are_read(
    model: Path, name: str, rows: Any, says: str
) -> None:
    def progress(_done: int, _total: int) -> None:
        pytest.fail("read")

    with pytest.raises(DataError, match=says):
        weights_opening.read_block(model, name, rows=rows, progress=progress)


def test_a_model_without_tensors(tmp_path: Path) -> None:
    path = at_hand.write(tmp_path / "m.safetensors", {})
    with pytest.raises(DataError, match="expected one of its tensors, of which there is none, got 'x'"):
        weights_opening.read_block(path, "x")
    with pytest.raises(DataError, match="the list: expected one of its tensors, of which there is none"):
        weights_opening.read_block(path, "x", like={"the list": at_hand.committed(path)})


def test_many_names_are_not_all_listed(tmp_path: Path) -> None:
    path = at_hand.write(tmp_path / "m.safetensors", {f"t{n}": ("F32", [1], bytes(4)) for n in range(30)})
    with pytest.raises(DataError, match="… 30 in all, got 'x'"):
        weights_opening.read_block(path, "x")


def test_a_file_that_changes_between(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(model.read_bytes())
    total = sum(len(data) for _, _, data in at_hand.MODEL.values())

    def progress(done: int, _total: int) -> None:
        if done == total:
            at_hand.write(path, {**at_hand.MODEL, "body.bias": ("F32", [200], bytes(800))})

    with pytest.raises(
        DataError, match=r"'body.bias' was written to while the weights were read: .*open it again"
    ):
        weights_opening.read_block(path, "body.bias", progress=progress)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]


def other(root: Digest) -> Digest:
    return Digest(root.algorithm, flipped(root.value, 31))


def test_nothing_of_it_can_be_changed(model: Path, listed: WeightsCommitment) -> None:
    made = opened(model, listed, "body.weight", rows=(3, 70), columns=(5, 9))
    tensor = made.tensor
    changes: list[dict[str, Any]] = [
        {"root": other(made.root)},
        {"count": made.count + 1},
        {"count": made.count - 1},
        {"index": made.index + 1},
        {"tiles": flipped(made.tiles, 0)},
        {"tiles": flipped(made.tiles, -1 % len(made.tiles))},
        {"tiles": made.tiles[:-1]},
        {"tiles": made.tiles + b"\0"},
        {"rows": (3, 129)},
        {"rows": (64, 130)},
        *({name: getattr(made, name)[:-1]} for name in ("proof", "entry_proof")),
        *({name: getattr(made, name) + b"\0"} for name in ("proof", "entry_proof")),
        *({name: flipped(getattr(made, name), 0)} for name in ("proof", "entry_proof")),
        *({name: flipped(getattr(made, name), len(made.entry_proof) - 1)} for name in ("entry_proof",)),
        *(
            {"tensor": dataclasses.replace(tensor, **change)}
            for change in (
                {"name": "body.weighs"},
                {"aliases": ("head.weight",)},
                {"dtype": "int32"},
                {"shape": (200, 512, 2)},
                {"shape": (201, 1024)},
                {"root": other(tensor.root)},
            )
        ),
    ]
    for change in changes:
        error = at_hand.refused(made, change, listed.root)
        assert isinstance(error, (EvidenceError, BindingError)), change
    assert isinstance(at_hand.refused(made, {}, other(made.root)), BindingError)


def test_rows_that_the_same_tiles_show(model: Path, listed: WeightsCommitment) -> None:
    """Tiles are proven, whichever of their rows the file names; whoever asks compares them."""
    made = opened(model, listed, "body.weight", rows=(3, 70))
    moved = weights_opening.verify(dataclasses.replace(made, rows=(4, 71)), listed.root)
    width = at_hand.WIDTH * 4
    assert moved.values == at_hand.MODEL["body.weight"][2][4 * width : 71 * width]


def test_a_scheme_is_not_the_other(model: Path) -> None:
    lists = {scheme: at_hand.committed(model, scheme=scheme) for scheme in ("hash", "kzg")}
    assert lists["hash"].root != lists["kzg"].root
    for scheme, another in (("hash", "kzg"), ("kzg", "hash")):
        made = at_hand.opened(model, "body.bias", scheme=scheme, like={"the list": lists[scheme]})
        bent = dataclasses.replace(made, scheme=another)
        assert isinstance(at_hand.refused(bent, {}), (InputError, RejectedError))


@pytest.mark.parametrize("field", ["proof", "entry_proof", "tiles"])
def test_every_byte_of_an_opening_counts(model: Path, field: str) -> None:
    listed = at_hand.committed(model)
    made = at_hand.opened(model, "conv.weight", rows=(0, 1), like={"the list": listed})
    data = getattr(made, field)
    for at in range(len(data)):
        assert isinstance(at_hand.refused(made, {field: flipped(data, at)}), BindingError)
    assert len(data) > 0 or field == "proof"


def test_no_precompile_for_hashes(model: Path) -> None:
    read = weights_opening.read_block(model, "body.bias")
    with pytest.raises(DataError, match="the precompile checks openings under scheme kzg, this is hash"):
        read.point_inputs()


def test_inputs_of_the_precompile(model: Path) -> None:
    listed = at_hand.committed(model, scheme="kzg")
    lists = {"the list": listed}
    read = weights_opening.read_block(model, "body.weight", rows=(64, 65), scheme="kzg", like=lists)
    made, inputs = read.opening(), read.point_inputs()
    assert [len(line) for line in inputs] == [192, 192]
    assert [line[96:144] for line in inputs] == [made.entry_proof[:48], made.proof[:48]]
    read = weights_opening.read_block(model, "body.weight", rows=(63, 65), scheme="kzg", like=lists)
    with pytest.raises(DataError, match=r"one tile at a time: rows 63:65, columns 0:1024 touches 2"):
        read.point_inputs()
