"""The nesting of JSON is bounded before it is parsed, and brackets within text do not count."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palm_torch import nesting
from palm_torch.commands import attesting_data
from palm_torch.errors import DataError, EncodingError

if TYPE_CHECKING:
    from pathlib import Path

MOST = 8
SLACK = 4
FEW = [b'{"a":[1,{"b":[]}]}', b"", b"]" * 20 + b"[", b"nonsense", bytes(range(256))]


def deep(depth: int) -> bytes:
    """Returns a list in lists: a value that stands inside `depth` of them."""
    return b"[" * (depth + 1) + b"]" * (depth + 1)


def refused(data: bytes) -> bool:
    try:
        nesting.check(data, what="doc", most=MOST)
    except EncodingError:
        return True
    return False


def parsed_depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return max((1 + parsed_depth(one) for one in inner), default=0)


@pytest.mark.parametrize("data", FEW)
def test_few_brackets_are_let_through_whatever_else_there_is(data: bytes) -> None:
    assert not refused(data)


def test_the_bound_and_what_lies_beyond() -> None:
    assert not refused(deep(MOST))
    assert refused(deep(MOST + SLACK + 1))
    assert refused(b"[" * 1000)
    assert refused(b'{"a":' * 1000 + b"0" + b"}" * 1000)
    assert refused(b'[{"a":' * 500)


def test_what_lies_side_by_side_is_not_deep() -> None:
    assert not refused(b"[" + b",".join([deep(MOST - 1)] * 1000) + b"]")
    assert not refused(b"[" + b",".join([b'{"a":[{}],"b":"x"}'] * 1000) + b"]")


@pytest.mark.parametrize(
    "text",
    ["[" * 1000, "{[" * 500, '"[' * 500, '\\"[' * 500, "\\[" * 500, "\\" * 999 + "[" * 1000, '["]' * 400],
)
def test_brackets_within_text_do_not_count(text: str) -> None:
    for value in (text, [text, text], {text: [text]}, [[], text, {}, "a", text]):
        data = json.dumps(value).encode()
        assert json.loads(data) == value
        assert not refused(data)


@pytest.mark.parametrize("text", ["]" * 1000, '"]', '\\"]', "\\\\", '\\"', "]", '"', "\\", "[]", "a]"])
def test_brackets_within_text_hide_no_others(text: str) -> None:
    word = json.dumps(text).encode()
    for opening in (b"[" + word + b",", b"{" + word + b":", b"[[" + word + b",{}," + word + b"],"):
        assert refused(opening * 100), opening


def test_the_error_is_of_the_class_that_was_asked_for() -> None:
    with pytest.raises(DataError, match="doc: nesting deeper than 128"):
        nesting.check(b"[" * 1000, what="doc", error=DataError)
    with pytest.raises(EncodingError, match="doc: nesting deeper than 8"):
        nesting.check(b"[" * 1000, what="doc", most=MOST)
    nesting.check(deep(nesting.MAX_FOREIGN_DEPTH), what="doc")


texts = st.text(st.sampled_from('[]{}"\\a,:é'), max_size=12)
values = st.recursive(
    texts | st.integers(0, 9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=40,
)


pieces = st.integers(1, 9) | st.just(nesting._PIECE_BYTES)


@given(values, st.integers(0, 20), st.sampled_from([None, 1]), pieces)
def test_a_document_is_refused_for_its_depth_alone(
    value: object, around: int, indent: int | None, piece: int
) -> None:
    """Wherever the pieces end that it is looked at in."""
    for _ in range(around):
        value = [value]
    depth = parsed_depth(value)
    data = json.dumps(value, ensure_ascii=False, indent=indent).encode()
    with mock.patch.object(nesting, "_PIECE_BYTES", piece):
        judged_by_depth(data, depth)


def judged_by_depth(data: bytes, depth: int) -> None:
    if depth <= MOST:
        assert depth <= nesting.check(data, what="doc", most=MOST) <= MOST + SLACK + 1
    elif depth > MOST + SLACK + 1:
        assert refused(data)


@pytest.mark.parametrize("piece", range(1, 10))
@pytest.mark.parametrize("text", ['"[', '\\"[', "\\[", '\\\\"[', 'a"]'])
def test_an_escape_may_lie_across_two_pieces(text: str, piece: int) -> None:
    word = json.dumps(text).encode()
    with mock.patch.object(nesting, "_PIECE_BYTES", piece):
        assert not refused(b"[" + b",".join([word] * 40) + b"]")
        assert refused((b"[" + word + b",") * 40)


def test_what_follows_a_bracket_that_closes_nothing_is_left_to_the_parser() -> None:
    assert not refused(b"]" + b" " * nesting._PIECE_BYTES + deep(2 * MOST))
    assert refused(b"[]" + b" " * nesting._PIECE_BYTES + deep(2 * MOST))


@pytest.mark.parametrize("unit", [b'"[', b'"[{', b"[", b'\\"[', b"[" * 5 + b"]" * 5])
def test_the_room_it_takes_does_not_grow_with_the_document(unit: bytes) -> None:
    data = b"[" + unit * (32 * nesting._PIECE_BYTES // len(unit))
    nesting.check(b"[" * 100, what="doc")
    tracemalloc.start()
    try:
        refused(data)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 64 * nesting._PIECE_BYTES


@pytest.mark.parametrize("spelled", ["shift_jis", "ascii"])
def test_arguments_are_read_alike_at_every_terminal(monkeypatch: pytest.MonkeyPatch, spelled: str) -> None:
    """In Shift JIS this letter ends with the byte of a backslash."""
    monkeypatch.setattr("os.fsencode", lambda text: text.encode(spelled))
    text = '{"表":"' + "[" * 200 + '","b":"\ud800"}'
    assert attesting_data.read_arguments(text) == {"表": "[" * 200, "b": "\ud800"}


READERS = """
import json, sys
from pathlib import Path
sys.setrecursionlimit(200_000)
from palm_torch import encoding, errors
from palm_torch.cvm import collected_gpu, jose, pcs, signed_json
from palm_torch.commands import attesting_data
from palm_torch.commit import safetensors_file
from palm_torch.data.formats import index_file, jsonl, mds_encodings
from palm_torch.policies import strict_yaml

