"""Scores of parts: from spectra and norms of a model's weights, and who looks at which."""

from __future__ import annotations

import csv
import itertools
import math
import os
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from palm_torch.audit import scores
from palm_torch.challenge.scores_file import MEDIA_TYPE, PartScore, Scores
from palm_torch.commit.weights_root import MAX_TILE_BYTES
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from palm_torch.challenge.scores_file import Measure

WIDTH = 24


def llama(blocks: int = 3, **more: Any) -> dict[str, Any]:
    source = np.random.default_rng(0)

    def matrix(rows: int, columns: int) -> Any:
        return source.standard_normal((rows, columns)).astype(np.float32)

    found = {
        "model.embed_tokens.weight": matrix(50, WIDTH),
        "model.norm.weight": np.ones(WIDTH, np.float32),
        "lm_head.weight": matrix(50, WIDTH),
    }
    for number in range(blocks):
        found[f"model.layers.{number}.mlp.up_proj.weight"] = matrix(2 * WIDTH, WIDTH) * (number + 1)
        found[f"model.layers.{number}.self_attn.q_proj.weight"] = matrix(WIDTH, WIDTH)
        found[f"model.layers.{number}.input_layernorm.weight"] = np.ones(WIDTH, np.float32)
    return {**found, **more}


def saved(folder: Path, tensors: dict[str, Any]) -> Path:
    save_file(tensors, folder / "model.safetensors")
    return folder


def test_a_spectrum_that_falls_with_a_known_exponent() -> None:
    # eigenvalues of a power law: P(λ > x) = x^(1 - α)
    count, exponent = 4000, 2.5
    eigenvalues = (np.arange(1, count + 1) / count) ** (-1 / (exponent - 1))
    found = scores.alpha(np.diag(np.sqrt(eigenvalues)[:1000]))
    tail = eigenvalues[:500]
    assert found == pytest.approx(1 + 500 / np.log(tail / eigenvalues[500]).sum(), rel=1e-9)
    assert found == pytest.approx(exponent, rel=0.01)


def test_alpha_knows_neither_scale_nor_side_nor_rotation() -> None:
    source = np.random.default_rng(1)
    x = source.standard_normal((30, 20)) @ np.diag(np.arange(1.0, 21) ** -1)
    turned = np.linalg.qr(source.standard_normal((30, 30)))[0] @ x
    for other in (x.T, 1e-30 * x, 1e200 * x, turned):
        assert scores.alpha(other) == pytest.approx(scores.alpha(x), rel=1e-6)


def test_a_heavier_tail_has_a_smaller_alpha() -> None:
    source = np.random.default_rng(2)
    light = source.standard_normal((64, 64))
    heavy = light @ np.diag(np.arange(1.0, 65) ** -1.5)
    assert scores.alpha(heavy) < scores.alpha(light)


def test_spectra_without_a_tail() -> None:
    assert scores.alpha(np.zeros((4, 4))) == math.inf
    assert scores.alpha(np.ones((1, 9))) == math.inf
    assert scores.alpha(np.eye(6)) == math.inf
    lower = np.zeros((40, 40))
    lower[:3, :3] = np.diag([3, 2, 1])  # rank 3: what rounding leaves of the others is no spectrum
    assert 1 < scores.alpha(lower) < 3


@pytest.mark.parametrize("bad", [np.array([[np.inf, 1]]), np.array([[np.nan, 1]]), np.zeros((0, 4))])
@pytest.mark.parametrize("measure", ["alpha", "l2"])
def test_matrices_that_have_no_measure(bad: Any, measure: Measure) -> None:
    with pytest.raises(DataError, match="w: expected finite weights"):
        scores.measured(bad, measure, what="w")


@pytest.mark.parametrize(("measure", "expected"), [("l1", 2.0), ("l2", math.sqrt(5.0)), ("linf", 3.0)])
def test_norms_of_a_matrix(measure: Measure, expected: float) -> None:
    for dtype in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64):
        matrix = np.array([[1, -3], [3, -1]]).astype(dtype)
        assert scores.measured(matrix, measure, what="w") == pytest.approx(expected)


