from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
import tables
import torch

from palm_torch.commit import rows
from palm_torch.data import measure, shards
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.formats import arrow, huggingface, parquet, row_decoder, table
from palm_torch.data.loader import DataLoader
from palm_torch.errors import DataError, InputError, RecordError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("nulls", [0.0, 0.2, 1.0])
def test_rows_are_the_canonical_encoding_of_their_values(tmp_path: Path, nulls: float) -> None:
    whole, values = tables.mixed(60, nulls=nulls)
    found = tables.opened(tables.write(tmp_path / "a.arrow", whole, size=17))
    assert found.layout.columns is not None
    codec = rows.Codec(found.layout.columns)
    assert tables.copies(found) == [codec.encode(row) for row in values]


@pytest.mark.parametrize("name", ["a.file.arrow", "a.arrow", "a.parquet"])
@pytest.mark.parametrize("size", [1, 7, 100])
def test_rows_do_not_depend_on_how_they_are_stored(tmp_path: Path, name: str, size: int) -> None:
    whole, _ = tables.mixed(40)
    expected = tables.copies(huggingface.of_table(whole))
    found = tables.opened(tables.write(tmp_path / name, whole, size=size))
    assert tables.copies(found) == expected
    assert found.layout.columns == huggingface.of_table(whole).layout.columns


def test_rows_do_not_depend_on_slices_and_chunks() -> None:
    whole, _ = tables.mixed(50)
    expected = tables.copies(huggingface.of_table(whole))
    pieces = pa.concat_tables([whole.slice(at, 3) for at in range(0, 50, 3)])
    assert tables.copies(huggingface.of_table(pieces)) == expected
    assert tables.copies(huggingface.of_table(whole.slice(13, 20))) == expected[13:33]


@pytest.mark.parametrize("nulls", [True, False])
def test_rows_do_not_depend_on_wider_types(*, nulls: bool) -> None:
    null = [None] if nulls else []
    as_list = {
        "text": ["a", "", "hé", *null],
        "data": [b"ab", b"cd", b"ef", *null],
        "ids": [[1, 2], [3, 4], [5, 6], *null],
        "deep": [[[1, 2]], [[3, 4], [5, 6]], [], *null],
    }
    pair, pairs = pa.list_(pa.int32(), 2), pa.list_(pa.list_(pa.int32()))
    wider = {
        "text": [pa.string(), pa.large_string(), pa.dictionary(pa.uint8(), pa.string())],
        "data": [pa.binary(), pa.large_binary(), pa.binary(2)],
        "ids": [pa.list_(pa.int32()), pa.large_list(pa.int32()), pair],
        "deep": [pairs, pa.large_list(pa.large_list(pa.int32())), pa.list_(pair)],
    }
    for names in (
        list(as_list),
        *([name] for name in as_list),
    ):  # one column alone is read at once, if it can be
        found = []
        for way in range(3):
            columns = [pa.array(as_list[name], wider[name][way]) for name in names]
            found.append(huggingface.of_table(pa.table(columns, names)))
        assert len({rows_.layout.columns for rows_ in found}) == 1
        assert tables.copies(found[0]) == tables.copies(found[1]) == tables.copies(found[2])


@pytest.mark.parametrize("nulls", [True, False])
def test_sliced_lists_of_one_size(*, nulls: bool) -> None:
    values: list[Any] = [[at, at + 1] for at in range(9)]
    values[4] = None if nulls else values[4]
    narrow, wide = pa.list_(pa.int16()), pa.list_(pa.int16(), 2)
    expected = tables.copies(huggingface.of_table(pa.table({"a": pa.array(values[3:], narrow)})))
    assert tables.copies(huggingface.of_table(pa.table({"a": pa.array(values, wide).slice(3)}))) == expected


def test_extension_types_are_what_they_are_stored_as() -> None:
    whole = pa.table({"a": pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes(16)], pa.binary(16)))})
    assert [str(one.type) for one in huggingface.of_table(whole).layout.columns or ()] == ["binary"]


