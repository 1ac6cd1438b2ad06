"""Whoever knows the number behind a setup, or the challenge before the claims, opens a root to anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from unittest import mock

import py_arkworks_bls12381 as bls
import pytest
from kzg_nodes import node
from trees import opened, tree_of

from palm_torch.commit import (
    ceremony,
    curve,
    field,
    kzg_tree,
    layout,
    shplonk,
    terkle,
    tree_context,
    tree_leaves,
)
from palm_torch.commit.grid import Grid
from palm_torch.commit.terkle import Context, Opening
from palm_torch.errors import BindingError, DataError, EvidenceError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

R: Final = field.MODULUS
TAU: Final = 0xC0FFEE
"""What the attacker knows of their own setup."""

CONTEXT: Final = Context("w", "uint8", Grid((7,), (1,)), "kzg")


def scaled(scalar: int) -> bytes:
    return (bls.G1Point() * bls.Scalar(scalar % R)).to_compressed_bytes()


def toy_setup() -> Any:
    """Lets the verifier use the attacker's powers, as one does who takes them from the prover."""

    def power(exponent: int) -> bls.G2Point:
        return bls.G2Point() * bls.Scalar(pow(TAU, exponent, R))

    return mock.patch.object(curve, "g2_power", power)


def value_of(position: int, tile: bytes) -> int:
    """Value of a tile in the one node of a tree over `CONTEXT`."""
    leaf = tree_leaves.leaf(CONTEXT, position, tile, b"")
    return kzg_tree.child_value(kzg_tree.child_prefix(CONTEXT.stem(), 1, 0), position, leaf)


def forged_point(committed: int, position: int, tile: bytes) -> bytes:
    """Commitment and proof: the quotient's value at the secret number is all that is needed."""
    quotient = (committed - value_of(position, tile)) * pow(TAU - field.point(position), -1, R)
    return scaled(committed) + scaled(quotient)


@pytest.mark.parametrize("tile", [b"\x01", b"\x02"])
def test_attack_64_one_root_opens_to_anything_under_a_setup_of_the_provers(tile: bytes) -> None:
    """The root is fixed first; then any tile is shown under it, and holds in the toy setup alone."""
    root, region = CONTEXT.root(scaled(5)), [(3,)]
    forged = Opening((tile,), (), forged_point(5, 3, tile))
    with toy_setup():
        assert terkle.verify(root, CONTEXT, region, forged).region(0) == tile
    with pytest.raises(BindingError):
        terkle.verify(root, CONTEXT, region, forged)


def forged_sets(claims: Sequence[shplonk.Claim], secrets: Sequence[int]) -> bytes:
    """Both halves of a proof about nodes, of whose polynomials nothing is chosen but the value at TAU."""
    statement = shplonk._statement(claims, CONTEXT.digest())
    gamma, witness = shplonk._gamma(statement), 7
    z = shplonk._z(statement, gamma, scaled(witness), DataError)
    terms = shplonk._terms(claims, gamma, z)
    left = sum(term.scale * secret - term.constant for term, secret in zip(terms, secrets, strict=True))
    return scaled(witness) + scaled((left - witness) * pow(TAU - z, -1, R))


@pytest.mark.parametrize("tiles", [(b"\x01", b"\x02"), (b"\x02", b"\x01")])
def test_attack_64_so_do_many_places_at_once(tiles: tuple[bytes, bytes]) -> None:
    root, regions = CONTEXT.root(scaled(5)), [(1,), (4,)]
    claim = shplonk.Claim(
        scaled(5), (1, 4), tuple(value_of(at, t) for at, t in zip((1, 4), tiles, strict=True))
    )
    forged = Opening(tiles, (), scaled(5) + forged_sets([claim], [5]))
    with toy_setup():
        assert terkle.verify(root, CONTEXT, regions, forged).tiles == {1: tiles[0], 4: tiles[1]}
    with pytest.raises(BindingError):
        terkle.verify(root, CONTEXT, regions, forged)


