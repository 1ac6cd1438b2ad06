"""One item in, its private copy and its record digest out: what datasets and streams of any items share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from blake3 import blake3

from palm_torch.commit import records
from palm_torch.data import items
from palm_torch.data.formats import table
from palm_torch.errors import DataError

ITEMS: Final = table.Layout("items")
"""Items in their canonical spelling."""
ENCODED: Final = table.Layout("encoded")
"""Items in the spelling of a function of the script's own: what it leaves out is not bound."""


@dataclass(frozen=True, slots=True)
class ItemDigests:
    """Makes items private and hashes them.

    Attributes:
        encode: Function that returns an item's canonical bytes; None for the spelling of `items`.
        key: Key of the record digests.
    """

    encode: Callable[[Any], bytes] | None
    key: bytes

    @classmethod
    def of(cls, encode: Callable[[Any], bytes] | None, salt: bytes | None) -> ItemDigests:
        """Returns what hashes items so; the layout's name is part of the key.

        Raises:
            DataError: If `encode` is no function.
        """
        if encode is not None and not callable(encode):
            raise DataError(f"encode: expected a function from an item to bytes, got {type(encode).__name__}")
        layout = ITEMS if encode is None else ENCODED
        return cls(encode, records.record_key(salt, kind=layout.format))

    @property
    def layout(self) -> table.Layout:
        """What evidence calls such records."""
        return ITEMS if self.encode is None else ENCODED

    def take(self, item: Any) -> tuple[Any, bytes, int]:  # noqa: ANN401 (any item)
        """Returns the private copy of an item, its digest, and the length of its canonical bytes.

        Raises:
            DataError: If the item has no canonical bytes.
        """
        hasher = blake3(key=self.key)
        if self.encode is None:
            spelling = items.Spelling()
            copy = spelling.take(item)
            size = 0
            for part in spelling.parts():
                hasher.update(part)
                size += len(part)
            return copy, hasher.digest(), size
        copy = items.private(item)
        data = self.encode(items.private(copy))  # its own: what it changes or keeps is not what is handed on
        if type(data) is not bytes or not data:
            got = "none" if data == b"" else type(data).__name__
            raise DataError(f"encode: expected at least one byte, as bytes, got {got}")
        hasher.update(data)
        return copy, hasher.digest(), len(data)