def test_a_dictionary_that_holds_null() -> None:
    words = pa.array(["a", None])
    coded = pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 0], pa.int8()), words)
    given = pa.table({"a": coded})
    plainly = pa.table({"a": ["a", None, None, "a"]})
    assert tables.copies(huggingface.of_table(given)) == tables.copies(huggingface.of_table(plainly))


def test_items_are_values_of_python_and_arrays(tmp_path: Path) -> None:
    whole, values = tables.mixed(30)
    found = tables.opened(tables.write(tmp_path / "a.arrow", whole))
    decode = row_decoder.decoder(found.layout)
    for number, row in enumerate(values):
        item = decode(found.copy(number))
        assert list(item) == tables.SCHEMA.names
        assert [listed(value) for value in item.values()] == row


def listed(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list):
        return [listed(item) for item in value]
    if isinstance(value, dict):
        return {name: listed(item) for name, item in value.items()}
    return value


def test_plain_rows_are_decoded_alike_by_the_quicker_way() -> None:
    found = huggingface.of_table(tables.plain(40))
    decode = row_decoder.decoder(found.layout)
    assert found.layout.columns is not None
    codec = rows.Codec(found.layout.columns)
    for copy in tables.copies(found):
        assert [listed(value) for value in decode(copy).values()] == list(codec.decode(copy))
        for at in range(len(copy)):
            changed = copy[:at] + bytes([copy[at] ^ 0x81]) + copy[at + 1 :]
            outcomes = [
                outcome(decode, changed),
                outcome(lambda data: dict(enumerate(codec.decode(data))), changed),
            ]
            assert outcomes[0] == outcomes[1]


def outcome(decode: Any, data: bytes) -> object:
    try:
        return [listed(value) for value in decode(data).values()]
    except InputError:
        return "refused"


def test_a_column_without_a_type_of_rows_says_what_to_do(tmp_path: Path) -> None:
    path = tables.write(tmp_path / "a.arrow", pa.table({"price": pa.array([1], pa.decimal128(3, 1))}))
    with pytest.raises(
        DataError, match=r"a\.arrow: column 'price'.*decimal128\(3, 1\): cast .*AttestedDataset"
    ):
        shards.open_all(path, table.Wanted())


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
@pytest.mark.parametrize("make", [pa.ipc.new_file, pa.ipc.new_stream])
def test_compressed_buffers_are_refused_and_say_what_to_do(
    tmp_path: Path, compression: str, make: Any
) -> None:
    whole, path = tables.plain(1000), tmp_path / "a.arrow"
    with make(str(path), whole.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(whole)
    with pytest.raises(DataError, match=r"compressed .*IpcWriteOptions\(compression=None\)"):
        shards.open_all(path, table.Wanted())


@pytest.mark.parametrize("name", ["a.arrow", "a.file.arrow", "a.parquet"])
def test_a_file_without_rows_is_refused(tmp_path: Path, name: str) -> None:
    path = tables.write(tmp_path / name, tables.plain(0))
    with pytest.raises(DataError, match="empty shard"):
        shards.open_all(path, table.Wanted())


@pytest.mark.parametrize("suffix", [".arrow", ".parquet"])
@pytest.mark.parametrize(
    "content", [b"x", b"ARROW1\0\0", b"\xff\xff\xff\xff\xff\xff\xff\x7f", b"PAR1" * 4, bytes(99)]
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match="a\\."):
        shards.open_all(path, table.Wanted())


@pytest.mark.parametrize("suffix", [".arrow", ".parquet", ".mds"])
def test_lengths_and_types_of_elements_are_not_for_rows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"x")
    for wanted in (table.Wanted(record_length=2), table.Wanted(dtype="int32")):
        with pytest.raises(DataError, match="the file says their types"):
            shards.open_all(path, wanted)


