"""Somebody shows rows that are not those of the model, and makes up everything else to fit them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import weights_at_hand as at_hand

from palm_torch.commit import weights_commitment, weights_opening, weights_root, weights_schemes
from palm_torch.errors import BindingError, DataError, EvidenceError

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.commit.opening_file import WeightsOpening
    from palm_torch.commit.weights_commitment import WeightsCommitment

ROWS = (64, 66)
SAME = at_hand.MODEL["body.weight"]
MODEL = {**at_hand.MODEL, "body.twin": SAME, "body.word": ("I64", [200, 512], SAME[2])}
LATER = {**MODEL, "body.weight": ("F32", SAME[1], at_hand.some_bytes(len(SAME[2]), 77))}


class Published(NamedTuple):
    """A model, the root that everybody knows, and an honest opening under it."""

    path: Path
    listed: WeightsCommitment
    opening: WeightsOpening

    def open(self, name: str, **options: Any) -> WeightsOpening:
        like = {"the list": self.listed}
        return at_hand.opened(self.path, name, scheme=self.listed.scheme, like=like, **options)


def publish(path: Path, tensors: dict[str, at_hand.Stored], scheme: Any) -> Published:
    listed = at_hand.committed(at_hand.write(path, tensors), scheme=scheme)
    like = {"the list": listed}
    return Published(path, listed, at_hand.opened(path, "body.weight", rows=ROWS, scheme=scheme, like=like))


@pytest.fixture(scope="module", params=["hash", "kzg"])
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish(tmp_path_factory.mktemp("model") / "m.safetensors", MODEL, request.param)


def refused(published: Published, forged: WeightsOpening) -> None:
    with pytest.raises((BindingError, EvidenceError)):
        weights_opening.verify(forged, published.listed.root)


def test_twin_the_honest_opening_is_accepted(published: Published) -> None:
    assert (
        weights_opening.verify(published.opening, published.listed.root).values
        == SAME[2][64 * 4096 : 66 * 4096]
    )


def test_rows_of_another_model(published: Published, tmp_path: Path) -> None:
    """The opening of a model of the same shape, under the name of the root that is known."""
    other = publish(tmp_path / "m.safetensors", LATER, published.listed.scheme)
    with pytest.raises(BindingError, match="expected it under the root"):
        weights_opening.verify(other.opening, published.listed.root)
    renamed = dataclasses.replace(other.opening, root=published.listed.root)
    refused(published, renamed)
    claim = published.opening.tensor
    refused(published, dataclasses.replace(renamed, tensor=claim, entry_proof=published.opening.entry_proof))
    entry = {"index": published.opening.index, "entry_proof": published.opening.entry_proof}
    refused(published, dataclasses.replace(renamed, **entry))


def test_a_root_of_earlier_weights(published: Published, tmp_path: Path) -> None:
    """A checkpoint's rows are shown for the model that came out."""
    later = publish(tmp_path / "m.safetensors", LATER, published.listed.scheme)
    refused(later, published.opening)
    refused(later, dataclasses.replace(published.opening, root=later.listed.root))
    stayed = published.open("body.twin", rows=ROWS)
    refused(later, stayed)
    refused(later, dataclasses.replace(stayed, root=later.listed.root))


def test_another_tensor_with_equal_bytes(published: Published) -> None:
    """Two layers hold the same bytes; whoever asks for one is shown the other, under its name."""
    twin = published.open("body.twin", rows=ROWS)
    assert twin.tiles == published.opening.tiles
    for parts in (
        ("tensor",),
        ("tensor", "index", "entry_proof"),
        ("tensor", "index", "entry_proof", "tiles"),
    ):
        refused(
            published,
            dataclasses.replace(twin, **{part: getattr(published.opening, part) for part in parts}),
        )
    renamed = dataclasses.replace(twin.tensor, name="body.weight")
    refused(published, dataclasses.replace(twin, tensor=renamed))


def test_other_rows(published: Published) -> None:
    """The tile with rows 0 to 63 is shown as that with rows 64 to 127, with its own proof or the other's."""
    first = published.open("body.weight", rows=(0, 2))
    assert first.tiles != published.opening.tiles
    refused(published, dataclasses.replace(first, rows=ROWS))
    refused(published, dataclasses.replace(published.opening, tiles=first.tiles))
    refused(published, dataclasses.replace(published.opening, tiles=first.tiles, proof=first.proof))


def test_tiles_in_another_order(published: Published) -> None:
    both = published.open("body.weight", rows=(0, 128))
    half = len(both.tiles) // 2
    refused(published, dataclasses.replace(both, tiles=both.tiles[half:] + both.tiles[:half]))


def test_the_same_bytes_as_another_type(published: Published) -> None:
    """float32 [200, 1024], int64 [200, 512] and float32 [400, 512] have the same bytes in the same tiles."""
    for change in (
        {"dtype": "int32"},
        {"dtype": "int64", "shape": (200, 512)},
        {"shape": (200, 512, 2)},
        {"shape": (100, 2048)},
        {"shape": (400, 512)},
    ):
        tensor = dataclasses.replace(published.opening.tensor, **change)
        width = weights_root.TensorSpec("t", tensor.dtype, tensor.shape).view()[1]
        forged = {"tensor": tensor, "columns": (0, width)}
        for rows in (ROWS, (32, 33), (128, 130)):
            try:
                made = dataclasses.replace(published.opening, **forged, rows=rows)
            except EvidenceError:
                continue
            refused(published, made)
    word = published.open("body.word", rows=ROWS)
    assert word.tiles == published.opening.tiles
    refused(published, dataclasses.replace(word, tensor=published.opening.tensor, columns=(0, 1024)))


