"""The weights root against its definition, tile by tile, and everything that it binds."""

from __future__ import annotations

import hashlib
import itertools
import random
from dataclasses import replace
from typing import Any

import pytest
from blake3 import blake3

from palm_torch.commit import merkle, tile_leaf, weights_root
from palm_torch.commit.weights_root import ITEM_BYTES, TensorSpec, claimed_root, tensor_root
from palm_torch.digest import Digest
from palm_torch.errors import DataError
from palm_torch.roles import Tensor

KIB = 1024
SHAPES = [
    (),
    (0,),
    (3, 0),
    (0, 3),
    (1,),
    (7,),
    (5, 3),
    (2, 3, 4),
    (1000, 300),  # 1,200 bytes a row: 256 rows make 300 KiB
    (3, 65536),  # 256 KiB a row: one row is one tile
    (2, 262144),  # 1 MiB a row: still whole
    (2, 262145),  # one element more: cut
    (600_000,),
]


def random_bytes(count: int) -> bytes:
    return random.Random(count).randbytes(count)


def naive_root(spec: TensorSpec, data: bytes) -> bytes:
    tiling, item_bytes = spec.tiling(), ITEM_BYTES[spec.dtype]
    columns = tiling.shape[1]
    leaves = b""
    for position in range(tiling.tiles):
        rows, cells = tiling.tile_at(position)
        content = b"".join(
            data[(row * columns + cells.start) * item_bytes : (row * columns + cells.stop) * item_bytes]
            for row in range(rows.start, rows.stop)
        )
        shape = (rows.stop - rows.start, cells.stop - cells.start)
        header = tile_leaf.header(spec.name, spec.dtype, shape, tiling.coordinates(position))
        leaves += tile_leaf.leaf(header, blake3(content).digest())
    return merkle.root(leaves)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_tensor_root_is_its_definition(shape: tuple[int, ...]) -> None:
    spec = TensorSpec("layer.weight", "float32", shape)
    data = random_bytes(spec.nbytes)
    assert tensor_root(spec, data) == naive_root(spec, data)
    assert tensor_root(spec, memoryview(bytearray(data))) == naive_root(spec, data)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_tiles_are_contiguous_and_of_a_bounded_size(shape: tuple[int, ...]) -> None:
    spec = TensorSpec("w", "float32", shape)
    reads: list[tuple[int, int]] = []
    weights_root.tensor_root_of_reads(spec, lambda start, end: reads.append((start, end)) or b"")
    assert [start for start, _ in reads] == [0, *(end for _, end in reads)][: len(reads)]
    assert (reads[-1][1] if reads else 0) == spec.nbytes
    whole = [end - start for start, end in reads[:-1] if len(reads) > 1]
    assert all(end - start <= 1024 * KIB for start, end in reads)
    if spec.view()[0] == 1 or spec.view()[1] <= 262144:
        assert all(size >= 256 * KIB for size in whole)


@pytest.mark.parametrize(
    ("dtype", "shape", "tile"),
    [
        ("float32", (2304, 768), (128, 768)),
        ("bfloat16", (4096, 4096), (32, 4096)),
        ("float32", (5,), (16384, 5)),
        ("float64", (3, 131073), (1, 131072)),
        ("uint8", (3, 0), (1, 1)),
        ("complex128", (1, 65536), (1, 65536)),
    ],
)
def test_tile_rule(dtype: str, shape: tuple[int, ...], tile: tuple[int, int]) -> None:
    assert TensorSpec("w", dtype, shape).tiling().tile == tile


@pytest.mark.parametrize("dtype", ITEM_BYTES)
def test_every_dtype_has_a_root_of_its_own(dtype: str) -> None:
    data = random_bytes(6 * ITEM_BYTES[dtype])
    spec = TensorSpec("w", dtype, (2, 3))
    assert tensor_root(spec, data) == naive_root(spec, data)
    same_size = [other for other in ITEM_BYTES if ITEM_BYTES[other] == ITEM_BYTES[dtype]]
    roots = {tensor_root(TensorSpec("w", other, (2, 3)), data) for other in same_size}
    assert len(roots) == len(same_size)


def test_every_byte_counts() -> None:
    spec = TensorSpec("w", "float32", (300, 1000))
    data = bytearray(random_bytes(spec.nbytes))
    before = tensor_root(spec, data)
    for at in (0, 255 * KIB, 256 * KIB, spec.nbytes - 1):
        data[at] ^= 1
        assert tensor_root(spec, data) != before
        data[at] ^= 1
    assert tensor_root(spec, data) == before


def test_negative_zero_is_not_zero() -> None:
    spec = TensorSpec("w", "float32", (1,))
    assert tensor_root(spec, bytes(4)) != tensor_root(spec, bytes.fromhex("00000080"))


