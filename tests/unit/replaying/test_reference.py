"""Blocks of all kinds, called alone: what an honest run of them gives, and what nobody can follow."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import replayed_models
import torch
from torch import nn

import palm_torch
from palm_torch.errors import BindingError, DataError
from palm_torch.replaying import blocks, calls, reference

if TYPE_CHECKING:
    from collections.abc import Callable

    from palm_torch.replaying.result import ReplayResult

WIDTH = 32


class Chain(nn.Module):
    """A language model of three blocks."""

    def __init__(self, block: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.embed = nn.Embedding(replayed_models.VOCABULARY, WIDTH)
        self.blocks = nn.ModuleList(block() for _ in range(3))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Returns what the last block returned."""
        hidden = self.embed(ids)
        for block in self.blocks:
            hidden = block(hidden)
        return hidden


class Block(nn.Module):
    """A block with weights, of which tests make what they need."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.inner = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH)


class InPlace(Block):
    """Adds to its input in place, as much code does."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Returns its input."""
        hidden += self.inner(self.norm(hidden))
        return hidden


class Convolution(Block):
    """Mixes each token with the two before it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv1d(WIDTH, WIDTH, 3)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Returns the sum."""
        return hidden + self.inner(nn.functional.pad(self.norm(hidden).mT, (2, 0))).mT


class Mean(Block):
    """Mixes each token with all of them, those after it too."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Returns the sum."""
        return hidden + self.inner(self.norm(hidden)).mean(1, keepdim=True)


