"""JSON texts that a vendor signed, read strictly: values come out with one type, in one range, or not at all.

The texts themselves are kept as they were signed; parsing and writing them again would break the signature.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from palm_torch import nesting
from palm_torch.encoding import decode_hex
from palm_torch.errors import EvidenceError

_DATE: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_GREATEST_VERSION: Final = 0xFF


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Builds an object of JSON, for `json`; a ValueError if a key is there twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has the same key twice")
    return found


def refuse_constant(name: str) -> Any:  # noqa: ANN401 (the signature that json asks for)
    """Refuses NaN and the infinities, for `json`, with a ValueError."""
    raise ValueError(f"JSON has no {name}")


@dataclass(frozen=True, slots=True)
class Node:
    """A value in a document. Every reader raises an EvidenceError if the value is not what it reads.

    Attributes:
        path: What messages call it.
        value: The value, as `json` gives it.
    """

    path: str
    value: Any

    def key(self, name: str) -> Node:
        """Returns the value under a key of this object."""
        if not isinstance(self.value, dict):
            raise self._wrong("an object")
        if name not in self.value:
            raise EvidenceError(f"{self.path}: missing key {name!r}")
        return Node(f"{self.path}: {name}", self.value[name])

    def items(self, name: str, *, optional: bool = False) -> tuple[Node, ...]:
        """Returns the items of the list under a key of this object, which may be missing if `optional`."""
        if optional and isinstance(self.value, dict) and name not in self.value:
            return ()
        found = self.key(name)
        if not isinstance(found.value, list):
            raise found._wrong("a list")  # noqa: SLF001 (another node)
        return tuple(Node(f"{found.path}[{number}]", item) for number, item in enumerate(found.value))

    def text(self) -> str:
        """Returns the value, which is text."""
        if not isinstance(self.value, str):
            raise self._wrong("text")
        return self.value

    def number(self, greatest: int) -> int:
        """Returns the value, which is a whole number from 0 to `greatest`."""
        if type(self.value) is not int or not 0 <= self.value <= greatest:
            raise self._wrong(f"a number from 0 to {greatest}")
        return self.value

    def hex(self, size: int) -> bytes:
        """Returns the value, which is `size` bytes in hex of either case: vendors have written both."""
        return decode_hex(self.text().lower(), what=self.path, length_bytes=size)

    def date(self) -> datetime:
        """Returns the value, which is a second of UTC."""
        text = self.text()
        if not _DATE.fullmatch(text):
            raise self._wrong("YYYY-MM-DDThh:mm:ssZ")
        try:
            return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        except ValueError as error:
            raise EvidenceError(f"{self.path}: {error}") from error

    def _wrong(self, expected: str) -> EvidenceError:
        return EvidenceError(f"{self.path}: expected {expected}, got {self.value!r:.60}")


def read(text: bytes, what: str, kind: str, versions: tuple[int, ...]) -> Node:
    """Reads a document, and checks its ``id`` and ``version``.

    Args:
        text: The text, UTF-8.
        what: Name of the document, for messages.
        kind: The id it must have.
        versions: The versions it may have.

    Raises:
        EvidenceError: If it is no JSON, nests too deep, has a key twice, or is of another kind.
    """
    nesting.check(text, what=f"{what}: not a JSON document", error=EvidenceError)
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=unique, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise EvidenceError(f"{what}: not a JSON document: {error}") from error
    document = Node(what, value)
    found, version = document.key("id").text(), document.key("version").number(_GREATEST_VERSION)
    if found != kind or version not in versions:
        raise EvidenceError(
            f"{what}: expected id {kind!r} and version {' or '.join(map(str, versions))}, "
            f"got {found[:40]!r} and {version}"
        )
    return document