@pytest.mark.parametrize("number", [-1, 40])
def test_there_are_no_other_records(tmp_path: Path, number: int) -> None:
    for name in ("a.arrow", "a.parquet"):
        with pytest.raises(DataError, match=f"no record {number}: there are 40"):
            tables.opened(tables.write(tmp_path / name, tables.plain(40))).copy(number)


def test_a_changed_value_is_named_with_its_place(tmp_path: Path) -> None:
    path = tables.write(tmp_path / "a.arrow", tables.plain(20), size=6)
    measure.measure(path)
    data = AttestedMmapDataset(path)
    assert data[13]["text"] == "text 13"
    content = path.read_bytes()
    with path.open("r+b") as stream:
        stream.write(content.replace(b"text 13", b"tex! 13"))
    with pytest.raises(RecordError, match=r"a\.arrow: record 13 \(row 1 of batch 2 of the file\)"):
        data[13]


@pytest.mark.parametrize("name", ["a.arrow", "a.file.arrow", "a.parquet"])
def test_a_loader_with_workers_delivers_rows(tmp_path: Path, name: str) -> None:
    path = tables.write(tmp_path / name, tables.plain(30), size=4)
    measure.measure(path)
    loader = DataLoader(AttestedMmapDataset(path), batch_size=None, num_workers=2, shuffle=True)
    items = sorted(loader, key=lambda item: item["label"])
    assert [item["text"] for item in items] == [f"text {at}" for at in range(30)]
    assert all(torch.equal(item["ids"], torch.arange(at, at + at % 5)) for at, item in enumerate(items))
    assert items[1]["ids"].dtype == torch.int32


def test_arrow_and_parquet_have_one_digest(tmp_path: Path) -> None:
    whole, _ = tables.mixed(100)
    found = [
        measure.measure(tables.write(tmp_path / name, whole, size=size))
        for name, size in (("a.arrow", 3), ("b.file.arrow", 50), ("c.parquet", 31))
    ]
    assert len({(one.digests_root, one.multiset, one.columns) for one in found}) == 1


def test_row_groups_are_read_once_while_they_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tables.write(tmp_path / "a.parquet", tables.plain(100), size=25)
    found = tables.opened(path)
    expected = tables.copies(found)
    monkeypatch.setattr(parquet, "CACHE_BYTES", 1)
    small = tables.opened(path)
    order = np.random.default_rng(1).permutation(100).tolist()
    assert [small.copy(at) for at in order] == [expected[at] for at in order]
    assert len(small._groups) == 1  # type: ignore[attr-defined]
    assert len(found._groups) == 4  # type: ignore[attr-defined]
    path.unlink()
    assert tables.copies(found) == expected


def test_a_row_group_that_is_damaged_is_named(tmp_path: Path) -> None:
    path = tables.write(tmp_path / "a.parquet", tables.plain(100), size=50)
    content = bytearray(path.read_bytes())
    content[4:40] = bytes(36)
    path.write_bytes(content)
    found = tables.opened(path)
    assert "row 1 of row group 1" in found.where(51)
    with pytest.raises(DataError, match=r"a\.parquet.*row group 0"):
        found.copy(0)


def test_nothing_of_pyarrow_is_imported_before_a_file_is_opened() -> None:
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from pathlib import Path\n"
        "from palm_torch.data import shards\nfrom palm_torch.data.formats import table\n"
        "for name in ('arrow', 'parquet'):\n"
        "    path = Path(sys.argv[1]) / f'a.{name}'; path.write_bytes(b'x')\n"
        "    try: shards.open_all(path, table.Wanted())\n"
        "    except ImportError as error: print(error)\n"
    )
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        told = subprocess.run(
            [sys.executable, "-c", code, folder], capture_output=True, text=True, check=True
        )
    assert re.findall(r"needs pyarrow, which is not installed: pip install 'palm-torch\[data\]'", told.stdout)
    assert len(told.stdout.splitlines()) == 2


