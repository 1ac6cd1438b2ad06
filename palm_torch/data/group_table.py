"""The manifest's record digests as a table that can be believed: every look-up is checked.

The digests lie in a mapped file that others can write. What is private is 32 bytes per group of 64
records, taken when the whole array was checked against the manifest's root; a group is copied out of the
mapping, hashed, and compared with its private digest before any digest in it counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from blake3 import blake3

from palm_torch.commit import manifest_file, records
from palm_torch.errors import ManifestError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_DIGEST: Final = np.dtype(f"V{records.DIGEST_BYTES}")


class GroupScratch:
    """Scratch memory for the groups that a part of a batch needs; one thread at a time.

    Attributes:
        rows: Copied groups, uint8, [64, 2048].
        digests: The same memory as record digests, 32-byte items, [64, 64].
        slots: One view of bytes per row.
        hasher: Keyed for groups.
    """

    __slots__ = ("digests", "hasher", "rows", "slots")

    def __init__(self) -> None:
        self.rows: NDArray[np.uint8] = np.empty((records.GROUP_RECORDS, records.GROUP_BYTES), np.uint8)
        self.digests: NDArray[np.void] = self.rows.view(_DIGEST)
        flat = self.rows.reshape(-1).data
        starts = range(0, len(flat), records.GROUP_BYTES)
        self.slots = [flat[start : start + records.GROUP_BYTES] for start in starts]
        self.hasher = blake3(key=records.GROUP_KEY)


class GroupTable:
    """The record digests of a manifest, looked up in groups.

    Attributes:
        file: The open manifest.
        groups: Private digests of the groups, 32 bytes each.
    """

    __slots__ = ("_idle", "_private", "_rows", "file", "groups")

    def __init__(self, file: manifest_file.ManifestFile, groups: bytes) -> None:
        self.file = file
        self.groups = groups
        self._idle: list[blake3] = []
        full = file.manifest.records // records.GROUP_RECORDS
        flat = np.frombuffer(file.mapping, np.uint8, full * records.GROUP_BYTES, file.offset)
        self._rows: NDArray[np.uint8] = flat.reshape(full, records.GROUP_BYTES)
        self._private: NDArray[np.void] = np.frombuffer(groups, _DIGEST)

    @classmethod
    def open(cls, path: Path) -> GroupTable:
        """Opens a manifest, reads its array once and keeps the group digests.

        Raises:
            ManifestError: If the file is not a whole and consistent manifest.
        """
        file = manifest_file.ManifestFile.open(path)
        return cls(file, file.group_digests())

    def group(self, number: int) -> bytes:
        """Returns the record digests of one group, 32 bytes each, fewer than 64 only in the last.

        Raises:
            ManifestError: If the file was rewritten since it was opened.
        """
        start = self.file.offset + number * records.GROUP_BYTES
        copy: bytes = self.file.mapping[start : start + records.GROUP_BYTES]
        try:
            hasher = self._idle.pop()  # every thread has its own
            hasher.reset()
        except IndexError:
            hasher = blake3(key=records.GROUP_KEY)
        hasher.update(copy)
        if not self.groups.startswith(hasher.digest(), number * 32):
            raise self.rewritten(number)
        self._idle.append(hasher)
        return copy

    def take(self, numbers: NDArray[np.int64], scratch: GroupScratch) -> bool:
        """Copies at most 64 groups out of the mapping and checks each copy.

        Returns:
            Whether all are full groups with the digests they had. If not, nothing in `scratch` may be
            used: ask `group` one by one, which knows the last group and names the one that changed.
        """
        count = len(numbers)
        if int(numbers.max()) >= len(self._rows):
            return False
        np.take(self._rows, numbers, axis=0, out=scratch.rows[:count], mode="clip")
        hasher = scratch.hasher
        reset, update, digest = hasher.reset, hasher.update, hasher.digest
        found: list[bytes] = []
        append = found.append
        for slot in scratch.slots[:count]:
            reset()
            update(slot)
            append(digest())
        return self._private[numbers].tobytes() == b"".join(found)

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
        file = manifest_file.ManifestFile.open(state["path"])
        if file.manifest != state["manifest"]:
            raise ManifestError(
                f"{file.path}: the manifest was rewritten while the dataset was on its way to a worker; "
                "run `palm-torch measure` again and begin anew"
            )
        GroupTable.__init__(self, file, state["groups"])
