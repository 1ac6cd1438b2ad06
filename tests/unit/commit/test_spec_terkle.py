"""The worked examples of the chapter on Terkle trees are what the code computes, and cases of the vectors."""

from __future__ import annotations

import re
from pathlib import Path

import terkle_vectors
from terkle_vectors import BLOCK, HASH, KZG, TWO_LEVELS, slices_of, tiles_of, tree_of

from palm_torch.commit import (
    ceremony,
    field,
    grid,
    kzg,
    kzg_tree,
    layout,
    merkle,
    opening_file,
    shplonk,
    steps,
    terkle,
    tree_context,
    tree_leaves,
    weights_block,
    weights_commitment,
    weights_kzg,
    weights_root,
)

PAGE = Path(__file__).parents[3] / "docs" / "spec" / "25-terkle.md"
ROW = re.compile(r"^\| ([^|]+) \| `([0-9a-f]{16,})` \|$", re.MULTILINE)


def of_hashes() -> list[tuple[str, bytes]]:
    tree, tiles = tree_of(HASH), tiles_of(HASH)
    leaves = [tree_leaves.leaf(HASH, position, tile, b"") for position, tile in enumerate(tiles)]
    return [
        ("context", HASH.encode()),
        ("context digest", HASH.digest()),
        ("stem", HASH.stem()),
        *((f"leaf of tile {position}", leaf) for position, leaf in enumerate(leaves)),
        ("top: Merkle root", merkle.root(b"".join(leaves))),
        ("root", tree.root()),
        ("opening", tree.open(slices_of(BLOCK), tiles.__getitem__).encode()),
    ]


def of_points() -> list[tuple[str, bytes]]:
    tree, tiles = tree_of(KZG), tiles_of(KZG)
    opening = tree.open(slices_of(BLOCK), tiles.__getitem__)
    prefix = kzg_tree.child_prefix(KZG.stem(), 1, 0)
    places = [layout.levels(KZG.grid.counts)[0].place(position)[1] for position in range(4)]
    assert places == [0, 1, 2, 3]
    values = [
        kzg_tree.child_value(prefix, place, tree_leaves.leaf(KZG, position, tiles[position], b""))
        for position, place in enumerate(places)
    ]
    claim = shplonk.Claim(opening.proof[:48], (0, 1), tuple(values[:2]))
    statement = shplonk._statement([claim], KZG.digest())
    gamma, first = shplonk._gamma(statement), opening.proof[48:96]
    return [
        ("context digest", KZG.digest()),
        ("stem", KZG.stem()),
        *((f"value of tile {at}", value.to_bytes(32, "big")) for at, value in enumerate(values)),
        ("top: commitment", opening.proof[:48]),
        ("root", tree.root()),
        ("T", statement),
        ("gamma", gamma.to_bytes(32, "big")),
        ("W", first),
        ("z", shplonk._z(statement, gamma, first, ValueError).to_bytes(32, "big")),  # type: ignore[arg-type]
        ("W2", opening.proof[96:]),
        ("opening", opening.encode()),
        ("input of the precompile for tile 3", tree.point_inputs(3)[0]),
    ]


def of_two_levels() -> list[tuple[str, bytes]]:
    tree, tiles = tree_of(TWO_LEVELS), tiles_of(TWO_LEVELS)
    opening = tree.open([(7,), (4096,)], tiles.__getitem__)
    parts = [opening.proof[at : at + 48] for at in range(0, 240, 48)]
    return [
        ("top", parts[0]),
        ("node 0 of level 1", parts[1]),
        ("node 1 of level 1", parts[2]),
        ("root", tree.root()),
        ("proof of tiles 7 and 4096 behind the commitments", parts[3] + parts[4]),
    ]


def of_the_rest() -> list[tuple[str, bytes]]:
    spec = weights_root.TensorSpec("a", "float32", (2, 3), ("b",))
    tree = weights_kzg.tree(spec)
    tree.add(bytes(range(0x18)))
    entry = weights_root.tensor_entry(spec, tree.root())
    return [
        ("entry of step 3, the root being that of `hash` above", entry_of_a_step()),
        ("tensor root", tree.root()),
        ("entry", entry),
        ("weights root", weights_kzg.entries_root([entry])),
    ]


def entry_of_a_step() -> bytes:
    return steps.Step(3, HASH.digest(), tree_of(HASH).root()).encode()


def computed() -> list[tuple[str, str]]:
    values = [*of_hashes(), *of_points(), *of_two_levels(), *of_the_rest()]
    return [(name, value.hex()) for name, value in values]


def test_examples_are_what_the_code_computes() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert ROW.findall(page[page.index("## 16 ") :]) == computed()


def test_examples_are_cases_of_the_vectors() -> None:
    cases = terkle_vectors.read("terkle.json")
    openings = {case["opening"] for case in cases["opening"] if case["result"] == "valid"}
    inputs = {one for case in cases["point evaluation"] for one in case["inputs"]}
    said = computed()
    assert {value for name, value in said if name == "opening"} <= openings
    assert {value for name, value in said if name.startswith("input")} <= inputs


def test_parameters_are_those_of_the_code() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for value in (field.MODULUS, field.roots()[1]):
        assert f"`{value:064x}`" in page
    assert f"`{ceremony.SRS_ID.hex()}`" in page
    assert f"{len(ceremony.text()):,} bytes" in page
    assert (field.point(0), field.point(1), field.point(2)) == (1, field.MODULUS - 1, field.roots()[1024])
    assert f"at most {opening_file.MAX_BYTES:,} bytes" in page
    for media_type in (opening_file.MEDIA_TYPE, weights_commitment.MEDIA_TYPE):
        assert f"`{media_type}`" in page
    assert f"`{weights_kzg.ENTRIES}`" in page


def test_limits_are_those_of_the_code() -> None:
    assert (grid.MAX_AXES, grid.MAX_TILES, grid.MAX_EXTENT, grid.MAX_OPENED) == (4, 2**40, 2**53 - 1, 2**20)
    assert (tree_context.MAX_TILE_BYTES, tree_context.MAX_AXIS_NAME_BYTES) == (2**30, 255)
    assert (weights_root.MAX_NAME_BYTES, shplonk.MAX_POSITIONS, kzg.WIDTH) == (4096, 2**20, 4096)
    assert (weights_block.MAX_COVER_BYTES, weights_block.MAX_COVER_TILES) == (2**26, 16_384)
    assert (steps.ENTRY_BYTES, terkle.ROOT_BYTES) == (94, 32)
    prefix = kzg_tree.child_prefix(bytes(32), 1, 0)
    assert (len(prefix) + 2 + 32, len(prefix) + 2 + 48) == (103, 119)


def test_places_are_those_of_the_table() -> None:
    page = PAGE.read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| ([\d ×]+) \| ([\d, ]+)(?::[^|]*)? \| ([\d ×]+) \| ([\d, ]+|–) \|", page, re.MULTILINE
    )
    assert len(rows) == 4
    for tiles, digits, nodes, above in rows:
        levels = layout.levels(tuple(map(int, tiles.split("×"))))
        assert levels[0].digits == tuple(map(int, digits.split(",")))
        assert nodes in (" × ".join(map(str, levels[0].extents)), str(levels[0].nodes))
        if above == "–":
            assert len(levels) == 1
        else:
            assert levels[1].digits == tuple(map(int, above.split(",")))
            assert (len(levels), levels[1].nodes) == (2, 1)
