"""Records at hand, read and hashed again: what `palm-torch verify --recompute` compares a manifest with.

Reading a format may need NumPy (the extra ``torch``), or the format's own library (``data``); this module is
imported only where records are to be read.
"""

from __future__ import annotations

import bisect
import itertools
from typing import TYPE_CHECKING

from blake3 import blake3

from palm_torch.commit import manifest as manifests
from palm_torch.commit import manifest_file, records
from palm_torch.data import opening
from palm_torch.data.formats import table
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.data.shards import ShardFile


class RecordsAtHand:
    """The records of a dataset that somebody holds; each is copied out of its file once, and hashed.

    Args:
        path: File or folder of the data.
        manifest: The manifest that says how to read it; names and sizes of the files must be those listed.
        salt: The secret that its digests are keyed with, if there is one.

    Raises:
        DataError: If the data is missing or cannot be read as the manifest says.
        ManifestError: If the manifest is another dataset's, or was made with another salt or none.
    """

    __slots__ = ("_files", "_firsts", "_key")

    def __init__(self, path: Path, manifest: Path, *, salt: bytes | None = None) -> None:
        header = manifest_file.read_header(manifest)
        if header.format in manifests.OWN_FORMATS:
            raise DataError(
                f"{manifest}: its records are items of a program ({header.format}), which lie in no file: "
                "measure the program's dataset again and compare the digests of the manifests"
            )
        self._files, _ = opening.open_all(path, table.Wanted(fresh=True), manifest=manifest, salt=salt)
        layout = self._files[0].view.layout
        self._key = records.record_key(salt, kind=layout.kind)
        counts = [file.view.records for file in self._files]
        self._firsts = [0, *itertools.accumulate(counts)][:-1]

    def digest(self, number: int) -> bytes:
        """Returns the digest of a record as it lies there now, 32 bytes.

        Raises:
            DataError: If it cannot be read.
        """
        file, within = self._place(number)
        view = file.view
        if isinstance(view, table.ShardView):
            _, _, size = view.layout.fixed()
            copy = bytes(view.buffer[within * size : (within + 1) * size])
        else:
            copy = view.copy(within)
        return blake3(copy, key=self._key).digest()

    def where(self, number: int) -> str:
        """Says where a record lies, for messages."""
        file, within = self._place(number)
        view = file.view
        if not isinstance(view, table.ShardView):
            return f"{file.path}, {view.where(within)}"
        _, _, size = view.layout.fixed()
        first = view.offset + within * size
        return f"{file.path}, bytes {first} to {first + size - 1}"

    def _place(self, number: int) -> tuple[ShardFile, int]:
        at = bisect.bisect_right(self._firsts, number) - 1
        return self._files[at], number - self._firsts[at]
