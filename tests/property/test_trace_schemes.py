"""Random traces under both schemes: openings show the same bytes, in as many bytes as is known beforehand."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import traces
from hypothesis import given, settings
from hypothesis import strategies as st

from palm_torch.commit import trace_opening, trace_question, trace_rows, trace_schemes
from palm_torch.commit.trace import Calls, Site
from palm_torch.errors import BindingError, EvidenceError

DTYPES = ("bfloat16", "float32", "float64", "uint8")


@st.composite
def schedules(draw: st.DrawFn) -> tuple[Calls, ...]:
    """A prefill, and steps of one token each, of some sequences."""
    batch, prefill, steps = draw(st.integers(1, 3)), draw(st.integers(1, 300)), draw(st.integers(0, 40))
    return (Calls(0, 1, (batch, prefill)), *([Calls(1, steps, (batch, 1))] if steps and prefill > 1 else []))


def span(draw: st.DrawFn, extent: int) -> slice:
    start = draw(st.integers(0, extent - 1))
    return slice(start, draw(st.integers(start + 1, extent)))


@settings(max_examples=25)
@given(
    st.sampled_from(DTYPES),
    st.integers(1, 5),
    st.sampled_from([1, 7, 256, 4099]),
    schedules(),
    st.data(),
)
def test_both_schemes_show_the_same(
    dtype: str, sites: int, channels: int, schedule: tuple[Calls, ...], data: Any
) -> None:
    group = (traces.layers(sites), dtype, channels, schedule)
    made = {scheme: traces.MadeUp(group, scheme=scheme) for scheme in trace_schemes.SCHEMES}
    site = Site(f"layers.{data.draw(st.integers(0, sites - 1))}")
    tokens = sum(run.tokens * run.count for run in schedule)
    question = trace_question.ask(
        made["hash"].context,
        site,
        tokens=span(data.draw, tokens),
        batch=span(data.draw, schedule[0].batch),
        channels=span(data.draw, channels),
    )
    openings = {scheme: tree.open(question, dtype, channels) for scheme, tree in made.items()}
    shown = {
        scheme: trace_opening.verify(tree.root, tree.encoded, question, openings[scheme]).values
        for scheme, tree in made.items()
    }
    assert shown["hash"] == shown["kzg"]
    assert openings["hash"].tiles == openings["kzg"].tiles
    for scheme, tree in made.items():
        place = trace_rows.locate(tree.context, question)
        positions = [tile.position for tile in place.tiles]
        expected = trace_schemes.proof_bytes(scheme, dtype, place.group.grid(), positions)
        assert len(openings[scheme].proof) == expected
        other = openings["kzg" if scheme == "hash" else "hash"].proof
        if other:
            crossed = dataclasses.replace(openings[scheme], proof=other)
            with pytest.raises((BindingError, EvidenceError)):
                trace_opening.verify(tree.root, tree.encoded, question, crossed)
