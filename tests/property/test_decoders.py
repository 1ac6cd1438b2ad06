"""Every decoder, from good inputs edited a little: our errors, or what is accepted is written the same."""

from __future__ import annotations

import functools
import importlib
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import mutations
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palm_torch.errors import EncodingError

FUZZ = Path(__file__).parents[1] / "fuzz"
GROUPS = sorted(path.stem.removeprefix("fuzz_") for path in FUZZ.glob("fuzz_*.py"))
sys.path.append(str(FUZZ))

EDITS = st.lists(
    st.tuples(
        st.sampled_from(["replace", "insert", "cut", "double"]),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=4),
    ),
    min_size=1,
    max_size=4,
)


@functools.cache
def seeds() -> dict[str, dict[str, bytes]]:
    with tempfile.TemporaryDirectory() as folder:
        made: dict[str, dict[str, bytes]] = importlib.import_module("seeds").make(Path(folder))
    return made


def edited(data: bytes, edits: list[tuple[str, float, bytes]]) -> bytes:
    for kind, where, with_what in edits:
        at, size = int(where * len(data)), len(with_what)
        after = data[at + size :] if kind in ("replace", "cut") else data[at:]
        data = data[:at] + {"cut": b"", "double": data[at : at + 16 * size]}.get(kind, with_what) + after
    return data


@pytest.mark.parametrize("group", GROUPS)
@given(st.data())
def test_edited_inputs(group: str, data: st.DataObject) -> None:
    one_input: Any = importlib.import_module(f"fuzz_{group}").one_input
    name = data.draw(st.sampled_from(sorted(seeds()[group])), label="seed")
    one_input(edited(seeds()[group][name], data.draw(EDITS, label="edits")))


@pytest.mark.parametrize("group", ["collateral", "encoding", "evidence", "policy", "statement"])
@given(st.data())
def test_edited_documents(group: str, data: st.DataObject) -> None:
    one_input: Any = importlib.import_module(f"fuzz_{group}").one_input
    good = list(seeds()[group].values())
    document = data.draw(st.sampled_from(range(len(good))), label="seed")
    choices = random.Random(data.draw(st.integers(0, 2**32), label="choices"))
    try:
        one_input(mutations.mutate(good[document], good, choices).data)
    except EncodingError:  # the seed, or one that parts are taken from, is no canonical document
        return
