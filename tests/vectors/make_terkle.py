"""Writes terkle.json: golden cases of openings of Terkle trees under both schemes.

Run by ``make vectors``; the same code always writes the same bytes. Trees are small, their elements are
numbered. Every case is whole: context, regions and root are the verifier's, the opening is what came from
elsewhere. Results: ``valid``, ``invalid`` (well formed, but not what the root was made of) and ``malformed``
(refused before anything is compared). Each case that is not valid has one fault.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))  # also when it is not pytest that runs this

from terkle_vectors import (
    BLOCK,
    HASH,
    KZG,
    SALTED,
    TWO_LEVELS,
    Case,
    Regions,
    described,
    flipped,
    rendered,
    slices_of,
    tiles_of,
    tree_of,
)

from palm_torch.commit import terkle
from palm_torch.commit.grid import Grid
from palm_torch.commit.terkle import Context, Opening

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROWS: Final = Context("rows", "int16", Grid((256,), (2,)), "kzg")
OTHER_CONTEXTS: Final = [
    ("another name", {"tree_id": "v"}),
    ("another element type", {"dtype": "int8"}),
    ("a longer axis", {"shape": [4, 5]}),
    ("axes change names", {"axes": ["channel", "token"]}),
    ("axes without names", {"axes": []}),
]
NO_REGIONS: Final[list[tuple[str, Regions]]] = [
    ("no region", []),
    ("an empty region", [[[1, 1], [2, 4]]]),
    ("a region beyond the edge: there is no padding", [[[1, 2], [2, 6]]]),
    ("a region with an axis too few", [[[1, 2]]]),
]
NO_POINTS: Final = [
    ("infinity", "c0" + "00" * 47),
    ("a point of order 3", "80" + "00" * 47),
    ("no point of the curve", "80" + "00" * 46 + "01"),
    ("x not below p", "9f" + "ff" * 47),
    ("not marked as compressed", None),
    ("infinity with something behind", "c0" + "00" * 46 + "01"),
]


class Opened:
    """An honest opening, and cases that have one fault each."""

    def __init__(self, context: Context, regions: Regions) -> None:
        self.context, self.regions, self.tree = context, regions, tree_of(context)
        self.root = self.tree.root()
        slices = slices_of(regions)
        self.good = self.tree.open(slices, tiles_of(context).__getitem__)
        self.values = terkle.verify(self.root, context, slices, self.good)

    def case(self, comment: str, result: str, opening: Opening | None = None, **verifier: Any) -> Case:
        whole = opening or self.good
        case = {
            "comment": comment,
            "context": {**described(self.context), **verifier.get("context", {})},
            "root": verifier.get("root", self.root).hex(),
            "regions": verifier.get("regions", self.regions),
            "opening": whole.encode().hex(),
        }
        if result == "valid":
            case["values"] = [self.values.region(index).hex() for index in range(len(self.regions))]
        return {**case, "result": result}

    def with_proof(self, comment: str, result: str, proof: bytes) -> Case:
        return self.case(comment, result, dataclasses.replace(self.good, proof=proof))

    def with_parts(self, comment: str, result: str, **parts: Sequence[bytes]) -> Case:
        changed = {name: tuple(part) for name, part in parts.items()}
        return self.case(comment, result, dataclasses.replace(self.good, **changed))

    def faults(self) -> Iterator[Case]:
        """Yields what goes wrong alike under every scheme; two tiles or more are opened."""
        good, tiles = self.good, self.good.tiles
        yield self.case("opened as it was committed to", "valid")
        yield self.case("another root", "invalid", root=flipped(self.root))
        yield self.case("a root cut short", "malformed", root=self.root[:31])
        yield self.with_parts("a bit of a tile", "invalid", tiles=(flipped(tiles[0]), *tiles[1:]))
        yield self.with_proof("proof cut short", "malformed", good.proof[:-1])
        yield self.with_proof("something behind the proof", "malformed", good.proof + b"\0")
        yield self.with_proof("no proof", "malformed", b"")
        yield self.with_parts(
            "a tile too few",
            "malformed",
            tiles=tiles[:-1],
            **({"salts": good.salts[:-1]} if good.salts else {}),
        )
        yield self.with_parts(
            "a tile with something behind", "malformed", tiles=(*tiles[:-1], tiles[-1] + b"\0")
        )
        yield self.with_parts("a tile cut short", "malformed", tiles=(*tiles[:-1], tiles[-1][:-1]))


def opening_cases() -> Iterator[Case]:
    for context in (HASH, KZG):
        opened = Opened(context, BLOCK)
        yield from opened.faults()
        for comment, other in OTHER_CONTEXTS:
            yield opened.case(comment, "invalid", context=other)
        yield opened.case("another tiling, tiles of other lengths", "malformed", context={"tile": [2, 4]})
        yield opened.case(
            "a longer last axis, a tile of another length", "malformed", context={"shape": [3, 6]}
        )
        yield opened.case("said to be salted", "malformed", context={"salted": True})
        yield opened.case("other rows, tiles of other lengths", "malformed", regions=[[[2, 3], [2, 4]]])
        yield opened.case("fewer tiles asked for", "malformed", regions=[[[1, 2], [3, 4]]])
        for comment, regions in NO_REGIONS:
            yield opened.case(comment, "malformed", regions=regions)
    opened = Opened(HASH, BLOCK)
    yield opened.with_proof("a bit of the proof", "invalid", flipped(opened.good.proof))
    yield opened.case("under the other scheme", "malformed", context={"scheme": "kzg"})
    yield from salted_cases()
    yield from hash_order_cases()
    yield from kzg_cases()


def salted_cases() -> Iterator[Case]:
    opened = Opened(SALTED, BLOCK)
    yield from opened.faults()
    salts = opened.good.salts
    yield opened.with_parts("a bit of a salt", "invalid", salts=(flipped(salts[0]), *salts[1:]))
    yield opened.with_parts("salts change places", "invalid", salts=salts[::-1])
    yield opened.with_parts("no salts", "malformed", salts=())


def hash_order_cases() -> Iterator[Case]:
    """Seven tiles of equal length on one axis: what only places tell apart."""
    opened = Opened(Context("row", "uint8", Grid((7,), (1,)), "hash"), [[[1, 2]], [[4, 5]]])
    proof, tiles = opened.good.proof, opened.good.tiles
    yield opened.case("two regions", "valid")
    yield opened.with_parts("tiles change places", "invalid", tiles=tiles[::-1])
    yield opened.with_proof("hashes change places", "invalid", proof[32:64] + proof[:32] + proof[64:])
    yield opened.with_proof("one hash too many", "malformed", proof + proof[-32:])
    yield opened.with_proof("one hash too few", "malformed", proof[32:])
    yield opened.case("other places", "invalid", regions=[[[1, 2]], [[5, 6]]])
    turned = Opened(opened.context, [[[4, 5]], [[1, 2]]])
    yield turned.case("the regions in another order", "valid")
    yield opened.case("the place after the last", "malformed", regions=[[[1, 2]], [[7, 8]]])


def kzg_cases() -> Iterator[Case]:
    point = Opened(KZG, [[[2, 3], [3, 5]]])
    yield point.case("one tile of one node: an EIP-4844 proof", "valid")
    proof = point.good.proof
    other = Opened(KZG, [[[2, 3], [0, 1]]]).good.proof
    yield point.with_proof("the proof of another place", "invalid", proof[:48] + other[48:])
    yield point.with_proof("commitment and proof change places", "invalid", proof[48:] + proof[:48])
    yield point.with_proof(
        "infinity as a proof, which is well formed",
        "invalid",
        proof[:48] + bytes.fromhex(NO_POINTS[0][1] or ""),
    )
    row = Opened(ROWS, [[[128, 256]]])
    yield row.case("64 tiles that are a row of one node: an EIP-7594 proof", "valid")
    yield row.case("another row", "invalid", regions=[[[0, 128]]])
    yield row.case("64 tiles that are no row", "malformed", regions=[[[126, 254]]])
    tiles = row.good.tiles
    yield row.with_parts(
        "two tiles of a row change places", "invalid", tiles=(tiles[1], tiles[0], *tiles[2:])
    )
    sets = Opened(TWO_LEVELS, [[[7, 8]], [[4096, 4097]]])
    yield sets.case("two nodes below the top, one proof for all", "valid")
    parts = [sets.good.proof[at : at + 48] for at in range(0, len(sets.good.proof), 48)]
    for comment, order in (
        ("commitments of two nodes change places", (0, 2, 1, 3, 4)),
        ("a node's commitment as the top", (1, 1, 2, 3, 4)),
        ("the halves of the proof change places", (0, 1, 2, 4, 3)),
    ):
        result = "malformed" if len(set(order)) < len(order) else "invalid"
        yield sets.with_proof(comment, result, b"".join(parts[at] for at in order))
    yield sets.case("another place", "invalid", regions=[[[8, 9]], [[4096, 4097]]])
    yield sets.case("one tile asked for, two nodes opened", "malformed", regions=[[[4096, 4097]]])
    for opened, places in ((point, (0, 1)), (row, (0, 1)), (sets, range(5))):
        for place in places:
            yield from no_point_cases(opened, place)


def no_point_cases(opened: Opened, place: int) -> Iterator[Case]:
    proof, start = opened.good.proof, 48 * place
    is_commitment = start < len(proof) - (96 if len(proof) > 96 else 48)
    for comment, spelled in NO_POINTS[0 if is_commitment else 1 :]:
        unmarked = bytes((proof[start] & 0x7F,)) + proof[start + 1 : start + 48]
        point = unmarked if spelled is None else bytes.fromhex(spelled)
        yield opened.with_proof(
            f"point {place} of the proof: {comment}", "malformed", proof[:start] + point + proof[start + 48 :]
        )


def point_cases() -> Iterator[Case]:
    for comment, context, position in (
        ("one level", KZG, 3),
        ("two levels, from the top down", TWO_LEVELS, 4096),
    ):
        tree = tree_of(context)
        inputs = [one.hex() for one in tree.point_inputs(position)]
        named = {"context": described(context), "root": tree.root().hex(), "position": position}
        yield {"comment": comment, **named, "inputs": inputs, "result": "valid"}


def render() -> str:
    """Returns the text of terkle.json."""
    groups = (("opening", opening_cases()), ("point evaluation", point_cases()))
    return rendered("palm-torch terkle vectors v1", groups)


if __name__ == "__main__":
    Path(__file__).with_name("terkle.json").write_text(render(), encoding="ascii")
