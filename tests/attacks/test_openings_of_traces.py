"""Whoever brings an opening would like it to show something else: each attempt, and the step that ends it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import pytest
import traces
from traces import DECODING

from palm_torch.codec import from_json, to_json
from palm_torch.commit import merkle, trace, trace_opening, trace_question
from palm_torch.commit.trace import Calls, Site
from palm_torch.commit.trace_opening import TraceOpening
from palm_torch.encoding import encode_json
from palm_torch.errors import BindingError, DataError, EvidenceError, InputError, PalmTorchError

TRACE = traces.MadeUp(
    (traces.layers(3), "bfloat16", 48, DECODING),
    ((Site("norm"),), "float16", 48, DECODING),
)
SITE = Site("layers.1")
QUESTION = trace_question.ask(TRACE.context, SITE, tokens=slice(2, 4), batch=1, channels=slice(0, 8))
GOOD = TRACE.open(QUESTION, "bfloat16", 48)


def verify(opening: TraceOpening, *, context: bytes | None = None, question: Any = QUESTION) -> Any:
    return trace_opening.verify(TRACE.root, context or TRACE.encoded, question, opening)


def edited(context: dict[str, Any]) -> bytes:
    return encode_json(context)  # type: ignore[arg-type]


def test_the_good_one_is_accepted() -> None:
    assert verify(GOOD).shape == (1, 2, 8)


@pytest.mark.parametrize("at", range(0, len(GOOD.tiles), 97))
def test_another_value(at: int) -> None:
    tiles = bytearray(GOOD.tiles)
    tiles[at] ^= 1
    with pytest.raises(BindingError):
        verify(dataclasses.replace(GOOD, tiles=bytes(tiles)))


def test_no_byte_of_the_file_can_be_changed() -> None:
    """One bit of every byte of a small file, and every byte left out."""
    small = trace_question.ask(TRACE.context, Site("norm"), tokens=8, batch=0, channels=0)
    data = TRACE.open(small, "float16", 48).encode()
    for at in range(len(data)):
        for changed in (data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], data[:at] + data[at + 1 :]):
            with pytest.raises(PalmTorchError):
                verify(trace_opening.decode(changed, what="opening"), question=small)


@pytest.mark.parametrize(
    "moved",
    [
        {"tokens": (3, 5)},
        {"batch": (0, 1)},
        {"channels": (8, 16)},
        {"call": 0},
        {"site": Site("layers.2")},
        {"site": Site("layers.1", "0")},
        {"site": Site("norm")},
    ],
)
def test_the_same_tiles_for_another_question(moved: dict[str, Any]) -> None:
    other = dataclasses.replace(QUESTION, **moved)
    with pytest.raises(BindingError, match="expected an answer to"):
        verify(GOOD, question=other)
    if "site" in moved:  # the others lie in the same tiles, and what these show of them is true
        with pytest.raises((BindingError, DataError, EvidenceError)):
            verify(dataclasses.replace(GOOD, question=other), question=other)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("groups", 0, "dtype"), "float16"),
        (("groups", 0, "channels"), 24),
        (("groups", 0, "sites", 1, "module"), "layers.7"),
        (("groups", 0, "schedule", 0, "shape"), [5, 2]),
        (("groups", 0, "schedule", 1, "first"), 2),
        (("groups", 0, "root"), "palm-sha256:" + "00" * 32),
        (("coverage", 0, "fired"), 6),
        (("facts", "prompt"), "sha256:" + "00" * 32),
        (("model",), "palm-sha256:" + "00" * 32),
        (("environment", "torch"), "2.14.0"),
    ],
)
def test_a_context_that_was_changed(path: tuple[Any, ...], value: Any) -> None:
    context = json.loads(TRACE.encoded)
    place = context
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(BindingError, match="it is of another trace"):
        verify(GOOD, context=edited(context))


def test_an_element_type_of_the_same_size_is_part_of_each_leaf() -> None:
    """Even with a root over it, bfloat16 does not become float16: tiles are hashed with their type."""
    context = json.loads(TRACE.encoded)
    context["groups"][0]["dtype"] = "float16"
    data = edited(context)
    root = trace.root(data)
    with pytest.raises(BindingError, match="not the leaves under root"):
        trace_opening.verify(root, data, QUESTION, dataclasses.replace(GOOD, root=root))


def test_batch_and_tokens_cannot_be_exchanged_under_another_root() -> None:
    context = json.loads(TRACE.encoded)
    context["groups"][0]["schedule"][0]["shape"] = [5, 2]
    data = edited(context)
    root = trace.root(data)
    assert root != TRACE.root
    with pytest.raises(BindingError):
        trace_opening.verify(TRACE.root, data, QUESTION, dataclasses.replace(GOOD, root=root))


def test_a_node_cannot_stand_for_a_tile() -> None:
    """A proof whose hashes are one level up has another length; its place follows from the question."""
    leaves = TRACE.leaves[0]
    upper = hashlib.sha256(b"palm-torch/merkle-node/v1\x01" + leaves[:64]).digest()
    for proof in (GOOD.proof[32:], GOOD.proof + upper, upper + GOOD.proof[32:]):
        with pytest.raises((EvidenceError, BindingError)):
            verify(dataclasses.replace(GOOD, proof=proof))


def test_a_tree_of_fewer_sites() -> None:
    """The tree binds how many leaves it has: two of three layers are another tree."""
    fewer = merkle.root(TRACE.leaves[0][: 2 * len(TRACE.leaves[0]) // 3])
    assert fewer != TRACE.context.groups[0].root.value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("count", 2**60),
        ("count", True),
        ("first", -1),
        ("shape", [2**53]),
        ("shape", [1] * 70),
        ("shape", "55"),
        ("count", 0),
    ],
)
def test_numbers_that_would_cost_the_verifier_dear(field: str, value: Any) -> None:
    context = json.loads(TRACE.encoded)
    context["groups"][0]["schedule"][0][field] = value
    data = json.dumps(context, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(InputError):
        trace_opening.verify(trace.root(data), data, QUESTION, GOOD)


def test_a_vast_schedule_costs_nothing_that_was_not_asked_for() -> None:
    """2^40 calls without tokens, then one with: the arithmetic skips what has no rows."""
    vast = (Calls(0, 2**40, (3, 0)), Calls(2**40, 1, (2,)))
    tree = traces.MadeUp(((SITE,), "uint8", 4, vast))
    asked = trace_question.ask(tree.context, SITE, tokens=-1)
    opening = tree.open(asked, "uint8", 4)
    assert trace_opening.verify(tree.root, tree.encoded, asked, opening).shape == (1, 1, 4)


def test_every_field_of_an_opening_is_checked() -> None:
    value = to_json(GOOD)
    assert isinstance(value, dict)
    for name in value:
        for changed in (None, {}, [], 7, "", "x"):
            with pytest.raises(PalmTorchError):
                verify(from_json(TraceOpening, {**value, name: changed}, what="opening", error=EvidenceError))
