"""Checks of parts: from drawn places, and from blocks that were opened whole, to findings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from palm_torch.audit import arithmetic, heads
from palm_torch.audit.blocks import gpt2, head, llama
from palm_torch.audit.findings import Finding, Verdict
from palm_torch.audit.heads import Seen
from palm_torch.audit.layers import DrawnLayers, Source, SummedLayers, Weights, WholeLayers
from palm_torch.audit.opened import Opened
from palm_torch.audit.stretch import Stretch
from palm_torch.challenge.challenge import Asked
from palm_torch.challenge.geometry import Geometry
from palm_torch.challenge.tokens import PADDING, Tokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from palm_torch.audit.layers import Layers
    from palm_torch.audit.stretch import Compared
    from palm_torch.challenge.parts import Part
    from palm_torch.challenge.places import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Everything that a check looks at, each piece of it checked against a root.

    Attributes:
        geometry: What the verifier says that the model is.
        asked: What the request asks.
        opened: Rows of the trace.
        weights: The weights, or what was opened of them.
        drawn: Whether the weights are opened rows, at coordinates that the request drew.
        tokens: The ids of all tokens; None if the trace binds none.
        environment: What the trace says of the run's environment.
        spoken: Which of question and answer were opened, and have the bound ids.
    """

    geometry: Geometry
    asked: Asked
    opened: Opened
    weights: Weights
    drawn: bool
    tokens: Tokens | None
    environment: Mapping[str, str]
    spoken: frozenset[str] = frozenset()

    def source(self, part: Part) -> Source:
        """Returns the weights of a part, with the arithmetic of its rows.

        Raises:
            DataError: If no bounds are known for it.
        """
        dtype = self.opened.dtype(part.anchor)
        return Source(
            weights=self.weights,
            geometry=self.geometry,
            part=part,
            arithmetic=arithmetic.of(dtype, self.environment),
        )


def at_places(shown: Shown, part: Part, numbers: Sequence[int]) -> Iterator[Finding]:
    """Yields what is found of a block, or of the head, at drawn places.

    Args:
        shown: What there is.
        part: The part.
        numbers: Numbers of the places in the draw, all of this part.
    """
    places = [shown.asked.places[number] for number in numbers]
    layers: Layers = DrawnLayers(shown.asked, numbers) if shown.drawn else WholeLayers()
    rows = {
        role: np.stack([_row(shown, module, role, place) for place in places])
        for role, module in _modules(part)
    }
    stretch = Stretch(source=shown.source(part), layers=layers, rows=rows, together=False)
    _run(shown, stretch, [(place.sequence, place.token) for place in places])
    for compared in stretch.found:
        yield finding(part, compared, None if compared.row is None else places[compared.row])


def whole_block(shown: Shown, part: Part, number: int) -> Iterator[Finding]:
    """Yields what is found of a block of which every row was opened.

    Args:
        shown: What there is.
        part: The block.
        number: By which number coordinates were drawn, if weights are opened.
    """
    there = shown.asked.extents
    whole = range(there.tokens)
    places = [(sequence, token) for sequence in range(there.batch) for token in whole]
    rows = {
        role: np.concatenate([shown.opened.rows(module, at, whole) for at in range(there.batch)])
        for role, module in _modules(part)
    }
    layers: Layers = SummedLayers(shown.asked)
    if shown.drawn:
        layers = DrawnLayers(shown.asked, [number] * len(places))
    stretch = Stretch(source=shown.source(part), layers=layers, rows=rows, together=True)
    _run(shown, stretch, places)
    for compared in stretch.found:
        yield finding(part, compared, None, places)


def finding(
    part: Part, compared: Compared, place: Place | None, places: Sequence[tuple[int, int]] = ()
) -> Finding:
    """Returns what a comparison found, in words.

    Args:
        part: The part.
        compared: What came out.
        place: Where; None for all rows of a block.
        places: Sequence and token of each row, for all rows of a block.
    """
    margin, words = compared.margin, compared.words
    blind = False
    ratio: float | None = None
    verdict: Verdict = "not checked"
    if margin is None:
        blind = any(why in words for why in (heads.UNKNOWN_PADDING, heads.UNKNOWN_CALLS))
    elif not margin.consistent:
        verdict = "inconsistent"
        ratio = margin.ratio if np.isfinite(margin.ratio) else None
        at = _where(margin.index, places)
        words = f"{at}: off by {margin.difference:.3g}, the bound is {margin.bound:.3g}"
    elif margin.unbounded:
        blind = True
        words = (
            f"{margin.unbounded} of {margin.unbounded + margin.compared} numbers: what was committed before "
            "them is not finite, or so large that anything may follow"
        )
    else:
        verdict, ratio = "consistent", margin.ratio
    return Finding(
        part=part.name,
        operation=compared.operation,
        place=place,
        verdict=verdict,
        margin=ratio,
        words=words,
        blind=blind,
    )


def _where(index: Sequence[int], places: Sequence[tuple[int, int]]) -> str:
    if not places:
        return f"channel {index[-1]}"
    sequence, token = places[index[0]]
    return f"sequence {sequence}, token {token}, channel {index[-1]}"


def _modules(part: Part) -> Iterator[tuple[str, str]]:
    yield from part.rows.items()
    yield from part.history.items()


def _row(shown: Shown, module: str, role: str, place: Place) -> NDArray[Any]:
    token = shown.asked.extents.row_of(place.token) if role == "logits" else place.token
    return shown.opened.row(module, place.sequence, token)


def _run(shown: Shown, stretch: Stretch, places: Sequence[tuple[int, int]]) -> None:
    part = stretch.source.part
    if part.kind == "head":
        head.check(stretch)
        return
    there = shown.asked.extents
    reasons = {at: heads.blind(place, shown.tokens, there) for at, place in enumerate(places)}
    without = {at: why for at, why in reasons.items() if why is not None}
    attended = heads.attended(stretch.source, len(places), _seen(shown, stretch, places, without))
    check = llama.check if shown.geometry.family == "llama" else gpt2.check
    check(stretch, attended, without)


def _seen(
    shown: Shown, stretch: Stretch, places: Sequence[tuple[int, int]], without: Mapping[int, str]
) -> Iterator[Seen]:
    """Yields the places whose attention can be checked, by sequence."""
    part = stretch.source.part
    by_sequence: dict[int, list[int]] = {}
    for at, (sequence, _) in enumerate(places):
        if at not in without:
            by_sequence.setdefault(sequence, []).append(at)
    for sequence, rows in by_sequence.items():
        tokens = [places[at][1] for at in rows]
        past = range(max(tokens) + 1)
        history = {role: shown.opened.rows(module, sequence, past) for role, module in part.history.items()}
        if "qkv" in history:
            key, value = np.split(history["qkv"], 3, axis=1)[1:]
            query = np.split(stretch.rows["qkv"][rows], 3, axis=1)[0]
        else:
            key, value, query = history["key"], history["value"], stretch.rows["query"][rows]
        padding = [False] * len(past)
        if shown.tokens is not None:
            padding = [number == PADDING for number in shown.tokens.rows[sequence][: len(past)]]
        yield Seen(
            rows=rows,
            tokens=tokens,
            padding=padding,
            prompt=shown.asked.extents.logits[0].fed,
            query=query,
            key=key,
            value=value,
        )
