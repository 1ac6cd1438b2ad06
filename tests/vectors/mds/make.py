"""Writes the MDS folders of this directory with the library that defines them, mosaicml-streaming 0.13.0.

The library cannot live beside this project's other dependencies, so its files are kept here:

    python -m venv scratch && scratch/bin/pip install --no-deps mosaicml-streaming==0.13.0
    scratch/bin/pip install numpy torch brotli python-snappy zstd pillow xxhash tqdm
    scratch/bin/python tests/vectors/mds/make.py

Only the modules of the format are imported: the rest of the library wants converters of texts and images.

`expected.json` is what the library itself reads of `plain` afterwards: bytes in hexadecimal, arrays as
[type, shape, bytes in hexadecimal].
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import types
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
COLUMNS = {
    "array": "ndarray",
    "bytes": "bytes",
    "decimal": "str_decimal",
    "float16": "float16",
    "float64": "float64",
    "int": "int",
    "json": "json",
    "shaped": "ndarray:float32:2,3",
    "text": "str",
    "tokens": "ndarray:int32",
    "uint8": "uint8",
    "written": "str_int",
}


def samples() -> list[dict[str, Any]]:
    """Seven samples, no two alike."""
    return [
        {
            "array": np.arange(number + 1, dtype=np.uint16).reshape(1, -1),
            "bytes": bytes(range(number)),
            "decimal": Decimal("1.5") ** number,
            "float16": 0.5 * number,
            "float64": -0.0 if number == 0 else 1 / number,
            "int": -(2**40) + number,
            "json": {"n": number, "l": [None, True, "ü"]},
            "shaped": np.full((2, 3), number, np.float32),
            "text": "é" * number,
            "tokens": np.arange(300 * (number % 2) + 1, dtype=np.int32),
            "uint8": 255 - number,
            "written": 10**20 + number,
        }
        for number in range(7)
    ]


def shown(value: Any) -> Any:
    """Returns a value as JSON can say it."""
    if isinstance(value, np.ndarray):
        return [value.dtype.name, list(value.shape), value.tobytes().hex()]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Decimal):
        return str(value)
    return value.item() if isinstance(value, np.generic) else value


def main() -> None:
    """Writes `plain` (two shards and more), `zipped` (zstd), `pickled`, and what was read of `plain`."""
    library = importlib.util.find_spec("streaming")
    assert library is not None, "pip install --no-deps mosaicml-streaming"
    assert library.origin is not None
    for name, folder in (("streaming", "."), ("streaming.base", "base")):
        bare = types.ModuleType(name)  # a package whose __init__, which imports everything, does not run
        bare.__path__ = [str(Path(library.origin).parent / folder)]
        sys.modules[name] = bare
    from streaming.base.format.mds.reader import MDSReader
    from streaming.base.format.mds.writer import MDSWriter

    for name in ("plain", "zipped", "pickled"):
        shutil.rmtree(HERE / name, ignore_errors=True)
    with MDSWriter(columns=COLUMNS, out=str(HERE / "plain"), size_limit=4096) as writer:
        for sample in samples():
            writer.write(sample)
    with MDSWriter(columns={"text": "str"}, out=str(HERE / "zipped"), compression="zstd:3") as writer:
        writer.write({"text": "a"})
    with MDSWriter(columns={"thing": "pkl"}, out=str(HERE / "pickled")) as writer:
        writer.write({"thing": {"a": 1}})
    read: list[dict[str, Any]] = []
    for shard in json.loads((HERE / "plain" / "index.json").read_text())["shards"]:
        reader = MDSReader.from_json(str(HERE / "plain"), "", shard)
        read += [
            {name: shown(value) for name, value in reader[number].items()} for number in range(reader.samples)
        ]
    text = json.dumps(read, indent=1, ensure_ascii=True, sort_keys=True)
    (HERE / "expected.json").write_text(text + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