DEEP = b"[" * 1_000_000
folder = Path(sys.argv[1])
(folder / "a.safetensors").write_bytes((5 + len(DEEP)).to_bytes(8, "little") + b'{"a":' + DEEP)
readers = [
    lambda: encoding.decode_json(DEEP, what="doc", max_bytes=10**7),
    lambda: encoding.decode_json(b'["[\\\\"]",' * 100_000, what="doc", max_bytes=10**7),
    lambda: signed_json.read(DEEP, "doc", "TDX", (3,)),
    lambda: jose.read_value(DEEP, what="doc", max_bytes=10**7),
    lambda: collected_gpu.read_json(DEEP, what="doc"),
    lambda: pcs.cut(b'{"a":' + DEEP[:60_000], "a"),
    lambda: attesting_data.read_arguments(DEEP.decode()),
    lambda: safetensors_file.read_header(folder / "a.safetensors"),
    lambda: index_file.parse("doc", DEEP),
    lambda: jsonl.reading()(DEEP),
    lambda: mds_encodings.named("json").decode(DEEP, 0, len(DEEP)),
    lambda: strict_yaml.parse(DEEP, what="doc", max_bytes=10**7, error=errors.PolicyError),
]
for read in readers:
    try:
        read()
    except errors.PalmTorchError as error:
        print(error)
"""


@pytest.mark.slow
def test_no_reader_follows_a_million_brackets_of_a_program_that_raised_its_limit(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", READERS, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = done.stdout.splitlines()
    assert len(said) == READERS.count("    lambda: ")
    assert all("nesting deeper than" in line for line in said), said