def test_attack_64_the_root_names_the_setup(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tree under other powers has another context: its roots and proofs are other ones."""
    assert ceremony.SRS_ID in CONTEXT.encode()
    before = CONTEXT.digest(), CONTEXT.stem(), CONTEXT.root(scaled(5))
    monkeypatch.setattr(tree_context.ceremony, "SRS_ID", bytes(32))
    assert not {*before} & {CONTEXT.digest(), CONTEXT.stem(), CONTEXT.root(scaled(5))}


@pytest.mark.parametrize("fault", ["other powers", "a digit", "cut short", "missing"])
def test_attack_64_the_file_of_the_setup_is_exchanged(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package's own copy is pinned by its hash: powers that somebody else chose are not used."""
    genuine = ceremony.text()
    toy = bytearray(genuine)
    start = genuine.index(b"\n", len("4096\n65\n")) + 1
    toy[start - 97 : start - 1] = scaled(TAU).hex().encode()
    other = {"other powers": bytes(toy), "a digit": genuine[:-2] + b"0\n", "cut short": genuine[:-97]}
    if fault in other:
        (tmp_path / "setup.txt").write_bytes(other[fault])
    monkeypatch.setattr(ceremony, "FILE", tmp_path / "setup.txt")
    ceremony.text.cache_clear()
    try:
        with pytest.raises(DataError, match=r"KZG setup .*install palm-torch again"):
            ceremony.text()
    finally:
        ceremony.text.cache_clear()


def weak_challenge(honest: Sequence[shplonk.Claim]) -> Any:
    """Lets the first challenge depend on the commitments alone: here, it is that of the honest claims."""
    gamma = shplonk._gamma(shplonk._statement(honest, b""))
    return gamma, mock.patch.object(shplonk, "_gamma", return_value=gamma)


def test_attack_65_two_errors_that_cancel() -> None:
    """A prover who knows the challenge before the claims chooses two wrong values whose errors add up to 0.

    The first challenge folds the quotients of both nodes. At one place of two nodes, errors e and -e/gamma
    leave the folded quotient what it was, and with it the whole proof: no secret number is needed.
    """
    nodes, place = (node(1), node(2)), 9
    sets = [(one.commitment, one.blob, (place,)) for one in nodes]
    honest = [shplonk.Claim(one.commitment, (place,), (one.values[place],)) for one in nodes]
    gamma, weak = weak_challenge(honest)
    lies = [
        (nodes[0].values[place] + 1) % R,
        (nodes[1].values[place] - pow(gamma, -1, R)) % R,
    ]
    claims = [
        shplonk.Claim(claim.commitment, (place,), (lie,)) for claim, lie in zip(honest, lies, strict=True)
    ]
    with weak:
        forged = forged_proof(sets, claims)
        shplonk.verify_sets(claims, b"", forged)  # the twin: it would have been believed
    with pytest.raises(BindingError):
        shplonk.verify_sets(claims, b"", forged)
    with pytest.raises(BindingError):
        shplonk.verify_sets(claims, b"", shplonk.open_sets(sets, b""))


def forged_proof(sets: Any, claims: Sequence[shplonk.Claim]) -> bytes:
    """What `open_sets` does, for values that are not those of the nodes."""
    genuine = shplonk._claim

    def lying(commitment: bytes, blob: bytes, positions: tuple[int, ...]) -> shplonk.Claim:
        genuine(commitment, blob, positions)
        return next(claim for claim in claims if claim.commitment == commitment)

    with mock.patch.object(shplonk, "_claim", lying):
        return shplonk.open_sets(sets, b"")


def test_attack_65_a_challenge_where_nothing_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """At one of the 4096 points every claim about that place could be made to hold: it is refused."""
    monkeypatch.setattr(shplonk.kzg, "hash_to_field", lambda _: field.point(9))
    one = node(1)
    with pytest.raises(EvidenceError, match="one of the 4096 points"):
        shplonk.verify_sets([shplonk.Claim(one.commitment, (9,), (0,))], b"", one.commitment * 2)


def test_attack_65_a_proof_of_another_question() -> None:
    """The challenges bind the context: a proof that was made for one root is none for another.

    Two arrays of one stem, the second one tile longer, share their lower node, with the same leaves in it.
    """
    with mock.patch.object(layout, "DIGITS", 2):
        trees = [tree_of(Context("w", "uint8", Grid((extent,), (1,)), "kzg")) for extent in (9, 10)]
        openings = [opened(tree, [(0,), (1,)]) for tree in trees]
        assert openings[0].tiles == openings[1].tiles
        shown = openings[0].proof[:96] + openings[1].proof[96:]
        root, context = trees[1].root(), trees[1].context
        terkle.verify(root, context, [(0,), (1,)], openings[1])
        for opening in (openings[0], Opening(openings[0].tiles, (), shown)):
            with pytest.raises(BindingError):
                terkle.verify(root, context, [(0,), (1,)], opening)
