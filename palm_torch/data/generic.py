"""`AttestedDataset`: any map-style dataset, its items hashed as its code returns them."""

from __future__ import annotations

import contextlib
import operator
import secrets
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

import torch.utils.data

from palm_torch import private_files, recorder
from palm_torch.commit import manifest as manifests
from palm_torch.data import carrier, expected_manifest, open_datasets, wrapped
from palm_torch.data.item_digests import ItemDigests
from palm_torch.data.measuring import writing
from palm_torch.errors import DataError, PalmTorchError, RecordError, prefixed

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

T_co = TypeVar("T_co", covariant=True)

_PART: Final = 64
"""Items that are read at once when a manifest is made."""

_AS_IT_IS: Final = contextlib.nullcontext()


class AttestedDataset(torch.utils.data.Dataset[T_co]):
    """A map-style dataset of your own, or of another library, with every item hashed as it is handed on.

    An item is whatever ``inner[i]`` returns; its arrays and tensors are copied to private memory, and the
    copies are both hashed and handed on. What the evidence says is therefore about items that code produced,
    not about files: where they came from rests on that code. Augmentation belongs around an attested
    dataset, not beneath it: an item that is drawn anew each time matches no manifest.

    Attributes that are not found here are those of the inner dataset, to read and to set; what is within, and
    what is known of it, stays as it was when it was opened.

    Args:
        inner: The dataset: ``inner[i]``, ``len(inner)``, and ``inner.__getitems__([...])`` if it has that.
        encode: Function that returns an item's canonical bytes, for items of types that have no canonical
            spelling. It is given a private copy of its own; parts of types that are not walked (see
            `palm_torch.data.items.private`) are the item's own, and must not be changed. None for the
            spelling of this library.
        manifest: Manifest that `measure` wrote; None reads without.
        salt: Secret that keys the record digests of a private dataset.

    Attributes:
        inner: The dataset within.
        info: What a session needs to know about it.

    Raises:
        DataError: If the inner dataset has no length or no items.
        ManifestError: If the manifest does not parse, or is another dataset's.
    """

    hands_on_records: ClassVar = True

    def __init__(
        self,
        inner: Any,  # noqa: ANN401 (any map-style dataset)
        *,
        encode: Callable[[Any], bytes] | None = None,
        manifest: str | os.PathLike[str] | None = None,
        salt: bytes | None = None,
    ) -> None:
        name = type(inner).__qualname__
        if not hasattr(inner, "__getitem__") or not hasattr(inner, "__len__"):
            raise DataError(
                f"{name}: expected a map-style dataset, with __getitem__ and __len__; wrap an iterable one "
                "in palm_torch.AttestedIterableDataset"
            )
        self.inner = inner
        self._digests = ItemDigests.of(encode, salt)
        self._salted = salt is not None
        token = secrets.token_hex(16)
        label, count = Path(f"{name}@{token[:8]}"), len(inner)
        if not count:
            raise DataError(f"{name}: empty dataset: expected at least one item")
        table = None
        if manifest is not None:
            table = expected_manifest.open_table(
                Path(manifest),
                of=name,
                kind=self._digests.layout.format,
                records=count,
                salted=self._salted,
                remedy="write one with AttestedDataset(...).measure(path)",
            )
        self.info = open_datasets.DatasetInfo(
            name=token,
            path=label,
            layout=self._digests.layout,
            records=count,
            table=table,
        )
        open_datasets.register(self)

    @property
    def uid(self) -> str:
        """Random name of the dataset with the digest of its manifest, the same in every worker's copy."""
        return self.info.uid

    @property
    def manifest(self) -> manifests.Manifest | None:
        """Header of the manifest that authenticates the items, or None."""
        return self.info.manifest

    def __len__(self) -> int:
        """Returns the number of items."""
        return self.info.records or 0

    def __getitem__(self, index: int) -> T_co:
        """Returns one item; negative numbers count from the end.

        Raises:
            IndexError: If there is no such item.
            DataError: If it has no canonical bytes; the message names the part of the item.
            RecordError: If it is not the item of the manifest.
        """
        number = self._number(index)
        with self._reading():
            found = self.inner[number]
        item: T_co = self._hand_on([number], [found])[0]
        return item

    def __getitems__(self, indices: Sequence[int]) -> list[T_co]:
        """Returns the items of a batch: what torch's fetcher asks for first.

        Raises:
            IndexError: If an item is not there.
            DataError: If one has no canonical bytes; the message names the part of the item.
            RecordError: If one is not the item of the manifest.
        """
        numbers = [self._number(index) for index in indices]
        return self._hand_on(numbers, self._inner_items(numbers)) if numbers else []

    def measure(self, path: str | os.PathLike[str]) -> manifests.Manifest:
        """Reads every item once, in order, and writes the manifest of the dataset.

        Nothing is delivered by that, in a session or outside of one.

        Args:
            path: Where the manifest shall be; one that is there is replaced, or stays if this fails.

        Returns:
            The manifest as written: hand its path on as ``manifest=``.

        Raises:
            DataError: If an item has no canonical bytes, or the manifest cannot be written.
        """
        parts: list[manifests.Shard] = []
        return writing.write_manifest(
            Path(path),
            layout=self._digests.layout,
            shards=parts,
            digests=self._all_digests(parts),
            salted=self._salted,
        )

    def _all_digests(self, parts: list[manifests.Shard]) -> Iterator[bytes]:
        before = carrier.gather()  # a dataset beneath that is attested too delivers nothing either
        try:
            total = 0
            for start in range(0, len(self), _PART):
                numbers = list(range(start, min(start + _PART, len(self))))
                taken = [self._take(*pair) for pair in zip(numbers, self._inner_items(numbers), strict=True)]
                total += sum(size for _, _, size in taken)
                yield b"".join([digest for _, digest, _ in taken])
        finally:
            carrier.restore(before)
        parts.append(manifests.Shard(self._digests.layout.format, total, len(self), None))

    def _inner_items(self, numbers: list[int]) -> list[Any]:
        at_once = getattr(self.inner, "__getitems__", None)
        with self._reading():
            found = at_once(numbers) if callable(at_once) else [self.inner[number] for number in numbers]
        if len(found) != len(numbers):
            raise DataError(f"{self.info.path}: expected {len(numbers)} items, got {len(found)}")
        return list(found)

    def _reading(self) -> contextlib.AbstractContextManager[None]:
        """Returns the block in which the inner dataset is asked: files that it opens may be private."""
        return private_files.reading() if self._salted else _AS_IT_IS

    def _hand_on(self, numbers: list[int], found: list[Any]) -> list[Any]:
        """Hashes items, compares them with the manifest, leaves a note, and returns the private copies."""
        try:
            taken = [self._take(*pair) for pair in zip(numbers, found, strict=True)]
            if self.info.table is not None:
                for number, (_, digest, _) in zip(numbers, taken, strict=True):
                    if not self.info.table.group(number >> 6).startswith(digest, (number & 63) * 32):
                        raise self._changed(number)
        except PalmTorchError as error:
            recorder.failed(error)  # a script that swallows it gets no evidence
            carrier.note_failure(error)
            raise
        digests = b"".join([digest for _, digest, _ in taken])
        indices = struct.pack(f"<{len(numbers)}q", *numbers)
        carrier.leave(carrier.Note(self.uid, indices, digests, self.info.table is None))
        return [copy for copy, _, _ in taken]

    def _take(self, number: int, item: Any) -> tuple[Any, bytes, int]:  # noqa: ANN401 (any item)
        with prefixed(f"{self.info.path}[{number}]"):
            return self._digests.take(item)

    def _changed(self, number: int) -> RecordError:
        return RecordError(
            f"{self.info.path}[{number}] is not the item the manifest was made of: the data or the code "
            "beneath was changed, another salt was given, or the item is drawn anew each time (put "
            "augmentation around the attested dataset); measure again if the change is meant"
        )

    def _number(self, index: int) -> int:
        number, count = operator.index(index), len(self)
        if not -count <= number < count:
            raise IndexError(f"item {number} of {count}")
        return number % count

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (whatever the inner dataset has)
        """Returns what the inner dataset has under a name, unless it is private."""
        if name.startswith("_") or "inner" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__} has no {name!r}")
        return getattr(self.inner, name)

    def __setattr__(self, name: str, value: object) -> None:
        """Sets an attribute of the inner dataset if it has one of that name, else of this one.

        Raises:
            AttributeError: For what an attested dataset is made of.
        """
        wrapped.set_attribute(self, name, value)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Takes up a copy; in the process that opened the dataset it is listed as open too."""
        self.__dict__.update(state)
        open_datasets.register(self)
