"""The function that a preprocess or distribute session applies: which it is, and what it was called with.

What decides what a function does must stand in the evidence: its code and that of what wraps it, and its
arguments, those that it gets by default too. What else a function can carry (variables of a function around
it, an object that it belongs to) is refused.
"""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any, Final

from palm_torch.attesting.bound_function import BoundFunction, most_items, unwrapped, with_defaults
from palm_torch.encoding import encode_json
from palm_torch.errors import CoverageError, MeasurementError, prefixed
from palm_torch.hooks import functions
from palm_torch.roles import FUNCTION, Artifact, Source, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_ARGUMENTS_BYTES: Final = 1 << 20


class AppliedFunction:
    """One function, named once."""

    def __init__(self) -> None:
        self._bound: BoundFunction | None = None
        self._identity: functions.FunctionIdentity | None = None
        self._layers: list[functions.Layer] = []
        self._arguments = b""

    def take(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> BoundFunction:
        """Names the function and returns it with its arguments bound, as it has to be called.

        Raises:
            MeasurementError: If one was named before, nothing says which code it is or what it carries, it
                does not take the arguments, or they are more than evidence has room for.
            EncodingError: If an argument is no JSON value, one that it gets by default included.
        """
        if self._bound is not None:
            raise MeasurementError("run.function: a session applies one function, and it was named before")
        if not callable(function):
            raise MeasurementError(f"run.function: expected a function, got {type(function).__name__}")
        function, arguments = unwrapped(function, arguments)
        identity, layers = functions.function_identity(function), functions.layers(function)
        _require_plain(function, identity, layers)
        given = with_defaults(function, layers, arguments)
        for name, value in given.items():
            with prefixed(f"run.function({identity.name}): argument {name!r}"):
                encode_json(value)
        encoded = encode_json(given)
        if len(encoded) > MAX_ARGUMENTS_BYTES:
            raise MeasurementError(
                f"run.function: expected at most {MAX_ARGUMENTS_BYTES} bytes of arguments, got "
                f"{len(encoded)}; give what is large as a file: run.input(vocabulary=path)"
            )
        bound = json.loads(encoded)  # a copy: what the script changes later was not said
        most = most_items(function, bound)
        self._identity, self._layers, self._arguments = identity, layers, encoded
        self._bound = BoundFunction(function, bound, most=most)
        return self._bound

    def claim(self) -> tuple[Artifact, Value]:
        """Returns function and arguments as evidence says them.

        Raises:
            CoverageError: If none was named, or it was not called.
            MeasurementError: If its code is another than when it was named, or an argument was changed.
        """
        if self._bound is None or self._identity is None:
            raise CoverageError(
                "no function was named, so nothing says what was applied to the data: call "
                "run.function(function, **arguments) first, and use what it returns"
            )
        name = self._identity.name
        now = functions.function_identity(self._bound.function)
        if now != self._identity or not _same(self._layers, functions.layers(self._bound.function)):
            raise MeasurementError(
                f"run.function({name}): its code was replaced inside the block: expected "
                f"{self._identity.digest}, got {now.digest} or another code object"
            )
        _require_plain(self._bound.function, now, functions.layers(self._bound.function))
        if encode_json(self._bound.arguments) != self._arguments:
            raise MeasurementError(
                f"run.function({name}): its arguments were changed inside the block: it must leave alone "
                "what it is given"
            )
        if not self._bound.was_called:
            raise CoverageError(
                f"run.function({name}): it was named and never called: call what run.function returned, "
                "here or in forked workers of a loader"
            )
        return (
            Artifact(source=Source.MEASURED, kind=FUNCTION, digest=self._identity.digest),
            Value(source=Source.MEASURED, value=json.loads(self._arguments)),
        )


def _require_plain(
    function: Callable[..., Any], identity: functions.FunctionIdentity, layers: list[functions.Layer]
) -> None:
    """Checks that a function is its code and its arguments, and nothing besides.

    Raises:
        MeasurementError: Saying what it carries.
    """
    what = f"run.function({identity.name})"
    if inspect.ismethod(function) and not isinstance(function.__self__, type):
        raise MeasurementError(
            f"{what}: expected a function, got a method of a {type(function.__self__).__name__}, whose state "
            "nothing would identify: pass a function that makes the object of its arguments"
        )
    for number, layer in enumerate(layers):
        if layer.code is None or not inspect.isfunction(layer.item):
            raise MeasurementError(
                f"{what}: expected a function written in Python, got {layer.name}, whose code or state "
                "nothing would identify: pass a function that calls it"
            )
        inner = layers[number + 1].item if number + 1 < len(layers) else None
        for variable, cell in zip(layer.code.co_freevars, layer.item.__closure__ or (), strict=False):
            if inner is None or _content(cell) is not inner:
                raise MeasurementError(
                    f"{what}: {layer.name} uses {variable!r} of the function around it, which nothing would "
                    "identify: define it at the top of a module, and pass that as an argument"
                )
        if layer.file.digest is None:
            raise MeasurementError(
                f"{what}: its module {layer.file.module!r} has no digest ({layer.file.reason}): define the "
                "function in a file"
            )


def _content(cell: Any) -> object:  # noqa: ANN401 (a cell of a closure)
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _same(before: list[functions.Layer], now: list[functions.Layer]) -> bool:
    """Returns whether the very same functions have the very same code objects."""
    return [(id(one.item), id(one.code)) for one in before] == [(id(one.item), id(one.code)) for one in now]
