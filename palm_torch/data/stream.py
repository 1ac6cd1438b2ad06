"""`AttestedIterableDataset`: a stream, every item hashed and multiplied as it is handed on."""

from __future__ import annotations

import secrets
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch.utils.data
from torch.utils.data import get_worker_info

from palm_torch import private_files, recorder
from palm_torch.data import carrier, open_datasets, wrapped
from palm_torch.data.item_digests import ItemDigests
from palm_torch.errors import DataError, PalmTorchError, prefixed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T_co = TypeVar("T_co", covariant=True)


class AttestedIterableDataset(torch.utils.data.IterableDataset[T_co]):
    """An iterable dataset of your own, or of another library, with every item hashed as it is handed on.

    A stream has no index: evidence says how many items were delivered, their multiset hash and their order,
    and not which items of which whole they were. There is no manifest, and no coverage. Workers have to
    divide the stream among themselves, as torch asks of every iterable dataset
    (`torch.utils.data.get_worker_info`): if they do not, the loop receives every item once per worker, and
    only the multiset hash shows it.

    Attributes that are not found here are those of the inner dataset, to read and to set.

    Args:
        inner: What is iterated, anew for each pass.
        encode: As for `palm_torch.AttestedDataset`.
        salt: Secret that keys the record digests of private data.

    Attributes:
        inner: The dataset within.
        info: What a session needs to know about it.

    Raises:
        DataError: If the inner dataset cannot be iterated.
    """

    hands_on_records: ClassVar = True

    def __init__(
        self,
        inner: Any,  # noqa: ANN401 (any iterable)
        *,
        encode: Callable[[Any], bytes] | None = None,
        salt: bytes | None = None,
    ) -> None:
        name = type(inner).__qualname__
        if not hasattr(inner, "__iter__"):
            raise DataError(
                f"{name}: expected an iterable dataset, with __iter__; wrap a map-style one in "
                "palm_torch.AttestedDataset"
            )
        if isinstance(inner, Generator):
            raise DataError(
                f"{name}: expected an object that can be iterated anew for each pass, got a generator: pass "
                "an object whose __iter__ makes one"
            )
        self.inner = inner
        self._digests = ItemDigests.of(encode, salt)
        self._salted = salt is not None
        token = secrets.token_hex(16)
        self.info = open_datasets.DatasetInfo(
            name=token,
            path=Path(f"{name}@{token[:8]}"),
            layout=self._digests.layout,
            records=None,
            table=None,
        )
        open_datasets.register(self)

    @property
    def uid(self) -> str:
        """Random name of the stream, the same in every worker's copy."""
        return self.info.uid

    def __len__(self) -> int:
        """Returns the number of items, if the inner dataset knows it.

        Raises:
            TypeError: If it does not.
        """
        return len(self.inner)

    def __iter__(self) -> Iterator[T_co]:
        """Begins a pass.

        Raises:
            DataError: If an item has no canonical bytes; the message names the part of the item.
        """
        worker = get_worker_info()
        if worker is not None and worker.dataset is self:
            carrier.forget(self.uid)  # items of a last batch that drop_last left out
        return self._items()

    def _items(self) -> Iterator[T_co]:
        take, uid = self._digests.take, self.uid
        for number, item in enumerate(_read(self.inner) if self._salted else self.inner):
            try:
                with prefixed(f"{self.info.path}, item {number} of a pass"):
                    copy, digest, _ = take(item)
            except PalmTorchError as error:
                recorder.failed(error)  # a script that swallows it gets no evidence
                carrier.note_failure(error)
                raise
            carrier.leave(carrier.Note(uid, b"", digest, multiply=True))
            yield copy

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (whatever the inner dataset has)
        """Returns what the inner dataset has under a name, unless it is private."""
        if name.startswith("_") or "inner" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__} has no {name!r}")
        return getattr(self.inner, name)

    def __setattr__(self, name: str, value: object) -> None:
        """Sets an attribute of the inner dataset if it has one of that name, else of this one.

        Raises:
            AttributeError: For what an attested stream is made of.
        """
        wrapped.set_attribute(self, name, value)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Takes up a copy; in the process that opened the stream it is listed as open too."""
        self.__dict__.update(state)
        open_datasets.register(self)


def _read(inner: Iterable[T_co]) -> Iterator[T_co]:
    """Yields the items of a private stream; files that its code opens meanwhile are taken for private."""
    with private_files.reading():
        items = iter(inner)
    while True:
        try:
            with private_files.reading():
                item = next(items)
        except StopIteration:
            return
        yield item
