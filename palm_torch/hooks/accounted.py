"""Files that others vouch for when a script opens them: the standard library, and what a RECORD names.

A file is excused by what it holds and by where it was looked for. A link that leads from the script's own
folder to an installed file was set by whoever writes that folder, and excuses nothing.
"""

from __future__ import annotations

import linecache
import os
import sys
import tokenize
from typing import TYPE_CHECKING, Final

from palm_torch.hooks import importing, installed

if TYPE_CHECKING:
    from types import FrameType

    from palm_torch.hooks.installed import Distribution

OURS: Final = "palm_torch."
_LAUNCHER: Final = "palm_torch.attesting.launch"


class Records:
    """The files that the RECORDs of installed packages name, read when first asked for."""

    def __init__(self) -> None:
        self._path: tuple[str, ...] | None = None
        self._files: dict[str, tuple[Distribution, bytes | None]] = {}

    def find(self, given: str, real: str) -> tuple[Distribution, bytes] | None:
        """Returns who vouches for a file, and the SHA-256 that it must have; None if nobody does.

        Args:
            given: The path that was opened, absolute.
            real: The same with all links resolved.
        """
        if self._path != tuple(sys.path):
            self._path = tuple(sys.path)
            self._files = installed.recorded_files(installed.distributions())
        distribution, digest = self._files.get(real, (None, None))
        if distribution is None or digest is None or not _is_straight(given, real):
            return None
        return distribution, digest


def is_ours(frame: FrameType | None) -> bool:
    """Says whether palm-torch itself opens a file: the nearest frame outside the standard library is ours.

    An installed package that palm-torch called, such as a dataset beneath its loader, is not; nor is what the
    launcher runs, which is the script's doing although a launcher's frame is beneath all of it.
    """
    while frame is not None:
        name, path = frame.f_globals.get("__name__", ""), frame.f_code.co_filename
        if isinstance(name, str) and name.startswith(OURS):
            return name != _LAUNCHER
        if not path.startswith("<frozen") and not importing.in_library(path):
            return False
        frame = frame.f_back
    return False


def is_for_a_traceback(frame: FrameType) -> bool:
    """Says whether `linecache` opens a source, to show its lines in a traceback or a warning."""
    above = frame.f_back
    return (
        frame.f_code is tokenize.open.__code__
        and above is not None
        and above.f_code is linecache.updatecache.__code__
    )


def _is_straight(given: str, real: str) -> bool:
    """Says whether a path leads to a file without links, but for those that `sys.path` goes through."""
    if given == real:
        return True
    roots = (os.path.abspath(root) for root in sys.path if root)  # noqa: PTH100 (links stay)
    return any(
        given.startswith(f"{root}/") and real == os.path.realpath(root) + given[len(root) :] for root in roots
    )
