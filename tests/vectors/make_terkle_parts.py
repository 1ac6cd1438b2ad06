"""Writes terkle_parts.json: golden cases of what Terkle trees are made of.

Contexts, leaves, the places of tiles, the values of children, openings as bytes, histories of steps, salts,
whole trees as they are made, change and grow. Run by ``make vectors``; the same code always writes the same
bytes. Results: ``valid``, ``invalid`` (well formed, but not what was committed to) and ``malformed``. Each
case that is not valid has one fault.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))  # also when it is not pytest that runs this

from terkle_vectors import (
    BLOCK,
    GRID,
    HASH,
    KEY,
    KZG,
    SALTED,
    Case,
    changed,
    described,
    rendered,
    slices_of,
    tiles_of,
    tree_of,
)

from palm_torch.commit import kzg_tree, layout, steps, tree_leaves
from palm_torch.commit.grid import Grid
from palm_torch.commit.terkle import Context

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CONTEXTS: Final = [
    ("two named axes, the edges uneven", HASH),
    ("salted", SALTED),
    ("polynomial commitments bind the ceremony", KZG),
    ("axes without names", dataclasses.replace(HASH, grid=Grid((3, 5), (2, 3)))),
    ("a longer axis 0 has the same stem", dataclasses.replace(HASH, grid=Grid((4, 5), (2, 3), GRID.axes))),
    ("four axes, a name beyond ASCII", Context("ß", "bfloat16", Grid((2, 3, 4, 5), (1, 1, 2, 5)), "kzg")),
]
NO_CONTEXTS: Final = [
    ("no name", {"tree_id": ""}),
    ("a name of 4097 bytes", {"tree_id": "a" * 4097}),
    ("unknown element type", {"dtype": "float31"}),
    ("unknown scheme", {"scheme": "pst"}),
    ("no axis", {"shape": [], "tile": [], "axes": []}),
    ("five axes", {"shape": [1] * 5, "tile": [1] * 5, "axes": []}),
    ("a tile without extent", {"tile": [2, 0]}),
    ("a tile of fewer axes", {"tile": [2]}),
    ("an axis named twice", {"axes": ["token", "token"]}),
    ("an axis named with nothing", {"axes": ["token", ""]}),
    ("a tile above 1 GiB", {"shape": [2**20, 2**11], "tile": [2**20, 2**11]}),
    ("more than 2^40 tiles", {"shape": [2**21, 2**20], "tile": [1, 1]}),
]
LEAVES: Final = [
    ("first tile", HASH, 0, "000102050607", ""),
    ("the same bytes at another place", HASH, 2, "000102", ""),
    ("and at another", HASH, 3, "0001", ""),
    ("the same tile with a salt", SALTED, 0, "000102050607", "5a" * 32),
    ("plus zero", Context("w", "float32", Grid((1,), (1,)), "hash"), 0, "00000000", ""),
    ("minus zero", Context("w", "float32", Grid((1,), (1,)), "hash"), 0, "00000080", ""),
    ("a NaN", Context("w", "float32", Grid((1,), (1,)), "hash"), 0, "0000c07f", ""),
    ("a NaN with a payload", Context("w", "float32", Grid((1,), (1,)), "hash"), 0, "0100c07f", ""),
    (
        "the bytes of plus zero as integers",
        Context("w", "int32", Grid((1,), (1,)), "hash"),
        0,
        "00000000",
        "",
    ),
]
LAYOUTS: Final = [
    ("one tile has a node", (1,), [0]),
    ("a short axis wastes no place", (3, 5), [0, 14]),
    ("one axis of one node", (4096,), [0, 4095]),
    ("one axis, one tile more", (4097,), [4095, 4096]),
    ("64 by 64 nodes of 64 by 64", (4096, 4096), [0, 63, 64, 4096, 2**24 - 1]),
    ("16 by 16 by 16", (256, 256, 256), [1, 2**24 - 1]),
    ("four axes, uneven", (3, 70, 5, 9), [9449]),
    ("a long axis and a short one", (70_000, 3), [0, 209_999]),
]
EMPTY: Final = Context("e", "float32", Grid((4, 0), (1, 1)), "hash")
ROWS: Final = Context("rows", "int16", Grid((3, 2, 2), (2, 1, 2)), "hash")
TREES: Final[list[tuple[str, Context, list[Case]]]] = [
    ("a tile that the edge cuts", HASH, []),
    ("polynomial commitments", KZG, []),
    ("three axes, elements of two bytes", ROWS, []),
    ("no elements: the missing node", EMPTY, []),
    ("no elements: the point at infinity", dataclasses.replace(EMPTY, scheme="kzg"), []),
    ("one tile", Context("s", "float64", Grid((1, 1), (2**15, 1)), "kzg"), []),
    ("a tile changes", KZG, [{"position": 1, "tiles": ["f3f4f8f9"]}]),
    ("the array grows by the rest of a tile", HASH, [{"extent": 4, "tiles": ["0a0b0c0f1011", "0d0e1213"]}]),
    (
        "a tile changes twice, the second time to what it is",
        SALTED,
        [{"position": 1, "tiles": ["f3f4f8f9"]}, {"position": 1, "tiles": ["f3f4f8f9"]}],
    ),
    (
        "a cut tile grows, then changes",
        dataclasses.replace(SALTED, scheme="kzg"),
        [{"extent": 4, "tiles": ["0a0b0c0f1011", "0d0e1213"]}, {"position": 2, "tiles": ["000000000000"]}],
    ),
]
NO_TREES: Final[list[tuple[str, Context, list[Case]]]] = [
    ("a tile too few", {"tiles": ["000102050607", "03040809", "0a0b0c"]}),
    ("a tile too many", {"tiles": ["000102050607", "03040809", "0a0b0c", "0d0e", "00"]}),
    ("a cut tile that is padded", {"tiles": ["000102050607", "03040809", "0a0b0c000000", "0d0e"]}),
    ("a key without salts", {"salt_key": "00" * 32}),
]


def salt_cases() -> Iterator[Case]:
    for position, writes in ((0, 0), (1, 0), (1, 1), (1, 2), (2**40 - 1, 0)):
        salts = tree_leaves.Salts(KEY, SALTED.stem(), {position: writes} if writes else {})
        salt = {"salt_key": KEY.hex(), "stem": SALTED.stem().hex(), "position": position, "again": writes}
        comment = f"tile {position}, written again n = {writes} times"
        yield {"comment": comment, **salt, "salt": salts.salt(position).hex(), "result": "valid"}


def tree_cases() -> Iterator[Case]:
    for comment, context, changes in TREES:
        tree = tree_of(context)
        case = {
            "comment": comment,
            "context": described(context),
            "salt_key": KEY.hex() if context.salted else "",
            "tiles": [tile.hex() for tile in tiles_of(context)],
            "root": tree.root().hex(),
        }
        made = []
        for one in changes:
            changed(tree, one)
            made.append({**one, "root": tree.root().hex()})
        yield {**case, "changes": made, "result": "valid"}
    good = {"context": described(HASH), "salt_key": "", "tiles": [tile.hex() for tile in tiles_of(HASH)]}
    for comment, fault in NO_TREES:
        yield {"comment": comment, **good, **fault, "result": "malformed"}


def layout_case(comment: str, counts: tuple[int, ...], positions: Sequence[int]) -> Case:
    levels = layout.levels(counts)
    paths = {}
    for position in positions:
        path, child = [], position
        for level in levels:
            child, place = level.place(child)
            path.append([child, place])
        paths[str(position)] = path
    made = [{"digits": list(level.digits), "nodes": list(level.extents)} for level in levels]
    return {"comment": comment, "counts": list(counts), "levels": made, "paths": paths, "result": "valid"}


def child_cases() -> Iterator[Case]:
    stem = KZG.stem()
    for comment, level, node, place, child in (
        ("a leaf", 1, 0, 0, bytes(range(32))),
        ("the same leaf at another place", 1, 0, 1, bytes(range(32))),
        ("the same leaf in another node", 1, 1, 0, bytes(range(32))),
        ("a node", 2, 0, 0, bytes.fromhex("c0") + bytes(47)),
        ("the same node one level up", 3, 0, 0, bytes.fromhex("c0") + bytes(47)),
    ):
        value = kzg_tree.child_value(kzg_tree.child_prefix(stem, level, node), place, child)
        numbers = {"stem": stem.hex(), "level": level, "node": node, "place": place, "child": child.hex()}
        yield {"comment": comment, **numbers, "value": value.to_bytes(32, "big").hex(), "result": "valid"}


def encoding_cases() -> Iterator[Case]:
    good = tree_of(SALTED).open(slices_of(BLOCK), tiles_of(SALTED).__getitem__).encode()
    head = good[:13]
    lengths = good[13:29]
    yield {"comment": "two tiles, two salts, a proof", "bytes": good.hex(), "result": "valid"}
    for comment, data in (
        ("nothing", b""),
        ("head cut short", good[:12]),
        ("another version", b"\2" + good[1:]),
        ("no tiles", b"\1" + bytes(12)),
        ("more tiles than one opening may have", b"\1" + (2**20 + 1).to_bytes(4, "big") + good[5:]),
        ("one salt for two tiles", head[:5] + b"\0\0\0\1" + good[9:]),
        ("lengths cut short", good[:28]),
        ("a tile of no bytes", head + bytes(8) + lengths[8:] + good[29 + 6 :]),
        ("a tile above 1 GiB", head + (2**30 + 1).to_bytes(8, "big") + good[21:]),
        ("something behind", good + b"\0"),
        ("cut short", good[:-1]),
    ):
        yield {"comment": comment, "bytes": data.hex(), "result": "malformed"}


def step_cases() -> Iterator[Case]:
    log = steps.Steps()
    for number in range(5):
        log.append(HASH.digest(), bytes((number,)) * 32)
    made = [steps.Step(number, HASH.digest(), bytes((number,)) * 32) for number in range(5)]

    def included(comment: str, result: str, step: steps.Step, proof: Sequence[bytes], size: int = 5) -> Case:
        shown = {"entry": step.encode().hex(), "size": size, "root": log.root(size).hex()}
        return {"comment": comment, **shown, "proof": [one.hex() for one in proof], "result": result}

    proof = log.inclusion_proof(3)
    yield included("step 3 of 5", "valid", made[3], proof)
    yield included("step 4 of 5", "valid", made[4], log.inclusion_proof(4))
    yield included(
        "the same root under another number", "invalid", dataclasses.replace(made[3], number=2), proof
    )
    yield included("another root", "invalid", dataclasses.replace(made[3], root=bytes(32)), proof)
    yield included("another context", "invalid", dataclasses.replace(made[3], context=bytes(32)), proof)
    yield included("hashes change places", "invalid", made[3], proof[::-1])
    yield included("a hash too few", "malformed", made[3], proof[1:])
    yield included("a step after the last", "malformed", made[3], proof, size=3)

    def extends(comment: str, result: str, old: int, proof: Sequence[bytes], **roots: bytes) -> Case:
        named = {"old": old, "new": 5, "old_root": log.root(old).hex(), "new_root": log.root().hex()}
        named.update({name: root.hex() for name, root in roots.items()})
        return {"comment": comment, **named, "proof": [one.hex() for one in proof], "result": result}

    proof = log.consistency_proof(3)
    yield extends("5 steps begin with 3", "valid", 3, proof)
    yield extends("an old history that was rewritten", "invalid", 3, proof, old_root=bytes(32))
    yield extends("a longer history that was rewritten", "invalid", 3, proof, new_root=bytes(32))
    yield extends("a hash too many", "malformed", 3, (*proof, bytes(32)))


def groups() -> Iterator[tuple[str, list[Case]]]:
    contexts = [
        {
            "comment": comment,
            "context": described(context),
            "encoded": context.encode().hex(),
            "digest": context.digest().hex(),
            "stem": context.stem().hex(),
            "result": "valid",
        }
        for comment, context in CONTEXTS
    ]
    for comment, changes in NO_CONTEXTS:
        contexts.append(
            {"comment": comment, "context": {**described(HASH), **changes}, "result": "malformed"}
        )
    yield "context", contexts
    yield (
        "leaf",
        [
            {
                "comment": comment,
                "context": described(context),
                "position": position,
                "tile": tile,
                "salt": salt,
                "leaf": tree_leaves.leaf(context, position, bytes.fromhex(tile), bytes.fromhex(salt)).hex(),
                "result": "valid",
            }
            for comment, context, position, tile, salt in LEAVES
        ],
    )
    yield "layout", [layout_case(*case) for case in LAYOUTS]
    yield "child value", list(child_cases())
    yield "opening as bytes", list(encoding_cases())
    yield "step", list(step_cases())
    yield "salt", list(salt_cases())
    yield "tree", list(tree_cases())


def render() -> str:
    """Returns the text of terkle_parts.json."""
    return rendered("palm-torch terkle parts vectors v1", groups())


if __name__ == "__main__":
    Path(__file__).with_name("terkle_parts.json").write_text(render(), encoding="ascii")
