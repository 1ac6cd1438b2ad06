"""Provers who serve something else than they claim, and commit to a trace of it, or to one they made up.

An attack says by itself which places of the computation it breaks: those where an operation of the claimed
model, applied to what stands in the trace, does not give what stands in the trace. This is derived from what
the attack does; nothing of the audit is used for it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import torch

from support import serving, weakened
from support.serving import Served
from support.world import PROMPT, Claim, World

if TYPE_CHECKING:
    from collections.abc import Callable

HIDDEN: Final = 32
EDITED_TOKENS: Final = 8
LOWEST: Final = "4-bit weights, lowest scores"

Maker: TypeAlias = "Callable[[World, int], Claim]"
ATTACKS: Final[dict[str, Maker]] = {}
"""Name → what makes the claim of one run."""


def attack(name: str) -> Callable[[Maker], Maker]:
    """Puts an attack into the table."""

    def enter(make: Maker) -> Maker:
        ATTACKS[name] = make
        return make

    return enter


def honest(world: World, run: int) -> Claim:
    """No attack."""
    return Claim(world.honest(run), lambda *_: False)


@attack("other weights")
def _other(world: World, run: int) -> Claim:
    return _of_model(world, run, world.other)


@attack("fine-tuned weights")
def _tuned(world: World, run: int) -> Claim:
    return _of_model(world, run, world.tuned)


@attack("8-bit weights")
def _eight(world: World, run: int) -> Claim:
    return _of_model(world, run, world.made("8 bits", lambda: weakened.quantised(world.model, 8)))


@attack("4-bit weights")
def _four(world: World, run: int) -> Claim:
    return _of_model(world, run, world.made("4 bits", lambda: weakened.quantised(world.model, 4)))


@attack(LOWEST)
def _weakest(world: World, run: int) -> Claim:
    """Only the blocks that an audit by scores alone would look at least."""
    make = lambda: weakened.quantised(world.model, 4, world.weakest)  # noqa: E731 (made when it is needed)
    return _of_model(world, run, world.made("weakest", make))


@attack("a layer skipped")
def _skipped(world: World, run: int) -> Claim:
    """The block's rows are what it would have computed; its output is what came in."""
    block = world.depth // 2
    model = world.made("skipping", lambda: weakened.skipping(world.model, block))
    served = serving.serve(model, world.prompt(run), world.new)
    return Claim(served, lambda kind, number, _: kind == "block" and number == block)


@attack("two layers swapped")
def _swapped(world: World, run: int) -> Claim:
    pair = world.depth // 2 - 1, world.depth // 2
    return _of_model(world, run, world.made("swapped", lambda: weakened.swapped(world.model, *pair)))


@attack("context truncated")
def _truncated(world: World, run: int) -> Claim:
    """The first half of the prompt is read, and forgotten."""
    cut = PROMPT // 2
    served = serving.serve(world.model, world.prompt(run), world.new, forgets=cut)
    return Claim(served, lambda kind, _, token: kind == "block" and token >= cut)


@attack("hidden prefix")
def _prefix(world: World, run: int) -> Claim:
    """Tokens before the prompt that nobody is told of; their rows are cut out of the trace."""
    secret = world.texts[(run + 1) % len(world.texts), None, -HIDDEN:]
    prompt = world.prompt(run)
    served = serving.serve(world.model, torch.cat([secret, prompt], dim=1), world.new)
    cut = {
        name: calls if name == serving.HEAD else [calls[0][:, HIDDEN:].clone(), *calls[1:]]
        for name, calls in served.tensors.items()
    }
    shown = Served(cut, served.tokens[:, HIDDEN:], PROMPT)
    return Claim(shown, lambda kind, *_: kind == "block")


@attack("an activation edited, rest kept")
def _edited(world: World, run: int) -> Claim:
    """After the fact: one number of one block's output."""
    block, token = _somewhere(world, run)
    tensors = dict(world.honest(run).tensors)
    name = f"model.layers.{block}"
    tensors[name] = [tensor.clone() for tensor in tensors[name]]
    first = 0
    for tensor in tensors[name]:
        if first <= token < first + tensor.shape[1]:
            tensor[0, token - first, run % tensor.shape[2]] += _nudge(tensor[0, token - first])
        first += tensor.shape[1]
    return Claim(
        replace(world.honest(run), tensors=tensors),
        lambda kind, number, at: (
            (kind == "block" and at == token and number in (block, block + 1))
            or (kind == "head" and at == token and block == world.depth - 1)
        ),
    )


