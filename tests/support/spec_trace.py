"""The trace of the worked example in the specification, chapter 26 section 6."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from blake3 import blake3

from palm_torch.commit import tile_leaf, trace, trace_gathering, trace_opening, trace_question
from palm_torch.commit.trace import Calls, Context, ModuleCoverage, Site
from palm_torch.commit.trace_gathering import Captured

if TYPE_CHECKING:
    from palm_torch.commit import trace_schemes
    from palm_torch.commit.trace_opening import TraceOpening

DATA: Final = {"a": bytes(range(0x20)), "b": bytes(range(0x20, 0x40))}
HEADERS: Final = {name: tile_leaf.header(f"{name}|", "float32", (4, 2), (0, 0)) for name in DATA}
LEAVES: Final = {name: tile_leaf.leaf(HEADERS[name], blake3(data).digest()) for name, data in DATA.items()}
SCHEDULE: Final = (Calls(0, 1, (1, 2)), Calls(1, 2, (1, 1)))


class Example:
    """The example under one scheme."""

    def __init__(self, scheme: trace_schemes.Name) -> None:
        captured = [Captured(Site(name), "float32", 2, SCHEDULE, leaf) for name, leaf in LEAVES.items()]
        ((self.group, self.tree),) = trace_gathering.gather(captured, scheme=scheme)
        self.context = Context(
            media_type=trace.MEDIA_TYPE,
            scheme=scheme,
            model=None,
            groups=(self.group,),
            coverage=tuple(ModuleCoverage(name, "always", 3, 3) for name in DATA),
            not_captured=(),
            environment={"torch": "2.13.0"},
            facts={},
        )
        self.encoded = self.context.encode()
        self.root = trace.root(self.encoded)

    def open(self, module: str, **ranges: Any) -> TraceOpening:
        question = trace_question.ask(self.context, Site(module), **ranges)
        data = DATA[module]
        return trace_opening.make(
            self.root, self.context, [self.tree], question, lambda start, stop: data[start:stop]
        )
