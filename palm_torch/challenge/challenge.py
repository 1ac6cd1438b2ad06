"""What a request asks of a trace: which places, blocks, coordinates and signs; prover and verifier agree.

All of it follows from the request and the trace's context. Specification: docs/spec/57-audit.md.
"""

from __future__ import annotations

import bisect
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from palm_torch.challenge import drawing, parts, weights_asked
from palm_torch.challenge import extents as trace_extents
from palm_torch.challenge.extents import Extents
from palm_torch.challenge.modules import Modules
from palm_torch.challenge.parts import Part
from palm_torch.challenge.places import Place
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from palm_torch.challenge.geometry import Geometry
    from palm_torch.challenge.request import AuditRequest
    from palm_torch.commit.trace import Context

_BITS: Final = 8


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for.

    Attributes:
        parts: The parts of the model.
        extents: How many sequences and tokens they have in the trace.
        places: The places, in the order of the draw; one may come twice.
        whole: Numbers of the parts, all of them blocks, of which every row is opened; in the order of the
            draw, each once.
        seed: What everything was drawn from, 64 bytes.
        count: Output coordinates to check of each linear layer at each place; 0 for all.
    """

    parts: tuple[Part, ...]
    extents: Extents
    places: tuple[Place, ...]
    whole: tuple[int, ...]
    seed: bytes
    count: int

    def coordinates(self, place: int, role: str, width: int) -> tuple[int, ...]:
        """Returns which outputs of a linear layer are checked at a place: different ones, ascending.

        Args:
            place: Number of the place.
            role: Role of the layer's weights in its part.
            width: How many outputs the layer has.
        """
        stream = drawing.Stream(self.seed, f"coordinates/{place}/{role}")
        chosen: set[int] = set()
        while len(chosen) < min(self.count, width):
            chosen.add(stream.below(width))
        return tuple(sorted(chosen))

    def signs(self, part: int, role: str, width: int) -> tuple[int, ...]:
        """Returns 1 or -1 for each output of a linear layer, for a check of all of them together.

        Args:
            part: Number of the part.
            role: Role of the layer's weights.
            width: How many outputs the layer has.
        """
        data = drawing.Stream(self.seed, f"signs/{part}/{role}").take(-(-width // _BITS))
        bits = itertools.islice(((byte >> bit) & 1 for byte in data for bit in range(_BITS)), width)
        return tuple(1 - 2 * bit for bit in bits)


def asked(request: AuditRequest, context: Context) -> Asked:
    """Returns what a request asks of a trace.

    Args:
        request: The request.
        context: The context of the trace that it names; whoever calls has compared the root.

    Raises:
        DataError: If the trace lacks a module that the model has, or has it with another width, or is of more
            than one forward pass or generation.
    """
    known = parts.parts(request.geometry)
    there = trace_extents.extents(context, known)
    _check_widths(request.geometry, context, known)
    seed = request.seed
    return Asked(
        parts=known,
        extents=there,
        places=tuple(_places(request, known, there, seed)),
        whole=_whole(request, seed),
        seed=seed,
        count=request.coordinates,
    )


def _check_widths(geometry: Geometry, context: Context, known: tuple[Part, ...]) -> None:
    """Refuses a trace in which modules have other widths than the verifier says."""
    linear, modules = weights_asked.linear_widths(geometry), Modules(context)
    for part in known:
        for role, module in (*part.rows.items(), *part.history.items()):
            expected = linear[role][0] if role in linear else geometry.hidden
            if (found := modules.find(module)[1].channels) != expected:
                raise DataError(
                    f"{module}: expected {expected} channels, as the request says of the model, got {found}"
                )


def _places(request: AuditRequest, known: tuple[Part, ...], there: Extents, seed: bytes) -> list[Place]:
    stream = drawing.Stream(seed, "places")
    ends = list(itertools.accumulate(request.weights))
    places = []
    for _ in range(request.queries):
        part = bisect.bisect_right(ends, stream.below(ends[-1]))
        sequence = stream.below(there.batch)
        if known[part].kind == "head":
            token = there.token_of(stream.below(there.shown))
        else:
            token = stream.below(there.tokens)
        places.append(Place(part, sequence, token))
    return places


def _whole(request: AuditRequest, seed: bytes) -> tuple[int, ...]:
    stream = drawing.Stream(seed, "whole")
    left = list(range(1, request.geometry.blocks + 1))
    return tuple(left.pop(stream.below(len(left))) for _ in range(request.whole))
