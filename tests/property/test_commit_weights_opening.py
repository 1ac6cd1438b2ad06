"""Random tensors and blocks: an honest opening shows the very bytes, one changed byte shows nothing."""

from __future__ import annotations

import dataclasses
import itertools
import tempfile
from pathlib import Path
from typing import Any

import weights_at_hand as at_hand
from hypothesis import given, settings
from hypothesis import strategies as st

from palm_torch.commit import opening_file, weights_opening
from palm_torch.errors import BindingError, InputError

ITEM = {"F32": 4, "BF16": 2, "I64": 8, "U8": 1}


@st.composite
def models(draw: st.DrawFn) -> dict[str, at_hand.Stored]:
    tensors: dict[str, at_hand.Stored] = {}
    for name in draw(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=5, unique=True)):
        if "\ud800" <= max(name) <= "\udfff" or name == "__metadata__":
            continue
        dtype = draw(st.sampled_from(sorted(ITEM)))
        shape = draw(
            st.one_of(
                st.lists(st.integers(1, 9), max_size=4),
                st.tuples(st.integers(1, 3000), st.integers(1, 700)).map(list),
                st.tuples(st.integers(1, 3), st.integers(500_000, 1_200_000)).map(list),
            )
        )
        size = ITEM[dtype]
        for extent in shape:
            size *= extent
        if size <= 4_000_000:
            tensors[name] = (dtype, shape, at_hand.some_bytes(size, draw(st.integers(0, 9))))
    return tensors or {"t": ("U8", [1], b"\0")}


def spans(draw: st.DrawFn, extent: int) -> tuple[int, int]:
    start = draw(st.integers(0, extent - 1))
    return start, draw(st.integers(start + 1, min(extent, start + 40)))


@st.composite
def openings(draw: st.DrawFn) -> tuple[dict[str, at_hand.Stored], str, Any, Any]:
    model = draw(models())
    name = draw(st.sampled_from(sorted(model)))
    _, shape, _ = model[name]
    rows = shape[0] if len(shape) > 1 else 1
    width = 1
    for extent in shape[1:] if len(shape) > 1 else shape:
        width *= extent
    return model, name, spans(draw, rows), spans(draw, width)


def made(model: dict[str, at_hand.Stored], name: str, rows: Any, columns: Any) -> opening_file.WeightsOpening:
    with tempfile.TemporaryDirectory() as folder:
        path = at_hand.write(Path(folder) / "m.safetensors", model)
        return at_hand.opened(path, name, rows=rows, columns=columns)


@settings(max_examples=40, deadline=None)
@given(openings())
def test_what_is_shown_is_what_is_stored(drawn: Any) -> None:
    model, name, rows, columns = drawn
    opening = made(model, name, rows, columns)
    read = opening_file.decode(opening.encode(), what="opening")
    shown = weights_opening.verify(read, opening.root)
    dtype, _, data = model[name]
    width, item = shown.spec.view()[1], ITEM[dtype]
    assert shown.values == b"".join(
        data[(row * width + column) * item :][:item]
        for row, column in itertools.product(range(*rows), range(*columns))
    )


@settings(max_examples=40, deadline=None)
@given(openings(), st.sampled_from(["tiles", "proof", "entry_proof", "root", "tensor"]), st.data())
def test_one_changed_byte_shows_nothing(drawn: Any, field: str, data: st.DataObject) -> None:
    opening = made(*drawn)
    old = getattr(opening, field)
    holder = old if field == "root" else getattr(old, "root", None)
    content = old if isinstance(old, bytes) else holder.value
    if not content:
        return
    at = data.draw(st.integers(0, len(content) - 1))
    bent = bytearray(content)
    bent[at] ^= data.draw(st.integers(1, 255))
    new: Any = bytes(bent)
    if field == "root":
        new = dataclasses.replace(old, value=new)
    elif field == "tensor":
        new = dataclasses.replace(old, root=dataclasses.replace(old.root, value=new))
    error = at_hand.refused(opening, {field: new}, opening.root)
    assert isinstance(error, (BindingError, InputError))
