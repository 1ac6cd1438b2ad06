from __future__ import annotations

import collections
import dataclasses
import re
import struct
import typing
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from spelled import decode

from palm_torch.commit import records
from palm_torch.data import items
from palm_torch.data.item_digests import ItemDigests
from palm_torch.errors import DataError

Point = collections.namedtuple("Point", "x y")  # noqa: PYI024 (the untyped kind)


class Typed(typing.NamedTuple):
    x: Any
    y: Any


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    first: Any
    second: Any


@dataclasses.dataclass
class Loose:
    a: Any


class Text(str):
    __slots__ = ()


def spelled(item: Any) -> bytes:
    spelling = items.Spelling()
    spelling.take(item)
    return b"".join(spelling.parts())


def taken(item: Any) -> Any:
    return items.Spelling().take(item)


DISTINCT: list[Any] = [
    None, True, False, 0, 1, -1, 127, 128, -128, -129, 255, 2**64, 0.0, -0.0, 1.0, float("nan"), 0j, 1j,
    "", "1", "é",
    b"", b"1", [], (), {}, [None], (None,), [[]], [1, 2], [2, 1], {"a": 1}, {"a": 2}, {"b": 1},
    {"a": 1, "b": 1},
    Point(1, 2), Typed(1, 2), (1, 2), Pair(1, 2), Loose(1), "\ud800", ["ab", "c"], ["a", "bc"],
    np.int32(1), np.int64(1), np.float64(1.0), np.bool_(1), np.str_("1"), np.zeros(0), np.zeros((0, 2)),
    np.zeros(2),
    np.zeros((2, 1)), np.zeros((1, 2)), np.zeros(2, np.float32), np.zeros(2, "M8[ns]"), np.zeros(2, "M8[us]"),
    np.array("ab"), np.array(b"ab"), torch.zeros(2), torch.zeros(2, dtype=torch.int32), torch.zeros(1, 2),
    torch.zeros(()), torch.zeros(2, dtype=torch.bfloat16), torch.zeros(2, dtype=torch.bool), torch.zeros(0),
]  # fmt: skip


def test_no_two_of_these_share_a_spelling() -> None:
    made = [spelled(item) for item in DISTINCT]
    assert len(set(made)) == len(DISTINCT)
    for data in made:
        decode(data)


def test_an_example_in_hex() -> None:
    item = {"ids": torch.tensor([1, 2], dtype=torch.int16), "label": 3}
    assert spelled(item).hex() == EXAMPLE
    digest = ItemDigests.of(None, None).take(item)[1]
    assert digest == records.record_digest(bytes.fromhex(EXAMPLE), kind="items")


EXAMPLE = (
    "01000200"
    "64" "0200000000000000"
    "0300000000000000" "696473"
    "74" "0500000000000000" "696e743136" "0100000000000000" "0200000000000000"
    "0500000000000000" "6c6162656c"
    "69" "0100000000000000" "03"
    "4900000000000000"
)  # fmt: skip


def test_dictionaries_are_spelled_in_the_order_of_their_keys_and_keep_their_own() -> None:
    one, other = {"b": 1, "a": 2}, {"a": 2, "b": 1}
    assert spelled(one) == spelled(other)
    assert list(taken(one)) == ["b", "a"]


@pytest.mark.parametrize(
    "item",
    [torch.arange(6).reshape(2, 3).t(), torch.arange(12)[::2], torch.arange(3).expand(2, 3), torch.tensor(5)],
)
def test_strides_do_not_matter(item: torch.Tensor) -> None:
    assert spelled(item) == spelled(item.contiguous())
    assert torch.equal(taken(item), item)
    assert spelled(item.numpy()) == spelled(np.ascontiguousarray(item.numpy()).reshape(item.shape))


def test_layout_is_kept_so_that_batches_are_laid_out_as_without() -> None:
    image = torch.zeros(4, 5, 3).permute(2, 0, 1)
    assert taken(image).stride() == image.stride()
    assert taken(image.numpy()).strides == image.numpy().strides


