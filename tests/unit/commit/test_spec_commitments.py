"""The worked examples of the chapter on commitments are what the code computes."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from blake3 import blake3

from palm_torch.commit import history, merkle, multiset, tile_leaf, weights_root

PAGE = Path(__file__).parents[3] / "docs" / "spec" / "20-commitments.md"
ROW = re.compile(r"^\| ([^|]+) \| `([0-9a-f]{16,})` \|$", re.MULTILINE)


def computed() -> list[tuple[str, str]]:
    a, b = (hashlib.sha256(bytes((n,))).digest() for n in range(2))
    bag = multiset.MultisetHash()
    bag.add_many(a + b + b)
    log = history.History()
    for entry in (b"", b"\x00", b"\x10"):
        log.append(entry)
    leaves = b"".join(hashlib.sha256(b"leaf %d" % n).digest() for n in range(5))
    spec = weights_root.TensorSpec("a", "float32", (2, 3), ("b",))
    data = bytes(range(0x18))
    header, content = tile_leaf.header("a", "float32", (2, 3), (0, 0)), blake3(data).digest()
    leaf = tile_leaf.leaf(header, content)
    root = weights_root.tensor_root(spec, data)
    total = weights_root.weights_root([(spec, root)])
    assert root == merkle.root(leaf)
    entry = weights_root.tensor_entry(spec, root)
    assert total.value == merkle.root(entry)
    values = [
        ("A", a),
        ("draw 0 of A, first 16 of 400 bytes", next(multiset.MSET_MU_3072.streams(a, 0))[:16]),
        ("state, first 16 of 384 bytes", bag.state[:16]),
        ("count", bag.count.to_bytes(8, "big")),
        ("digest", bag.digest().value),
        ("leaf 0", history.leaf_hash(b"")),
        ("root of 2", log.root(2)),
        ("root of 3", log.root(3)),
        ("missing node", merkle.MISSING),
        ("root", merkle.root(leaves)),
        ("opening of position 4: node 0 of level 2", merkle.open_positions(leaves, [4])),
        ("header of its tile", header),
        ("BLAKE3 of its bytes", content),
        ("leaf", leaf),
        ("tensor root", root),
        ("entry", entry),
        ("weights root", total.value),
    ]
    return [(name, value.hex()) for name, value in values]


def test_examples_are_what_the_code_computes() -> None:
    assert ROW.findall(PAGE.read_text(encoding="utf-8")) == computed()


def test_proofs_that_the_page_describes() -> None:
    log = history.History()
    for entry in (b"", b"\x00", b"\x10"):
        log.append(entry)
    assert log.consistency_proof(2, 3) == (history.leaf_hash(b"\x10"),)
    assert log.inclusion_proof(2, 3) == (log.root(2),)


def test_dtype_table_is_the_one_of_the_code() -> None:
    table = re.findall(r"^\| (\d+) \| ((?:`\w+` ?)+)\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    listed = {name: int(size) for size, names in table for name in re.findall(r"`(\w+)`", names)}
    assert listed == weights_root.ITEM_BYTES