class TestFolders:
    def test_the_state_names_the_files_in_order(self, tmp_path: Path) -> None:
        for name, begin in (("b.arrow", 0), ("a.arrow", 5), ("cache-1.arrow", 9)):
            tables.write(tmp_path / name, tables.plain(15).slice(begin, 5))
        self.state(tmp_path, "b.arrow", "a.arrow")
        data = AttestedMmapDataset(tmp_path)
        assert [item["label"] for item in data] == [*range(10)]

    def test_rows_chosen_by_an_old_index_are_refused(self, tmp_path: Path) -> None:
        tables.write(tmp_path / "a.arrow", tables.plain(5))
        self.state(tmp_path, "a.arrow", _indices_files=[{"filename": "indices.arrow"}])
        with pytest.raises(DataError, match="chosen by an index"):
            AttestedMmapDataset(tmp_path)

    @pytest.mark.parametrize(
        ("files", "told"),
        [
            ([], "names no files"),
            (["../a.arrow"], "inside the folder"),
            (["/etc/passwd"], "inside the folder"),
            (["./a.arrow"], "inside the folder"),
            (["a\0"], "inside the folder"),
            (["\ud800"], "inside the folder"),
            ([None], "inside the folder"),
            (["a.arrow", "a.arrow"], "named twice"),
            (["b.arrow"], "no such file is there"),
            (["b" * 5000], "no such file is there"),
        ],
    )
    def test_a_state_that_lies_is_refused(self, tmp_path: Path, files: list[Any], told: str) -> None:
        tables.write(tmp_path / "a.arrow", tables.plain(5))
        self.state(tmp_path, *files)
        with pytest.raises(DataError, match=told):
            AttestedMmapDataset(tmp_path)

    @pytest.mark.parametrize(
        "content", ['{"_data_files": 1}', '{"_data_files": [1]}', "[]", "{", '{"a":1,"a":1}']
    )
    def test_a_state_that_is_malformed_is_refused(self, tmp_path: Path, content: str) -> None:
        (tmp_path / arrow.STATE_NAME).write_text(content)
        with pytest.raises(DataError, match=r"state\.json"):
            AttestedMmapDataset(tmp_path)

    def test_a_state_of_something_else_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / arrow.STATE_NAME).write_text('{"step": 1}')
        tables.write(tmp_path / "a.arrow", tables.plain(5))
        assert len(AttestedMmapDataset(tmp_path)) == 5

    def test_a_link_out_of_the_folder_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        tables.write(tmp_path / "a.arrow", tables.plain(5))
        (tmp_path / "in" / "a.arrow").symlink_to(tmp_path / "a.arrow")
        self.state(tmp_path / "in", "a.arrow")
        with pytest.raises(DataError, match="leads out"):
            AttestedMmapDataset(tmp_path / "in")

    def test_types_that_change_between_files_are_refused(self, tmp_path: Path) -> None:
        tables.write(tmp_path / "a.arrow", pa.table({"x": pa.array([1], pa.int32())}))
        tables.write(tmp_path / "b.arrow", pa.table({"x": pa.array([1], pa.int64())}))
        with pytest.raises(DataError, match=r"b\.arrow: expected arrow rows of \(x: int32\)"):
            AttestedMmapDataset(tmp_path)

    def test_a_name_that_stands_there_twice_is_refused(self, tmp_path: Path) -> None:
        path = tables.write(tmp_path / "a.arrow", pa.table([pa.array([1]), pa.array([2])], ["x", "x"]))
        with pytest.raises(DataError, match="'x' stands there twice"):
            AttestedMmapDataset(path)

    @staticmethod
    def state(folder: Path, *files: Any, **more: Any) -> None:
        state = {"_data_files": [{"filename": name} for name in files], **more}
        (folder / arrow.STATE_NAME).write_text(json.dumps(state))