def test_conjugates_are_spelled_as_their_values() -> None:
    item = torch.tensor([1 + 2j]).conj()
    assert spelled(item) == spelled(torch.tensor([1 - 2j]))
    assert spelled(item.imag) == spelled(torch.tensor([-2.0]))


def test_what_is_handed_on_shares_no_memory() -> None:
    array, tensor = np.zeros(3), torch.zeros(3)
    item = {"a": [array, (tensor,)], "p": Pair(array, Point(tensor, 1)), "l": Loose(array)}
    copy = taken(item)
    array[:] = 1
    tensor[:] = 1
    assert copy["a"][0].sum() == copy["a"][1][0].sum() == copy["p"].first.sum() == 0
    assert copy["p"].second.x.sum() == copy["l"].a.sum() == 0
    assert [type(part) for part in copy.values()] == [list, Pair, Loose]
    assert type(copy["p"].second) is Point


def test_a_mapped_array_becomes_a_plain_one(tmp_path: Any) -> None:
    np.arange(4, dtype=np.uint8).tofile(tmp_path / "a")
    mapped = np.memmap(tmp_path / "a", dtype=np.uint8, mode="r")
    copy = taken(mapped)
    assert type(copy) is np.ndarray
    assert copy.flags.writeable
    assert spelled(mapped) == spelled(np.arange(4, dtype=np.uint8))


def test_requires_grad_is_kept() -> None:
    assert taken(torch.zeros(1, requires_grad=True)).requires_grad


class Meta:
    pass


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ({"image": Pair(1, Meta())}, r"item\['image'\]\.second: .*Meta has no canonical bytes.*encode="),
        ([1, {"x": {2}}], r"item\[1\]\['x'\]: builtins\.set"),
        (Text("x"), r"item: .*Text"),
        (bytearray(b"x"), r"builtins\.bytearray"),
        ({1: 2}, r"item: builtins\.dict has a key that is no text: 1"),
        (np.zeros(2, ">i4"), r"is big endian \(>i4\): use \.astype\('<i4'\)"),
        (np.array([Meta()]), "is an array of object, whose bytes are not its values"),
        (np.ma.zeros(2), "MaskedArray has no canonical bytes"),
        (np.zeros(1, [("a", "i4")])[0], "NumPy scalar of"),
        (torch.zeros(2).to_sparse(), "is no dense tensor on the CPU"),
        (torch.zeros(2, device="meta"), "is no dense tensor on the CPU"),
        (torch.nn.Parameter(torch.zeros(1)), "Parameter has no canonical bytes"),
    ],
)
def test_what_has_no_spelling_is_refused_by_name(item: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        taken(item)


class Named(Point):
    """A named tuple that can hold more than it shows: it has no __slots__."""


class Fewer(tuple):  # noqa: SLOT001 (as people write them)
    _fields = ("a", "b", "c")


class Odd(tuple):  # noqa: SLOT001 (as people write them)
    _fields = 5


@dataclasses.dataclass
class Both(collections.OrderedDict):  # type: ignore[type-arg]
    a: int = 1


@dataclasses.dataclass
class Word(str):  # noqa: SLOT000 (as people write them)
    a: int = 1


@dataclasses.dataclass
class Late:
    a: int = dataclasses.field(init=False)


def holding() -> Named:
    item = Named(1, 2)
    item.secret = torch.ones(1)  # type: ignore[attr-defined]
    return item


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (holding(), "has an attribute that is no part: 'secret'"),
        (Fewer((1, 2)), "a tuple whose _fields are not its parts"),
        (Odd((1, 2)), "a tuple whose _fields are not its parts"),
        (Both(a=2), "is a dataclass and something else"),
        (Word("x"), "is a dataclass and something else"),
        (Late(), "has no value for its field 'a'"),
        (np.array([1.5], np.longdouble), "whose bytes are not its values"),
        (np.array([1.5], np.clongdouble), "whose bytes are not its values"),
        (np.longdouble(1.5), "has no canonical bytes"),
        (torch.empty(3, dtype=torch.uint4), "is of torch.uint4, whose elements are no whole bytes"),
    ],
)
def test_what_holds_more_than_it_shows_is_refused(item: Any, says: str) -> None:
    with pytest.raises(DataError, match=re.escape(says)):
        taken({"x": item})