@pytest.mark.parametrize(
    "change", [{"name": "head.weight"}, {"aliases": ("head.weight",)}, {"name": "body.weigh"}]
)
def test_another_name(published: Published, change: Any) -> None:
    tensor = dataclasses.replace(published.opening.tensor, **change)
    refused(published, dataclasses.replace(published.opening, tensor=tensor))


def test_a_whole_tree_made_up_below_a_true_entry(published: Published) -> None:
    """The forger commits to bytes of their own, opens them well, and puts that below the published root."""
    spec = weights_commitment.spec_of(published.opening.tensor)
    scheme = weights_schemes.of(published.listed.scheme)
    tree, own = scheme.tree(spec), at_hand.some_bytes(spec.nbytes, 5)
    tiles = {}
    for position, (_, _, start, end) in enumerate(weights_root.tiles(spec)):
        tree.add(own[start:end])
        tiles[position] = own[start:end]
    block = published.opening.block
    proof = tree.prove(block, {position: tiles[position] for position, _, _ in block.tiles(spec)})
    cover = {"tiles": tiles[1], "proof": proof}
    refused(published, dataclasses.replace(published.opening, **cover))
    tensor = dataclasses.replace(
        published.opening.tensor, root=dataclasses.replace(published.listed.root, value=tree.root())
    )
    refused(published, dataclasses.replace(published.opening, **cover, tensor=tensor))
    entry = weights_root.tensor_entry(spec, tree.root())
    alone = {"count": 1, "index": 0, "entry_proof": scheme.prove_entry([entry], 0)}
    refused(published, dataclasses.replace(published.opening, **cover, tensor=tensor, **alone))


def test_roots_of_one_level_as_those_of_another(published: Published) -> None:
    """The root of a tensor is no weights root, and the weights root is no tensor."""
    alone = {"count": 1, "index": 0, "entry_proof": b""}
    tensor = published.opening.tensor
    forged = dataclasses.replace(published.opening, root=tensor.root, **alone)
    with pytest.raises((BindingError, EvidenceError)):
        weights_opening.verify(forged, tensor.root)
    swapped = dataclasses.replace(tensor, root=published.listed.root)
    refused(published, dataclasses.replace(published.opening, tensor=swapped))


def test_places_that_are_not_its_own(published: Published) -> None:
    count = len(published.listed.tensors)
    for index in range(count):
        if index != published.opening.index:
            refused(published, dataclasses.replace(published.opening, index=index))
    for wrong in (count - 1, count + 1, 2 * count, 2**40):
        refused(published, dataclasses.replace(published.opening, count=wrong))


@pytest.mark.parametrize("scheme", ["hash", "kzg"])
def test_two_tensors_of_one_name_under_one_root(tmp_path: Path, scheme: Any) -> None:
    """Whoever makes the root lists a name twice, and shows each of the two to somebody else.

    The root alone cannot tell. No list has the name twice, so with the list neither is believed.
    """
    paths = [tmp_path / f"{number}.safetensors" for number in range(2)]
    for number, path in enumerate(paths):
        at_hand.write(path, {"a": ("U8", [2, 4], bytes([number]) * 8)})
    models = [at_hand.committed(path, scheme=scheme) for path in paths]
    both = [model.tensors[0] for model in models]
    made = weights_schemes.of(scheme)
    entries = weights_commitment.entries(both)
    root = dataclasses.replace(models[0].root, value=made.entries_root(entries))
    for number, (path, model) in enumerate(zip(paths, models, strict=True)):
        honest = at_hand.opened(path, "a", scheme=scheme, like={"the list": model})
        shown = dataclasses.replace(
            honest, root=root, count=2, index=number, entry_proof=made.prove_entry(entries, number)
        )
        assert weights_opening.verify(shown, root).values == bytes([number]) * 8
        with pytest.raises(BindingError, match="list: expected it for the root"):
            weights_opening.verify(shown, root, like=model)
        with pytest.raises(DataError, match=r"root: expected palm-sha256:.*, which the tensors give"):
            weights_opening.verify(shown, root, like=dataclasses.replace(models[0], root=root))
    with pytest.raises(DataError, match="the name occurs twice"):
        dataclasses.replace(models[0], root=root, tensors=tuple(both))


def test_what_is_opened_and_what_is_listed(published: Published) -> None:
    """With the list at hand, an opening of its root is of what the list has at that place, or refused."""
    for tensor in published.listed.tensors:
        if all(tensor.shape):
            opening = published.open(tensor.name)
            assert weights_opening.verify(opening, published.listed.root, like=published.listed)
    entry = {"index": 0, "tensor": published.opening.tensor}
    count = len(published.listed.tensors)
    for change in (entry, {"count": count + 1}, {"count": count - 1, "index": 0}):
        forged = dataclasses.replace(published.opening, **change)
        with pytest.raises(BindingError, match=f"the list of {count} has another tensor there"):
            weights_opening.verify(forged, published.listed.root, like=published.listed)