@pytest.mark.parametrize("measure", ["l1", "l2", "linf"])
def test_parts_of_a_llama(tmp_path: Path, measure: Measure) -> None:
    found = scores.score(saved(tmp_path, llama()), measure)
    names = [part.name for part in found.parts]
    assert names == ["embedding", "model.layers.0", "model.layers.1", "model.layers.2", "head"]
    block = 3 * WIDTH * WIDTH + WIDTH
    assert [part.cost for part in found.parts] == [50 * WIDTH, block, block, block, 51 * WIDTH]
    values = [part.score for part in found.parts]
    assert values[1] < values[2] < values[3] == 1
    assert found.measure == measure


def test_alpha_of_a_block_is_the_mean_of_its_matrices(tmp_path: Path) -> None:
    tensors = llama()
    told: list[tuple[int, int]] = []
    found = scores.score(saved(tmp_path, tensors), progress=lambda done, size: told.append((done, size)))
    alphas = [scores.alpha(tensors["model.embed_tokens.weight"])]
    for number in range(3):
        names = (
            f"model.layers.{number}.mlp.up_proj.weight",
            f"model.layers.{number}.self_attn.q_proj.weight",
        )
        alphas.append(float(np.mean([scores.alpha(tensors[name]) for name in names])))
    alphas.append(scores.alpha(tensors["lm_head.weight"]))
    assert [part.score for part in found.parts] == pytest.approx([min(alphas) / alpha for alpha in alphas])
    assert told[-1] == (sum(array.nbytes for array in tensors.values()),) * 2
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_tied_head_has_the_matrix_of_the_embedding(tmp_path: Path) -> None:
    tensors = llama()
    del tensors["lm_head.weight"]
    found = scores.score(saved(tmp_path, tensors))
    assert found.parts[0].score == found.parts[-1].score
    assert found.parts[-1].cost == 51 * WIDTH


def test_a_gpt2_in_float16(tmp_path: Path) -> None:
    source = np.random.default_rng(3)
    tensors = {
        name: source.standard_normal(shape).astype(np.float16)
        for name, shape in {
            "transformer.wte.weight": (50, 8),
            "transformer.wpe.weight": (20, 8),
            "transformer.h.0.attn.c_attn.weight": (8, 24),
            "transformer.h.0.attn.c_attn.bias": (24,),
            "transformer.ln_f.weight": (8,),
        }.items()
    }
    found = scores.score(saved(tmp_path, tensors), "l2")
    assert [(part.name, part.cost) for part in found.parts] == [
        ("embedding", 70 * 8),
        ("transformer.h.0", 9 * 24),
        ("head", 8 + 50 * 8),
    ]


def test_experts_that_are_stored_together_count_one_by_one(tmp_path: Path) -> None:
    experts = np.stack([np.eye(6, dtype=np.float32) * number for number in (1, 2, 9)])
    tensors = llama(1, **{"model.layers.0.mlp.experts.gate_up_proj": experts})
    found = scores.score(saved(tmp_path, tensors), "linf")
    largest = [
        np.abs(tensors[f"model.layers.0.{name}.weight"]).max() for name in ("mlp.up_proj", "self_attn.q_proj")
    ]
    head = np.abs(tensors["lm_head.weight"]).max()
    block = np.mean([*largest, 1, 2, 9])
    assert found.parts[-1].score / found.parts[1].score == pytest.approx(head / block)


