"""The law every decoder keeps: it raises one of our errors, or what it accepted encodes to the same bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from palm_torch.errors import PalmTorchError

if TYPE_CHECKING:
    from collections.abc import Callable

REFUSED: Final = object()
"""What `accepted` returns when the decoder raised one of our errors; None is a JSON value."""


def accepted(data: bytes, decode: Callable[[bytes], Any], encode: Callable[[Any], bytes] | None) -> Any:
    """Returns what the decoder made of the bytes, or `REFUSED`; any other error passes through.

    `encode` is the decoder's inverse, or None where the bytes have more than one spelling on purpose.
    """
    try:
        value = decode(data)
    except PalmTorchError:
        return REFUSED
    if encode is not None:
        again = encode(value)
        assert again == data, f"accepted {data!r}, but it is written {again!r}"
    return value


def ours(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Returns what a function returns, or `REFUSED` where it raised one of our errors."""
    try:
        return function(*arguments, **options)
    except PalmTorchError:
        return REFUSED
