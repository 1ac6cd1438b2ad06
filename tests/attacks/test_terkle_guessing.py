"""Whoever has openings of some tiles guesses the contents of others that were not shown."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
from trees import SALT_KEY

from palm_torch.commit import terkle, tree_leaves
from palm_torch.commit.grid import Grid
from palm_torch.commit.terkle import Context, Opening, Tree
from palm_torch.errors import BindingError, DataError

PLAIN = Context("mask", "bool", Grid((4,), (1,)), "hash")
SALTED = dataclasses.replace(PLAIN, salted=True)
SECRET = b"\1"


def tree(context: Context, key: bytes | None = None) -> Tree:
    made = Tree(context, salt_key=key)
    made.extend([b"\0", SECRET, b"\0", b"\1"])
    return made


def guesses(context: Context, leaf: bytes, salts: list[bytes]) -> list[bytes]:
    """Returns which contents of tile 1 have this leaf, for all contents there are and some salts."""
    return [
        content
        for content in map(bytes, itertools.product(range(256)))
        for salt in salts
        if tree_leaves.leaf(context, 1, content, salt) == leaf
    ]


def test_attack_75_a_neighbour_in_a_proof() -> None:
    """The proof of tile 0 begins with the leaf of tile 1: one bit, tried both ways."""
    shown = tree(PLAIN).open([(0,)], lambda _: b"\0")
    assert guesses(PLAIN, shown.proof[:32], [b""]) == [
        SECRET
    ]  # not refused: a tree without salts hides nothing
    private = tree(SALTED, SALT_KEY).open([(0,)], lambda _: b"\0")
    others = [b"", bytes(32), *private.salts, SALTED.stem()]
    assert guesses(SALTED, private.proof[:32], others) == []
    salts = tree_leaves.salts_of(SALTED, SALT_KEY)
    assert guesses(SALTED, private.proof[:32], [salts.salt(1)]) == [
        SECRET
    ]  # the twin: with the salt it is easy


def test_attack_75_salts_that_were_shown_say_nothing_of_others() -> None:
    whole = tree(SALTED, SALT_KEY).open([(slice(0, 4),)], [b"\0", SECRET, b"\0", b"\1"].__getitem__)
    assert len({*whole.salts, SALT_KEY}) == 5
    assert all(len(salt) == 32 for salt in whole.salts)


@pytest.mark.parametrize("scheme", ["hash", "kzg"])
def test_attack_75_a_tile_that_changed_after_its_salt_was_shown(scheme: Any) -> None:
    """Whoever saw the salt of a tile tries it on the leaves that the tile has later."""
    context = dataclasses.replace(SALTED, dtype="uint8", scheme=scheme)
    made = tree(context, SALT_KEY)
    known = list(made.open([(1,)], lambda _: SECRET).salts)
    for secret in (bytes([42]), bytes([77]), SECRET):
        made.update(1, secret)
        assert guesses(context, made._nodes.leaf(1), known) == []
        shown = made.open([(1,)], lambda _, secret=secret: secret)
        terkle.verify(made.root(), context, [(1,)], shown)
        assert guesses(context, made._nodes.leaf(1), list(shown.salts)) == [secret]
        known.extend(shown.salts)
    assert len(set(known)) == 4


def test_attack_75_an_edge_that_grew_after_its_salt_was_shown() -> None:
    context = Context("kv", "uint8", Grid((3,), (2,)), "hash", salted=True)
    made = Tree(context, salt_key=SALT_KEY)
    made.extend([b"\0\1", b"\2"])
    known = list(made.open([(2,)], lambda _: b"\2").salts)
    made.append(4, [b"\2\x63"])
    shown = made.open([(0,)], lambda _: b"\0\1")
    for guess in range(256):
        assert tree_leaves.leaf(made.context, 1, bytes((2, guess)), known[0]) != shown.proof[:32]


def test_attack_75_the_salt_is_no_free_choice() -> None:
    """A prover who could choose the salt later has no use of it: leaf, salt and bytes are bound together."""
    made = tree(SALTED, SALT_KEY)
    good = made.open([(1,)], lambda _: SECRET)
    for salt in (bytes(32), good.salts[0][::-1]):
        for content in (b"\0", b"\1"):
            with pytest.raises(BindingError):
                terkle.verify(made.root(), SALTED, [(1,)], Opening((content,), (salt,), good.proof))


@pytest.mark.parametrize("key", [None, b"", bytes(31), bytes(33)])
def test_attack_75_a_salted_tree_without_a_secret(key: bytes | None) -> None:
    with pytest.raises(DataError, match="salt key"):
        Tree(SALTED, salt_key=key)


def test_attack_75_a_name_does_not_show_the_key() -> None:
    assert SALT_KEY.hex() not in repr(tree_leaves.salts_of(SALTED, SALT_KEY))
    assert repr(SALT_KEY) not in repr(tree_leaves.salts_of(SALTED, SALT_KEY))
