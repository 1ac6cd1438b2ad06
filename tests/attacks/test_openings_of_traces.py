"""Whoever brings an opening would like it to show something else: each attempt, and the step that ends it."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from typing import Any

import pytest
import traces
from traces import DECODING

from palm_torch.codec import from_json, to_json
from palm_torch.commit import merkle, trace, trace_groups, trace_opening, trace_question, trace_schemes
from palm_torch.commit.trace import Calls, Site
from palm_torch.commit.trace_opening import TraceOpening
from palm_torch.encoding import encode_json
from palm_torch.errors import BindingError, DataError, EvidenceError, InputError, PalmTorchError

SITE = Site("layers.1")


class Attacked:
    """A trace under one scheme, an opening of it, and what a verifier does with both."""

    def __init__(self, scheme: trace_schemes.Name) -> None:
        self.trace = traces.MadeUp(
            (traces.layers(3), "bfloat16", 48, DECODING),
            ((Site("norm"),), "float16", 48, DECODING),
            scheme=scheme,
        )
        self.question = trace_question.ask(
            self.trace.context, SITE, tokens=slice(2, 4), batch=1, channels=slice(0, 8)
        )
        self.good = self.trace.open(self.question, "bfloat16", 48)

    def verify(
        self, opening: TraceOpening, *, context: bytes | None = None, root: Any = None, question: Any = None
    ) -> trace_opening.Shown:
        return trace_opening.verify(
            root or self.trace.root, context or self.trace.encoded, question or self.question, opening
        )

    def changed_context(self, *path: Any, value: Any) -> bytes:
        context = json.loads(self.trace.encoded)
        place = context
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        return encode_json(context)


@pytest.fixture(scope="module", params=["hash", "kzg"])
def attacked(request: pytest.FixtureRequest) -> Attacked:
    return Attacked(request.param)


def test_twin_the_good_one_is_accepted(attacked: Attacked) -> None:
    assert attacked.verify(attacked.good).shape == (1, 2, 8)


def test_attack_76_another_value(attacked: Attacked) -> None:
    for at in range(0, len(attacked.good.tiles), 97):
        tiles = bytearray(attacked.good.tiles)
        tiles[at] ^= 1
        with pytest.raises(BindingError):
            attacked.verify(dataclasses.replace(attacked.good, tiles=bytes(tiles)))


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
def test_attack_77_the_same_tiles_for_another_question(attacked: Attacked, moved: dict[str, Any]) -> None:
    other = dataclasses.replace(attacked.question, **moved)
    with pytest.raises(BindingError, match="expected an answer to"):
        attacked.verify(attacked.good, question=other)
    if "site" in moved:  # the others lie in the same tiles, and what these show of them is true
        with pytest.raises((BindingError, DataError, EvidenceError)):
            attacked.verify(dataclasses.replace(attacked.good, question=other), question=other)


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
def test_attack_78_a_context_that_was_changed(attacked: Attacked, path: tuple[Any, ...], value: Any) -> None:
    with pytest.raises(BindingError, match="it is of another trace"):
        attacked.verify(attacked.good, context=attacked.changed_context(*path, value=value))


def test_attack_79_an_element_type_of_the_same_size(attacked: Attacked) -> None:
    """Even with a root over it, bfloat16 does not become float16: tiles are hashed with their type."""
    data = attacked.changed_context("groups", 0, "dtype", value="float16")
    root = trace.root(data)
    with pytest.raises(BindingError, match="opening of layers"):
        attacked.verify(dataclasses.replace(attacked.good, root=root), context=data, root=root)


def test_attack_80_batch_and_tokens_exchanged(attacked: Attacked) -> None:
    data = attacked.changed_context("groups", 0, "schedule", 0, "shape", value=[5, 2])
    root = trace.root(data)
    assert root != attacked.trace.root
    with pytest.raises(BindingError):
        attacked.verify(dataclasses.replace(attacked.good, root=root), context=data)


def test_attack_81_a_node_in_place_of_a_tile() -> None:
    """A proof whose hashes are one level up has another length; its place follows from the question."""
    attacked = Attacked("hash")
    tree, good = attacked.trace.trees[0], attacked.good
    upper = hashlib.sha256(b"palm-torch/merkle-node/v1\x01" + tree.leaf(0) + tree.leaf(1)).digest()
    for proof in (good.proof[32:], good.proof + upper, upper + good.proof[32:]):
        with pytest.raises((EvidenceError, BindingError)):
            attacked.verify(dataclasses.replace(good, proof=proof))


def test_attack_82_a_tree_of_fewer_sites(attacked: Attacked) -> None:
    """The root binds how many sites, rows and channels its tree is over: two of three layers have another."""
    group, tree, scheme = (
        attacked.trace.context.groups[0],
        attacked.trace.trees[0],
        attacked.trace.context.scheme,
    )
    leaves = b"".join(map(tree.leaf, range(len(tree))))
    two = trace_groups.tiles_of(2, group.rows, group.dtype, group.channels)
    fewer = trace_schemes.Tree(scheme, group.dtype, two, leaves[: 2 * len(leaves) // 3])
    context = json.loads(attacked.trace.encoded)
    del context["groups"][0]["sites"][2]
    for root_of_group in (str(group.root), str(fewer.root)):
        context["groups"][0]["root"] = root_of_group
        data = encode_json(context)
        root = trace.root(data)
        bent = dataclasses.replace(attacked.good, root=root)
        with pytest.raises((BindingError, EvidenceError)):
            attacked.verify(bent, context=data, root=root)
    assert merkle.root(leaves) != group.root.value  # a Merkle root alone is no root of a group


@pytest.mark.parametrize("scheme", ["hash", "kzg"])
def test_attack_83_the_trees_of_another_scheme(scheme: trace_schemes.Name) -> None:
    """The context says the scheme, under the root: the opening cannot choose what it is checked with."""
    attacked, other = Attacked(scheme), Attacked("kzg" if scheme == "hash" else "hash")
    crossed = dataclasses.replace(other.good, root=attacked.trace.root)
    with pytest.raises((EvidenceError, BindingError)):
        attacked.verify(crossed)
    context = attacked.changed_context("scheme", value=other.trace.context.scheme)
    root = trace.root(context)
    with pytest.raises((EvidenceError, BindingError)):
        attacked.verify(dataclasses.replace(crossed, root=root), context=context, root=root)


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
def test_attack_84_numbers_that_would_cost_the_verifier_dear(
    attacked: Attacked, field: str, value: Any
) -> None:
    context = json.loads(attacked.trace.encoded)
    context["groups"][0]["schedule"][0][field] = value
    data = json.dumps(context, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(InputError):
        attacked.verify(attacked.good, context=data, root=trace.root(data))


def test_attack_84_a_vast_schedule_costs_nothing_that_was_not_asked_for() -> None:
    """2^40 calls without tokens, then one with: the arithmetic skips what has no rows."""
    vast = (Calls(0, 2**40, (3, 0)), Calls(2**40, 1, (2,)))
    tree = traces.MadeUp(((SITE,), "uint8", 4, vast))
    asked = trace_question.ask(tree.context, SITE, tokens=-1)
    opening = tree.open(asked, "uint8", 4)
    assert trace_opening.verify(tree.root, tree.encoded, asked, opening).shape == (1, 1, 4)


def test_attack_85_a_proof_cut_extended_or_made_of_no_points(attacked: Attacked) -> None:
    proof = attacked.good.proof
    for bent in (b"", proof[:-1], proof + bytes(1), bytes(len(proof)), proof[48:] + proof[:48]):
        with pytest.raises((EvidenceError, BindingError)):
            attacked.verify(dataclasses.replace(attacked.good, proof=bent))


def test_no_byte_of_the_file_can_be_changed(attacked: Attacked) -> None:
    """One bit of every byte of a small file, and every byte left out; under kzg of some bytes."""
    small = trace_question.ask(attacked.trace.context, Site("norm"), tokens=8, batch=0, channels=0)
    data = attacked.trace.open(small, "float16", 48).encode()
    for at in range(0, len(data), 1 if attacked.trace.context.scheme == "hash" else 7):
        for changed in (data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], data[:at] + data[at + 1 :]):
            with pytest.raises(PalmTorchError):
                attacked.verify(trace_opening.decode(changed, what="opening"), question=small)


def test_no_byte_of_the_context_can_be_changed(attacked: Attacked) -> None:
    data = attacked.trace.encoded
    for at in range(len(data)):
        for changed in (data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], data[:at] + data[at + 1 :]):
            with pytest.raises(BindingError, match="it is of another trace"):
                attacked.verify(attacked.good, context=changed)


def test_no_byte_of_the_proof_can_be_changed(attacked: Attacked) -> None:
    for at in range(len(attacked.good.proof)):
        proof = bytearray(attacked.good.proof)
        proof[at] ^= 0x10
        with pytest.raises((BindingError, EvidenceError)):
            attacked.verify(dataclasses.replace(attacked.good, proof=bytes(proof)))


def test_every_field_of_an_opening_is_checked(attacked: Attacked) -> None:
    value: Any = to_json(attacked.good)
    for name in value:
        for changed in (None, {}, [], 7, "", "x", base64.b64encode(b"x" * 96).decode()):
            with pytest.raises(PalmTorchError):
                attacked.verify(
                    from_json(TraceOpening, {**value, name: changed}, what="opening", error=EvidenceError)
                )


def test_every_field_of_a_context_is_checked(attacked: Attacked) -> None:
    """Whatever stands in a field, under a root over it: another kind of value is refused."""
    document = json.loads(attacked.trace.encoded)
    for name, good in document.items():
        for value in (None, [], {}, 7, "x", True):
            if type(value) is type(good) or (name == "model" and value is None):
                continue
            data = encode_json({**document, name: value})
            root = trace.root(data)
            with pytest.raises(EvidenceError, match=rf"^trace context\.{name}"):
                attacked.verify(dataclasses.replace(attacked.good, root=root), context=data, root=root)
