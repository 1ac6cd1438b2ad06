"""Which function it is and what it was called with: for the preprocess and distribute sessions to come.

The identity of a function is the files that define it, as they were imported, and the arguments it gets:
bound by `functools.partial` or given in the call, under the names of its parameters where it has any.
"""

from __future__ import annotations

import enum
import functools
import inspect
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from palm_torch import codec
from palm_torch.digest import Digest, tagged_digest
from palm_torch.encoding import encode_json
from palm_torch.errors import EncodingError, MeasurementError
from palm_torch.hooks import source
from palm_torch.statement import SourceFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from palm_torch.encoding import Json

TAG: Final = "palm-torch/function/v1"
ARGUMENTS_TAG: Final = "palm-torch/arguments/v1"

MAX_DEPTH: Final = 8
"""Containers within containers that an argument may have."""

_NAMED_BY_TORCH: Final = ("device", "dtype", "layout", "memory_format")


@dataclass(frozen=True, slots=True)
class FunctionIdentity:
    """Which function it is.

    Attributes:
        name: ``module.qualified_name`` of the innermost function.
        files: Files that define it and what wraps it, outermost first.
        arguments: Digest of what is bound to it and what it is called with.
    """

    name: str
    files: tuple[SourceFile, ...]
    arguments: Digest

    @property
    def digest(self) -> Digest:
        """The identity as one digest."""
        files = encode_json(codec.to_json(self.files))
        return tagged_digest(TAG, self.name.encode("utf-8"), files, self.arguments.value)


def function_identity(function: Callable[..., object], *args: object, **kwargs: object) -> FunctionIdentity:
    """Returns the identity of a function, method, callable object, partial or decorated function.

    The state of an object that a method belongs to is no argument and not part of the identity.

    Args:
        function: The function.
        *args: Arguments it is called with.
        **kwargs: Further ones by name.

    Raises:
        MeasurementError: Naming the argument that has no canonical form (a tensor, an open file, a NaN), or
            that the function does not take.
    """
    modules: list[str] = []
    bound = function
    while True:
        if isinstance(function, functools.partial):
            args, kwargs = (*function.args, *args), {**function.keywords, **kwargs}
            function = bound = function.func
        elif inspect.ismethod(function):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            modules.append(_module_of(function))
            function = function.__wrapped__
        else:
            break
    subject = function if hasattr(function, "__qualname__") else type(function)
    modules.append(_module_of(subject))
    name = f"{modules[-1]}.{subject.__qualname__}"
    files = tuple(source.of_module(module) for module in dict.fromkeys(modules))
    return FunctionIdentity(name, files, _arguments(name, bound, args, kwargs))


def _arguments(
    name: str, function: Callable[..., object], args: tuple[object, ...], kwargs: Mapping[str, object]
) -> Digest:
    try:
        given = inspect.signature(function).bind_partial(*args, **kwargs)
        items: dict[str, object] = dict(given.arguments)
    except TypeError as error:
        raise MeasurementError(f"{name}: cannot be called like this: {error}") from error
    except ValueError:  # functions in C may have no signature
        items = {"args": args, "kwargs": dict(kwargs)}
    spelled: list[Json] = [
        [key, _canonical(f"{name}: argument {key!r}", value, 0)] for key, value in sorted(items.items())
    ]
    try:
        return tagged_digest(ARGUMENTS_TAG, encode_json(spelled))
    except EncodingError as error:
        raise MeasurementError(f"{name}: an argument has no canonical form: {error}") from error


def _canonical(where: str, value: Any, depth: int) -> Json:  # noqa: ANN401 (any argument)
    """Spells a value with its type, so that 1, 1.0, True and "1" differ."""
    if depth > MAX_DEPTH:
        raise MeasurementError(f"{where} is nested deeper than {MAX_DEPTH}")
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return [kind.__name__, value]
    if kind is int:
        return ["int", hex(value)]
    if kind is float and math.isfinite(value):
        return ["float", value.hex()]
    if kind is bytes:
        return ["bytes", value.hex()]
    if kind in (list, tuple):
        return [
            kind.__name__,
            [_canonical(f"{where}[{at}]", item, depth + 1) for at, item in enumerate(value)],
        ]
    if kind is dict and all(type(key) is str for key in value):
        return ["dict", [[key, _canonical(f"{where}[{key!r}]", value[key], depth + 1)] for key in value]]
    if isinstance(value, enum.Enum):
        return ["enum", f"{kind.__module__}.{kind.__qualname__}.{value.name}"]
    if isinstance(value, type) or inspect.isroutine(value) or isinstance(value, functools.partial):
        identity = function_identity(value)
        return ["function", identity.name, str(identity.digest)]
    if kind.__module__ == "torch" and kind.__qualname__ in _NAMED_BY_TORCH:
        return [kind.__qualname__, str(value)]
    raise MeasurementError(
        f"{where} has no canonical form: expected numbers, text, bytes, None, functions and lists, tuples or "
        f"dicts of them, got {kind.__module__}.{kind.__qualname__}"
    )


def _module_of(item: object) -> str:
    name = getattr(item, "__module__", None)
    return name if isinstance(name, str) else type(item).__module__