def test_a_named_tuple_that_holds_no_more_is_one() -> None:
    copy = taken(Named(1, torch.ones(1)))
    assert (type(copy), copy.x) == (Named, 1)


def test_what_a_function_changes_or_keeps_is_not_what_is_handed_on() -> None:
    kept: list[Any] = []

    def encode(item: Any) -> bytes:
        kept.append(item)
        data: bytes = item["x"].numpy().tobytes()
        item["x"].zero_()
        return data

    copy, digest, _ = ItemDigests.of(encode, None).take({"x": torch.ones(2)})
    kept[0]["x"].fill_(7)
    assert copy["x"].tolist() == [1.0, 1.0]
    assert digest == records.record_digest(copy["x"].numpy().tobytes(), kind="encoded")


def test_quantized_tensors_are_refused() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says once in a process that they are deprecated
        item = torch.quantize_per_tensor(torch.zeros(2), 1.0, 0, torch.qint8)
    with pytest.raises(DataError, match=r"no dense tensor on the CPU .*quantized"):
        taken(item)


def test_attributes_beside_the_fields_are_refused() -> None:
    item = Loose(1)
    item.extra = 2  # type: ignore[attr-defined]
    with pytest.raises(DataError, match=r"an attribute that is no field: 'extra'"):
        taken(item)


def test_a_class_is_no_dataclass_item() -> None:
    with pytest.raises(DataError, match=r"builtins\.type has no canonical bytes"):
        taken(Pair)


def test_depth_is_bounded() -> None:
    item: Any = 1
    for _ in range(items.MAX_DEPTH):
        item = [item]
    taken(item)
    with pytest.raises(DataError, match="lies deeper than 64 levels"):
        taken([item])
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(DataError, match="lies deeper than 64 levels"):
        taken(circle)


def test_a_function_of_ones_own_is_given_the_private_copy() -> None:
    seen: list[Any] = []

    def encode(item: Any) -> bytes:
        seen.append(item)
        return struct.pack("<f", item["x"][0])

    array = np.ones(1, np.float32)
    digests = ItemDigests.of(encode, None)
    copy, digest, size = digests.take(
        {"x": array, "meta": Meta, "l": [torch.zeros(1)], "t": (bytearray(b"1"),)}
    )
    assert copy["x"] is not array
    assert copy["x"] is not seen[0]["x"]
    assert (copy["meta"], copy["t"]) == (seen[0]["meta"], seen[0]["t"])
    assert (size, digests.layout.format) == (4, "encoded")
    assert digest == records.record_digest(struct.pack("<f", 1.0), kind="encoded")


@pytest.mark.parametrize(("made", "got"), [("text", "str"), (b"", "none"), (bytearray(b"1"), "bytearray")])
def test_a_function_that_makes_no_bytes_is_refused(made: Any, got: str) -> None:
    with pytest.raises(DataError, match=f"encode: expected at least one byte, as bytes, got {got}"):
        ItemDigests.of(lambda _: made, None).take(1)


def test_encode_must_be_a_function() -> None:
    with pytest.raises(DataError, match="encode: expected a function"):
        ItemDigests.of("utf-8", None)  # type: ignore[arg-type]


def test_salt_and_way_of_spelling_are_in_the_key() -> None:
    made = {
        ItemDigests.of(encode, salt).take(b"1")[1]
        for encode in (None, lambda _: spelled(b"1"))
        for salt in (None, b"s" * 16)
    }
    assert len(made) == 4


def test_the_specifications_example_is_this() -> None:
    chapter = (Path(__file__).parents[3] / "docs/spec/40-data.md").read_text(encoding="utf-8")
    section = chapter.partition("## 9 Items")[2].partition("**Streams.**")[0]
    cells = re.findall(r"^\| [^|]+ \| `([0-9a-f]+)` \|$", section, re.MULTILINE)
    key, digest = (
        records.record_key(kind="items"),
        records.record_digest(bytes.fromhex(EXAMPLE), kind="items"),
    )
    assert "".join(cells[:7]) == EXAMPLE
    assert cells[7:] == [key.hex(), digest.hex()]
