"""Writes rows.json: golden cases of rows of columns, docs/spec/40-data.md, section 7.

Run by ``make vectors``. The bytes are written by hand, part by part, and not by the code that they test.
Results: ``valid``, ``invalid`` (well divided, but not the one encoding of a row) and ``malformed``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

Columns = list[tuple[str, str]]

EXAMPLE: Final[Columns] = [("ids", "list<int32>"), ("text", "string"), ("score", "float32")]
ONE: Final[Columns] = [("a", "int16")]
TEXT: Final[Columns] = [("a", "string")]
LIST: Final[Columns] = [("a", "list<bool>")]
NESTED: Final[Columns] = [("a", "list<struct<x: uint8, y: string>>")]

CASES: Final[list[tuple[str, Columns, Any, list[str], str]]] = [
    (
        "three columns; the score is null",
        EXAMPLE,
        [[1, -1, 2], "hé", None],
        [
            *("01000000 ffffffff 02000000", "68c3a9"),
            *("00 0300000000000000 00", "00 0300000000000000", "0101", "1500000000000000"),
        ],
        "valid",
    ),
    ("a number", ONE, [-2], ["feff", "00", "0100000000000000"], "valid"),
    ("null", ONE, [None], ["", "0101", "0200000000000000"], "valid"),
    ("empty text", TEXT, [""], ["", "00 0000000000000000", "0900000000000000"], "valid"),
    ("null text", TEXT, [None], ["", "0101", "0200000000000000"], "valid"),
    ("empty list", LIST, [[]], ["", "00 0000000000000000 00", "0a00000000000000"], "valid"),
    (
        "truth values, one null",
        LIST,
        [[True, None, False]],
        ["01 00", "00 0300000000000000 01 02", "0b00000000000000"],
        "valid",
    ),
    (
        "structs in a list: field by field",
        NESTED,
        [[{"x": 7, "y": "a"}, None, {"x": 8, "y": None}]],
        ["07 08", "61", "00 0300000000000000", "01 02", "00", "01 02 0100000000000000", "1600000000000000"],
        "valid",
    ),
    ("minus zero", [("a", "float64")], [-0.0], ["0000000000000080", "00", "0100000000000000"], "valid"),
    ("a bit for no value", ONE, None, ["", "0103", "0200000000000000"], "invalid"),
    ("marks that say nothing is null", ONE, None, ["feff", "0100", "0200000000000000"], "invalid"),
    ("another mark", ONE, None, ["", "0201", "0200000000000000"], "invalid"),
    ("a truth value of two", LIST, None, ["02", "00 0100000000000000 00", "0a00000000000000"], "invalid"),
    ("not UTF-8", TEXT, None, ["ff", "00 0100000000000000", "0900000000000000"], "invalid"),
    ("values left over", ONE, None, ["feff 00", "00", "0100000000000000"], "malformed"),
    ("trailer left over", ONE, None, ["feff", "00 00", "0200000000000000"], "malformed"),
    ("values missing", ONE, None, ["fe", "00", "0100000000000000"], "malformed"),
    ("more items than bytes", LIST, None, ["", "00 ffffffffffffffff 00", "0a00000000000000"], "malformed"),
    ("a trailer longer than the row", ONE, None, ["feff", "00", "ff00000000000000"], "malformed"),
    ("no bytes", ONE, None, [], "malformed"),
]


def render() -> str:
    """Returns the text of rows.json."""
    tests = [
        {
            "tcId": number,
            "comment": comment,
            "columns": columns,
            "row": row,
            "hex": "".join(parts).replace(" ", ""),
            "result": result,
        }
        for number, (comment, columns, row, parts, result) in enumerate(CASES, 1)
    ]
    document = {"schema": "palm-torch row vectors v1", "numberOfTests": len(tests), "tests": tests}
    return json.dumps(document, indent=1, ensure_ascii=True) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("rows.json").write_text(render(), encoding="ascii")