@attack("an activation edited, rest re-derived")
def _derived(world: World, run: int) -> Claim:
    """On the way: one number of what one block adds; all that follows is computed from it."""
    block, token = _somewhere(world, run)

    def edit(output: torch.Tensor, first: int) -> torch.Tensor:
        if not first <= token < first + output.shape[1]:
            return output
        changed = output.clone()
        changed[0, token - first, run % output.shape[2]] += _nudge(output[0, token - first])
        return changed

    edits = {f"model.layers.{block}.mlp.down_proj": edit}
    served = serving.serve(world.model, world.prompt(run), world.new, edits=edits)
    return Claim(served, lambda kind, number, at: kind == "block" and (number, at) == (block, token))


@attack("one block steered")
def _steered(world: World, run: int) -> Claim:
    """On the way: a direction is added to what one block computes, at every token."""
    block = world.depth // 2

    def edit(output: torch.Tensor, _first: int) -> torch.Tensor:
        ahead = torch.randn(output.shape[2], generator=torch.Generator().manual_seed(run))
        return output + (0.5 * output.float().std() * ahead).to(output.dtype)

    edits = {f"model.layers.{block}.mlp.down_proj": edit}
    served = serving.serve(world.model, world.prompt(run), world.new, edits=edits)
    return Claim(served, lambda kind, number, _: kind == "block" and number == block)


@attack("tokens edited")
def _retold(world: World, run: int) -> Claim:
    """The trace is that of the honest answer, and another answer is told."""
    served = world.honest(run)
    tokens = served.tokens.clone()
    places = [PROMPT + (run + number * 4) % (world.new - 1) for number in range(EDITED_TOKENS)]
    for place in places:
        tokens[0, place] = (tokens[0, place] + 1 + run % 7) % 256
    return Claim(
        replace(served, tokens=tokens),
        lambda kind, _, at: (kind == "embedding" and at in places) or (kind == "head" and at + 1 in places),
    )


@attack("an old root")
def _old(world: World, run: int) -> Claim:
    """The trace of another answer is shown for this one."""
    sealed, other = world.honest(run), world.honest(run + 1)
    return Claim(replace(other, tokens=sealed.tokens), lambda *_: True, sealed)


@attack("sessions mixed")
def _mixed(world: World, run: int) -> Claim:
    """The upper half of the blocks, and the head, are from another run."""
    mine, theirs = world.honest(run), world.honest(run + 1)
    half = world.depth // 2
    upper = {f"model.layers.{number}" for number in range(half, world.depth)}
    tensors = {
        name: theirs.tensors[name] if ".".join(name.split(".")[:3]) in upper or name in _TOP else calls
        for name, calls in mine.tensors.items()
    }
    told, shown = mine.tokens[0], theirs.tokens[0]
    return Claim(
        replace(mine, tensors=tensors),
        lambda kind, number, at: (
            (kind == "block" and number == half) or (kind == "head" and bool(told[at + 1] != shown[at + 1]))
        ),
    )


_TOP: Final = frozenset({"model.norm", serving.HEAD})


def _of_model(world: World, run: int, model: Any) -> Claim:  # noqa: ANN401 (transformers has no types)
    """An honest computation, of a model that has other weights."""
    served = serving.serve(model, world.prompt(run), world.new)
    changed = {
        name
        for name, weight in world.model.state_dict().items()
        if not torch.equal(weight, model.state_dict()[name])
    }
    blocks = {int(name.split(".")[2]) for name in changed if name.startswith("model.layers.")}
    head = not changed.isdisjoint({"model.norm.weight", "lm_head.weight"})
    table, own = world.model.model.embed_tokens.weight, model.model.embed_tokens.weight
    rows = (table != own).any(dim=1)[served.tokens[0]]

    def broken(kind: str, number: int, token: int) -> bool:
        if kind == "block":
            return number in blocks
        return head if kind == "head" else bool(rows[token])

    return Claim(served, broken)


def _somewhere(world: World, run: int) -> tuple[int, int]:
    """Returns a block and a token, others in each run."""
    return (run * 5 + 1) % world.depth, (run * 29 + 7) % (PROMPT + world.new - 1)


def _nudge(row: torch.Tensor) -> torch.Tensor:
    """Returns what is added: as much as the whole row's standard deviation."""
    return row.float().std().to(row.dtype)
