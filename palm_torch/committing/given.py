"""A site's bytes out of tensors that somebody kept: what openings are made of where nothing else was kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_torch.commit.weights_root import ITEM_BYTES
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from palm_torch.commit.trace import Group, Site


class Given:
    """The tensors of some calls of a site.

    Args:
        site: The site.
        group: Its group.
        contents: Number of a call → the exact bytes of its tensor, made when they are asked for.
    """

    def __init__(self, site: Site, group: Group, contents: Mapping[int, Callable[[], memoryview]]) -> None:
        self._site = site
        self._group = group
        self._contents = contents

    def read(self, start: int, stop: int) -> bytes:
        """Returns a range of the site's bytes.

        Raises:
            DataError: If a call's tensor is missing, or has another size.
        """
        parts: list[bytes] = []
        for call, begins, size in self._calls(start, stop):
            content = self._contents.get(call)
            if content is None:
                raise DataError(
                    f"opening of {self._site}: nothing of it was kept, and the tensor of call {call} is "
                    "not among those given: commit with keep='memory' or keep=FOLDER, or give "
                    "tensors={CALL: TENSOR}"
                )
            data = content()
            if len(data) != size:
                raise DataError(
                    f"opening of {self._site}: expected {size} bytes for the tensor of call {call}, "
                    f"got {len(data)}"
                )
            parts.append(bytes(data[max(start - begins, 0) : stop - begins]))
        return b"".join(parts)

    def _calls(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yields number, first byte and size of each call whose bytes are in a range."""
        row_bytes = self._group.channels * ITEM_BYTES[self._group.dtype]
        begins = 0
        for run in self._group.schedule:
            size = run.rows * row_bytes
            if size and start < begins + size * run.count and begins < stop:
                for number in range(
                    max(start - begins, 0) // size, min(-(-(stop - begins) // size), run.count)
                ):
                    yield run.first + number, begins + number * size, size
            begins += size * run.count
