"""YAML that means what it looks like; what else a document cannot have is tried with policies."""

from __future__ import annotations

from typing import Any

import pytest

from palm_torch.errors import DataError, PolicyError, RequestError
from palm_torch.policies import strict_yaml


def parse(text: str | bytes, **options: Any) -> Any:
    data = text.encode() if isinstance(text, str) else text
    return strict_yaml.parse(data, **({"what": "doc", "max_bytes": 1000, "error": PolicyError} | options))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1", {"a": 1}),
        ("a: [1.5, -2, 1e-3, 2E+20]", {"a": [1.5, -2, 0.001, 2e20]}),
        ("a: {b: true, c: null, d: text, e: '1'}", {"a": {"b": True, "c": None, "d": "text", "e": "1"}}),
        ("a: 2026-11-21T12:00:00Z", {"a": "2026-11-21T12:00:00Z"}),
        ("a: 2026-11-21", {"a": "2026-11-21"}),
        ("a: |\n  one\n  two\n", {"a": "one\ntwo\n"}),
        ("# nothing", None),
    ],
)
def test_what_is_read(text: str, value: Any) -> None:
    found = parse(text)
    assert found == value
    assert repr(found) == repr(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 010", "line 1: expected a decimal number, got '010'"),
        ("b: 2\na: 1:30", "line 2: expected a decimal number, got '1:30'"),
        ("a: 0x10", "line 1: expected a decimal number, got '0x10'"),
        ("a: 1_000", "line 1: expected a decimal number, got '1_000'"),
        ("a: .inf", "line 1: expected a decimal number, got '.inf'"),
        ("a: +1", r"line 1: expected a decimal number, got '\+1'"),
        ("a: 1\nb: 2\na: 3", "line 3: 'a' appears twice"),
        ("a: &x 1\nb: *x", "line 2: YAML aliases are not read; write the value out"),
        ("a: !!int 1", "line 1: YAML tags are not read; write the value plainly"),
        ("1: a", "line 1: keys are text, got 1"),
        ("a: [", "not a YAML document: line 1, column 5: while parsing a flow node, expected [^\\n]*$"),
        ("a: 1\nb: 'c", "not a YAML document: line 2, column 6: while scanning a quoted scalar, [^\\n]*$"),
        ("a: \x00", "not a YAML document: unacceptable character #x0000: [^\\n]* position 3$"),
        (b"\xff", "not a YAML document: "),
        (b"a" * 1001, "expected at most 1000 bytes, got 1001"),
    ],
)
@pytest.mark.parametrize("error", [PolicyError, RequestError, DataError])
def test_what_is_refused_and_as_which_error(text: Any, message: str, error: Any) -> None:
    with pytest.raises(error, match=f"^doc: {message}") as caught:
        parse(text, error=error)
    assert type(caught.value) is error


def test_a_document_of_the_greatest_size() -> None:
    assert parse("a: " + "b" * 997) == {"a": "b" * 997}


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("plain", '"plain"'),
        ('say "a\\b"', r'"say \x22a\x5cb\x22"'),
        ("\x00\t\n\x7f\xe9", r'"\x00\x09\x0a\x7f\xe9"'),
        ("\u0100\u2028\uffff", r'"\u0100\u2028\uffff"'),
        ("\U00010000\U0010ffff", r'"\U00010000\U0010ffff"'),
        ("\xff~ ", r'"\xff~ "'),
    ],
)
def test_text_is_quoted_on_one_line_and_read_back(text: str, spelled: str) -> None:
    assert strict_yaml.quoted(text) == spelled
    assert parse(f"a: {spelled}") == {"a": text}
    assert parse(f"{spelled}: 1") == {text: 1}


# strict YAML at its bounds: lines that are counted right, limits that may be reached, text in quotes


def read(text: str, max_bytes: int = 1000) -> object:
    return strict_yaml.parse(text.encode(), what="rules", max_bytes=max_bytes, error=PolicyError)


def refusal(text: str, max_bytes: int = 1000) -> str:
    with pytest.raises(PolicyError) as caught:
        read(text, max_bytes)
    return str(caught.value)


def test_a_document_may_reach_its_limit() -> None:
    assert read("a: 1", 4) == {"a": 1}
    assert refusal("a: 12", 4) == "rules: expected at most 4 bytes, got 5"


def test_the_line_of_a_fault_is_counted_from_one() -> None:
    assert refusal("a: 010") == "rules: line 1: expected a decimal number, got '010'"
    assert refusal("b: 1\n\na:\n  - 1:30\n") == "rules: line 4: expected a decimal number, got '1:30'"
    assert refusal("b: &x 1\na: *x\n") == "rules: line 2: YAML aliases are not read; write the value out"
    assert refusal("\na: !!str 1\n") == "rules: line 2: YAML tags are not read; write the value plainly"
    assert refusal("b: 1\nb: 2\n") == "rules: line 2: 'b' appears twice"
    assert refusal("b: 1\n2: 2\n") == "rules: line 2: keys are text, got 2"


def test_a_key_that_is_a_list_is_shown_with_what_is_in_it() -> None:
    assert refusal("? [a, [b]]\n: 1\n") == "rules: line 1: keys are text, got ['a', ['b']]"


def test_forty_characters_of_a_number_are_shown() -> None:
    assert refusal("a: 0" + "1" * 40) == f"rules: line 1: expected a decimal number, got '0{'1' * 39}'"


def test_what_is_nested_is_read_whole() -> None:
    assert read("a: {b: [{c: [1, [2.5]]}]}") == {"a": {"b": [{"c": [1, [2.5]]}]}}
    assert read("- a: [x]\n- [{b: y}]\n") == [{"a": ["x"]}, [{"b": "y"}]]


def test_the_depth_limit_includes_its_bound_in_either_style() -> None:
    assert read("[" * 33 + "]" * 33) is not None
    assert refusal("[" * 34 + "]" * 34) == "rules: line 1: nesting deeper than 32"
    assert read("- " * 32 + "a") is not None
    assert refusal("- " * 33 + "a") == "rules: line 1: nesting deeper than 32"
    assert refusal("a:\n" + "".join(" " * n + "b:\n" for n in range(1, 40))).endswith("deeper than 32")
    assert read("- [a]\n" * 40) == [["a"]] * 40, "what stands side by side is not deep"


def test_text_in_quotes_is_escaped_in_the_least_of_three_widths() -> None:
    for text, expected in (
        (" azAZ09~!#'", " azAZ09~!#'"),
        ('X"\\x', "X\\x22\\x5cx"),
        ("\x00\x1f\x7f\x80\xff", "\\x00\\x1f\\x7f\\x80\\xff"),
        ("\u0100\u202e\uffff", "\\u0100\\u202e\\uffff"),
        ("\U00010000\U0010ffff", "\\U00010000\\U0010ffff"),
    ):
        assert strict_yaml.quoted(text) == f'"{expected}"'
        assert read(f"a: {strict_yaml.quoted(text)}") == {"a": text}
