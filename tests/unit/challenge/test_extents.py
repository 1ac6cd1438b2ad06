"""How many tokens a trace has, and which of them have logits."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

import audited
import pytest

from palm_torch.challenge import extents, parts
from palm_torch.challenge.modules import Modules
from palm_torch.commit.trace import Calls, Site
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from palm_torch.challenge.extents import Extents


def of(model: Any = None, **options: Any) -> Extents:
    geometry = audited.llama() if model is None else model
    return extents.extents(audited.Audited(geometry, **options).context, parts.parts(geometry))


def listed(found: Extents) -> list[int]:
    """Returns the token of every row of logits, after a look at the way back."""
    tokens = [found.token_of(row) for row in range(found.shown)]
    assert [found.row_of(token) for token in tokens] == list(range(found.shown))
    for token in set(range(found.tokens + 2)) - set(tokens):
        with pytest.raises(DataError, match=f"token {token}: the trace has no logits of it"):
            found.row_of(token)
    return tokens


def test_a_generation() -> None:
    found = of()
    assert (found.batch, found.tokens, found.shown) == (2, 8, 4)
    assert listed(found) == [4, 5, 6, 7]


def test_a_forward_pass() -> None:
    found = of(fed=audited.FORWARD, shown=audited.FORWARD)
    assert (found.batch, found.tokens) == (2, 8)
    assert listed(found) == list(range(8))


@pytest.mark.parametrize(
    ("fed", "shown", "expected"),
    [
        ([5, 1, 1], [1, 1, 1], [4, 5, 6]),
        ([5, 1, 1], [5, 1, 1], [0, 1, 2, 3, 4, 5, 6]),
        ([3, 3, 2, 1], [1, 1, 2, 1], [2, 5, 6, 7, 8]),
        ([4, 4, 4], [2, 2, 1], [2, 3, 6, 7, 11]),
        ([1, 1, 2, 2], [1, 1, 1, 1], [0, 1, 3, 5]),
    ],
)
def test_any_runs_of_calls(fed: list[int], shown: list[int], expected: list[int]) -> None:
    def runs(counts: list[int]) -> tuple[Calls, ...]:
        made: list[Calls] = []
        for call, count in enumerate(counts):
            if made and made[-1].shape == (1, count):
                made[-1] = Calls(made[-1].first, made[-1].count + 1, (1, count))
            else:
                made.append(Calls(call, 1, (1, count)))
        return tuple(made)

    assert listed(of(fed=runs(fed), shown=runs(shown), tokens=None)) == expected


def test_positions_may_have_one_sequence_for_all() -> None:
    alone = tuple(Calls(run.first, run.count, (1, run.tokens)) for run in audited.FED)
    found = of(audited.gpt2(), others={"transformer.wpe": alone})
    assert (found.batch, found.tokens) == (2, 8)


ONE = Calls(0, 1, (2, 5))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"left_out": ("model.norm",)}, "model.norm: no tensor of it is in this trace"),
        ({"left_out": ("model.layers.1.self_attn.k_proj",)}, "model.layers.1.self_attn.k_proj: no tensor"),
        (
            {"others": {"model.layers.1.mlp.up_proj": (ONE,)}},
            "model.layers.1.mlp.up_proj: expected one forward",
        ),
        ({"others": {"model.norm": (ONE,)}}, "model.norm: expected one forward pass"),
        ({"fed": (ONE, Calls(2, 3, (2, 1)))}, "model.embed_tokens: expected one forward pass"),
        ({"fed": (ONE, Calls(1, 3, (1, 1)))}, "calls 1 to 3 have 1 sequences of 1 tokens"),
        ({"fed": (ONE, Calls(1, 1, (2, 0)))}, "calls 1 to 1 have 2 sequences of 0 tokens"),
        ({"shown": (Calls(0, 3, (2, 1)),)}, "lm_head: expected 4 calls, as of the blocks, got 3"),
        (
            {"shown": (Calls(0, 4, (1, 1)),)},
            "lm_head: call 0: expected 2 sequences of at most 5 tokens, got 1",
        ),
        ({"shown": (Calls(0, 4, (2, 2)),)}, "lm_head: call 1: expected 2 sequences of at most 1 tokens"),
        (
            {"others": {"model.layers.0.self_attn.v_proj": (Calls(0, 1, (1, 5)), Calls(1, 3, (1, 2)))}},
            "model.layers.0.self_attn.v_proj: expected one forward pass",
        ),
    ],
)
def test_a_trace_of_something_else(options: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError) as caught:
        of(**options)
    assert says in str(caught.value)


def test_more_than_an_audit_looks_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extents, "MAX_TOKENS", 8)
    assert of().tokens == 8
    monkeypatch.setattr(extents, "MAX_TOKENS", 7)
    with pytest.raises(DataError, match="trace: expected at most 4096 sequences of 7 tokens, got 2 of 8"):
        of()
    monkeypatch.setattr(extents, "MAX_TOKENS", 8)
    monkeypatch.setattr(extents, "MAX_SEQUENCES", 1)
    with pytest.raises(DataError, match="trace: expected at most 1 sequences of 8 tokens"):
        of()


def test_modules_with_several_outputs() -> None:
    made = audited.Audited(audited.llama())
    group = made.context.groups[0]
    more = dataclasses.replace(group, sites=(*group.sites[:-1], Site("model.embed_tokens", "0")))
    context = dataclasses.replace(made.context, groups=(more, *made.context.groups[1:]))
    with pytest.raises(
        DataError, match=r"model\.embed_tokens: expected one of its outputs, which are '', '0'"
    ):
        Modules(context).find("model.embed_tokens")
    assert Modules(made.context).find("model.embed_tokens")[1] == group


@pytest.mark.parametrize(
    ("fed", "given"),
    [
        ([5, 1, 1], 5),
        ([8], 8),
        ([1, 1, 1], 1),
        ([3, 3, 2, 1, 1], 9),
        ([3, 3, 1, 1], 7),
        ([3, 3], 6),
        ([1, 4, 1], 5),
    ],
)
def test_how_many_tokens_were_given(fed: list[int], given: int) -> None:
    runs = [(count, len(list(alike))) for count, alike in itertools.groupby(fed)]
    firsts = itertools.accumulate((count for _, count in runs), initial=0)
    calls = tuple(
        Calls(first, count, (2, tokens)) for first, (tokens, count) in zip(firsts, runs, strict=False)
    )
    merged = audited.Audited(audited.llama(), fed=calls, shown=calls, tokens=None)
    assert extents.extents(merged.context, parts.parts(merged.geometry)).given == given