class Turned(Block):
    """Turns pairs of numbers by angles that it keeps as complex numbers."""

    def __init__(self) -> None:
        super().__init__()
        angles = torch.arange(16)[:, None] * torch.logspace(0, -2, WIDTH // 2)
        self.register_buffer("turns", torch.polar(torch.ones_like(angles), angles), persistent=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Returns the sum."""
        pairs = torch.view_as_complex(self.inner(hidden).reshape(*hidden.shape[:-1], -1, 2))
        return hidden + torch.view_as_real(pairs * self.turns[: hidden.shape[1]]).reshape(hidden.shape)


class Residual(Block):
    """Adds to what it is given."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Returns the sum."""
        return hidden + self.inner(self.norm(hidden))


class Counting(Block):
    """Does something else each time that it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.times = 0

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Returns the sum."""
        self.times += 1
        return hidden + self.inner(hidden) * self.times


class Single(Block):
    """Asks for one element type."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Returns the sum."""
        assert hidden.dtype == torch.float32
        return hidden + self.inner(hidden)


class Coarse(Block):
    """Keeps next to nothing of what it computes, except in float64."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Returns the sum, or half of it."""
        return self.norm(hidden) * (1 if hidden.dtype == torch.float64 else 0.5)


def chain(block: Callable[[], nn.Module], dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    made = Chain(block)
    return (made if block is Turned else made.to(dtype)).eval()


def honest(made: nn.Module, **options: Any) -> ReplayResult:
    run = replayed_models.run(made)
    return run.replay(run.ask(queries=40), made, **options)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("block", [InPlace, Convolution, Turned])
def test_an_honest_run_of_other_blocks_is_replayed(block: type[Block], dtype: torch.dtype) -> None:
    found = honest(chain(block, dtype))
    assert {one.verdict for one in found.findings} == {"replayed"}
    epsilon = torch.finfo(torch.float32 if block is Turned else dtype).eps
    assert all(one.rounding is not None and one.rounding < 100 * epsilon for one in found.findings)


def test_a_block_that_looks_ahead_accuses_nobody() -> None:
    with pytest.raises(DataError, match=r"depends on tokens after it, .* expected a causal model"):
        honest(chain(Mean))


def test_looking_ahead() -> None:
    for block, ahead in ((Mean, True), (Convolution, False)):
        made = chain(block)
        call, _ = calls.of(made, [1, 2, 3], "blocks.1", None)
        assert reference.sees_ahead(reference.of(made.blocks[1]), call) is ahead  # type: ignore[index]


@pytest.mark.parametrize("block", [Mean, Convolution])
def test_whether_a_single_token_or_padding_looks_ahead_is_not_asked(block: type[Block]) -> None:
    made = chain(block)
    exact = reference.of(made.blocks[0])  # type: ignore[index]
    request = type("Request", (), {"blocks": ("blocks.0",)})()
    place = type("Place", (), {"part": 0, "sequence": 0, "token": 0})()
    for row in ((1,), (1, -1)):
        ids = type("Tokens", (), {"rows": (row,)})()
        assert blocks._sees_ahead(request, place, made, exact, ids) is False
    ids = type("Tokens", (), {"rows": ((1, 2),)})()
    assert blocks._sees_ahead(request, place, made, exact, ids) is (block is Mean)


def test_a_block_that_does_something_else_each_time() -> None:
    with pytest.raises(DataError, match=r"called alone .* it returns something else"):
        honest(chain(Counting))


def test_a_block_that_refuses_float64() -> None:
    with pytest.raises(DataError, match=r"Single: cannot be called alone .*AssertionError"):
        honest(chain(Single))


def test_a_block_that_cannot_be_copied() -> None:
    made = chain(Convolution)
    made.blocks[0].kept = (i for i in ())  # type: ignore[index]
    with pytest.raises(DataError, match="Convolution: cannot be copied"):
        reference.of(made.blocks[0])  # type: ignore[index]


def test_rounding_that_would_hide_anything_is_no_replay() -> None:
    found = honest(chain(Coarse))
    assert not found.accepted
    assert all(one.blind and one.words.startswith(blocks._COARSE) for one in found.findings)


def test_ids_that_the_model_does_not_have() -> None:
    made = chain(Convolution)
    ids = torch.ones(1, 5, dtype=torch.int64)
    with palm_torch.commit(made, layers="blocks", keep="memory") as proof, torch.no_grad():
        made(ids)
    proof.bind_tokens(ids << 40)
    run = replayed_models.Run(proof, ("blocks.0", "blocks.1", "blocks.2"))
    with pytest.raises(DataError, match=r"cannot compute with the . ids .* 1099511627776 is the largest"):
        run.replay(run.ask(), made)


def test_generated_tokens_are_not_bound_as_padding() -> None:
    """Whoever could call what was generated padding would have nothing of it looked at."""
    made = replayed_models.model("mixtral")
    run = replayed_models.run(made, bind=False)
    ids = torch.ones(1, 13, dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[0, 9] = 0
    run.proof.bind_tokens(ids, mask)
    with pytest.raises(BindingError, match="token 9 was generated, and is bound as padding"):
        run.replay(run.ask(), made)


class HandsOn(nn.Module):
    """Hands on whatever it is given, as wrappers do."""

    def __init__(self, config: object) -> None:
        super().__init__()
        self.config, self.said = config, []  # type: ignore[var-annotated]

    def forward(self, ids: torch.Tensor, **words: Any) -> torch.Tensor:
        """Returns the ids."""
        self.said.append(words)
        return ids


def test_a_wrapper_is_told_to_keep_no_cache() -> None:
    made = HandsOn(type("Config", (), {"use_cache": True})())
    calls._run(made, [1])
    plain = HandsOn(None)
    calls._run(plain, [1])
    assert (made.said, plain.said) == ([{"use_cache": False}], [{}])


def test_what_is_alike() -> None:
    one = torch.tensor([1.0, float("nan"), 100.0])
    near = torch.tensor([1.0 + 1e-5, float("nan"), 100.0])
    assert calls._alike(one, one)
    assert calls._alike(near, one)
    assert not calls._alike(one + 1, one)
    assert not calls._alike(one[:2], one)
    assert not calls._alike(one.double(), one)
    assert not calls._alike(torch.tensor([1]), torch.tensor([2]))


def test_a_channel_much_larger_than_the_others_hides_nothing_in_them() -> None:
    made = chain(Residual, torch.bfloat16)
    with torch.no_grad():
        made.embed.weight[:, 0] = 500
        for block in made.blocks:
            block.inner.weight *= 8
    found = honest(made)
    assert found.accepted
    assert all(one.ratio is not None and one.ratio < 2 for one in found.findings)
    other = copy.deepcopy(made)
    with torch.no_grad():
        for block in other.blocks:
            step = block.inner.weight.abs().amax(1, keepdim=True) / 7
            block.inner.weight.copy_((block.inner.weight / step).round() * step)
    run = replayed_models.run(other)
    shown = run.replay(run.ask(queries=40), made)
    assert {one.verdict for one in shown.findings} == {"differs"}
    assert all("half of the channels are off by" in one.words for one in shown.findings)
    assert all(one.difference is not None and one.difference < 500 * 2**-9 for one in shown.findings)
