"""A nonce is used once: beside a request, a file that names the one answer which was checked.

Whoever could have several answers looked at until one suits would choose; looking at the same one again is
no choice.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from palm_torch import files
from palm_torch.digest import Digest
from palm_torch.errors import EncodingError, FreshnessError, RequestError

if TYPE_CHECKING:
    from pathlib import Path


SUFFIX: Final = ".used"

_MAX_BYTES: Final = 1 << 10


def use(request: Path, answer: Digest) -> None:
    """Notes that an answer to a request was checked; call it before anything of the answer is.

    Args:
        request: The request's file; the note lies beside it, as ``<request>.used``.
        answer: The digest of the answer.

    Raises:
        FreshnessError: If another answer to this request was checked before.
        RequestError: If the note cannot be read or written: then nothing may be checked.
    """
    path = request.with_name(request.name + SUFFIX)
    line = f"{answer}\n".encode("ascii")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except FileExistsError:
        _compare(path, line)
        return
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise RequestError(
            f"{path}: cannot note that the request is used: {getattr(error, 'strerror', error)}"
        ) from error
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:  # a full disk; what is there, perhaps nothing, counts as used
        raise RequestError(f"{path}: cannot note that the request is used: {error.strerror}") from error


def renew(request: Path) -> None:
    """Removes the note of use of a request that another one replaced: the new nonce was used by nobody.

    Args:
        request: The file that the new request is in already.

    Raises:
        RequestError: If the note cannot be removed.
    """
    path = request.with_name(request.name + SUFFIX)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise RequestError(
            f"{path}: cannot remove the note of a request that was replaced: {error.strerror}"
        ) from error


def _compare(path: Path, line: bytes) -> None:
    data = files.read_bounded(path, what="the note of use", max_bytes=_MAX_BYTES, error=RequestError)
    try:
        text = data.decode("ascii").removesuffix("\n")
        before = Digest.parse(text, what=str(path))
    except (UnicodeDecodeError, EncodingError) as error:
        raise RequestError(
            f"{path}: expected the digest of an answer, got {data[:80]!r}: the request counts as used"
        ) from error
    if data != line:
        raise FreshnessError(
            f"{path}: this request was used for the answer {before}; another answer needs another request"
        )
