"""Fingerprints of captured tensors: the right rows, whatever calls they came in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import palm_torch
from palm_torch.audit import fingerprint
from palm_torch.commit.trace import Calls, Group, Site
from palm_torch.commit.trace_groups import tiling
from palm_torch.committing import fingerprints
from palm_torch.digest import tagged_digest
from palm_torch.errors import CoverageError, DataError, SessionError

WIDTH = 12


class Blocks(nn.Module):
    """Some blocks in a row, each of which may answer with a tuple."""

    def __init__(self, depth: int, *, pair: bool = False) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.blocks = nn.ModuleList(
            Pair() if pair else nn.Sequential(nn.Linear(WIDTH, WIDTH)) for _ in range(depth)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            found = block(x)
            x = found[0] if isinstance(found, tuple) else found
        return x


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.inner(x), x.sum(-1, keepdim=True)


def inputs(*shapes: tuple[int, ...]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(*shape, WIDTH, generator=generator) for shape in shapes]


def test_tokens_count_through_all_calls() -> None:
    model, parts = Blocks(3), inputs((2, 4), (2, 1), (2, 1))

    def run() -> None:
        for part in parts:
            model(part)

    made = fingerprints.of_run(model, run, ["blocks.1"])
    with torch.no_grad():
        expected = model.blocks[1](model.blocks[0](torch.cat(parts, dim=1))).numpy()
    assert made == fingerprint.make({"blocks.1": expected})


def test_two_blocks_if_nothing_else_is_said() -> None:
    model, (x,) = Blocks(5), inputs((1, 4))
    made = fingerprints.of_run(model, lambda: model(x))
    assert [part.site.module for part in made.sites] == ["blocks.2", "blocks.4"]
    alone = Blocks(1)
    made = fingerprints.of_run(alone, lambda: alone(x), ["blocks.0"])
    assert [part.tokens for part in made.sites] == [4]


def test_the_first_of_several_outputs() -> None:
    model, (x,) = Blocks(2, pair=True), inputs((1, 4))
    for sites in (None, ["blocks.0", "blocks.1"]):
        made = fingerprints.of_run(model, lambda: model(x), sites)
        assert [part.site for part in made.sites] == [Site("blocks.0", "0"), Site("blocks.1", "0")]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_element_types(dtype: torch.dtype) -> None:
    model, (x,) = Blocks(2).to(dtype), inputs((1, 4))
    made = fingerprints.of_run(model, lambda: model(x.to(dtype)))
    with torch.no_grad():
        found = model(x.to(dtype))
    expected = fingerprint.make({"blocks.1": found.double().numpy()}).sites[0]
    assert made.sites[-1].place_array().tolist() == expected.place_array().tolist()
    assert made.sites[-1].scale_array() == pytest.approx(expected.scale_array(), rel=1e-6)


def test_seed_top_and_counts_go_on_to_what_makes_it() -> None:
    model, (x,) = Blocks(2), inputs((1, 4))
    counts = np.array([[True, True, False, True]])
    made = fingerprints.of_run(model, lambda: model(x), ["blocks.1"], seed=b"s" * 32, counts=counts)
    with torch.no_grad():
        expected = fingerprint.make({"blocks.1": model(x).numpy()}, seed=b"s" * 32, counts=counts)
    assert made == expected


def groups(*names: str, shape: tuple[int, ...] = (1, 4), dtype: str = "float32") -> list[Group]:
    calls = (Calls(0, 1, shape), Calls(1, 1, (2, 1)))
    return [
        Group(
            sites=tuple(Site(name) for name in names),
            dtype=dtype,
            channels=WIDTH,
            tile=tiling(dtype, WIDTH),
            schedule=calls,
            root=tagged_digest("palm-torch/terkle-root/v1"),
        )
    ]


def test_blocks_are_those_of_the_list_nearest_to_the_model() -> None:
    deep = groups(
        "model.layers.0", "model.layers.0.experts.7", "model.layers.1", "vision.tower.deep.3", "lm_head"
    )
    assert fingerprints.default_sites(deep) == [Site("model.layers.0"), Site("model.layers.1")]
    assert fingerprints.default_sites(groups("3", "10", "5")) == [Site("5"), Site("10")]
    with pytest.raises(DataError, match="no numbered block was captured"):
        fingerprints.default_sites(groups("lm_head"))


def test_calls_that_make_no_sequences() -> None:
    kept: Any = object()
    with pytest.raises(DataError, match=r"as many sequences each, got 1 and \[1, 2\]"):
        fingerprints.make(groups("a"), {}, kept, ["a"])
    two = groups("a", shape=(2, 4)) + groups("a", shape=(2, 4), dtype="bfloat16")
    with pytest.raises(DataError, match=r"with one element type .* got 2 and \[2\]"):
        fingerprints.make(two, {}, kept, [Site("a")])
    with pytest.raises(DataError, match="b: expected one of the sites that were captured, got 0 of 1"):
        fingerprints.make(groups("a"), {}, kept, ["b"])


def test_numbers_that_are_no_floats() -> None:
    ints = Ints()
    with pytest.raises(DataError, match="inner: expected float64, float32, float16, bfloat16, got int64"):
        fingerprints.of_run(ints, lambda: ints(torch.ones(1, 3, 2)), ["inner"])


class Ints(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Rounded()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.inner(x)
        return found


class Rounded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * self.weight).long()


def test_without_kept_tensors() -> None:
    with pytest.raises(SessionError, match="nothing was kept"):
        fingerprints.make(groups("a"), {}, None)


def test_a_run_that_fails_leaves_no_hooks() -> None:
    model = Blocks(2)
    with pytest.raises(ZeroDivisionError):
        fingerprints.of_run(model, lambda: 1 // 0)
    with pytest.raises(CoverageError):
        fingerprints.of_run(model, lambda: None)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_proof_has_what_it_takes() -> None:
    model, (x,) = Blocks(2), inputs((1, 4))
    with palm_torch.commit(model, keep="memory") as proof:
        model(x)
    if not hasattr(proof, "fingerprint"):
        pytest.skip("Proof.fingerprint is not there yet")
    made = proof.fingerprint()
    assert proof.trace.facts["fingerprint"] == made.digest
    with pytest.raises(SessionError, match="before the root is asked for"):
        proof.fingerprint()
