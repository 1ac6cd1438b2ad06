"""Setting attributes of a dataset around another: they reach the one within, and never exchange it."""

from __future__ import annotations

from typing import Any, Final

_FIXED: Final = frozenset({"inner", "info", "_digests", "_salted"})
"""What an attested dataset is made of: the digests it leaves would be those of another."""


def set_attribute(dataset: Any, name: str, value: object) -> None:  # noqa: ANN401 (map-style or stream)
    """Sets an attribute on the inner dataset if it has one of that name, else on the dataset itself.

    Args:
        dataset: Whose ``inner`` and ``info`` were set once.
        name: The attribute; a private one is the dataset's own.
        value: Its value.

    Raises:
        AttributeError: If it is what the dataset is made of.
    """
    held = dataset.__dict__
    made_of = name in _FIXED
    if name in held if made_of else hasattr(type(dataset), name):
        raise AttributeError(
            f"{type(dataset).__name__}.{name} stays as it was: make another attested dataset around what "
            "shall be read instead"
        )
    public = not made_of and not name.startswith("_") and name not in held
    if public and "inner" in held and hasattr(held["inner"], name):
        setattr(held["inner"], name, value)
    else:
        object.__setattr__(dataset, name, value)
