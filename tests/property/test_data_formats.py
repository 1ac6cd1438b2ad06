"""Whatever bytes lie there, a format reads them or says in words why not; good ones come back as written."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import sequence_files
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from palm_torch.data import shards
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.formats import line_index, table
from palm_torch.data.formats.jsonl import open_jsonl
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

edits = st.lists(st.tuples(st.integers(0, 300), st.binary(min_size=1, max_size=9)), max_size=3)


def bent(content: bytes, changes: list[tuple[int, bytes]], cut: int) -> bytes:
    data = bytearray(content)
    for at, new in changes:
        data[at % len(data) : at % len(data) + len(new)] = new
    return bytes(data[: len(data) - cut])


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def read_all(path: Path) -> None:
    data = AttestedMmapDataset(path, dtype=None, manifest=None)
    for number in range(min(len(data), 20)):
        data[number]


@settings(max_examples=150)
@given(changes=edits, cut=st.integers(0, 3))
def test_bent_index_of_sequences(folder: Path, changes: list[tuple[int, bytes]], cut: int) -> None:
    pair = sequence_files.write(folder / "corpus", [[1, 2], [3], [4, 5, 6]])
    index = pair.with_suffix(".idx")
    index.write_bytes(bent(index.read_bytes(), changes, cut))
    try:
        read_all(pair)
    except DataError as error:
        assert "corpus" in str(error)  # noqa: PT017 (both outcomes are right)


@settings(max_examples=150)
@given(changes=edits, cut=st.integers(0, 9), lines=st.integers(1, 4))
def test_bent_index_of_lines(folder: Path, changes: list[tuple[int, bytes]], cut: int, lines: int) -> None:
    texts = folder / "texts.jsonl"
    texts.write_bytes(b'{"a": 1}\n' * lines)
    index = texts.with_name(texts.name + line_index.SUFFIX)
    index.unlink(missing_ok=True)
    line_index.open_index(texts, fresh=False).close()
    index.write_bytes(bent(index.read_bytes(), changes, cut))
    try:
        opened = open_jsonl(texts, table.Wanted())
        for number in range(min(opened.records, 20)):
            opened.copy(number)
    except DataError as error:
        assert "texts" in str(error)  # noqa: PT017 (both outcomes are right)


@settings(max_examples=150)
@given(changes=edits, cut=st.integers(0, 9))
def test_bent_file_of_tensors(folder: Path, changes: list[tuple[int, bytes]], cut: int) -> None:
    path = folder / "a.safetensors"
    save_file({"x": np.arange(6, dtype=np.int16).reshape(2, 3)}, path)
    path.write_bytes(bent(path.read_bytes(), changes, cut))
    try:
        read_all(path)
    except DataError as error:
        assert "a.safetensors" in str(error)  # noqa: PT017 (both outcomes are right)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100)
@given(written=st.lists(values, min_size=1, max_size=6))
def test_values_written_as_json_lines_come_back(folder: Path, written: list[object]) -> None:
    texts = folder / "values.jsonl"
    texts.write_text("\n".join(map(json.dumps, written)), encoding="utf-8")
    data = AttestedMmapDataset(texts)
    assert data.__getitems__(range(len(written))) == written


@settings(max_examples=60)
@given(
    sequences=st.lists(st.lists(st.integers(0, 65_535), max_size=5), min_size=1, max_size=8).filter(any),
    order=st.randoms(use_true_random=False),
)
def test_sequences_written_come_back(folder: Path, sequences: list[list[int]], order: object) -> None:
    data = AttestedMmapDataset(sequence_files.write(folder / "any", sequences))
    numbers = list(range(len(sequences)))
    order.shuffle(numbers)  # type: ignore[attr-defined]
    assert [item.tolist() for item in data.__getitems__(numbers)] == [sequences[at] for at in numbers]


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0", categories=["L", "N", "P"]), min_size=1, max_size=4
)


@settings(max_examples=40)
@given(
    names=st.sets(NAMES.filter(lambda name: name[0] != "."), min_size=1, max_size=6), seed=st.integers(0, 9)
)
def test_files_come_in_the_order_of_their_paths(names: set[str], seed: int) -> None:
    with tempfile.TemporaryDirectory() as root:
        expected = []
        for number, name in enumerate(sorted(names)):
            path = f"{name}/{name[::-1].lstrip('.') or 'x'}" if (number + seed) % 2 else name
            (Path(root) / path).parent.mkdir(exist_ok=True)
            (Path(root) / path).write_bytes(b"x")
            expected.append(path)
        (file,) = shards.open_all(Path(root), table.Wanted(format="files"))
        found = [file.view.where(number) for number in range(file.view.records)]
    assert found == [f"the file {path!r}" for path in sorted(expected, key=str.encode)]
