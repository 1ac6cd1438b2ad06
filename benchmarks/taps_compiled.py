"""What taps change inside of a graph that Inductor made: how many logits differ, and by how much.

Inductor fuses other operations once an output of a block has to exist for somebody to look at it. Captured is
what the next block received (`tests/unit/hooks/test_tap_inductor.py`), and runs of one graph are equal; that
the tapped graph computes what the untapped one does to the last bit is promised by nobody, and measured here.
Beside it stands what compiling changes without any tap.

    python benchmarks/taps_compiled.py [--tokens N]
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from typing import Any

import torch
from support.llamas import Case

import palm_torch


def main() -> int:
    """Prints a line for each element type; returns 1 if two runs of one graph differ."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, default=64)
    words = parser.parse_args()
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        print(f"left out: Inductor needs a C++ compiler, and there is no {compiler}")
        return 0
    differed = 0
    for dtype in (torch.float32, torch.bfloat16):
        case = Case(str(dtype), 256, 4, dtype, "blocks", 0.0, generate=False)
        differed += _compare(case, words.tokens)
    return int(differed > 0)


def _compare(case: Case, tokens: int) -> int:
    model = case.model()
    ids = torch.randint(0, model.config.vocab_size, (1, tokens), generator=torch.Generator().manual_seed(1))
    eager = _logits(model, model, ids)
    torch.compiler.reset()
    plain = _logits(model, _compiled(model), ids)
    torch.compiler.reset()
    run = _compiled(model)
    tapped, digests = [], set()
    for _ in range(2):
        with palm_torch.commit(model, layers=case.layers) as committed:
            tapped.append(_logits(model, run, ids))
        digests.add(str(committed.trace.activations()))
    equal = torch.equal(*tapped) and len(digests) == 1
    print(
        f"{case.name}: logits of the tapped graph beside the untapped one: {_difference(tapped[0], plain)}; "
        f"of the untapped one beside eager mode: {_difference(plain, eager)}; "
        f"two runs {'equal' if equal else 'DIFFER'}",
        flush=True,
    )
    return int(not equal)


def _compiled(model: Any) -> Any:  # noqa: ANN401 (transformers has no types)
    return torch.compile(lambda ids: model(ids, use_cache=False).logits, fullgraph=True)


def _logits(model: Any, run: Any, ids: torch.Tensor) -> torch.Tensor:  # noqa: ANN401 (as above)
    with torch.no_grad():
        found = run(ids) if run is not model else model(ids, use_cache=False).logits
    logits: torch.Tensor = found
    return logits


def _difference(one: torch.Tensor, two: torch.Tensor) -> str:
    same = (one == two).double().mean().item()
    return f"{100 * same:.1f} % equal, at most {(one - two).abs().max().item():.2g} apart"


if __name__ == "__main__":
    sys.exit(main())
