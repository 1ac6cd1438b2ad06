"""Loading weights so that they are measured in the same pass, and holding them."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import palm_torch
from palm_torch.commit import weights_root
from palm_torch.errors import CoverageError, DataError, MeasurementError
from palm_torch.hooks import loading, rng_watch, spelled, weights
from palm_torch.hooks.held_weights import HeldWeights

if TYPE_CHECKING:
    from pathlib import Path


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(300, 700), nn.LayerNorm(700), nn.Linear(700, 3, bias=False))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_file(model().state_dict(), tmp_path / "model.safetensors")
    return tmp_path


def root_of(net: nn.Module) -> object:
    return weights.WeightsMeter().measure(weights.canonical_tensors(net)).root


def test_what_was_loaded_is_not_read_again(saved: Path) -> None:
    tensors = palm_torch.load_safetensors(saved)
    reference = model()
    for name, tensor in reference.state_dict().items():
        assert torch.equal(tensors[name], tensor)
    net = model()
    net.load_state_dict(tensors, assign=True)
    held = HeldWeights(net)
    assert (held.hashed_bytes, held.root) == (0, root_of(reference))
    assert held.measure() is None
    assert held.settle() is None


def test_tiles_make_the_same_root_under_another_name(saved: Path) -> None:
    tensors = loading.load_safetensors(saved / "model.safetensors")
    tensor = tensors["0.weight"]
    spec = weights_root.TensorSpec("other", "float32", (700, 300))
    tiles = loading.tiles_of(tensor)
    assert tiles is not None
    assert weights_root.root_of_tiles(spec, tiles) == weights_root.tensor_root(spec, tensor.numpy().tobytes())
    with pytest.raises(DataError, match="digests of its tiles"):
        weights_root.root_of_tiles(spec, tiles[:-32])


def test_a_counted_write_or_another_view_is_not_taken_for_what_was_loaded(saved: Path) -> None:
    tensor = loading.load_safetensors(saved)["0.weight"]
    assert loading.tiles_of(tensor) is not None
    assert loading.tiles_of(tensor.t()) is None
    assert loading.tiles_of(tensor[:3]) is None
    assert loading.tiles_of(tensor.clone()) is None
    tensor.add_(1)
    assert loading.tiles_of(tensor) is None


def test_an_uncounted_write_is_found_when_everything_is_measured(saved: Path) -> None:
    tensors = loading.load_safetensors(saved)
    tensors["1.weight"].numpy()[0] = 7
    held = HeldWeights(tensors)
    assert held.hashed_bytes == 0
    assert held.settle() is None
    assert held.measure() == "1.weight"


def test_memory_that_was_given_back_is_forgotten(saved: Path) -> None:
    tensors = loading.load_safetensors(saved)
    known = {loading._address(tensor) for tensor in tensors.values()}
    assert known <= loading._loaded.keys()
    del tensors
    gc.collect()
    again = loading.load_safetensors(saved)
    assert sum(not one.storage.expired() for one in loading._loaded.values()) == len(again)


def test_every_kind_of_tensor_is_loaded(tmp_path: Path) -> None:
    given = {
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 4),
        "half": torch.randn(5, 3).bfloat16(),
        "flags": torch.tensor([True, False]),
        "tokens": torch.arange(6, dtype=torch.int64).reshape(2, 3),
    }
    save_file(given, tmp_path / "all.safetensors")
    loaded = loading.load_safetensors(tmp_path / "all.safetensors")
    for name, tensor in given.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)
    assert HeldWeights(loaded).root == HeldWeights(given).root


def test_a_file_that_is_cut_while_it_is_read_is_an_error(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved / "model.safetensors"
    found = loading.safetensors_file.stored_tensors(path)
    path.write_bytes(path.read_bytes()[:-4000])
    monkeypatch.setattr(loading.safetensors_file, "stored_tensors", lambda _: found)
    with pytest.raises(DataError, match=r"expected .* bytes at offset"):
        loading.load_safetensors(path)


def test_what_cannot_be_loaded_is_told(tmp_path: Path, saved: Path) -> None:
    with pytest.raises(DataError, match="cannot be opened"):
        loading.load_safetensors(tmp_path / "none.safetensors")
    with pytest.raises(DataError, match=r"0\.bias"):
        loading.load_safetensors(saved, device="cuda:99")


def test_a_model_without_weights_is_none() -> None:
    with pytest.raises(CoverageError, match="without parameters"):
        HeldWeights(nn.ReLU())


def test_a_tensor_of_another_type_is_another_tensor() -> None:
    net = nn.Linear(3, 3)
    held = HeldWeights(net)
    net.double()
    assert held.settle() == "bias"
    assert held.measure() == "bias"


def test_inference_tensors_are_held_too() -> None:
    with torch.inference_mode():
        net = nn.Linear(3, 3)
    held = HeldWeights(net)
    assert held.settle() is None
    with torch.inference_mode():
        net.weight.add_(1)
    assert held.measure() == "weight"


def test_generators_have_one_digest_that_moves_with_each() -> None:
    import random

    import numpy as np

    seen = [rng_watch.take().digest()]
    assert rng_watch.take().digest() == seen[0]
    for draw in (lambda: torch.rand(1), random.random, np.random.rand, lambda: torch.manual_seed(3)):
        draw()
        taken = rng_watch.take()
        seen.append(taken.digest())
        assert taken.spelled().digest() == seen[-1]
    assert len(set(seen)) == len(seen)


def test_contents_say_how_they_are_to_be_read() -> None:
    assert spelled.content_of("é", what="q") == spelled.Content("text", b"\xc3\xa9")
    assert spelled.content_of(bytearray(b"x"), what="q") == spelled.Content("bytes", b"x")
    assert spelled.content_of(torch.ones(2, 1, dtype=torch.uint8), what="q") == spelled.Content(
        "uint8[2,1]", b"\1\1"
    )
    assert spelled.content_of([1], what="q").content == (1).to_bytes(8, "little")
    assert spelled.content_of(torch.tensor(5, dtype=torch.int32), what="q").form == "int32[]"


def test_logits_are_the_same_in_one_tensor_and_token_by_token() -> None:
    whole = torch.randn(2, 3, 5)
    tokens = tuple(whole[:, token].clone() for token in range(3))
    found = spelled.logits_of(whole, what="logits")
    assert found == spelled.logits_of(tokens, what="logits")
    assert len(set(found)) == 3
    assert found[0] != spelled.logits_of([tokens[0].double()], what="logits")[0]
    assert found[0] != spelled.logits_of([tokens[0].reshape(-1)], what="logits")[0]
    for wrong in (None, "logits", [tokens[0], 1], torch.ones(3), []):
        with pytest.raises(MeasurementError, match="logits: expected"):
            spelled.logits_of(wrong, what="logits")