def test_uniform_reads_no_weights(tmp_path: Path) -> None:
    tensors = llama(2, **{"model.layers.0.extra.weight": np.full((2, 2), np.nan, np.float32)})
    assert {part.score for part in scores.score(saved(tmp_path, tensors), "uniform").parts} == {1.0}


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"a.weight": np.ones((2, 2), np.float32)}, "expected tensors of numbered blocks"),
        (llama(3) | {"model.layers.5.mlp.weight": np.ones((2, 2), np.float32)}, "expected blocks 0 to 5"),
        (llama(1) | {"model.layers.0.q.weight": np.ones((2, 2), np.int8)}, "expected float64.*got int8"),
        ({"layers.0.w": np.ones((2, 2), np.float32)}, "embedding: expected a matrix"),
    ],
)
def test_models_that_have_no_scores(tmp_path: Path, tensors: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        scores.score(saved(tmp_path, tensors), "l1")


def test_scores_of_nothing() -> None:
    assert scores.normalised([0.0, 0.0], "l1") == [1.0, 1.0]
    assert scores.normalised([math.inf, 2.0], "alpha") == [0.0, 1.0]
    assert scores.normalised([math.inf, math.inf], "alpha") == [1.0, 1.0]


def test_sharing_out_is_as_good_as_trying_everything() -> None:
    source = np.random.default_rng(5)
    for _ in range(20):
        parts = tuple(
            PartScore(name=str(number), score=float(source.random()), cost=int(source.integers(1, 9)))
            for number in range(6)
        )
        made = Scores(media_type=MEDIA_TYPE, measure="l1", parts=parts, verifiers=())
        budgets = [float(source.integers(1, 20)) for _ in range(2)]
        shared = scores.share_out(made, budgets)
        covered = 0.0
        for verifier, budget in zip(shared.verifiers, budgets, strict=True):
            theirs = parts[verifier.first : verifier.end]
            assert verifier.budget == budget >= sum(part.cost for part in theirs)
            covered += sum(part.score for part in theirs)
        assert covered == pytest.approx(tried(parts, budgets))


def tried(parts: tuple[PartScore, ...], budgets: list[float]) -> float:
    spans = [range(a, b) for a in range(7) for b in range(a, 7)]
    fits = [[s for s in spans if sum(parts[at].cost for at in s) <= budget] for budget in budgets]
    pairs = (pair for pair in itertools.product(*fits) if set(pair[0]).isdisjoint(pair[1]))
    return max(sum(parts[at].score for span in pair for at in span) for pair in pairs)


def test_published_layers_are_shared_out_as_well_as_can_be(vectors: Callable[[str], bytes]) -> None:
    def table(name: str) -> list[dict[str, str]]:
        return list(csv.DictReader(vectors(f"selection/{name}.csv").decode().splitlines()))

    layers = table("layers_opt_125m")
    parts = tuple(
        PartScore(name=layer["name"], score=float(layer["value"]), cost=int(layer["cost"]))
        for layer in layers
    )
    made = Scores(media_type=MEDIA_TYPE, measure="alpha", parts=parts, verifiers=())
    zeros = sum(part.score == 0 for part in parts)
    assert zeros > 0, "the published scores leave layers out"
    for case in [case for case in table("cases_experiment") if case["model"] == "opt_125m"][:20]:
        shared = scores.share_out(made, [float(case[name]) for name in ("B1", "B2", "B3")])
        worth = sum(part.score for who in shared.verifiers for part in parts[who.first : who.end])
        assert worth == pytest.approx(float(case["exact"]), abs=1e-6)


def test_too_little_memory_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> float:
        raise MemoryError

    save_file(llama(), tmp_path / "model.safetensors")
    monkeypatch.setattr(scores, "measured", full)
    with pytest.raises(DataError, match=r"tensor 'model.embed_tokens.weight': too little memory for 'l2'"):
        scores.score(tmp_path, "l2")


def test_a_matrix_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One read of Linux gives no more than 2 GiB, and embeddings may be larger."""
    save_file(
        llama() | {"lm_head.weight": np.ones((3000, WIDTH * 8), np.float32)}, tmp_path / "m.safetensors"
    )
    whole = scores.score(tmp_path / "m.safetensors", "l2")
    most = []
    read = os.preadv

    def counted(descriptor: int, buffers: Any, offset: int) -> int:
        most.append(sum(buffer.nbytes for buffer in buffers))
        return read(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", counted)
    assert scores.score(tmp_path / "m.safetensors", "l2") == whole
    assert max(most) <= MAX_TILE_BYTES < 3000 * WIDTH * 8 * 4
