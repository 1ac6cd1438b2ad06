"""The manifest's record digests as a table that can be believed: every look-up is checked.

The digests lie in a mapped file that others can write. What is private is 32 bytes per group of 64
records, taken when the whole array was checked against the manifest's root; a group is copied out of the
mapping, hashed, and compared with its private digest before any digest in it counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blake3 import blake3

from palm_torch.commit import manifest, records
from palm_torch.errors import ManifestError

if TYPE_CHECKING:
    from pathlib import Path


class GroupTable:
    """The record digests of a manifest, looked up in groups.

    Attributes:
        file: The open manifest.
        groups: Private digests of the groups, 32 bytes each.
    """

    __slots__ = ("file", "groups")

    def __init__(self, file: manifest.ManifestFile, groups: bytes) -> None:
        self.file = file
        self.groups = groups

    @classmethod
    def open(cls, path: Path) -> GroupTable:
        """Opens a manifest, reads its array once and keeps the group digests.

        Raises:
            ManifestError: If the file is not a whole and consistent manifest.
        """
        file = manifest.ManifestFile.open(path)
        return cls(file, file.group_digests())

    def group(self, number: int) -> bytes:
        """Returns the record digests of one group, 32 bytes each, fewer than 64 only in the last.

        Raises:
            ManifestError: If the file was rewritten since it was opened.
        """
        start = self.file.offset + number * records.GROUP_BYTES
        copy: bytes = self.file.mapping[start : start + records.GROUP_BYTES]
        if not self.groups.startswith(blake3(copy, key=records.GROUP_KEY).digest(), number * 32):
            raise self.rewritten(number)
        return copy

    def rewritten(self, number: int) -> ManifestError:
        """Returns the error for a group that no longer has its private digest."""
        first = number * records.GROUP_RECORDS
        return ManifestError(
            f"{self.file.path}: the manifest was rewritten after it was opened: the digests of records "
            f"{first} to {first + records.GROUP_RECORDS - 1} are no longer those checked at the start; run "
            "`palm-torch measure` again and begin anew"
        )

    def __getstate__(self) -> dict[str, Any]:
        """Returns path, header and private digests: what a copy in another process needs."""
        return {"path": self.file.path, "manifest": self.file.manifest, "groups": self.groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Maps the file again; the private digests are those of the process that checked them."""
        self.file = manifest.ManifestFile.open(state["path"])
        self.groups = state["groups"]
        if self.file.manifest != state["manifest"]:
            raise ManifestError(
                f"{self.file.path}: the manifest was rewritten while the dataset was on its way to a worker; "
                "run `palm-torch measure` again and begin anew"
            )
