"""Frozen dataclasses to JSON values and back, strictly: the dataclass is the schema.

Statements, bundles, manifests, requests and policies are all dataclasses; this is the one place that
reads and writes them. Unknown keys, missing keys and wrong types are errors that name the path to the
field. Dataclasses validate their own values in ``__post_init__`` by raising `PalmTorchError`s.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import operator
import types
import typing
from typing import Any, Final, TypeVar, Union, get_args, get_origin

from palm_torch import files
from palm_torch.digest import Digest
from palm_torch.encoding import Json, decode_base64, decode_json, encode_base64
from palm_torch.errors import EncodingError, InputError, PalmTorchError

if typing.TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

T = TypeVar("T")

_NONE: Final = type(None)
_PLAIN: Final[dict[type[Any], Callable[[Any], Json]]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
}
"""What makes values of derived classes values of these, whatever their own conversions say."""
_KEY_CHARACTERS: Final = 80
"""Most characters of a key that a message repeats."""


def to_json(value: object) -> Json:
    """Turns a dataclass (or any value that may be one of its fields) into a JSON value.

    Bytes become base64, digests ``algorithm:hex``, tuples lists, enums their value. Fields whose value
    equals a declared default are written all the same: one value has one spelling.

    Raises:
        EncodingError: If the value has a type that the codec does not know.
    """
    return _WRITERS[type(value)](value)


class _Writers(dict[type[Any], "Callable[[Any], Json]"]):
    """What makes JSON of the values of a class; found out once for each class."""

    def __missing__(self, kind: type[Any]) -> Callable[[Any], Json]:
        """Finds it out."""
        writer = self[kind] = _writer(kind)
        return writer


_WRITERS: Final = _Writers()


def _writer(kind: type[Any]) -> Callable[[Any], Json]:
    if issubclass(kind, enum.Enum):
        words = all(type(member.value) is str for member in kind)
        return operator.attrgetter("_value_") if words else lambda value: to_json(value.value)
    if kind in (str, int, bool, float, _NONE):
        return lambda value: value
    for plain, converted in _PLAIN.items():
        if issubclass(kind, plain):
            return converted
    if issubclass(kind, Digest):
        return str
    if issubclass(kind, bytes):
        return encode_base64
    if issubclass(kind, (tuple, list)):
        return lambda value: [_WRITERS[type(item)](item) for item in value]
    if issubclass(kind, dict):
        return _object
    if not dataclasses.is_dataclass(kind):
        raise EncodingError(f"no JSON form for {kind.__name__}")
    names = tuple(field.name for field in dataclasses.fields(kind))
    return lambda value: {name: _WRITERS[type(item := getattr(value, name))](item) for name in names}


def parse(data: bytes, *, what: str, max_bytes: int, error: type[PalmTorchError]) -> Json:
    """Returns the JSON value of a document, as `encoding.decode_json` does.

    Args:
        data: The document's bytes.
        what: Name of the document, for messages.
        max_bytes: Longest document to look at.
        error: Class of the error to raise.

    Raises:
        PalmTorchError: Of class `error`, if the bytes are not canonical JSON.
    """
    try:
        return decode_json(data, what=what, max_bytes=max_bytes)
    except EncodingError as fault:
        raise error(str(fault)) from fault


def from_bytes(kind: type[T], data: bytes, *, what: str, max_bytes: int, error: type[InputError]) -> T:
    """Builds a dataclass from the bytes of a document: `parse`, then `from_json`.

    Raises:
        InputError: Of class `error`, if they are not exactly the canonical JSON of such a dataclass.
    """
    value = parse(data, what=what, max_bytes=max_bytes, error=error)
    return from_json(kind, value, what=what, error=error)


def from_file(kind: type[T], path: Path, *, what: str, max_bytes: int, error: type[InputError]) -> T:
    """Builds a dataclass from a file: its bytes, then `from_bytes`.

    Args:
        kind: The dataclass to build.
        path: The file, whose name stands in messages about what it says.
        what: What it is, for messages about reading it.
        max_bytes: Longest file to look at.
        error: Class of the error to raise.

    Raises:
        InputError: Of class `error`, if it cannot be read, or is anything else.
    """
    data = files.read_bounded(path, what=what, max_bytes=max_bytes, error=error)
    return from_bytes(kind, data, what=str(path), max_bytes=max_bytes, error=error)


def from_json(kind: type[T], value: Json, *, what: str, error: type[InputError], defaults: bool = False) -> T:
    """Builds a dataclass from a JSON value, accepting exactly what `to_json` writes.

    Args:
        kind: The dataclass to build.
        value: The JSON value.
        what: Name of the document, the first part of every path in a message.
        error: Class of the error to raise.
        defaults: Whether keys of fields with a default may be left out (policies, requests), or
            every key must be there (evidence).

    Raises:
        InputError: Of class `error`, naming the path, what was expected and what was found.
    """
    built: T = _Reader(error, allow_defaults=defaults).read(kind, value, what)
    return built


@dataclasses.dataclass(frozen=True, slots=True)
class _Reader:
    error: type[InputError]
    allow_defaults: bool

    def read(self, hint: Any, value: Json, path: str) -> Any:  # noqa: ANN401 (the hint decides the type)
        """Reads one value of the type that `hint` says."""
        if hint in (str, int, bool, float):  # most values by far are text and digests
            return self._scalar(hint, value, path)
        if hint is Digest:
            return self._text(Digest.parse, value, path)
        if hint is Any:
            return value
        origin = get_origin(hint)
        if origin in (Union, types.UnionType):
            return self._union(hint, value, path)
        if origin is tuple:
            return self._tuple(hint, value, path)
        if origin is dict:
            return self._dict(hint, value, path)
        if origin is typing.Literal:
            return self._one_of(get_args(hint), value, path)
        if hint is bytes:
            return self._text(decode_base64, value, path)
        if isinstance(hint, type) and issubclass(hint, enum.Enum):
            return hint(self._one_of(tuple(member.value for member in hint), value, path))
        if dataclasses.is_dataclass(hint):
            return self._dataclass(hint, value, path)
        raise TypeError(f"{path}: the codec does not know {hint!r}")

    def _union(self, hint: Any, value: Json, path: str) -> Any:  # noqa: ANN401
        members = [member for member in get_args(hint) if member is not _NONE]
        if value is None and _NONE in get_args(hint):
            return None
        if len(members) == 1:
            return self.read(members[0], value, path)
        if all(map(dataclasses.is_dataclass, members)):
            told = (member for member in members if _tells(member, value))
            return self._dataclass(next(told, members[-1]), value, path)
        for member in members:  # scalars
            if _is_scalar(member, value):
                return self._scalar(member, value, path)
        raise self._wrong(path, " or ".join(member.__name__ for member in members), value)

    def _tuple(self, hint: Any, value: Json, path: str) -> tuple[Any, ...]:  # noqa: ANN401
        if not isinstance(value, list):
            raise self._wrong(path, "a list", value)
        (item_hint, ellipsis) = get_args(hint)
        if ellipsis is not Ellipsis:
            raise TypeError(f"{path}: only homogeneous tuples are supported")
        return tuple(self.read(item_hint, item, f"{path}[{index}]") for index, item in enumerate(value))

    def _dict(self, hint: Any, value: Json, path: str) -> dict[str, Any]:  # noqa: ANN401
        if not isinstance(value, dict):
            raise self._wrong(path, "an object", value)
        _, item_hint = get_args(hint)
        for key in value:
            if not isinstance(key, str):
                raise self._wrong(path, "text keys", key)
        return {
            key: self.read(item_hint, item, f"{path}.{key[:_KEY_CHARACTERS]}") for key, item in value.items()
        }

    def _dataclass(self, kind: Any, value: Json, path: str) -> Any:  # noqa: ANN401
        if not isinstance(value, dict):
            raise self._wrong(path, "an object", value)
        fields = _fields(kind)
        if not value.keys() <= fields.keys():
            unknown = sorted(str(key) for key in value.keys() - fields.keys())
            known = ", ".join(sorted(fields))
            raise self.error(f"{path}: unknown key {_short(unknown[0])}; known are {known}")
        given: dict[str, Any] = {}
        for name, (hint, required) in fields.items():
            if name in value:
                given[name] = self.read(hint, value[name], f"{path}.{name}")
            elif required or not self.allow_defaults:
                raise self.error(f"{path}: missing key {name!r}")
        try:
            return kind(**given)
        except PalmTorchError as error:
            raise self.error(_under(path, str(error), fields)) from error

    def _scalar(self, hint: type, value: Json, path: str) -> Any:  # noqa: ANN401
        if not _is_scalar(hint, value):
            raise self._wrong(path, hint.__name__, value)
        return value

    def _text(self, parse: Any, value: Json, path: str) -> Any:  # noqa: ANN401
        if not isinstance(value, str):
            raise self._wrong(path, "text", value)
        try:
            return parse(value, what=path)
        except EncodingError as error:
            raise self.error(str(error)) from error

    def _one_of(self, allowed: tuple[Any, ...], value: Json, path: str) -> Any:  # noqa: ANN401
        for item in allowed:
            if type(item) is type(value) and item == value:
                return item
        raise self._wrong(path, "one of " + ", ".join(repr(item) for item in allowed), value)

    def _wrong(self, path: str, expected: str, value: object) -> InputError:
        return self.error(f"{path}: expected {expected}, got {_short(value)}")


def _tells(kind: Any, value: Json) -> bool:  # noqa: ANN401 (a dataclass)
    """Whether an object says of itself, in fields that take only some words, that it is of this kind."""
    words = {
        name: get_args(hint)
        for name, (hint, _) in _fields(kind).items()
        if get_origin(hint) is typing.Literal
    }
    return isinstance(value, dict) and bool(words) and all(value.get(name) in words[name] for name in words)


def _object(value: dict[Any, Any]) -> Json:
    made = {_key(key): _WRITERS[type(item)](item) for key, item in value.items()}
    if len(made) != len(value):  # of derived classes, whose keys may be unlike and have one text
        raise EncodingError("JSON keys: expected each once")
    return made


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise EncodingError(f"JSON keys are text, got {type(key).__name__}")
    return key if type(key) is str else str.__str__(key)


def _is_scalar(hint: type, value: Json) -> bool:
    if hint is float:  # 1.0 is spelled 1 in canonical JSON
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is hint


@functools.cache
def _fields(kind: type) -> dict[str, tuple[Any, bool]]:
    hints = typing.get_type_hints(kind)
    return {
        field.name: (
            hints[field.name],
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING,
        )
        for field in dataclasses.fields(kind)
    }


def _under(path: str, message: str, fields: Iterable[str]) -> str:
    """Returns a message of a dataclass about itself under its path: ``path.field: …`` if it names one."""
    named = any(message.startswith((f"{field}:", f"{field}[", f"{field}.")) for field in fields)
    return f"{path}.{message}" if named else f"{path}: {message}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004 (a message stays on one line)
