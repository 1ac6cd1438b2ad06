"""Which function it is and what it was called with: for preprocess and distribute sessions.

The identity of a function is its code, by module, name and line, the files that define it, as they were
imported, and the arguments it gets: bound by `functools.partial` or given in the call, under the names of its
parameters where it has any. What a function says of itself (``__module__``, ``__qualname__``) anybody can
copy, as `functools.wraps` does, and counts for nothing where there is code to ask.
"""

from __future__ import annotations

import enum
import functools
import inspect
import math
import sys
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, Final

from palm_torch import codec
from palm_torch.digest import Digest, tagged_digest
from palm_torch.encoding import encode_json
from palm_torch.errors import EncodingError, MeasurementError
from palm_torch.hooks import importing, source
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
        layers: The function and what wraps it, outermost first: ``module.qualified_name:line`` of the code of
            each, or ``module.qualified_name`` of what has no Python code.
        files: Files that define them, in the same order, each once.
        arguments: Digest of what is bound to it and what it is called with.
    """

    layers: tuple[str, ...]
    files: tuple[SourceFile, ...]
    arguments: Digest

    @property
    def name(self) -> str:
        """``module.qualified_name`` of the innermost function."""
        return self.layers[-1].partition(":")[0]

    @property
    def digest(self) -> Digest:
        """The identity as one digest."""
        layers, files = encode_json(list(self.layers)), encode_json(codec.to_json(self.files))
        return tagged_digest(TAG, layers, files, self.arguments.value)


@dataclass(frozen=True, slots=True)
class Layer:
    """One callable of those that a call goes through, as it is now.

    Attributes:
        item: The callable itself: a function, or the type of an object that is called.
        code: The code object that runs; None for what is no Python.
        name: As in `FunctionIdentity.layers`.
        file: The file that defines it.
    """

    item: object
    code: CodeType | None
    name: str
    file: SourceFile


def function_identity(
    function: Callable[..., object], /, *args: object, **kwargs: object
) -> FunctionIdentity:
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
    bound = function
    while isinstance(bound, functools.partial):
        args, kwargs = (*bound.args, *args), {**bound.keywords, **kwargs}
        bound = bound.func
    found = layers(bound)
    files = tuple(dict.fromkeys(layer.file for layer in found))
    name = found[-1].name.partition(":")[0]
    return FunctionIdentity(
        tuple(layer.name for layer in found), files, _arguments(name, bound, args, kwargs)
    )


def layers(function: Callable[..., object]) -> list[Layer]:
    """Returns what a call of a function goes through as far as Python tells, outermost first.

    Those are the function, and whatever it says that it wraps (``__wrapped__``): that it calls this, and
    nothing else, only its code shows. Partials are looked through.

    Raises:
        MeasurementError: If it wraps itself.
    """
    found: list[Layer] = []
    while True:
        if any(layer.item is function for layer in found):
            raise MeasurementError(f"{found[-1].name}: wraps itself")
        if isinstance(function, functools.partial):
            function = function.func
        elif inspect.ismethod(function):
            function = function.__func__
        else:
            found.append(_layer(function))
            inner = getattr(function, "__wrapped__", None)
            if inner is None:
                return found
            function = inner


def _layer(item: object) -> Layer:
    if isinstance(item, FunctionType):
        code, module = item.__code__, str(item.__globals__.get("__name__"))
        name = f"{module}.{code.co_qualname}:{code.co_firstlineno}"
        return Layer(item, code, name, _file_of(item, module))
    subject = item if hasattr(item, "__qualname__") else type(item)
    module = _module_of(subject)
    return Layer(item, None, f"{module}.{subject.__qualname__}", source.of_module(module))


def _file_of(function: FunctionType, module: str) -> SourceFile:
    """Returns the file of the module that a function runs in, if its code came from that file."""
    loaded = sys.modules.get(module)
    if loaded is None:
        return source.of_module(module)
    if getattr(loaded, "__dict__", None) is not function.__globals__:
        return SourceFile(module=module, digest=None, reason="runs in no module, or in one that was replaced")
    path = function.__globals__.get("__file__")
    told = function.__code__.co_filename
    if isinstance(path, str) and told != path and importing.resolved(told) != importing.resolved(path):
        return SourceFile(module=module, digest=None, reason="its code came from elsewhere than that file")
    return source.of_module(module)


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
