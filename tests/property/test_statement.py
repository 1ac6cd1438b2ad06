"""Laws of the statements: what is written can be read, says the same, and has one spelling."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from palm_torch import statement
from palm_torch.digest import LENGTHS_BYTES, Digest
from palm_torch.encoding import MAX_INTEGER
from palm_torch.errors import EvidenceError, PalmTorchError
from palm_torch.properties import PROPERTIES
from palm_torch.roles import Artifact, Dataset, Delivered, Multiset, Source, Steps, Value
from palm_torch.statement import Begin, Statement

INTEGERS = st.integers(-MAX_INTEGER, MAX_INTEGER)
NATURALS = st.integers(0, MAX_INTEGER)
TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
DIGESTS = st.sampled_from(sorted(LENGTHS_BYTES)).flatmap(
    lambda name: st.binary(min_size=LENGTHS_BYTES[name], max_size=LENGTHS_BYTES[name]).map(
        lambda value: Digest(name, value)
    )
)
JSON = st.recursive(
    st.none() | st.booleans() | INTEGERS | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=3,
)
OBJECTS = st.dictionaries(TEXT, JSON, max_size=2)
HEX = {
    (Begin, "register"): st.none() | st.binary(min_size=48, max_size=48).map(bytes.hex),
    (Multiset, "state"): st.just("00" * 384),
    (Multiset, "count"): NATURALS,
    (Steps, "taken"): NATURALS,
    (Steps, "skipped"): NATURALS,
    (Begin, "type"): st.just(statement.BEGIN_TYPE),
    (Dataset, "uses"): st.dictionaries(
        st.sampled_from(["train", "eval"]), st.deferred(lambda: of(Delivered))
    ),
    (Value, "value"): OBJECTS,
    (Begin, "gpu"): st.lists(OBJECTS, max_size=1).map(tuple),
    (statement.Run, "gpu"): st.lists(OBJECTS, max_size=1).map(tuple),
}
"""What a type hint does not say about a field."""


@st.composite
def ranks(draw: st.DrawFn) -> statement.Ranks:
    """Returns ranks of one to three machines, each rank in one part."""
    counts = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    begins = draw(st.lists(DIGESTS, min_size=len(counts), max_size=len(counts), unique=True))
    return statement.Ranks(
        world_size=sum(counts),
        own=draw(st.integers(0, len(counts) - 1)),
        parts=tuple(
            statement.Part(begin=begin, first=sum(counts[:number]), count=count)
            for number, (begin, count) in enumerate(zip(begins, counts, strict=True))
        ),
        interconnect="none" if len(counts) == 1 else "unprotected",
        differing=tuple(sorted(draw(st.sets(TEXT, max_size=2)))),
    )


SCALARS = {str: TEXT, int: INTEGERS, float: FLOATS, bool: st.booleans(), bytes: st.binary(), Digest: DIGESTS}


def of(hint: Any) -> st.SearchStrategy[Any]:
    """Returns values of a type hint: the dataclass is the schema of the tests, too."""
    if hint in SCALARS:
        return SCALARS[hint]
    if hint is type(None):
        return st.none()
    if hint is Any:
        return JSON
    if hint is statement.Ranks:
        return ranks()
    if hint is Artifact:
        there = st.builds(Artifact, source=st.sampled_from(Source), kind=st.just("file"), digest=DIGESTS)
        return there | st.builds(
            Artifact, source=st.sampled_from(Source), kind=st.just("none"), digest=st.none()
        )
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        names = [field.name for field in dataclasses.fields(hint)]
        special = {name: HEX[hint, name] for name in names if (hint, name) in HEX}
        return st.builds(hint, **{name: of(hints[name]) for name in names if name not in special}, **special)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        return st.lists(of(arguments[0]), max_size=2).map(tuple)
    if origin is dict:
        return st.dictionaries(TEXT, of(arguments[1]), max_size=2)
    if origin is typing.Literal or not arguments:
        return st.sampled_from(arguments or list(hint))
    return st.one_of([of(argument) for argument in arguments])


STATEMENTS = st.builds(
    Statement,
    run=of(statement.Run),
    claims=st.sampled_from(sorted(PROPERTIES)).flatmap(lambda name: of(PROPERTIES[name])),
)


@given(STATEMENTS)
def test_an_end_statement_there_and_back(end: Statement) -> None:
    data = end.encode()
    decoded = statement.decode(data)
    assert decoded == end
    assert decoded.encode() == data
    assert decoded.operation == end.operation
    assert decoded.subjects() == end.subjects()


@given(of(Begin))
def test_a_begin_statement_there_and_back(begin: Begin) -> None:
    data = begin.encode()
    assert statement.decode_begin(data) == begin
    assert statement.decode_begin(data).encode() == data


@given(STATEMENTS, st.data())
def test_a_changed_byte_is_refused_or_another_statement(end: Statement, data: st.DataObject) -> None:
    changed = bytearray(end.encode())
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = statement.decode(bytes(changed))
    except EvidenceError:
        return
    assert found != end
    assert found.encode() == changed


@given(st.binary(max_size=200))
def test_any_bytes_raise_only_our_errors(data: bytes) -> None:
    for decode in (statement.decode, statement.decode_begin):
        try:
            decode(data)
        except PalmTorchError:
            continue
