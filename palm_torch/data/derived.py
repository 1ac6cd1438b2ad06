"""The multiset hash of what was delivered of a dataset, derived from its manifest's and from the counts.

The hash of the whole dataset to the power of the most frequent count, corrected for every record that was
delivered more or less often: while training runs nothing is multiplied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from palm_torch.commit import multiset, records
from palm_torch.data.carrier import NUMBER
from palm_torch.errors import DataError, ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from palm_torch.commit.manifest import Manifest
    from palm_torch.data.group_table import GroupTable
    from palm_torch.data.open_datasets import DatasetInfo

_TALLY_RECORDS: Final = 1 << 16


def tallied(counts: NDArray[Any]) -> dict[int, int]:
    """Returns each count that occurs and how many records have it."""
    total: dict[int, int] = {}
    for start in range(0, len(counts), _TALLY_RECORDS):
        values, times = np.unique(counts[start : start + _TALLY_RECORDS], return_counts=True)
        for value, number in zip(values.tolist(), times.tolist(), strict=True):
            total[value] = total.get(value, 0) + number
    return total


def multiset_of(info: DatasetInfo, counts: NDArray[Any], tally: dict[int, int]) -> multiset.MultisetHash:
    """Returns the multiset hash of what was delivered, from the manifest's and the counts.

    With b the most frequent count and D the dataset, it is MSH(D)^b · Π eᵢ^(mᵢ−b) over the records whose
    count mᵢ is not b. Records of one count are multiplied together first and raised once.

    Args:
        info: The dataset, with its manifest.
        counts: How often each record was delivered.
        tally: What `tallied` makes of them.

    Raises:
        ManifestError: If there is no manifest now, or it was rewritten since it was opened.
    """
    if info.table is None or info.manifest is None:
        raise ManifestError(
            f"{info.path}: has no manifest now, and the multiset hash of what was delivered follows from it: "
            "expected the dataset as it was opened when the run began"
        )
    base = max(tally, key=lambda count: (tally[count], -count))
    made = _of_manifest(info, info.manifest)
    made.power(base)
    by_count = {count: multiset.MultisetHash(number=NUMBER) for count in tally if count != base}
    if not by_count:
        return made
    for start, digests in _groups_with(info.table, counts, base):
        for count, part in by_count.items():
            chosen = np.flatnonzero(counts[start : start + records.GROUP_RECORDS] == count)
            if len(chosen):
                part.add_many(digests[chosen].tobytes())
    less = multiset.MultisetHash(number=NUMBER)
    for count, part in by_count.items():
        part.power(abs(count - base))
        (made if count > base else less).union(part)
    return _without(made, less)


def _without(made: multiset.MultisetHash, less: multiset.MultisetHash) -> multiset.MultisetHash:
    """Returns the multiset without another that is part of it, at the price of one modular inversion."""
    modulus = NUMBER(made.parameters.modulus)
    inverse = pow(NUMBER.from_bytes(less.state, "big"), -1, modulus)
    state = NUMBER.from_bytes(made.state, "big") * inverse % modulus
    return multiset.MultisetHash.from_state(
        state.to_bytes(multiset.STATE_BYTES, "big"), made.count - less.count, number=NUMBER
    )


def _of_manifest(info: DatasetInfo, manifest: Manifest) -> multiset.MultisetHash:
    stated = manifest.multiset
    try:
        return multiset.MultisetHash.from_state(bytes.fromhex(stated.state), stated.count, number=NUMBER)
    except DataError as error:
        raise ManifestError(f"{info.path}: the manifest's multiset hash: {error}") from error


def _groups_with(
    table: GroupTable, counts: NDArray[Any], base: int
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yields the groups in which some record's count is not `base`: first record, digests [n, 32]."""
    for start in range(0, len(counts), records.GROUP_RECORDS):
        if (counts[start : start + records.GROUP_RECORDS] != base).any():
            group = table.group(start // records.GROUP_RECORDS)
            yield start, np.frombuffer(group, dtype=np.uint8).reshape(-1, records.DIGEST_BYTES)
