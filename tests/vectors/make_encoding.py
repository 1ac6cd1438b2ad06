"""Writes encoding.json: golden cases of canonical JSON, framing, digests, hex and base64.

Run by ``make vectors``; the same code always writes the same bytes. The cases are written by hand, one
fault each; only the outputs of framing and hashing are computed, and the tests compute them again by
other means. Results: ``valid``, ``invalid`` (well formed, but not the one canonical spelling) and
``malformed`` (not the format at all).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palm_torch.digest import sha256_digest, tagged_hash
from palm_torch.encoding import length_prefixed

if TYPE_CHECKING:
    from collections.abc import Iterator

JSON_CASES = [
    ("null", b"null", "valid"),
    ("booleans in a list", b"[true,false]", "valid"),
    ("empty object", b"{}", "valid"),
    ("empty list", b"[]", "valid"),
    ("greatest integer", b"9007199254740991", "valid"),
    ("least integer", b"-9007199254740991", "valid"),
    ("a double", b"0.1", "valid"),
    ("an exponent", b"1e+21", "valid"),
    ("a small exponent", b"1e-7", "valid"),
    ("escapes of RFC 8785 section 3.2.2.2", rb'"\b\t\n\f\r\"\\/\u0000\u001f"', "valid"),
    ("text beyond ASCII is not escaped", '"€ é 𐍈"'.encode(), "valid"),
    ("keys in order of UTF-16 code units", '{"1":0,"a":0,"é":0,"𐍈":0,"ﬃ":0}'.encode(), "valid"),
    ("the same key in two Unicode forms", '{"e\u0301":0,"\u00e9":0}'.encode(), "valid"),
    ("brackets in text, which do not nest", b'["' + b'[{\\"' * 40 + b'"]', "valid"),
    ("as deep as it may be", b"[" * 33 + b"]" * 33, "valid"),
    ("space before", b" null", "invalid"),
    ("newline after", b"null\n", "invalid"),
    ("space inside", b"[1, 2]", "invalid"),
    ("keys out of order", b'{"b":0,"a":0}', "invalid"),
    ("keys in order of code points, not code units", '{"ﬃ":0,"𐍈":0}'.encode(), "invalid"),
    ("duplicate key", b'{"a":0,"a":0}', "invalid"),
    ("duplicate key, other values", b'{"a":0,"a":1}', "invalid"),
    ("1.0 instead of 1", b"1.0", "invalid"),
    ("minus zero", b"-0", "invalid"),
    ("minus zero as a double", b"-0.0", "invalid"),
    ("exponent without sign", b"1e21", "invalid"),
    ("capital exponent", b"1E+21", "invalid"),
    ("exponent where digits are due", b"1e+20", "invalid"),
    ("digits where an exponent is due", b"0.0000001", "invalid"),
    ("more digits than the double has", b"0.10000000000000000", "invalid"),
    ("needless escape", rb'"\u0061"', "invalid"),
    ("escaped solidus", rb'"\/"', "invalid"),
    ("capital hex in an escape", rb'"\u001F"', "invalid"),
    ("long escape of a newline", rb'"\u000a"', "invalid"),
    ("escaped text beyond ASCII", rb'"\u20ac"', "invalid"),
    ("lone surrogate", rb'"\ud800"', "invalid"),
    ("lone surrogate in a key", rb'{"\ud800":0}', "invalid"),
    ("integer that no double holds", b"9007199254740993", "invalid"),
    ("number beyond every double", b"1e+400", "invalid"),
    ("nested too deeply", b"[" * 34 + b"]" * 34, "invalid"),
    ("nested too deeply, with closing brackets in text", b'["]",' * 1000 + b"0" + b"]" * 1000, "invalid"),
    ("empty document", b"", "malformed"),
    ("byte order mark", b"\xef\xbb\xbfnull", "malformed"),
    ("not UTF-8", b'"\xff"', "malformed"),
    ("surrogate in UTF-8", b'"\xed\xa0\x80"', "malformed"),
    ("two documents", b"null null", "malformed"),
    ("NaN", b"NaN", "malformed"),
    ("Infinity", b"[-Infinity]", "malformed"),
    ("leading zero", b"01", "malformed"),
    ("leading plus", b"+1", "malformed"),
    ("hexadecimal number", b"0x10", "malformed"),
    ("trailing comma", b"[1,]", "malformed"),
    ("unquoted key", b"{a:0}", "malformed"),
    ("single quotes", b"'a'", "malformed"),
    ("control character in text", b'"\x01"', "malformed"),
    ("unfinished list", b"[1", "malformed"),
    ("unfinished text", b'"a', "malformed"),
    ("comment", b"[1/**/]", "malformed"),
    ("parser's recursion limit", b"[" * 3_000, "malformed"),
    ("parser's digit limit", b"1" * 5_000, "malformed"),
]

LENGTH_PREFIX_CASES = [
    ("empty", b""),
    ("one byte", b"\x00"),
    ("text", b"palm"),
    ("256 bytes", bytes(range(256))),
]

TAGGED_HASH_CASES = [
    ("no parts", "palm-torch/example/v1", []),
    ("one empty part", "palm-torch/example/v1", [b""]),
    ("two parts", "palm-torch/example/v1", [b"ab", b"c"]),
    ("the same bytes cut elsewhere", "palm-torch/example/v1", [b"a", b"bc"]),
    ("another version", "palm-torch/example/v2", [b"ab", b"c"]),
]

DIGEST_CASES = [
    ("sha256", "sha256:" + "00" * 32, "valid"),
    ("sha384", "sha384:" + "0f" * 48, "valid"),
    ("tagged", "palm-sha256:" + "ff" * 32, "valid"),
    ("multiset", "palm-mset-mu-3072:" + "01" * 384, "valid"),
    ("capital hex", "sha256:" + "FF" * 32, "invalid"),
    ("space in the hex", "sha256:" + "00 " * 32, "invalid"),
    ("too short", "sha256:" + "00" * 31, "invalid"),
    ("too long", "sha256:" + "00" * 33, "invalid"),
    ("another algorithm's length", "sha384:" + "00" * 32, "invalid"),
    ("unknown algorithm", "md5:" + "00" * 16, "invalid"),
    ("capital algorithm", "SHA256:" + "00" * 32, "invalid"),
    ("no algorithm", ":" + "00" * 32, "invalid"),
    ("no colon", "00" * 32, "malformed"),
    ("odd number of digits", "sha256:" + "0" * 63, "malformed"),
    ("not hex", "sha256:" + "0g" * 32, "malformed"),
    ("empty", "", "malformed"),
]

BASE64_CASES = [
    ("empty", "", "valid"),
    ("one byte", "AA==", "valid"),
    ("two bytes", "AAA=", "valid"),
    ("three bytes", "AAAA", "valid"),
    ("plus and slash", "+/+/", "valid"),
    ("padding bits set", "AB==", "invalid"),
    ("padding bits set, two bytes", "AAB=", "invalid"),
    ("URL alphabet", "-_-_", "malformed"),
    ("no padding", "AA", "malformed"),
    ("too much padding", "AAAA====", "malformed"),
    ("line break", "AAAA\nAAAA", "malformed"),
    ("newline after", "AAAA\n", "malformed"),
    ("space", "AA AA", "malformed"),
    ("not ASCII", "ÀAAA", "malformed"),
    ("padding inside", "AA==AA==", "malformed"),
]

HEX_CASES = [
    ("empty", "", "valid"),
    ("bytes", "00ff", "valid"),
    ("capital", "00FF", "invalid"),
    ("space between bytes", "00 ff", "invalid"),
    ("newline after", "00ff\n", "invalid"),
    ("odd", "0", "malformed"),
    ("prefix", "0x00", "malformed"),
    ("digits of another script", "٠٠", "malformed"),
]


def groups() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    yield (
        "canonical JSON",
        [{"comment": comment, "bytes": data.hex(), "result": result} for comment, data, result in JSON_CASES],
    )
    yield (
        "length prefix",
        [
            {
                "comment": comment,
                "bytes": data.hex(),
                "expected": length_prefixed(data).hex(),
                "result": "valid",
            }
            for comment, data in LENGTH_PREFIX_CASES
        ],
    )
    yield (
        "tagged hash",
        [
            {
                "comment": comment,
                "tag": tag,
                "parts": [part.hex() for part in parts],
                "expected": tagged_hash(tag, *parts).hex(),
                "result": "valid",
            }
            for comment, tag, parts in TAGGED_HASH_CASES
        ],
    )
    yield (
        "worked example",
        [
            {
                "comment": "the document of docs/spec/10-encoding.md",
                "bytes": EXAMPLE.hex(),
                "sha256": str(sha256_digest(EXAMPLE)),
                "expected": tagged_hash("palm-torch/example/v1", EXAMPLE, b"").hex(),
                "result": "valid",
            }
        ],
    )
    for name, cases in (("digest", DIGEST_CASES), ("base64", BASE64_CASES), ("hexadecimal", HEX_CASES)):
        yield name, [{"comment": comment, "text": text, "result": result} for comment, text, result in cases]


EXAMPLE = '{"dataset":"€","records":3,"share":0.25}'.encode()


def render() -> str:
    """Returns the text of encoding.json; test cases are numbered through all groups."""
    number = 0
    out: list[dict[str, Any]] = []
    for name, cases in groups():
        numbered = []
        for case in cases:
            number += 1
            numbered.append({"tcId": number, **case})
        out.append({"group": name, "tests": numbered})
    document = {"schema": "palm-torch encoding vectors v1", "numberOfTests": number, "testGroups": out}
    return json.dumps(document, indent=1, ensure_ascii=True) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("encoding.json").write_text(render(), encoding="ascii")
