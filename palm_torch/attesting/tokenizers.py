"""Tokenizers as scripts have them: a file, its bytes, a folder of files, or an object that can save itself.

A folder is spelled as the list of its files with their digests (`palm_torch.commit.file_list`), and an
object as the folder that its own ``save_pretrained`` writes: so whoever saves the same tokenizer with the
same version of its library has the same digest.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palm_torch.commit import file_list
from palm_torch.errors import MeasurementError

if TYPE_CHECKING:
    from typing import TypeGuard


def may_change(tokenizer: object) -> TypeGuard[Any]:
    """Says whether a tokenizer is an object that the script can change after it was named."""
    return callable(getattr(tokenizer, "save_pretrained", None))


def is_same(tokenizer: object, before: object) -> bool:
    """Says whether a script names again what it named before: the object, or an equal path or equal bytes."""
    plain = isinstance(tokenizer, (str, bytes, os.PathLike)) and type(tokenizer) is type(before)
    return tokenizer is before or (plain and tokenizer == before)


def spelled(tokenizer: object) -> str | Path | bytes:
    """Returns a tokenizer as `Session.input` takes it: a file's path, or bytes.

    Args:
        tokenizer: A file or a folder by path, bytes, or an object with ``save_pretrained``.

    Raises:
        MeasurementError: If it is something else, or cannot be read or saved.
    """
    if may_change(tokenizer):
        return written(tokenizer)
    if isinstance(tokenizer, bytes):
        return tokenizer
    if not isinstance(tokenizer, (str, os.PathLike)):
        raise MeasurementError(
            "run.answer(tokenizer=...): expected a file, a folder, bytes, or an object with save_pretrained, "
            f"got {type(tokenizer).__name__}"
        )
    path = Path(tokenizer)
    return file_list.read(path, error=MeasurementError) if path.is_dir() else path


def written(tokenizer: Any) -> bytes:  # noqa: ANN401 (any object that can save itself)
    """Returns the list of the files that an object's ``save_pretrained`` writes.

    Raises:
        MeasurementError: If it writes none, or they cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="palm-torch-") as folder:
        try:
            tokenizer.save_pretrained(folder)
        except (OSError, ValueError, TypeError, RuntimeError, AttributeError) as error:
            raise MeasurementError(
                f"run.answer(tokenizer=...): {type(tokenizer).__name__}.save_pretrained failed: {error}"
            ) from error
        return file_list.read(Path(folder), error=MeasurementError)
