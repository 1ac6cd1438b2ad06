"""A proof is cut, extended, reordered or bent in one bit: every statement has one proof, and that is it."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import pickle
import struct
from typing import TYPE_CHECKING, Any

import pytest
from kzg_nodes import node
from trees import opened, tiles_of, tree_of

from palm_torch.commit import merkle, opening_file, shplonk, terkle
from palm_torch.commit.grid import MAX_OPENED, Grid
from palm_torch.commit.terkle import Context, Opening
from palm_torch.digest import tagged_hash
from palm_torch.errors import BindingError, DataError, EvidenceError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from palm_torch.commit.terkle import Tree

HASH = Context("w", "uint8", Grid((7,), (1,)), "hash")
KZG = Context("w", "uint8", Grid((7,), (1,)), "kzg")
SALTED = Context("w", "uint8", Grid((7,), (1,)), "hash", salted=True)
REGIONS = [(1,), (4,)]


@functools.cache
def tree(context: Context) -> Tree:
    return tree_of(context)


def refused(context: Context, opening: Opening, **told: Any) -> None:
    root = told.get("root", tree(context).root())
    with pytest.raises((BindingError, EvidenceError)):
        terkle.verify(root, told.get("context", context), told.get("regions", REGIONS), opening)


@pytest.mark.parametrize("positions", [(4, 1), (1, 1), (), (1, 1, 4)])
def test_attack_68_claims_out_of_order_or_twice(positions: tuple[int, ...]) -> None:
    """In another order, or said twice, a claim would be another statement of the same thing."""
    one = node(1)
    claim = shplonk.Claim(one.commitment, positions, tuple(one.values[at] for at in positions))
    with pytest.raises(EvidenceError, match="ascending places"):
        shplonk.verify_sets([claim], b"", bytes(96))
    with pytest.raises(DataError, match="ascending places"):
        shplonk.open_sets([(one.commitment, one.blob, positions)], b"")


def test_attack_68_one_commitment_in_two_claims() -> None:
    """Two claims about one node could contradict each other; they belong into one."""
    one = node(1)
    claims = [shplonk.Claim(one.commitment, (at,), (one.values[at],)) for at in (1, 4)]
    with pytest.raises(EvidenceError, match="a commitment comes twice"):
        shplonk.verify_sets(claims, b"", bytes(96))


def test_attack_68_claims_in_another_order() -> None:
    one, two = node(1), node(2)
    sets = [(one.commitment, one.blob, (1,)), (two.commitment, two.blob, (4,))]
    claims = [shplonk.Claim(c, s, (b.values[s[0]],)) for (c, _, s), b in zip(sets, (one, two), strict=True)]
    proof = shplonk.open_sets(sets, b"")
    shplonk.verify_sets(claims, b"", proof)
    for wrong, context in ((claims[::-1], b""), (claims, b"\0"), (claims[:1], b"")):
        with pytest.raises(BindingError):
            shplonk.verify_sets(wrong, context, proof)


@pytest.mark.parametrize("positions", [[1, 1], [7], [-1], []])
def test_attack_68_positions_of_hashes(positions: list[int]) -> None:
    leaves = b"".join(bytes([number]) * 32 for number in range(7))
    with pytest.raises(DataError):
        merkle.open_positions(leaves, positions)
    with pytest.raises(EvidenceError):
        merkle.verify(merkle.root(leaves), 7, {at: leaves[:32] for at in positions if at != 1}, b"")


@pytest.mark.parametrize("context", [HASH, KZG], ids=["hash", "kzg"])
def test_attack_69_proofs_of_another_length(context: Context) -> None:
    good = opened(tree(context), REGIONS)
    proof = good.proof
    for length in range(len(proof)):
        refused(context, dataclasses.replace(good, proof=proof[:length]))
    for more in (b"\0", proof[-32:], proof[-48:], proof):
        refused(context, dataclasses.replace(good, proof=proof + more))


@pytest.mark.parametrize(("context", "size"), [(HASH, 32), (KZG, 48)], ids=["hash", "kzg"])
def test_attack_69_proofs_in_another_order(context: Context, size: int) -> None:
    good = opened(tree(context), REGIONS)
    parts = [good.proof[at : at + size] for at in range(0, len(good.proof), size)]
    for order in itertools.product(range(len(parts)), repeat=len(parts)):
        if order != tuple(range(len(parts))):
            refused(context, dataclasses.replace(good, proof=b"".join(parts[at] for at in order)))


@pytest.mark.parametrize("context", [HASH, KZG, SALTED], ids=["hash", "kzg", "salted"])
def test_attack_69_tiles_and_salts_in_another_order_or_number(context: Context) -> None:
    good = opened(tree(context), REGIONS)
    refused(context, dataclasses.replace(good, tiles=good.tiles[::-1]))
    refused(context, dataclasses.replace(good, tiles=good.tiles[:1], salts=good.salts[:1]))
    refused(context, dataclasses.replace(good, tiles=good.tiles * 2, salts=good.salts * 2))
    some = (bytes(32),) * 2
    refused(context, dataclasses.replace(good, salts=() if context.salted else some))
    if context.salted:
        refused(context, dataclasses.replace(good, salts=good.salts[::-1]))


@pytest.mark.parametrize("context", [HASH, KZG], ids=["hash", "kzg"])
def test_attack_69_a_proof_of_more_or_less(context: Context) -> None:
    """An honest proof of three tiles does not show two of them, nor the reverse: the question is bound."""
    three = [(1,), (4,), (5,)]
    shown = opened(tree(context), three)
    refused(context, dataclasses.replace(shown, tiles=shown.tiles[:2]))
    two = opened(tree(context), REGIONS)
    refused(context, dataclasses.replace(two, tiles=shown.tiles), regions=three)


def bits(data: bytes) -> Iterator[bytes]:
    """Yields the data with each of its bits flipped in turn."""
    for at in range(8 * len(data)):
        bent = bytearray(data)
        bent[at // 8] ^= 1 << at % 8
        yield bytes(bent)


def read_context(data: bytes) -> Context | None:
    """Reads an encoding of a context; None if no context has it."""
    try:
        version, at, parts = data[0], 1, []
        for fixed in (None, None, 1, None, None):
            length = fixed or int.from_bytes(data[at : at + 4], "big")
            at += 0 if fixed else 4
            parts.append(data[at : at + length])
            at += length
        scheme, _, salted, name, dtype = parts
        axes = data[at]
        numbers = struct.unpack(f">{2 * axes}Q", data[at + 1 : at + 1 + 16 * axes])
        names, at = [], at + 2 + 16 * axes
        for _ in range(data[at - 1]):
            length = int.from_bytes(data[at : at + 4], "big")
            names.append(data[at + 4 : at + 4 + length].decode())
            at += 4 + length
        grid = Grid(numbers[:axes], numbers[axes:], tuple(names))
        read = Context(name.decode(), dtype.decode(), grid, scheme.decode(), bool(salted[0]))  # type: ignore[arg-type]
    except (ValueError, IndexError, struct.error, DataError):
        return None
    return read if version == 1 and read.encode() == data else None


@pytest.mark.parametrize("context", [HASH, KZG, SALTED], ids=["hash", "kzg", "salted"])
def test_attack_70_any_bit_of_the_context(context: Context) -> None:
    """Whoever tells the verifier another context is found out, whichever bit of it is another one."""
    good, told = opened(tree(context), REGIONS), 0
    assert read_context(context.encode()) == context
    for bent in bits(context.encode()):
        other = read_context(bent)
        if other is None:
            continue
        told += 1
        with pytest.raises((BindingError, InputError)):
            terkle.verify(tree(context).root(), other, REGIONS, good)
    assert told > 50
    top = merkle.root(b"")  # and bits that no context has lead to other roots all the same
    roots = {tagged_hash("palm-torch/terkle-root/v1", bent, top) for bent in bits(context.encode())}
    assert len(roots) == 8 * len(context.encode())
    assert context.root(top) not in roots


@pytest.mark.parametrize("context", [HASH, KZG, SALTED], ids=["hash", "kzg", "salted"])
def test_attack_70_any_bit_of_the_root(context: Context) -> None:
    good = opened(tree(context), REGIONS)
    for bent in bits(tree(context).root()):
        refused(context, good, root=bent)


@pytest.mark.parametrize("context", [HASH, KZG, SALTED], ids=["hash", "kzg", "salted"])
def test_attack_70_any_bit_of_an_opening(context: Context) -> None:
    """Head, lengths, tiles, salts, commitments and both halves of the proof: all of them, one at a time."""
    good = opened(tree(context), REGIONS).encode()
    for bent in bits(good):
        with pytest.raises((BindingError, EvidenceError)):
            terkle.verify(tree(context).root(), context, REGIONS, Opening.decode(bent))


def test_attack_70_any_bit_of_a_point_proof() -> None:
    good = opened(tree(KZG), REGIONS[:1]).encode()
    for bent in bits(good):
        with pytest.raises((BindingError, EvidenceError)):
            terkle.verify(tree(KZG).root(), KZG, REGIONS[:1], Opening.decode(bent))


class Armed:
    """Does what the attacker wants when it is unpickled: here, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def test_attack_71_code_in_place_of_an_opening(tmp_path: Path) -> None:
    """Nothing that a stranger sends is ever unpickled."""
    armed = pickle.dumps(Armed(tmp_path / "ran"))
    with pytest.raises(EvidenceError):
        Opening.decode(armed)
    with pytest.raises(EvidenceError):
        opening_file.decode(armed, what="the opening")
    assert not (tmp_path / "ran").exists()
    pickle.loads(armed)  # noqa: S301 (the twin: it would have run)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "data",
    [
        b"\1" + b"\xff" * 12,
        b"\1" + struct.pack(">III", MAX_OPENED + 1, 0, 0),
        b"\1" + struct.pack(">III", MAX_OPENED, MAX_OPENED, 2**32 - 1),
        b"\1" + struct.pack(">III", 1, 0, 0) + b"\xff" * 8,
        b"\1" + struct.pack(">III", 2, 0, 0) + struct.pack(">QQ", 2**63, 2**63) + b"\0",
    ],
)
def test_attack_71_counts_that_fill_the_memory(data: bytes) -> None:
    """What is said to be there is compared with what is there, before room is made for it."""
    with pytest.raises(EvidenceError):
        Opening.decode(data)


