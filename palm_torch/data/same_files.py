"""What proves, on one machine, that two processes have opened the same files.

Without a manifest nothing that is sealed says which dataset it was: two that look alike may be each rank's
own. Where ranks of one machine have opened the same files, in the same folders, unchanged in between, and
with the same key, their counts are of one dataset, as those of one process that reads a file twice are.
The proof is compared on the machine and leaves it nowhere: it is about places, not about contents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from palm_torch.digest import Digest, tagged_digest
from palm_torch.encoding import encode_json

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from palm_torch.encoding import Json

TAG: Final = "palm-torch/same-files/v1"


def proof(files: Iterable[Path], key: bytes) -> Digest | None:
    """Returns a digest that two processes of one machine have in common if their datasets are one.

    It is over device, inode, size and times of each file, and over device and inode of the folder that it
    lies in, for some formats have an index beside the data.

    Args:
        files: The dataset's files, in order, just opened.
        key: Keys the record digests.

    Returns:
        The digest; None if there are no files, or one is not there any more.
    """
    told: list[Json] = []
    try:
        for file in files:
            own, folder = file.stat(), file.parent.stat()
            numbers = (own.st_dev, own.st_ino, own.st_size, own.st_mtime_ns, own.st_ctime_ns)
            told.append([str(number) for number in (*numbers, folder.st_dev, folder.st_ino)])
    except OSError:
        return None
    return tagged_digest(TAG, encode_json(told), key) if told else None
