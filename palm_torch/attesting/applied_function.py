"""The function that a preprocess or distribute session applies: which it is, and what it was called with."""

from __future__ import annotations

import functools
import inspect
import json
from typing import TYPE_CHECKING, Any, Final

from palm_torch.encoding import encode_json
from palm_torch.errors import CoverageError, MeasurementError
from palm_torch.hooks import functions
from palm_torch.roles import FUNCTION, Artifact, Source, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_ARGUMENTS_BYTES: Final = 1 << 20


class AppliedFunction:
    """One function, named once."""

    def __init__(self) -> None:
        self._function: Callable[..., Any] | None = None
        self._identity: functions.FunctionIdentity | None = None
        self._code: object = None
        self._arguments: dict[str, Any] = {}

    def take(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Callable[..., Any]:
        """Names the function and returns it with its arguments bound, as it has to be called.

        Raises:
            MeasurementError: If one was named before, nothing says which code it is, it does not take the
                arguments, or they are more than evidence has room for.
            EncodingError: If an argument is no JSON value.
        """
        if self._function is not None:
            raise MeasurementError("run.function: a session applies one function, and it was named before")
        if not callable(function):
            raise MeasurementError(f"run.function: expected a function, got {type(function).__name__}")
        encoded = encode_json(dict(arguments))
        if len(encoded) > MAX_ARGUMENTS_BYTES:
            raise MeasurementError(
                f"run.function: expected at most {MAX_ARGUMENTS_BYTES} bytes of arguments, got "
                f"{len(encoded)}; give what is large as a file: run.input(vocabulary=path)"
            )
        bound: dict[str, Any] = json.loads(encoded)  # a copy: what the script changes later was not said
        functions.function_identity(function, **bound)  # refuses arguments that it does not take
        identity = functions.function_identity(function)
        for file in identity.files:
            if file.digest is None:
                raise MeasurementError(
                    f"run.function({identity.name}): its module {file.module!r} has no digest "
                    f"({file.reason}): define the function in a file"
                )
        self._function, self._identity = function, identity
        self._code, self._arguments = _code_of(function), json.loads(encoded)
        return functools.partial(function, **bound)

    def claim(self) -> tuple[Artifact, Value]:
        """Returns function and arguments as evidence says them.

        Raises:
            CoverageError: If none was named.
            MeasurementError: If its code is another than when it was named.
        """
        if self._function is None or self._identity is None:
            raise CoverageError(
                "no function was named, so nothing says what was applied to the data: call "
                "run.function(function, **arguments) first, and use what it returns"
            )
        now = functions.function_identity(self._function)
        if _code_of(self._function) is not self._code or now != self._identity:
            raise MeasurementError(
                f"run.function({self._identity.name}): its code was replaced inside the block: expected "
                f"{self._identity.digest}, got {now.digest} or another code object"
            )
        return (
            Artifact(source=Source.MEASURED, kind=FUNCTION, digest=self._identity.digest),
            Value(source=Source.MEASURED, value=self._arguments),
        )


def _code_of(function: Callable[..., Any]) -> object:
    """Returns the code object that a call runs, where Python shows it."""
    while isinstance(function, functools.partial):
        function = function.func
    inner = inspect.unwrap(function)
    if not hasattr(inner, "__code__") and not inspect.isroutine(inner):
        inner = type(inner).__call__
    return getattr(getattr(inner, "__func__", inner), "__code__", None)