def test_known_answer() -> None:
    spec = TensorSpec("a", "float32", (2, 3), ("b",))
    root = tensor_root(spec, bytes(range(24)))
    assert root.hex() == "d0b989e7647046dfe3ea839f3901e130ab0cb48ea7d419bc4f40cc183b1870a2"
    assert str(weights_root.weights_root([(spec, root)])) == (
        "palm-sha256:ef387928162af3b2241baf811c61547056c3592569c1571c09061745d4628740"
    )


def test_entry_and_order() -> None:
    def lp(part: bytes) -> bytes:
        return len(part).to_bytes(4, "big") + part

    specs = [
        TensorSpec("é", "int8", (1,)),
        TensorSpec("b", "bool", (), ("c", "d")),
        TensorSpec("Z", "int8", (2,)),
    ]
    roots = {spec.name: tensor_root(spec, bytes(spec.nbytes)) for spec in specs}
    entries = b""
    for spec in sorted(specs, key=lambda spec: spec.name.encode()):
        aliases = b"".join(lp(alias.encode()) for alias in spec.aliases)
        shape = b"".join(extent.to_bytes(8, "big") for extent in spec.shape)
        parts = (spec.name.encode(), aliases, spec.dtype.encode(), shape, roots[spec.name])
        entries += hashlib.sha256(b"palm-torch/tensor/v1" + b"".join(map(lp, parts))).digest()
    expected = Digest("palm-sha256", merkle.root(entries))
    for order in itertools.permutations(specs):
        assert weights_root.weights_root((spec, roots[spec.name]) for spec in order) == expected


def test_model_without_tensors_has_a_root() -> None:
    assert weights_root.weights_root([]).value == merkle.root(b"")


@pytest.mark.parametrize(
    "change", [{"name": "c"}, {"dtype": "int8"}, {"shape": (1, 4)}, {"shape": (4, 1)}, {"aliases": ()}]
)
def test_weights_root_binds_every_field(change: dict[str, Any]) -> None:
    spec = TensorSpec("a", "uint8", (4,), ("z",))
    other, data = replace(spec, **change), bytes(4)
    assert weights_root.weights_root([(spec, tensor_root(spec, data))]) != weights_root.weights_root(
        [(other, tensor_root(other, data))]
    )


def test_wrong_number_of_bytes() -> None:
    with pytest.raises(DataError, match="'w': expected 24 bytes, got 23"):
        tensor_root(TensorSpec("w", "float32", (2, 3)), bytes(23))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", "int8", ()), "1 to 4096 bytes, got 0"),
        (("n" * 4097, "int8", ()), "1 to 4096 bytes, got 4097"),
        (("\ud800", "int8", ()), "not valid Unicode"),
        (("b", "int8", (), ("a",)), "must ascend"),
        (("a", "int8", (), ("c", "b")), "must ascend"),
        (("a", "int8", (), ("a",)), "must ascend"),
        (("a", "qint8", ()), "unknown dtype 'qint8'"),
        (("a", "int8", (-1,)), "shape out of range"),
        (("a", "int8", (1,) * 65), "shape out of range"),
        (("a", "int8", (2**30, 2**30)), "fewer than 2"),
    ],
)
def test_malformed_specs(arguments: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        TensorSpec(*arguments)


@pytest.mark.parametrize(
    "names", [[("a", ()), ("a", ())], [("a", ("b",)), ("b", ())], [("a", ("c",)), ("b", ("c",))]]
)
def test_names_occur_once(names: list[tuple[str, tuple[str, ...]]]) -> None:
    tensors = [(TensorSpec(name, "int8", (), aliases), bytes(32)) for name, aliases in names]
    with pytest.raises(DataError, match="the name occurs twice"):
        weights_root.weights_root(tensors)


def test_root_of_another_length() -> None:
    with pytest.raises(DataError, match="expected a root of 32 bytes, got 31"):
        weights_root.weights_root([(TensorSpec("a", "int8", ()), bytes(31))])


def claim(name: str, *aliases: str, algorithm: str = "palm-sha256") -> Tensor:
    return Tensor(name=name, aliases=aliases, dtype="int8", shape=(2,), root=Digest(algorithm, bytes(32)))


def test_root_of_the_list_that_evidence_carries() -> None:
    specs = [TensorSpec("a", "int8", (2,), ("c",)), TensorSpec("b", "int8", (2,))]
    expected = weights_root.weights_root((spec, bytes(32)) for spec in specs)
    assert claimed_root([claim("a", "c"), claim("b")]) == expected


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ([claim("b"), claim("a")], "sorted by name"),
        ([claim("a"), claim("a")], "the name occurs twice"),
        ([claim("a", algorithm="sha256")], "expected a palm-sha256 root"),
    ],
)
def test_lists_that_are_not_canonical(claims: list[Tensor], message: str) -> None:
    with pytest.raises(DataError, match=message):
        claimed_root(claims)
