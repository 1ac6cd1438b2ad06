"""Each attack of `benchmarks/attacks.py` changes what it says, there and nowhere else.

The judge is a naive one: every operation of the claimed model, by torch in float32, on the rows that are
shown. A place is broken where one of them is off by more than bfloat16 explains.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

import palm_torch

sys.path.append(str(Path(__file__).parents[3] / "benchmarks"))

from support import (
    cheats,
    committed,
    layer_scores,
    odds,
    reexecuted,
    rerunning,
    serving,
    toploc,
    weakened,
    world,
)
from support.trained import Size

TOLERANCE = 0.006
"""Of an output, relative to its length: a few roundings to bfloat16 make 0.003, 8-bit weights 0.009."""

NEW = 9
Broken = set[tuple[str, int, int]]


@functools.cache
def at_hand() -> world.World:
    size = Size("tiny", 128, 4, 192, steps=0, tuned_steps=0)
    claimed, other = (size.empty(seed).bfloat16() for seed in (0, 1))
    tuned = size.empty(0).bfloat16()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in tuned.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator).bfloat16(), alpha=0.002)
    texts = torch.randint(0, 256, (16, 257), generator=generator)
    return world.World(claimed, other, tuned, texts, weakest=(1, 2), new=NEW)


def naively_broken(model: Any, served: serving.Served) -> Broken:
    wide = at_hand().made("wide", lambda: weakened.copied(model).float())
    rows = {name: served.rows(name).float() for name in served.tensors}
    off: dict[tuple[str, int], torch.Tensor] = {}

    def compare(kind: str, number: int, shown: str, expected: torch.Tensor) -> None:
        apart = (rows[shown] - expected).norm(dim=1) / rows[shown].norm(dim=1)
        off[kind, number] = off.get((kind, number), torch.zeros(len(apart))).maximum(apart)

    def module(kind: str, number: int, name: str, given: torch.Tensor) -> None:
        compare(kind, number, name, wide.get_submodule(name)(given))

    with torch.no_grad():
        module("embedding", 0, "model.embed_tokens", served.tokens[0, : served.fed])
        before = "model.embed_tokens"
        for number in range(len(wide.model.layers)):
            name = f"model.layers.{number}"
            inside = functools.partial("{}.{}".format, name)
            at = functools.partial(module, "block", number)
            at(inside("input_layernorm"), rows[before])
            for part in "qkv":
                at(inside(f"self_attn.{part}_proj"), rows[inside("input_layernorm")])
            at(inside("self_attn.o_proj"), attended(wide, rows, inside("self_attn")))
            middle = rows[before] + rows[inside("self_attn.o_proj")]
            at(inside("post_attention_layernorm"), middle)
            for part in ("gate", "up"):
                at(inside(f"mlp.{part}_proj"), rows[inside("post_attention_layernorm")])
            gate, up = rows[inside("mlp.gate_proj")], rows[inside("mlp.up_proj")]
            at(inside("mlp.down_proj"), functional.silu(gate) * up)
            compare("block", number, name, middle + rows[inside("mlp.down_proj")])
            before = name
        shown = slice(served.prompt - 1, served.fed)
        module("head", 0, "model.norm", rows[before])
        off["head", 0] = off["head", 0][shown]
        module("head", 0, "lm_head", rows["model.norm"][shown])
    broken = {
        (kind, number, token + (served.prompt - 1 if kind == "head" else 0))
        for (kind, number), apart in off.items()
        for token in (apart > TOLERANCE).nonzero().flatten().tolist()
    }
    chosen = rows["lm_head"].argmax(dim=1)
    told = served.tokens[0, served.prompt :]
    return broken | {
        ("head", 0, served.prompt - 1 + at) for at in (chosen != told).nonzero().flatten().tolist()
    }


def attended(model: Any, rows: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    tokens = len(rows[f"{name}.q_proj"])
    query, key, value = (
        rows[f"{name}.{part}_proj"].view(1, tokens, -1, 64).transpose(1, 2) for part in "qkv"
    )
    turned = model.model.rotary_emb(value, torch.arange(tokens).unsqueeze(0))
    query, key = apply_rotary_pos_emb(query, key, *turned)
    mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    return mixed.transpose(1, 2).reshape(tokens, -1)


def told_broken(claim: world.Claim) -> Broken:
    served = claim.served
    return {
        (kind, number, token)
        for kind, count in (("embedding", 1), ("block", at_hand().depth), ("head", 1))
        for number in range(count)
        for token in range(served.prompt - 1 if kind == "head" else 0, served.fed)
        if claim.broken(kind, number, token)
    }


@pytest.mark.parametrize("run", [0, 3])
@pytest.mark.parametrize("name", [name for name in cheats.ATTACKS if name != "an old root"])
def test_an_attack_breaks_the_places_that_it_says(name: str, run: int) -> None:
    claim = cheats.ATTACKS[name](at_hand(), run)
    broken = naively_broken(at_hand().model, claim.served)
    assert broken
    assert broken == told_broken(claim)


def test_an_honest_claim_breaks_none() -> None:
    claim = cheats.honest(at_hand(), 0)
    assert naively_broken(at_hand().model, claim.served) == told_broken(claim) == set()


@pytest.mark.parametrize("name", cheats.ATTACKS)
def test_an_attack_is_found_out_by_running_again_and_not_by_its_shape(name: str) -> None:
    honest, claim = cheats.honest(at_hand(), 2), cheats.ATTACKS[name](at_hand(), 2)
    mine, theirs = (committed.commit(item.served).trace for item in (honest, claim))
    assert [group.schedule for group in mine.groups] == [group.schedule for group in theirs.groups]
    assert [group.sites for group in mine.groups] == [group.sites for group in theirs.groups]
    own = reexecuted.reference(at_hand(), claim)
    assert reexecuted.differs(claim, theirs.activations(), own)
    assert claim.served.tokens.shape == honest.served.tokens.shape


def test_an_honest_claim_is_not_accused_by_running_again() -> None:
    claim = cheats.honest(at_hand(), 1)
    shown = committed.commit(claim.served).trace.activations()
    assert not reexecuted.differs(claim, shown, reexecuted.reference(at_hand(), claim))


def test_what_is_replayed_has_the_root_of_what_is_captured() -> None:
    model, served = at_hand().model, at_hand().honest(4)
    with palm_torch.commit(model, layers="audit") as proof:
        made = model.generate(
            at_hand().prompt(4), max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, pad_token_id=0
        )
    assert torch.equal(made, served.tokens)
    assert committed.commit(served).trace.activations() == proof.trace.activations()


def test_an_edited_answer_is_told_with_the_honest_trace() -> None:
    honest, claim = at_hand().honest(0), cheats.ATTACKS["tokens edited"](at_hand(), 0)
    changed = (honest.tokens != claim.served.tokens)[0]
    assert 0 < changed.sum() <= cheats.EDITED_TOKENS
    assert not changed[: honest.prompt].any()
    assert claim.served.tensors is honest.tensors


def test_an_old_root_is_another_one_than_what_was_sealed() -> None:
    claim = cheats.ATTACKS["an old root"](at_hand(), 0)
    assert claim.sealed is not None
    assert torch.equal(claim.sealed.tokens, claim.served.tokens)
    assert committed.commit(claim.sealed).root != committed.commit(claim.served).root


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_rounded_weights_have_few_values_and_are_near(bits: int) -> None:
    weight = torch.randn(6, 300, generator=torch.Generator().manual_seed(1))
    weight[2] = 0
    rounded = weakened.nearest(weight, bits)
    step = weight.abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 1)
    assert (rounded - weight).abs().le(0.5001 * step).all()
    assert all(len(row.unique()) <= 2**bits - 1 for row in rounded)


def test_blocks_and_matrices_alone_are_rounded() -> None:
    model = at_hand().model
    rounded = weakened.quantised(model, 4, [1]).state_dict()
    changed = {name for name, weight in model.state_dict().items() if not torch.equal(weight, rounded[name])}
    assert len(changed) == 7
    assert all(name.startswith("model.layers.1.") and name.endswith("_proj.weight") for name in changed)


def test_forgotten_tokens_are_not_looked_at() -> None:
    model = at_hand().made("float32", lambda: weakened.copied(at_hand().model).float())
    prompt, cut = at_hand().prompt(0), 40
    whole = serving.serve(model, prompt, NEW, forgets=cut).rows("model.layers.3")
    alone = serving.serve(model, prompt[:, cut:], NEW).rows("model.layers.3")
    torch.testing.assert_close(whole[cut:], alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        whole[:cut], serving.serve(model, prompt, NEW).rows("model.layers.3")[:cut], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("setting", rerunning.SETTINGS)
def test_settings_are_put_back_and_change_rounding_alone(setting: serving.Setting) -> None:
    model, threads = at_hand().model, torch.get_num_threads()
    verifier = rerunning.Verifier(at_hand(), ["model.norm"])
    honest = at_hand().honest(0)
    own = verifier.rows(honest.tokens, setting)["model.norm"].float()
    assert (own - honest.rows("model.norm").float()).norm() <= 0.02 * own.norm()
    assert torch.get_num_threads() == threads
    assert model.config._attn_implementation == "sdpa"
    assert model.dtype is torch.bfloat16


def test_toploc_finds_no_error_in_the_same_run_and_many_in_another() -> None:
    states = [torch.randn(40, 64, generator=torch.Generator().manual_seed(2)).bfloat16()]
    states += [torch.randn(1, 64, generator=torch.Generator().manual_seed(n)).bfloat16() for n in range(32)]
    assert toploc.check(toploc.proofs(states), states) == toploc.Errors(0, 0, 0)
    other = [state.roll(1, dims=1) for state in states]
    assert toploc.check(toploc.proofs(states), other).exponents > 100
    near = [(state.float() * (1 + 2**-7)).bfloat16() for state in states]
    errors = toploc.check(toploc.proofs(states), near)
    assert errors.exponents < 128
    assert 0 < errors.mean <= 2
    assert errors.median in {1, 2}
    assert not errors.above(toploc.PUBLISHED)
    assert toploc.Errors(0, 0, 9).above(toploc.PUBLISHED)


def test_the_blocks_with_the_lowest_scores_are_drawn_least(tmp_path: Path) -> None:
    scores = layer_scores.of_file(layer_scores.stored(at_hand().model, tmp_path))
    one, two = layer_scores.weakest(scores)
    weights = layer_scores.weights(scores)
    assert len(weights) == len(scores.parts) == 6
    assert 0 <= one < two < 4
    assert sorted(weights[1:5])[:2] == sorted((weights[1 + one], weights[1 + two]))
    assert min(weights) > 0.5 * sum(weights) / 6 * (1 - 1e-6)


def test_expected_counts_are_binomial_quantiles() -> None:
    assert odds.expected([1.0] * 9) == (9, 9)
    assert odds.expected([0.0] * 9) == (0, 0)
    assert odds.expected([0.5] * 100) == (40, 60)
    first, last = odds.expected([0.1, 0.9] * 50)
    assert 40 < first <= 50 <= last < 60


def test_intervals_are_those_of_clopper_and_pearson() -> None:
    assert odds.interval(0, 10) == pytest.approx((0.0, 0.30850), abs=1e-5)
    assert odds.interval(10, 10) == pytest.approx((0.69150, 1.0), abs=1e-5)
    assert odds.interval(3, 20) == pytest.approx((0.03207, 0.37893), abs=1e-5)
