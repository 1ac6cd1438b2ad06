"""Whatever is loaded, and however: what a session is told of is the multiset of what the loop received."""

from __future__ import annotations

import functools
import math
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import any_data
import numpy as np
import pytest
import torch
from any_data import ITEMS, AtOnce, Mapped, Stream, apart, digest, digests_of
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from recording import recording
from spelled import decode

from palm_torch.commit import multiset, records
from palm_torch.data import carrier, items
from palm_torch.data.generic import AttestedDataset
from palm_torch.data.ledger import Ledger
from palm_torch.data.loader import DataLoader
from palm_torch.data.memmap import memmap
from palm_torch.data.stream import AttestedIterableDataset
from palm_torch.data.windows import AttestedWindows

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")

ways = st.fixed_dictionaries(
    {
        "batch_size": st.integers(1, 9),
        "drop_last": st.booleans(),
        "num_workers": st.sampled_from([0, 0, 0, 1, 2, 3]),
    }
)


def claimed(info: Any, batches: list[Any]) -> tuple[str, int]:
    account = Ledger(info)
    for (reads,) in batches:
        account.add(reads, "train")
    made = account.claim()
    if not made:
        return any_data.product([])
    return made["train"].claim.multiset.state, made["train"].claim.multiset.count


def loop(loader: DataLoader[Any], most: float) -> list[Any]:
    """Receives batches until it breaks off."""
    got: list[Any] = []
    for batch in loader:
        got.append(batch)
        if len(got) >= most:
            break
    return got


@settings(max_examples=30)
@given(
    way=ways,
    inner=st.sampled_from([Mapped, AtOnce]),
    order=st.lists(st.integers(-ITEMS, ITEMS - 1), max_size=30),
    most=st.sampled_from([1, 2, math.inf]),
)
def test_map_style(way: dict[str, Any], inner: type[Mapped], order: list[int], most: float) -> None:
    data: AttestedDataset[Any] = AttestedDataset(inner())
    with recording() as session:
        got = loop(DataLoader(data, sampler=order, **way), most)
    received = [one for batch in got for one in apart(batch)]
    assert session.indices() == [one["y"] for one in received]
    assert claimed(data.info, session.batches) == any_data.product(map(digest, received))


@settings(max_examples=30)
@given(
    way=ways,
    size=st.integers(1, 40),
    passes=st.integers(1, 2),
    most=st.sampled_from([1, 2, math.inf]),
    persistent=st.booleans(),
)
def test_streams(way: dict[str, Any], size: int, passes: int, most: float, *, persistent: bool) -> None:
    data: AttestedIterableDataset[Any] = AttestedIterableDataset(Stream(size))
    loader: DataLoader[Any] = DataLoader(
        data, persistent_workers=persistent and way["num_workers"] > 0, **way
    )
    with recording() as session:
        got = [batch for _ in range(passes) for batch in loop(loader, most)]
    received = [one for batch in got for one in apart(batch)]
    assert claimed(data.info, session.batches) == any_data.product(map(digest, received))
    assert digests_of(session.batches) == [digest(one) for one in received]


@functools.cache
def tokens() -> tuple[Path, np.ndarray[Any, Any], tempfile.TemporaryDirectory[str]]:
    folder = tempfile.TemporaryDirectory()
    found = np.random.default_rng(1).integers(0, 60_000, 9001).astype(np.uint16)
    found.tofile(Path(folder.name) / "a.bin")
    return Path(folder.name) / "a.bin", found, folder


def chunks_of(start: int, stop: int) -> list[bytes]:
    whole = tokens()[1].tobytes()
    numbers = range(start // 4096, (stop - 1) // 4096 + 1)
    return [records.record_digest(whole[at * 4096 : (at + 1) * 4096]) for at in numbers]


@settings(max_examples=25)
@given(
    way=ways,
    length=st.integers(1, 5000),
    stride=st.integers(1, 4000),
    most=st.sampled_from([1, 2, math.inf]),
    seed=st.integers(0, 99),
)
def test_windows(way: dict[str, Any], length: int, stride: int, most: float, seed: int) -> None:
    path, found, _ = tokens()
    data = AttestedWindows(path, length, stride=stride)
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed)).tolist()[:20]
    with recording() as session:
        got = loop(DataLoader(data, sampler=order, **way), most)
    received = order[: sum(len(batch) for batch in got)]
    for window, number in zip((window for batch in got for window in batch), received, strict=True):
        assert window.tolist() == found[number * stride : number * stride + length].tolist()
    touched = [one for at in received for one in chunks_of(2 * at * stride, 2 * (at * stride + length))]
    assert claimed(data.info, session.batches) == any_data.product(touched)


bounds = st.none() | st.integers(-12_000, 12_000)
steps = st.none() | st.sampled_from([1, 1, 2, 3, -1, -5, 2048, 2049, -4500, 9000])


@given(key=st.builds(slice, bounds, bounds, steps))
def test_slices_are_numpys_and_touch_what_they_must(key: slice) -> None:
    path, found, _ = tokens()
    data = memmap(path, np.uint16)
    with recording() as session:
        got = data[key]
    np.testing.assert_array_equal(got, found[key])
    wanted = {2 * at // 4096 for at in range(*key.indices(len(found)))}
    assert Counter(session.indices()) == Counter(wanted)


leaves: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.complex_numbers(), st.text(), st.binary(),
    arrays.arrays(
        st.sampled_from(["?", "i1", "<i8", "<u2", "<f4", "<c8", "<U3", "S2", "<M8[s]"]).map(np.dtype),
        arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
    ),
    arrays.arrays(np.dtype("<f4"), arrays.array_shapes(max_dims=2, max_side=3)).map(torch.from_numpy),
)  # fmt: skip
nested = st.recursive(
    leaves,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def spelled(item: Any) -> bytes:
    spelling = items.Spelling()
    spelling.take(item)
    return b"".join(spelling.parts())


def told(item: Any) -> Any:  # noqa: PLR0911 (one line per type)
    """Says in plain words what an item is: what its bytes have to give back."""
    match item:
        case None:
            return "N"
        case bool():
            return "T" if item else "F"
        case int():
            return "i", item
        case float():
            return "f", np.float64(item).tobytes()
        case complex():
            return "c", np.complex128(item).tobytes()
        case str():
            return "s", item.encode("utf-8", "surrogatepass")
        case bytes():
            return "b", item
        case np.ndarray():
            return "a", item.dtype.str, item.shape, item.tobytes()
        case torch.Tensor():
            return "t", str(item.dtype)[6:], tuple(item.shape), item.contiguous().numpy().tobytes()
        case dict():
            pairs = sorted((key.encode("utf-8", "surrogatepass"), key) for key in item)
            return "d", [(data, told(item[key])) for data, key in pairs]
    return "l" if isinstance(item, list) else "u", [told(part) for part in item]


@given(item=nested)
def test_an_items_bytes_say_everything_about_it(item: Any) -> None:
    data = spelled(item)
    assert decode(data) == told(item)
    spelling = items.Spelling()
    assert told(spelling.take(item)) == told(item)  # and so does what is handed on


def test_the_product_is_that_of_the_carrier() -> None:
    digests = b"".join(digest(any_data.item(number)) for number in range(5))
    product = multiset.product_of(digests, number=carrier.NUMBER)
    assert product.hex() == any_data.product(digests[at : at + 32] for at in range(0, 160, 32))[0]