@pytest.mark.parametrize("scheme", ["hash", "kzg"])
def test_attack_71_a_question_that_touches_too_much(scheme: Any) -> None:
    large = Context("w", "uint8", Grid((2**20, 2**20), (1, 1)), scheme)
    whole = (slice(None), slice(None))
    for regions in ([whole], [(0, slice(None)), (1, slice(None))]):
        with pytest.raises(DataError, match="expected at most 1048576 in one opening"):
            terkle.proof_bytes(large, regions)


def test_attack_72_a_tile_is_exchanged_between_commitment_and_opening() -> None:
    """The host rewrites the file that the prover reads again: it opens what it committed to, or nothing."""
    for context in (HASH, KZG, SALTED):
        with pytest.raises(DataError, match="is not the one that the tree was made of"):
            tree(context).open(REGIONS, lambda _: b"\0")


def test_attack_72_a_tile_is_rewritten_while_it_is_opened() -> None:
    """What is shown is the copy that was compared, not what lies there afterwards."""
    memory = [bytearray(tile) for tile in tiles_of(HASH)]
    opening = tree(HASH).open(REGIONS, memory.__getitem__)
    for tile in memory:
        tile[:] = bytes(len(tile))
    terkle.verify(tree(HASH).root(), HASH, REGIONS, opening)
