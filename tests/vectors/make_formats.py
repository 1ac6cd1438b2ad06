"""Writes formats.json: golden files of each format, with the canonical bytes and digests of their records.

Run by ``make vectors``; the same code always writes the same bytes. Files and records are written by hand,
one fault per file that is not well formed; only digests are computed. Results: ``valid`` and ``malformed``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from palm_torch.commit import records

IDX = b"MMIDIDX\0\0" + (1).to_bytes(8, "little") + b"\x08"
"""How an index of uint16 begins."""
FILE_KIND = '[["content","binary"],["name","string"]]'


def u(width: int, *numbers: int) -> bytes:
    """Returns numbers, little endian."""
    return b"".join(number.to_bytes(width, "little", signed=True) for number in numbers)


def row(content: bytes, name: bytes) -> bytes:
    """Returns the canonical bytes of a file of a folder: chapter 40, section 7."""
    return content + name + b"\0" + u(8, len(content)) + b"\0" + u(8, len(name)) + u(8, 18)


def index(lengths: list[int], offsets: list[int]) -> bytes:
    """Returns an index of sequences of uint16, one document."""
    return IDX + u(8, len(lengths), 1) + u(4, *lengths) + u(8, *offsets) + u(8, 0)


def safetensors(header: bytes, data: bytes) -> bytes:
    """Returns a file with that header."""
    return u(8, len(header)) + header + data


def npy(header: bytes, data: bytes) -> bytes:
    """Returns a file of version 1.0 with that header."""
    return b"\x93NUMPY\x01\x00" + u(2, len(header)) + header + data


ROWS = bytes(range(12))
ROWS_HEADER = b'{"x":{"dtype":"U8","shape":[3,4],"data_offsets":[0,12]}}'
NPY_HEADER = b"{'descr': '|u1', 'fortran_order': False, 'shape': (3, 4), }\n"
QUARTERS = [ROWS[:4], ROWS[4:8], ROWS[8:]]

VALID: list[tuple[str, dict[str, bytes], dict[str, Any], list[bytes]]] = [
    ("bin", {"a.bin": ROWS}, {"record_length": 2}, QUARTERS),
    (
        "bin, two files",
        {"b.bin": ROWS[:4], "a.bin": ROWS[4:]},
        {"record_length": 2},
        [*QUARTERS[1:], ROWS[:4]],
    ),
    ("npy", {"a.npy": npy(NPY_HEADER, ROWS)}, {}, QUARTERS),
    ("safetensors", {"a.safetensors": safetensors(ROWS_HEADER, ROWS)}, {}, QUARTERS),
    (
        "safetensors, one tensor of two",
        {
            "a.safetensors": safetensors(
                b'{"y":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},'
                b'"x":{"dtype":"U8","shape":[2,5],"data_offsets":[2,12]}}',
                ROWS,
            )
        },
        {"tensor": "x"},
        [ROWS[2:7], ROWS[7:]],
    ),
    (
        "megatron, with an empty sequence",
        {"a.bin": ROWS, "a.idx": index([2, 0, 4], [0, 4, 4])},
        {},
        [ROWS[:4], b"", ROWS[4:]],
    ),
    ("megatron read as bin", {"a.bin": ROWS, "a.idx": b""}, {"format": "bin", "record_length": 6}, [ROWS]),
    ("jsonl", {"a.jsonl": b'{"a":1}\n[2]\n'}, {}, [b'{"a":1}', b"[2]"]),
    ("jsonl, no line feed at the end", {"a.jsonl": b"1\n2"}, {}, [b"1", b"2"]),
    ("jsonl, carriage returns", {"a.jsonl": b"1\r\n 2 \r\n"}, {}, [b"1\r", b" 2 \r"]),
    ("jsonl, a line that is not JSON", {"a.jsonl": b"1\n{\n"}, {}, [b"1", b"{"]),
    (
        "files",
        {"b/1": b"one", "a": b"", ".c": b"x", "b/.d": b"x"},
        {"format": "files"},
        [row(b"", b"a"), row(b"one", b"b/1")],
    ),
]
MALFORMED: list[tuple[str, dict[str, bytes], dict[str, Any]]] = [
    ("bin, bytes over", {"a.bin": ROWS[:-1]}, {"record_length": 2}),
    ("bin, no record length", {"a.bin": ROWS}, {}),
    ("npy, truncated", {"a.npy": npy(NPY_HEADER, ROWS[:-1])}, {}),
    ("npy, objects", {"a.npy": npy(NPY_HEADER.replace(b"|u1", b"|O"), ROWS)}, {}),
    (
        "safetensors, no rows",
        {"a.safetensors": safetensors(ROWS_HEADER.replace(b"[3,4]", b"[12]"), ROWS)},
        {},
    ),
    ("safetensors, bytes over", {"a.safetensors": safetensors(ROWS_HEADER, ROWS + b"\0")}, {}),
    ("safetensors, no such tensor", {"a.safetensors": safetensors(ROWS_HEADER, ROWS)}, {"tensor": "y"}),
    ("megatron, sequences overlap", {"a.bin": ROWS, "a.idx": index([4, 4], [0, 4])}, {}),
    ("megatron, backwards", {"a.bin": ROWS, "a.idx": index([4, 2], [4, 0])}, {}),
    ("megatron, beyond the end", {"a.bin": ROWS, "a.idx": index([4, 3], [0, 8])}, {}),
    ("megatron, bytes of no sequence", {"a.bin": ROWS, "a.idx": index([4, 1], [0, 8])}, {}),
    ("megatron, negative length", {"a.bin": ROWS, "a.idx": index([-1, 7], [0, -2])}, {}),
    ("megatron, truncated index", {"a.bin": ROWS, "a.idx": index([4, 2], [0, 8])[:-1]}, {}),
    ("megatron, no sequence", {"a.bin": ROWS, "a.idx": index([], [])}, {}),
    ("megatron, one file without index", {"a.bin": ROWS, "a.idx": index([6], [0]), "b.bin": ROWS}, {}),
    ("jsonl, an empty line", {"a.jsonl": b"1\n\n2\n"}, {}),
    ("jsonl, an empty line at the end", {"a.jsonl": b"1\n\n"}, {}),
    ("jsonl, a carriage return alone", {"a.jsonl": b"1\n\r\n2\n"}, {}),
    ("jsonl, a carriage return alone at the end", {"a.jsonl": b"1\n\r"}, {}),
    ("jsonl, nothing", {"a.jsonl": b""}, {}),
    ("files, not a byte", {"a": b""}, {"format": "files"}),
    ("two formats", {"a.jsonl": b"1\n", "b.bin": ROWS}, {"record_length": 2}),
]


def render() -> str:
    """Returns the text of the golden file."""
    cases: list[dict[str, Any]] = []
    for name, files, arguments, contents in VALID:
        kind = FILE_KIND if arguments.get("format") == "files" else ""
        found = [
            {"bytes": content.hex(), "digest": records.record_digest(content, kind=kind).hex()}
            for content in contents
        ]
        cases.append(_case(name, files, arguments) | {"result": "valid", "records": found})
    for name, files, arguments in MALFORMED:
        cases.append(_case(name, files, arguments) | {"result": "malformed"})
    return json.dumps({"cases": cases}, indent=1, ensure_ascii=True) + "\n"


def _case(name: str, files: dict[str, bytes], arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "files": {path: content.hex() for path, content in files.items()},
        "arguments": arguments,
    }


if __name__ == "__main__":
    Path(__file__).with_name("formats.json").write_text(render(), encoding="ascii")
