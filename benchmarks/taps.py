"""What committing to activations costs, by accounting and by comparison, and how large an opening is.

Accounting: the time that passes inside palm-torch's own code on the loop's thread (hooks, entering and
leaving the block) and the CPU time of its threads, as a share of the rest of the run. The library is not
changed for it: the clock is put around its functions from here. Comparison: short runs with and without,
interleaved, with the same seed; outputs must be equal to the last bit.

    python benchmarks/taps.py [--tokens N] [--pairs N] [--threads N] [--only TEXT]
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import palm_torch
from palm_torch.commit.trace import Site
from palm_torch.committing import lanes, proof
from palm_torch.committing.capture import Capture
from palm_torch.committing.spill import Kept
from palm_torch.hooks import tap_hooks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROMPT: Final = 32
PAIR_TOKENS: Final = 24
OPENING_BAR_BYTES: Final = 1536
VERIFYING_BAR_MS: Final = 5.0

VERIFY: Final = """
import json, sys, time
from pathlib import Path
from palm_torch.commit import trace_opening
from palm_torch.digest import Digest
opening = trace_opening.read(Path(sys.argv[1]))
context = Path(sys.argv[2]).read_bytes()
root = Digest.parse(sys.argv[3])
took = []
for _ in range(25):
    began = time.perf_counter()
    trace_opening.verify(root, context, opening.question, opening)
    took.append(time.perf_counter() - began)
took.sort()
print(json.dumps([took[12] * 1e3, took[0] * 1e3, "torch" in sys.modules]))
"""


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    name: str
    width: int
    depth: int
    dtype: torch.dtype
    layers: Any
    bar_percent: float
    generate: bool = True

    def model(self) -> Any:  # noqa: ANN401 (transformers has no types)
        """Returns a Llama of these sizes with random weights."""
        torch.manual_seed(0)
        config = LlamaConfig(
            hidden_size=self.width,
            intermediate_size=self.width * 8 // 3 // 64 * 64,
            num_hidden_layers=self.depth,
            num_attention_heads=self.width // 64,
            num_key_value_heads=self.width // 64,
            vocab_size=32_000 if self.generate else 1_000,
            max_position_embeddings=1024,
        )
        model: Any = LlamaForCausalLM(config)
        return model.to(self.dtype).eval()

    def run(self, model: Any, tokens: int) -> torch.Tensor:  # noqa: ANN401 (transformers has no types)
        """Generates that many tokens, or reads them at once; returns the tokens, or the last logits."""
        vocabulary = model.config.vocab_size
        with torch.no_grad():
            if not self.generate:
                ids = torch.randint(0, vocabulary, (1, tokens), generator=torch.Generator().manual_seed(1))
                logits: torch.Tensor = model(ids).logits[:, -1]
                return logits
            ids = torch.randint(0, vocabulary, (1, PROMPT), generator=torch.Generator().manual_seed(1))
            made: torch.Tensor = model.generate(
                ids, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, pad_token_id=0
            )
            return made


CASES: Final = (
    Case("blocks, generating, width 768, float32", 768, 12, torch.float32, "blocks", 3),
    Case("blocks, generating, width 768, bfloat16", 768, 12, torch.bfloat16, "blocks", 3),
    Case("all, generating, 112 M parameters, float32", 768, 12, torch.float32, "all", 15),
    Case("all, generating, 112 M parameters, bfloat16", 768, 12, torch.bfloat16, "all", 15),
    Case("blocks, forward, width 4096, float32", 4096, 2, torch.float32, "blocks", 1, generate=False),
    Case("blocks, forward, width 4096, bfloat16", 4096, 2, torch.bfloat16, "blocks", 1, generate=False),
)


def main() -> int:
    """Prints every figure beside its bar; returns 1 if one is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    missed = 0
    for case in CASES:
        if arguments.only in case.name:
            model = case.model()
            case.run(model, 4)  # the first pass allocates
            missed += _account(case, model, arguments.tokens, arguments.threads)
            if arguments.pairs:
                _compare(case, model, arguments.pairs)
            _roots(case, model)
            del model
    return int(missed + _opening() > 0)


def _account(case: Case, model: Any, tokens: int, threads: int | None) -> int:  # noqa: ANN401 (as above)
    spent: defaultdict[str, list[int]] = defaultdict(list)
    with _clocks(spent):
        began = time.perf_counter()
        with palm_torch.commit(model, layers=case.layers, threads=threads) as committed:
            case.run(model, tokens)
        whole = time.perf_counter() - began
    on_loop = sum(spent["hooks"]) + sum(spent["entering"]) + sum(spent["leaving"])
    ours, rest = on_loop + sum(spent["threads"]), whole - on_loop / 1e9
    share = 100 * ours / 1e9 / rest
    sites = sum(len(group.sites) for group in committed.trace.groups)
    print(
        f"{case.name}: {share:.2f} % of {rest:.1f} s (bar {case.bar_percent} %); "
        f"{sites} sites, {'the usual' if threads is None else threads} threads: "
        + ", ".join(f"{name} {sum(times) / 1e6:.1f} ms" for name, times in sorted(spent.items()))
        + f", {statistics.median(spent['hooks']) / 1e3:.1f} µs each hook (median of {len(spent['hooks'])})"
    )
    return int(share > case.bar_percent)


