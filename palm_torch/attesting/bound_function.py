"""A function with its arguments bound for good: what a script calls in place of the one that it named."""

from __future__ import annotations

import functools
import inspect
import mmap
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final

from palm_torch.errors import MeasurementError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from palm_torch.hooks.functions import Layer

_BY_PLACE: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class BoundFunction:
    """A function with its arguments, which nobody can exchange; knows whether it was called.

    Args:
        function: The function.
        arguments: Its arguments by name.
        most: How many items a call may give it.
    """

    __slots__ = ("_arguments", "_function", "_most", "_seen")

    def __init__(self, function: Callable[..., Any], arguments: dict[str, Any], *, most: float) -> None:
        self._function = function
        self._arguments = arguments
        self._most = most
        self._seen = mmap.mmap(-1, 1)  # shared with forked workers

    def __call__(self, /, *items: object, **named: object) -> Any:  # noqa: ANN401 (whatever it returns)
        """Calls the function with items and the arguments.

        Raises:
            MeasurementError: If there are more items than it takes beside its arguments, or others by name.
        """
        if named or len(items) > self._most:
            raise MeasurementError(
                f"run.function: expected at most {self._most} items in a call, and nothing by name, got "
                f"{', '.join([str(len(items)), *named])}: arguments are given once, to run.function"
            )
        self._seen[0] = 1
        return self._function(*items, **self._arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        """Makes a copy for a process that was not forked; nothing here learns of its calls."""
        return functools.partial(BoundFunction, most=self._most), (self._function, self._arguments)

    @property
    def function(self) -> Callable[..., Any]:
        """The function itself."""
        return self._function

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments as they are now; a function can change what is in them."""
        return self._arguments

    @property
    def was_called(self) -> bool:
        """Whether it was called, here or in a process forked from this one."""
        return self._seen[0] == 1


def unwrapped(
    function: Callable[..., Any], arguments: Mapping[str, Any]
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Returns a function without its partials, and all arguments by name.

    Raises:
        MeasurementError: If a partial binds an argument without its name.
    """
    given = dict(arguments)
    while isinstance(function, functools.partial):
        if function.args:
            raise MeasurementError(
                "run.function: a partial binds an argument by its place: give it to run.function, by name"
            )
        given = {**function.keywords, **given}
        function = function.func
    return function, given


def with_defaults(
    function: Callable[..., Any], layers: Sequence[Layer], arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns all arguments of a function, those that it or what it wraps gets by default too.

    The first parameter, where it has a place, is the item that the function is applied to.

    Raises:
        MeasurementError: If the function does not take them.
    """
    given: dict[str, Any] = {}
    for layer in reversed(layers):
        for place, parameter in enumerate(_parameters(layer.item)):
            if parameter.default is parameter.empty or (place == 0 and parameter.kind in _BY_PLACE):
                continue
            if parameter.kind is parameter.POSITIONAL_ONLY:
                raise MeasurementError(
                    f"run.function: {parameter.name} of {layer.name} has a default, and no name to give it "
                    "by: drop the / after it"
                )
            given[parameter.name] = parameter.default
    given |= arguments
    try:
        inspect.Signature(_parameters(function)).bind_partial(**given)
    except TypeError as error:
        raise MeasurementError(
            f"{layers[-1].name.partition(':')[0]}: cannot be called like this: {error}"
        ) from error
    return given


def most_items(function: Callable[..., Any], arguments: Mapping[str, Any]) -> float:
    """Returns how many items a call can give a function by their places, beside its arguments.

    Raises:
        MeasurementError: If there is no place for one.
    """
    most: float = 0
    for parameter in _parameters(function):
        if parameter.kind is parameter.VAR_POSITIONAL:
            return float("inf")
        if parameter.kind not in _BY_PLACE or parameter.name in arguments:
            break
        most += 1
    if not most:
        raise MeasurementError(
            "run.function: expected a function whose first parameter is the record (or, for a distribution, "
            "all records), and no argument of that name"
        )
    return most


def _parameters(function: Any) -> list[inspect.Parameter]:  # noqa: ANN401 (any function)
    """Returns the parameters that a function's own code has, whatever it says of them."""
    if inspect.ismethod(function):
        return _parameters(function.__func__)[1:]
    bare = FunctionType(function.__code__, {}, function.__name__, function.__defaults__, function.__closure__)
    bare.__kwdefaults__ = function.__kwdefaults__
    return list(inspect.signature(bare).parameters.values())
