"""What a script asks and gets as an answer, as bytes with a form: text, bytes, or a tensor of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from blake3 import blake3

from palm_torch.commit import answer_facts
from palm_torch.commit.salted import Content
from palm_torch.errors import EncodingError, MeasurementError
from palm_torch.hooks import tensors

if TYPE_CHECKING:
    from palm_torch.digest import Digest


def content_of(value: object, *, what: str) -> Content:
    """Returns the exact bytes of a question or an answer.

    Args:
        value: Text, bytes, a tensor (of tokens, of an image), or a sequence of whole numbers, which is read
            as a tensor of int64.
        what: Name of it, for messages.

    Raises:
        MeasurementError: If it is something else.
        CoverageError: If a tensor has no canonical bytes.
        EncodingError: If it is more than an opening could carry.
    """
    if isinstance(value, str):
        try:
            return Content("text", value.encode("utf-8"))
        except UnicodeEncodeError as error:
            raise EncodingError(f"{what}: not valid Unicode: {error.reason}") from error
    if isinstance(value, (bytes, bytearray)):
        return Content("bytes", bytes(value))
    if isinstance(value, (list, tuple)) and all(type(item) is int for item in value):
        try:
            value = torch.tensor(value, dtype=torch.int64)
        except (ValueError, RuntimeError, OverflowError) as error:
            raise MeasurementError(f"{what}: expected whole numbers that int64 can hold: {error}") from error
    if not isinstance(value, torch.Tensor):
        raise MeasurementError(
            f"{what}: expected text, bytes, a tensor or whole numbers, got {type(value).__name__}; for a "
            "tokenizer's output give its input_ids"
        )
    content = tensors.copied_bytes(tensors.whole(value), what=what)
    return Content(_form(value), content)


def logits_of(value: object, *, what: str) -> tuple[Digest, ...]:
    """Returns the digest of the logits of each generated token, in order.

    Args:
        value: One tensor of shape (..., tokens, vocabulary), or a sequence of tensors (..., vocabulary), one
            for each token, as ``generate(output_logits=True)`` returns them.
        what: Name of it, for messages.

    Raises:
        MeasurementError: If it is something else, or there is no token.
        CoverageError: If a tensor has no canonical bytes.
    """
    if isinstance(value, torch.Tensor) and value.dim() > 1:
        value = tensors.whole(value).unbind(-2)
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, torch.Tensor) for item in value):
        raise MeasurementError(
            f"{what}: expected a tensor (..., tokens, vocabulary), or one tensor for each token, got "
            f"{type(value).__name__}"
        )
    if not value:
        raise MeasurementError(f"{what}: expected the logits of one token or more, got none")
    return tuple(
        answer_facts.token_logits(
            _form(item), blake3(tensors.tensor_bytes(tensors.whole(item), what=what)).digest()
        )
        for item in value
    )


def _form(tensor: torch.Tensor) -> str:
    shape = ",".join(map(str, tensor.shape))
    return f"{tensors.dtype_name(tensor)}[{shape}]"
