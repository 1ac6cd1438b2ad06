"""Traces of made-up tensors, without torch: bytes by site and call, and the context over them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from palm_torch.commit import trace, trace_gathering, trace_opening, trace_schemes
from palm_torch.commit.trace import Calls, Context, ModuleCoverage, NotCaptured, Site
from palm_torch.commit.trace_gathering import Captured
from palm_torch.commit.weights_root import ITEM_BYTES
from palm_torch.committing.leaves import Leaves
from palm_torch.digest import sha256_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from palm_torch.commit.trace_opening import TraceOpening
    from palm_torch.commit.trace_rows import Question
    from palm_torch.digest import Digest

DECODING: Final = (Calls(0, 1, (2, 5)), Calls(1, 4, (2, 1)))
"""A prefill of five tokens, then four steps, of two sequences."""


class MadeUp:
    """A trace whose bytes are drawn from names."""

    def __init__(
        self,
        *parts: tuple[Sequence[Site], str, int, tuple[Calls, ...]],
        scheme: trace_schemes.Name = "hash",
    ) -> None:
        self.data: dict[tuple[Site, str, int], bytes] = {}
        captured = []
        for sites, dtype, channels, schedule in parts:
            rows = sum(run.rows * run.count for run in schedule)
            for site in sites:
                data = content(f"{site.tree_id} {dtype} {channels}", rows * channels * ITEM_BYTES[dtype])
                self.data[site, dtype, channels] = data
                leaves = Leaves(site, dtype, channels)
                leaves.add(memoryview(data))
                captured.append(Captured(site, dtype, channels, schedule, leaves.finish()))
        gathered = trace_gathering.gather(captured, scheme=scheme)
        self.trees = [tree for _, tree in gathered]
        self.context = Context(
            media_type=trace.MEDIA_TYPE,
            scheme=scheme,
            model=None,
            groups=tuple(group for group, _ in gathered),
            coverage=(ModuleCoverage("layers.0", "each call", 5, 5),),
            not_captured=(NotCaptured("layers.0", "1", "a cache"),),
            environment={"torch": "2.13.0"},
            facts={"prompt": sha256_digest(b"prompt")},
        )
        self.encoded = self.context.encode()
        self.root: Digest = trace.root(self.encoded)

    def reader(self, site: Site, dtype: str, channels: int) -> Callable[[int, int], bytes]:
        data = self.data[site, dtype, channels]
        return lambda start, stop: data[start:stop]

    def open(self, question: Question, dtype: str, channels: int) -> TraceOpening:
        read = self.reader(question.site, dtype, channels)
        return trace_opening.make(self.root, self.context, self.trees, question, read)


def content(name: str, length: int) -> bytes:
    return hashlib.shake_128(name.encode()).digest(length)


def layers(number: int) -> list[Site]:
    return [Site(f"layers.{index}") for index in range(number)]
