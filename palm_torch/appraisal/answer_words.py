"""Values of decoding parameters, as messages and results spell them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from palm_torch.encoding import encode_json

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_CHARACTERS: Final = 80
"""Most characters of one value."""


def is_among(value: Any, choices: Sequence[Any]) -> bool:  # noqa: ANN401 (any JSON value)
    """Says whether a JSON value is one of several, in canonical form: ``true`` is not 1."""
    return encode_json(value) in {encode_json(choice) for choice in choices}


def listed(values: Sequence[Any]) -> str:
    """Returns JSON values in words."""
    return ", ".join(encode_json(value).decode()[:MAX_CHARACTERS] for value in values) or "nothing"