def _compare(case: Case, model: Any, pairs: int) -> None:  # noqa: ANN401 (as above)
    ratios = []
    for number in range(pairs):
        took: dict[bool, float] = {}
        made: dict[bool, torch.Tensor] = {}
        for committing in (number % 2 == 0, number % 2 == 1):
            block = palm_torch.commit(model, layers=case.layers) if committing else contextlib.nullcontext()
            began = time.perf_counter()
            with block:
                made[committing] = case.run(model, PAIR_TOKENS)
            took[committing] = time.perf_counter() - began
        if not torch.equal(made[True], made[False]):
            raise SystemExit(f"{case.name}: outputs with and without differ")
        ratios.append(took[True] / took[False])
    ratios.sort()
    low = _low_rank(pairs)
    print(
        f"  with / without over {pairs} pairs of {PAIR_TOKENS} tokens: "
        f"median {statistics.median(ratios):.3f}, 95 % interval {ratios[low]:.3f} to {ratios[-1 - low]:.3f}, "
        "outputs equal"
    )


def _low_rank(count: int) -> int:
    """Returns the rank, from 0, above which the median lies with 97.5 % confidence (sign test)."""
    below = itertools.accumulate(math.comb(count, k) / 2**count for k in range(count + 1))
    return max(next(k for k, chance in enumerate(below) if chance >= 0.025) - 1, 0)


def _roots(case: Case, model: Any) -> None:  # noqa: ANN401 (as above)
    roots = set()
    for threads in (None, 0, 1, 2):
        with palm_torch.commit(model, layers=case.layers, threads=threads) as committed:
            case.run(model, 4)
        roots.add(committed.root)
    if len(roots) != 1:
        raise SystemExit(f"{case.name}: roots with 0, 1 and 2 threads differ")
    print("  roots with 0, 1 and 2 hashing threads: equal")


def _opening() -> int:
    """One row out of 24 layers × 1,024 tokens; verified in a process of its own."""
    kept = Kept(limit_bytes=1 << 30)
    capture = Capture(kept=kept)
    row = torch.randn(1, 1024, 768)
    with proof.Proof(_NoTaps(), capture, kept) as committed:
        for layer in range(24):
            capture.capture(Site(f"model.layers.{layer}"), row + layer, 0)
    began = time.perf_counter()
    opening = committed.open("model.layers.11", tokens=700)
    took = time.perf_counter() - began
    size = len(opening.encode()) - (len(opening.tiles) + 2) // 3 * 4
    with tempfile.TemporaryDirectory() as folder:
        opening.save(Path(folder) / "opening")
        committed.save(Path(folder) / "context")
        words = [sys.executable, "-c", VERIFY, f"{folder}/opening", f"{folder}/context", str(committed.root)]
        told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    median, least, with_torch = told.strip("[]\n").split(", ")
    print(
        f"one row of 24 layers × 1,024 tokens: {size} bytes beside its {len(opening.tiles)} bytes of values, "
        f"of which proof {len(opening.proof)} (bar {OPENING_BAR_BYTES}); opened in {took * 1e3:.0f} ms, "
        f"verified in {float(median):.2f} ms, at best {float(least):.2f} (bar {VERIFYING_BAR_MS}); "
        f"torch loaded: {with_torch}"
    )
    return int(size > OPENING_BAR_BYTES or float(median) > VERIFYING_BAR_MS)


class _NoTaps:
    """Stands for a model whose tensors are handed over by hand."""

    coverage = ()
    not_captured = ()

    def __enter__(self) -> None:
        """Does nothing."""

    def __exit__(self, *_: object) -> None:
        """Does nothing."""


@contextlib.contextmanager
def _clocks(spent: defaultdict[str, list[int]]) -> Iterator[None]:
    """Puts a clock around the library's functions; collects nanoseconds by name."""
    places: list[tuple[Any, str, str, Callable[[], int]]] = [
        (tap_hooks.Tap, "__call__", "hooks", time.perf_counter_ns),
        (tap_hooks.Arrival, "__call__", "hooks", time.perf_counter_ns),
        (proof.Proof, "__enter__", "entering", time.perf_counter_ns),
        (proof.Proof, "__exit__", "leaving", time.perf_counter_ns),
    ]
    with contextlib.ExitStack() as stack:
        for owner, attribute, name, clock in places:
            original = getattr(owner, attribute)
            setattr(owner, attribute, _clocked(original, spent[name], clock))
            stack.callback(setattr, owner, attribute, original)
        consumed = lanes.Lane._run  # noqa: SLF001 (what the threads do)
        setattr(lanes.Lane, "_run", _clocked(consumed, spent["threads"], time.thread_time_ns))  # noqa: B010
        stack.callback(setattr, lanes.Lane, "_run", consumed)
        yield


def _clocked(function: Callable[..., Any], times: list[int], clock: Callable[[], int]) -> Callable[..., Any]:
    @functools.wraps(function)
    def clocked(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 (whatever the function takes)
        began = clock()
        try:
            return function(*args, **kwargs)
        finally:
            times.append(clock() - began)

    return clocked


if __name__ == "__main__":
    sys.exit(main())
