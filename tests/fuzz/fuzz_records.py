"""Records: rows of columns, lines, and the indices beside files that say where records lie.

The first byte of an input says what the rest is; of rows the second, which columns they have.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from fuzz_files import scratch
from laws import REFUSED, accepted, ours

from palm_torch.commit import rows
from palm_torch.commit.manifest import Column
from palm_torch.data import shards
from palm_torch.data.formats import table

if TYPE_CHECKING:
    from collections.abc import Callable

VECTORS = Path(__file__).parents[1] / "vectors"
CASES = json.loads((VECTORS / "rows.json").read_text(encoding="ascii"))["tests"]
CODECS = [rows.Codec([Column(*column) for column in case["columns"]]) for case in CASES]
MOST_READ = 50
"""Records of a file that are read."""


def one_input(data: bytes) -> None:
    what, rest = data[:1], data[1:]
    if what == b"r" and rest:
        codec = CODECS[rest[0] % len(CODECS)]
        accepted(rest[1:], codec.decode, codec.encode)
    elif what in FILES:
        folder = scratch() / "records"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        opened(FILES[what](folder, rest))


def opened(path: Path) -> None:
    """Opens a dataset and reads its first records, none of which may be longer than its file."""
    files = ours(shards.open_all, path, table.Wanted(fresh=True))
    for file in files if files is not REFUSED else ():
        decoder = table.FORMATS[file.view.layout.format].decoder
        for number in range(min(file.view.records, MOST_READ)):
            found = ours(file.view.copy, number)
            if found is not REFUSED:
                assert len(found) <= file.view.size_bytes
                file.view.where(number)
                if decoder is not None:
                    ours(decoder(file.view.layout), found)


def lines(folder: Path, data: bytes) -> Path:
    (folder / "a.jsonl").write_bytes(data)
    return folder / "a.jsonl"


def sequences(folder: Path, data: bytes) -> Path:
    shutil.copy(VECTORS / "megatron" / "uint16.bin", folder / "a.bin")
    (folder / "a.idx").write_bytes(data)
    return folder / "a.bin"


def samples(folder: Path, data: bytes) -> Path:
    for path in (VECTORS / "mds" / "plain").glob("*.mds"):
        shutil.copy(path, folder)
    (folder / "index.json").write_bytes(data)
    return folder


def sample_bytes(folder: Path, data: bytes) -> Path:
    """Makes a folder whose first shard holds these bytes, under an index that fits them."""
    index = json.loads((VECTORS / "mds" / "plain" / "index.json").read_text(encoding="utf-8"))
    index["shards"] = index["shards"][:1]
    raw = index["shards"][0]["raw_data"]
    raw["bytes"], raw["hashes"] = len(data), {}
    (folder / raw["basename"]).write_bytes(data)
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


FILES: dict[bytes, Callable[[Path, bytes], Path]] = {
    b"l": lines,
    b"i": sequences,
    b"m": samples,
    b"s": sample_bytes,
}
