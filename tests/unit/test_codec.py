"""Dataclasses to JSON and back: one good value, and every way to be wrong."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, Literal

import pytest

from palm_torch import codec, encoding
from palm_torch.digest import Digest, sha256_digest
from palm_torch.errors import EncodingError, EvidenceError, PolicyError


class Phase(enum.Enum):
    BEGIN = "begin"
    END = "end"


class Mixed(enum.Enum):
    ONE = (1, 2)
    TWO = "two"


class Loud(str):
    __slots__ = ()

    def __str__(self) -> str:
        return self.upper()


class Odd(float):
    def __float__(self) -> float:
        return 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    name: str
    size_bytes: int = 1

    def __post_init__(self) -> None:
        if self.size_bytes < 0:
            raise EncodingError(f"size_bytes: expected 0 or more, got {self.size_bytes}")
        if self.name == "refused":
            raise EvidenceError("name: refused by the part itself")


@dataclasses.dataclass(frozen=True, slots=True)
class Whole:
    text: str
    count: int
    share: float
    flag: bool
    raw: bytes
    digest: Digest
    phase: Phase
    kind: Literal["a", 1]
    parts: tuple[Part, ...]
    by_name: dict[str, Part]
    values: dict[str, Any]
    scalar: str | int | bool | None
    maybe: Part | None = None
    names: tuple[str, ...] = dataclasses.field(default_factory=tuple)


WHOLE = Whole(
    text="t",
    count=3,
    share=0.5,
    flag=True,
    raw=b"\x00\xff",
    digest=sha256_digest(b""),
    phase=Phase.END,
    kind="a",
    parts=(Part("p"), Part("q", 2)),
    by_name={"x": Part("r")},
    values={"free": [1, None, {"deep": True}]},
    scalar=7,
)


def whole(**changes: Any) -> dict[str, Any]:
    value = codec.to_json(WHOLE)
    assert isinstance(value, dict)
    return {**value, **changes}


def read(value: Any, *, defaults: bool = False) -> Whole:
    return codec.from_json(Whole, value, what="doc", error=EvidenceError, defaults=defaults)


def test_there_and_back() -> None:
    assert read(codec.to_json(WHOLE)) == WHOLE


def test_there_and_back_through_bytes() -> None:
    data = encoding.encode_json(codec.to_json(WHOLE))
    assert read(encoding.decode_json(data, what="doc", max_bytes=10_000)) == WHOLE


def test_the_json_form_of_each_type() -> None:
    assert whole() == {
        "text": "t",
        "count": 3,
        "share": 0.5,
        "flag": True,
        "raw": "AP8=",
        "digest": str(WHOLE.digest),
        "phase": "end",
        "kind": "a",
        "parts": [{"name": "p", "size_bytes": 1}, {"name": "q", "size_bytes": 2}],
        "by_name": {"x": {"name": "r", "size_bytes": 1}},
        "values": {"free": [1, None, {"deep": True}]},
        "scalar": 7,
        "maybe": None,
        "names": [],
    }


@pytest.mark.parametrize("value", ["text", 5, True, None])
def test_a_union_of_scalars_takes_each_of_them(value: Any) -> None:
    assert read(whole(scalar=value)).scalar is value


def test_other_values_of_each_type() -> None:
    assert read(whole(share=1)).share == 1
    assert read(whole(kind=1)).kind == 1
    assert read(whole(maybe={"name": "m", "size_bytes": 0})).maybe == Part("m", 0)
    assert read(whole(names=["a", "b"])).names == ("a", "b")


@pytest.mark.parametrize("value", [object(), {1, 2}, Part, [object()], {"a": b"", "b": 1j}])
def test_what_has_no_json_form_is_refused(value: object) -> None:
    with pytest.raises(EncodingError, match="no JSON form for"):
        codec.to_json(value)


# name: (the changed field, where the message points, what it expected)
WRONG = {
    "text": ({"text": 1}, "doc.text", "str, got 1"),
    "integer from a truth value": ({"count": True}, "doc.count", "int, got True"),
    "integer from a double": ({"count": 1.5}, "doc.count", "int, got 1.5"),
    "integer from text": ({"count": "1"}, "doc.count", "int, got '1'"),
    "double from a truth value": ({"share": True}, "doc.share", "float, got True"),
    "double from text": ({"share": "1"}, "doc.share", "float, got '1'"),
    "truth value from an integer": ({"flag": 1}, "doc.flag", "bool, got 1"),
    "null": ({"text": None}, "doc.text", "str, got None"),
    "bytes from a number": ({"raw": 1}, "doc.raw", "text, got 1"),
    "bytes that are not base64": ({"raw": "AB=="}, "doc.raw", ""),
    "digest from a list": ({"digest": []}, "doc.digest", "text, got []"),
    "digest without algorithm": ({"digest": "00"}, "doc.digest", "'algorithm:hex'"),
    "enum": ({"phase": "middle"}, "doc.phase", "one of 'begin', 'end', got 'middle'"),
    "literal": ({"kind": "b"}, "doc.kind", "one of 'a', 1, got 'b'"),
    "literal of an equal truth value": ({"kind": True}, "doc.kind", "one of 'a', 1, got True"),
    "literal of an equal double": ({"kind": 1.0}, "doc.kind", "one of 'a', 1, got 1.0"),
    "list": ({"parts": {}}, "doc.parts", "a list, got {}"),
    "an item of a list": ({"names": ["a", 1]}, "doc.names[1]", "str, got 1"),
    "object": ({"by_name": []}, "doc.by_name", "an object, got []"),
    "key that is not text": ({"by_name": {1: {}}}, "doc.by_name", "text keys, got 1"),
    "a value of an object": ({"by_name": {"x": 1}}, "doc.by_name.x", "an object, got 1"),
    "union": ({"scalar": 1.5}, "doc.scalar", "str or int or bool, got 1.5"),
    "optional": ({"maybe": 1}, "doc.maybe", "an object, got 1"),
    "dataclass in a list": ({"parts": [[]]}, "doc.parts[0]", "an object, got []"),
    "long value": ({"count": "x" * 1_000}, "doc.count", "xxx..."),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_type_is_named_with_its_path(name: str) -> None:
    change, path, expected = WRONG[name]
    with pytest.raises(EvidenceError) as caught:
        read(whole(**change))
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert expected in message
    assert len(message) < 200


def test_every_field_is_wronged_at_least_once() -> None:
    assert {field.name for field in dataclasses.fields(Whole)} - {"values"} == {
        field for change, _, _ in WRONG.values() for field in change
    }


@pytest.mark.parametrize("key", [1, None, True, b"a", ("a",)])
def test_a_key_that_is_not_text_has_no_json_form(key: Any) -> None:
    with pytest.raises(EncodingError, match=f"^JSON keys are text, got {type(key).__name__}$"):
        codec.to_json({"a": {key: 1}})


def test_an_unknown_key_is_refused_and_the_known_ones_are_listed() -> None:
    with pytest.raises(EvidenceError, match=r"doc\.maybe: unknown key 'nam'; known are name, size_bytes"):
        read(whole(maybe={"nam": "m", "name": "m", "size_bytes": 1}), defaults=True)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Whole)])
def test_evidence_must_carry_every_key(field: str) -> None:
    value = whole()
    del value[field]
    with pytest.raises(EvidenceError, match=f"^doc: missing key '{field}'$"):
        read(value)


def test_a_key_with_a_default_may_be_left_out_where_that_is_allowed() -> None:
    value = whole(parts=[{"name": "p"}])
    del value["maybe"], value["names"]
    assert read(value, defaults=True) == dataclasses.replace(WHOLE, parts=(Part("p"),))
    del value["text"]
    with pytest.raises(EvidenceError, match=r"^doc: missing key 'text'$"):
        read(value, defaults=True)


def test_what_a_dataclass_refuses_is_raised_as_the_error_asked_for() -> None:
    with pytest.raises(
        EvidenceError, match=r"^doc\.maybe\.size_bytes: expected 0 or more, got -1$"
    ) as caught:
        read(whole(maybe={"name": "m", "size_bytes": -1}))
    assert isinstance(caught.value.__cause__, EncodingError)


def test_an_error_of_the_class_asked_for_names_the_path_too() -> None:
    with pytest.raises(EvidenceError, match=r"^doc\.maybe\.name: refused by the part itself$"):
        read(whole(maybe={"name": "refused", "size_bytes": 1}))


def test_the_caller_picks_the_class_of_error() -> None:
    with pytest.raises(PolicyError, match=r"^policy: expected an object, got \[\]$"):
        codec.from_json(Part, [], what="policy", error=PolicyError)


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    pair: tuple[int, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Foreign:
    when: complex


@pytest.mark.parametrize(("kind", "value"), [(Pair, {"pair": [1, "a"]}), (Foreign, {"when": 1})])
def test_a_type_the_codec_does_not_know_is_the_programmers_mistake(kind: type[Any], value: Any) -> None:
    with pytest.raises(TypeError):
        codec.from_json(kind, value, what="doc", error=EvidenceError)


def test_keys_of_others_do_not_fill_a_message() -> None:
    long = "k" * 10_000
    with pytest.raises(EvidenceError) as unknown:
        read(whole(**{long: 1}))
    with pytest.raises(EvidenceError, match=r"doc\.by_name\.kkk") as wrong:
        read(whole(by_name={long: {"name": 1, "size_bytes": 1}}))
    assert max(len(str(unknown.value)), len(str(wrong.value))) < 300


# the codec at its bounds: what must be there by default, and how much of a value a message shows


@dataclasses.dataclass(frozen=True, slots=True)
class Sized:
    name: str
    size_bytes: int = 1


def refusal(kind: type[Any], value: Any, raised: type[Exception] = EvidenceError) -> str:
    with pytest.raises(raised) as caught:
        codec.from_json(kind, value, what="doc", error=EvidenceError)
    return str(caught.value)


def test_unless_it_is_said_every_key_must_be_there() -> None:
    assert refusal(Sized, {"name": "p"}) == "doc: missing key 'size_bytes'"


def test_a_value_of_sixty_characters_is_shown_whole_and_a_longer_one_cut() -> None:
    assert refusal(Sized, "x" * 58) == f"doc: expected an object, got {'x' * 58!r}"
    assert refusal(Sized, "x" * 59) == f"doc: expected an object, got '{'x' * 56}..."


def test_what_has_no_json_form_is_named() -> None:
    with pytest.raises(EncodingError, match=r"^no JSON form for complex$"):
        codec.to_json([1j])


def test_a_mistake_of_the_programmer_is_named_with_its_path() -> None:
    assert refusal(Foreign, {"when": 1}, TypeError) == "doc.when: the codec does not know <class 'complex'>"
    assert refusal(Pair, {"pair": [1, "a"]}, TypeError) == "doc.pair: only homogeneous tuples are supported"


@dataclasses.dataclass(frozen=True, slots=True)
class Picky:
    size: int

    def __post_init__(self) -> None:
        raise EncodingError(("size: too large", "sizes: none fits", "nothing fits")[self.size])


def test_what_a_dataclass_says_of_a_field_stands_under_its_path() -> None:
    assert refusal(Picky, {"size": 0}) == "doc.size: too large"
    assert refusal(Picky, {"size": 1}) == "doc: sizes: none fits"
    assert refusal(Picky, {"size": 2}) == "doc: nothing fits"


def test_values_of_derived_classes_are_what_they_hold() -> None:
    loud, odd = codec.to_json(Loud("quiet")), codec.to_json(Odd(1.5))
    assert (loud, type(loud), odd, type(odd)) == ("quiet", str, 1.5, float)
    assert codec.to_json([Mixed.ONE, Mixed.TWO, Phase.END]) == [[1, 2], "two", "end"]
    flag = codec.to_json(True)
    assert flag is True
