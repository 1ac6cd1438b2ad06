"""Units of measuring: which records of which file one worker digests at a time.

Within a unit records come in blocks. Where blocks begin follows from the layout alone, counted from the
file's first record, so that what is known of a block can be found again whoever measures it next.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from blake3 import blake3

from palm_torch.commit.records import GROUP_RECORDS
from palm_torch.data.formats import table
from palm_torch.encoding import encode_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palm_torch.data.shards import ShardFile
    from palm_torch.encoding import Json

BLOCK_RECORDS: Final = 16_384
BLOCK_BYTES: Final = 64 << 20
BLOCK_ROWS: Final = 2_048
"""Records of a block where they differ in length."""

_UNITS_PER_WORKER: Final = 8
_LARGE_BYTES: Final = 8192
"""Length of records from which SHA-256 is so much of the work that another core is asked to do it."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What one worker does at a time.

    Attributes:
        shard: Number of the file.
        first: Number of the first record in that file.
        count: Number of records; 0 if only the file's own digest is wanted.
        hash_file: Whether to take the SHA-256 of the file. It comes from the same read as the records'
            digests where they lie in a row and `count` is all of them.
        aside: Whether the file's SHA-256 may use another core.
    """

    shard: int
    first: int
    count: int
    hash_file: bool
    aside: bool = False


def block_records(layout: table.Layout) -> int:
    """Returns the number of records in a block of this layout: 64 n unless they are large."""
    size = layout.record_bytes
    if size is None:
        return BLOCK_ROWS
    many = min(BLOCK_RECORDS, max(1, BLOCK_BYTES // size))
    return many - many % GROUP_RECORDS if many > GROUP_RECORDS else many


def divide(files: Sequence[ShardFile], *, file_digests: bool, workers: int) -> list[Unit]:
    """Divides a dataset's files into units, the largest first.

    Files whose own digest is wanted stay whole, so that one read feeds both hashes; rows are decoded, and
    their file's digest takes a read of its own.
    """
    found: list[tuple[int, Unit]] = []
    for number, file in enumerate(files):
        together = isinstance(file.view, table.ShardView)
        if file_digests and together:
            found.append((file.size_bytes, Unit(number, 0, file.view.records, hash_file=True)))
            continue
        if file_digests and not file.path.is_dir():
            found.append((file.size_bytes, Unit(number, 0, 0, hash_file=True)))
        block = block_records(file.view.layout)
        share = -(-file.view.records // (_UNITS_PER_WORKER * workers)) if workers > 1 else file.view.records
        step = -(-share // block) * block
        for first in range(0, file.view.records, step):
            count = min(step, file.view.records - first)
            cost = file.size_bytes * count // file.view.records
            found.append((cost, Unit(number, first, count, hash_file=False)))
    found.sort(key=lambda pair: -pair[0])
    large = (files[0].view.layout.record_bytes or 0) >= _LARGE_BYTES
    aside = large and sum(unit.hash_file for _, unit in found) < workers
    return [Unit(one.shard, one.first, one.count, one.hash_file, aside and one.hash_file) for _, one in found]


def fingerprint(files: Sequence[ShardFile], key: bytes) -> bytes:
    """Returns 32 bytes that are equal where files, headers, sizes, records, layout and record key are."""
    layout = files[0].view.layout
    listed: Json = [
        [os.fsencode(file.name).hex(), file.size_bytes, file.view.records, _head_digest(file)]
        for file in files
    ]
    shape: Json = list(layout.shape or ())
    said: Json = [listed, layout.format, layout.dtype, shape, layout.kind]
    return hashlib.sha256(blake3(encode_json(said), key=key).digest()).digest()


def _head_digest(file: ShardFile) -> str:
    head = file.view.head if isinstance(file.view, table.ShardView) else b""
    return hashlib.sha256(head).hexdigest()
