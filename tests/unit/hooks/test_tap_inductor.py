"""Taps in what Inductor makes: captured is what the next module received, and two runs capture the same.

Inductor fuses other operations once outputs of modules are looked at, so results may differ in the last bits
from those of the untapped graph; how much is what `benchmarks/taps_compiled.py` prints.
"""

from __future__ import annotations

import os
import shutil
from typing import Any

import pytest
import torch
from tap_sink import Stack, record

from palm_torch.hooks import tensors

COMPILER = os.environ.get("CXX", "g++")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.skipif(
        shutil.which(COMPILER) is None, reason=f"Inductor needs a C++ compiler: no {COMPILER}"
    ),
]

X = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))

received: list[bytes] = []


@torch.library.custom_op("palm_torch_tests::receive", mutates_args=())
def receive(x: torch.Tensor) -> torch.Tensor:
    """Stands between two blocks: an operator that no compiler sees into."""
    received.append(bytes(tensors.tensor_bytes(x)))
    return x.clone()


@receive.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


class Handing(Stack):
    """Hands each block's output to the operator, and the operator's to the next block."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = receive(layer(x))
        return self.norm(x)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch.manual_seed(3)
    received.clear()


def test_what_is_captured_is_what_the_next_module_received() -> None:
    model = Handing(2).to(torch.bfloat16)
    x = X.to(torch.bfloat16)
    run: Any = torch.compile(model, backend="inductor", fullgraph=True)
    outputs: list[torch.Tensor] = []
    with torch.no_grad():
        graph, tapped = record(run, "all", lambda: outputs.extend(run(x) for _ in range(2)))
        got = list(received)
        eager, plain = record(model, "all", lambda: model(x))
    assert set(tapped.fired.values()) == {2}
    assert set(tapped.fired) == set(plain.fired)
    assert {site for site, _ in graph.order} == {site for site, _ in eager.order}
    for call in range(2):
        blocks = [graph.bytes[f"layers.{index}|", call] for index in range(2)]
        assert blocks == got[2 * call : 2 * call + 2]
        assert graph.bytes["|", call] == bytes(tensors.tensor_bytes(outputs[call]))
    for site, _ in eager.order:
        assert graph.bytes[site, 0] == graph.bytes[site, 1]
