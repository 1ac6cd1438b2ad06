"""Checking audits: how long it takes, and whether an honest run is ever accused.

Time. A Llama of 134 million parameters generates under a commitment; a request draws 16 places, the prover
answers. The check runs in a process of its own on one core and does everything that a verifier does: it
reads and hashes all weights, reads the answer, checks every opening, and computes. Times are processor time,
since other work on the machine would count into any other. TensorCommitments publishes 12 ms of verifying
beside 10.165 s of inference, 0.12 %, of a 13 B model on an A100: another model, another machine, and a check
of openings alone that computes nothing again. It is printed beside ours, not compared with it.

Honest runs. ``--honest N`` audits N times for each element type, number of threads and way to run (eager,
compiled), with a fresh nonce for every audit and a fresh prompt for every 50. None may be accused.

    python benchmarks/audit.py [--places N] [--tokens N] [--dtype NAME]
    python benchmarks/audit.py --honest N
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from support.llamas import CASES, PROMPT, Case

import palm_torch
from palm_torch.audit import checking, weights_file
from palm_torch.challenge import geometry, parts, request
from palm_torch.hooks import weights

if TYPE_CHECKING:
    from collections.abc import Callable

BAR_S: Final = 1.0
PUBLISHED: Final = "12 ms of 10,165 ms, 0.12 %"
TRACES_EACH: Final = 50
_HERE: Final = Path(__file__).parent
_ONE_THREAD: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main() -> int:
    """Prints times or counts; returns 1 if a bar is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--places", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--honest", type=int, default=0, metavar="N")
    parser.add_argument("--repeats", type=int, default=3)
    words = parser.parse_args()
    if words.honest:
        return _honest(words.honest)
    return _time(words)


def _time(words: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inference = _prove(folder, words)
        alone = {**os.environ, **dict.fromkeys(_ONE_THREAD, "1")}
        command = [sys.executable, "-m", "support.checked_alone", str(folder), str(words.repeats)]
        said = subprocess.run(command, cwd=_HERE, env=alone, check=True, capture_output=True, text=True)
        steps = json.loads(said.stdout)
    size = steps.pop("answer bytes")
    total = sum(steps.values())
    parts = ", ".join(f"{step} {took * 1e3:.0f} ms" for step, took in steps.items())
    print(f"check of {words.places} places, {words.tokens} tokens of context, {words.dtype}: {parts}")
    print(
        f"  together {total:.2f} s on one core (bar {BAR_S} s: {'kept' if total <= BAR_S else 'MISSED'}), "
        f"answer of {size / 1e6:.1f} MB; inference took {inference:.1f} s of processor time, and that is "
        f"{100 * total / inference:.2f} % of it"
    )
    print(f"  published for TensorCommitments, openings alone, another machine: {PUBLISHED}")
    return int(total > BAR_S)


def _prove(folder: Path, words: argparse.Namespace) -> float:
    """Writes what a verifier is given, and returns the processor time of the inference alone."""
    case = dataclasses.replace(CASES[2], dtype=getattr(torch, words.dtype))
    model, new = case.model(), words.tokens - PROMPT
    case.run(model, 2)
    began = time.process_time()
    case.run(model, new)
    inference = time.process_time() - began
    with palm_torch.commit(model, layers="audit", keep="memory") as proof:
        tokens = case.run(model, new)
    measured = weights.WeightsMeter().measure(weights.canonical_tensors(model))
    proof.add_facts({}, model=measured.root)
    proof.bind_tokens(tokens)
    described = geometry.from_config(model.config.to_dict(), what="config.json")
    asked = request.draw(proof.context, described, claims=None, queries=words.places)
    asked.save(folder / "request.json")
    proof.answer(asked, decoding={"do_sample": False}).save(folder / "answer.json")
    proof.save(folder / "context.json")
    model.save_pretrained(folder)
    return inference


def _honest(count: int) -> int:
    wrong = 0
    began = time.process_time()
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        for threads in (1, 2):
            for how in ("eager", "compiled"):
                torch.set_num_threads(threads)
                wrong += _accusations(count, dtype, how, f"{dtype}, {threads} threads, {how}")
    print(f"wrong accusations in all: {wrong} (bar 0); {time.process_time() - began:.0f} s of processor time")
    return int(wrong > 0)


def _accusations(count: int, dtype: Any, how: str, name: str) -> int:  # noqa: ANN401 (a torch.dtype)
    """Prints what audits of honest runs found, and returns how many accused."""
    torch.compiler.reset()
    model = Case(name, 128, 3, dtype, "audit", 0.0, generate=False).model()
    run: Callable[[torch.Tensor], object] = lambda ids: model(ids, use_cache=False)  # noqa: E731 (compiled below)
    if how == "compiled":
        run = torch.compile(run)
    described = geometry.from_config(model.config.to_dict(), what="config.json")
    needed = {name for part in parts.parts(described) for name in part.weights.values()}
    measured = weights.WeightsMeter().measure(weights.canonical_tensors(model))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        read = weights_file.read([Path(folder)], needed, root=measured.root)
    accused = undecided = 0
    farthest: dict[str, float] = {}
    proof = None
    for number in range(count):
        if proof is None or not number % TRACES_EACH:
            generates = how == "eager" and not number % (2 * TRACES_EACH)
            proof = _traced(model, run, number, measured.root, generates=generates)
        asked = request.draw(proof.context, described, claims=None, queries=16)
        shown = proof.answer(asked, decoding={"do_sample": False})
        result = checking.check(asked, proof.context, shown, weights=read)
        accused += bool(result.inconsistent)
        undecided += not result.consistent and not result.inconsistent
        for one in result.findings:
            farthest[one.operation] = max(farthest.get(one.operation, 0.0), one.margin or 0.0)
    largest = sorted(farthest.items(), key=lambda item: -item[1])[:4]
    top = ", ".join(f"{operation} {margin:.4f}" for operation, margin in largest)
    print(
        f"{name}: {count} audits of honest runs, {accused} accused, {undecided} undecided; largest "
        f"margins {top}",
        flush=True,
    )
    return accused


def _traced(model: Any, run: Any, seed: int, root: Any, *, generates: bool) -> Any:  # noqa: ANN401 (no types)
    ids = torch.randint(0, model.config.vocab_size, (2, 48), generator=torch.Generator().manual_seed(seed))
    with palm_torch.commit(model, layers="audit", keep="memory") as proof, torch.no_grad():
        if generates:
            ids = model.generate(ids, max_new_tokens=12, min_new_tokens=12, do_sample=False, pad_token_id=0)
        else:
            run(ids)
    proof.add_facts({}, model=root)
    proof.bind_tokens(ids)
    return proof


if __name__ == "__main__":
    sys.exit(main())
