"""Committing to activations beside what else has been published for it, on the same activations of one run.

A model generates, with torch on one thread. Ours commits to every output of its blocks. Beside it, on the
last hidden states of the very same forward passes, runs TOPLOC's algorithm (`support/toploc.py`), and on as
many of the activations as it can stand, interpolate-and-commit (`support/interpolated.py`). **Both are
restated from what their authors published; neither is their program, and neither was tuned by them.** All
times are processor time.

What they give differs, and no time says that: TOPLOC keeps 128 values of 32 tokens of one layer, to be
compared, within a tolerance, with a run by someone who has the model; the other two bind every value.

    python benchmarks/taps_beside.py [--tokens N] [--degree N] [--variables N]
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import sys
from typing import Any, Final

import numpy as np
import torch
from support import accounting, interpolated, toploc
from support.llamas import CASES, Case
from support.timing import processor_seconds

import palm_torch

CLOCK_TOKENS: Final = 8
WARM: Final = 4


def main() -> int:
    """Prints one table for each element type; returns 1 if a restated algorithm is wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--degree", type=int, default=6)
    parser.add_argument("--variables", type=int, default=5)
    words = parser.parse_args()
    for case in CASES[:2]:
        model = case.model()
        case.run(model, WARM)
        _beside(case, model, words)
    return 0


def _beside(case: Case, model: Any, words: argparse.Namespace) -> None:  # noqa: ANN401 (transformers has no types)
    states: list[torch.Tensor] = []
    blocks: list[torch.Tensor] = []
    keeping: list[int] = []

    def keep(_module: object, _args: object, output: torch.Tensor) -> None:
        states.append(output[0].to(torch.bfloat16, copy=True))

    hooks = [
        model.model.norm.register_forward_hook(accounting.clocked(keep, keeping)),
        model.model.layers[0].register_forward_hook(lambda *call: blocks.append(call[2][0].clone())),
    ]

    def run() -> None:
        with palm_torch.commit(model, layers=case.layers) as committed:
            case.run(model, words.tokens)
        groups.extend(committed.trace.groups)

    groups: list[Any] = []
    account = accounting.of(run, lambda: case.run(model, CLOCK_TOKENS), model.model.layers)
    for hook in hooks:
        hook.remove()
    del states[: -words.tokens], keeping[: -words.tokens], blocks[: -words.tokens]  # those of the clock
    values = sum(len(group.sites) * group.rows * group.channels for group in groups)
    rest = account.rest_s - sum(keeping) / 1e9
    print(f"{case.name}: {words.tokens} tokens, {rest:.1f} s of one core without what follows")
    _line(
        "ours, measured", account.ours_s, rest, f"all {values} values of 12 blocks, exact, any of them opened"
    )
    proofs: list[bytes] = []
    took = processor_seconds(lambda: proofs.extend(toploc.proofs(states)))
    _check_toploc(proofs[0], states[0])
    kept = len(proofs) * toploc.TOP
    net = took + (sum(keeping) - account.clock_ns * len(keeping)) / 1e9
    _line(
        "TOPLOC, restated",
        net,
        rest,
        f"{kept} values of 1 layer, {len(proofs)} proofs of {toploc.PROOF_BYTES} bytes",
    )
    _interpolate(torch.cat(blocks).double(), values, rest, words)


def _interpolate(rows: torch.Tensor, values: int, rest: float, words: argparse.Namespace) -> None:
    if importlib.util.find_spec("py_arkworks_bls12381") is None:
        print(
            "  interpolate and commit, restated: left out, it needs py_arkworks_bls12381 of palm-torch[kzg]"
        )
        return
    toy = interpolated.Toy(words.degree, words.variables)
    part = rows.reshape(-1)[: toy.count]
    made: list[Any] = []
    interpolating = processor_seconds(lambda: made.append(toy.interpolate(part)))
    committing = processor_seconds(lambda: made.append(toy.commit(made[0])))
    number = random.Random(2).randrange(toy.count)
    place = interpolated.places(words.degree, words.variables)[number]
    opening = processor_seconds(lambda: made.append(toy.open(made[0], place)))
    checking = processor_seconds(lambda: made.append(toy.check(made[1], place, *made[2])))
    if not made[3] or toy.check(made[1], place, made[2][0] + 1, made[2][1]):
        raise SystemExit("interpolate and commit: an opening is not what it should be")
    print(
        f"  interpolate and commit, restated: {toy.count} values ({words.degree}^{words.variables}) "
        f"interpolated in {interpolating * 1e3:.0f} ms, committed in {committing * 1e3:.0f} ms; one opened "
        f"in {opening * 1e3:.0f} ms, checked in {checking * 1e3:.1f} ms"
    )
    each = (interpolating + committing) / toy.count
    _line(
        "at that rate, computed", each * values, rest, "every value, exact to 8 decimals, any of them opened"
    )


def _line(name: str, took: float, rest: float, what: str) -> None:
    print(f"  {name}: {took * 1e3:.1f} ms, {100 * took / rest:.2f} % of one core; {what}", flush=True)


def _check_toploc(proof: bytes, states: torch.Tensor) -> None:
    modulus = int.from_bytes(proof[:2], "big")
    coefficients = np.frombuffer(proof[2:], dtype=">u2").astype(np.int64)
    flat = states.reshape(-1)
    places = flat.abs().topk(toploc.TOP).indices
    bits = flat[places].view(torch.int16).numpy().astype(np.int64) % 2**16 % toploc.PRIME
    if not np.array_equal(toploc.evaluate(coefficients, places.numpy() % modulus), bits):
        raise SystemExit("TOPLOC: the polynomial does not go through its points")


if __name__ == "__main__":
    sys.exit(main())
