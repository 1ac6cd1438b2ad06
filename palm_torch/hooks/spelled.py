"""What a script asks and gets as an answer, as bytes with a form: text, bytes, or a tensor of tokens."""

from __future__ import annotations

import torch

from palm_torch.commit.salted import Content
from palm_torch.errors import EncodingError, MeasurementError
from palm_torch.hooks import tensors


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
        value = torch.tensor(value, dtype=torch.int64)
    if not isinstance(value, torch.Tensor):
        raise MeasurementError(
            f"{what}: expected text, bytes, a tensor or whole numbers, got {type(value).__name__}; for a "
            "tokenizer's output give its input_ids"
        )
    shape = ",".join(map(str, value.shape))
    content = bytes(tensors.tensor_bytes(tensors.whole(value), what=what))
    return Content(f"{tensors.dtype_name(value)}[{shape}]", content)
