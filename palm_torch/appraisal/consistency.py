"""Whether a statement agrees with itself: roots with their parts, counts with each other.

None of this needs a policy: a statement that fails here was not made by this library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_torch import statement
from palm_torch.appraisal import delivered
from palm_torch.commit import weights_root
from palm_torch.errors import ClaimError, DataError
from palm_torch.properties import Bind
from palm_torch.roles import Dataset, Weights, Written

if TYPE_CHECKING:
    from palm_torch.roles import Counts
    from palm_torch.statement import Statement


def check(end: Statement) -> None:
    """Checks everything that one part of a statement says about another.

    Raises:
        ClaimError: Naming the role and the two values that disagree.
    """
    if end.run.code.digest != statement.code_digest(end.run.code.files):
        raise ClaimError("code: the digest is not that of the files listed")
    modules = [file.module for file in end.run.code.files]
    if modules != sorted(set(modules)):
        raise ClaimError("code: the files are not in order of module name, each once")
    for role, filled in end.roles().items():
        if isinstance(filled, Weights):
            _check_weights(role, filled)
        elif isinstance(filled, dict):
            for name, item in filled.items():
                if isinstance(item, Dataset):
                    _check_dataset(f"{role}.{name}", item)
                elif isinstance(item, Written):
                    delivered.check(f"{role}.{name}", item.multiset, item.records)
    if isinstance(end.claims, Bind):
        delivered.check("multiset", end.claims.multiset, end.claims.records)


def _check_weights(role: str, weights: Weights) -> None:
    if (weights.taken == "end") == (role in ("initial", "base")):
        raise ClaimError(f"{role}: weights taken at {weights.taken!r}")
    try:
        root = weights_root.claimed_root(weights.tensors)
    except DataError as error:
        raise ClaimError(f"{role}: {error}") from error
    if root != weights.digest:
        raise ClaimError(f"{role}: weights root {weights.digest}, but its tensors give {root}")


def _check_dataset(role: str, dataset: Dataset) -> None:
    records, size = dataset.records, dataset.record_bytes
    if (records is not None and records <= 0) or (size is not None and size <= 0):
        raise ClaimError(f"{role}: a dataset of {records} records of {size} bytes")
    if records is None and dataset.manifest is not None:
        raise ClaimError(f"{role}: a stream, and a manifest of it: only what has an index has a manifest")
    for use, counted in dataset.uses.items():
        what = f"{role}.{use}"
        delivered.check(what, counted.multiset, counted.delivered)
        counts = counted.counts
        if (counts is None) != (records is None):
            raise ClaimError(f"{what}: expected counts by index exactly where the number of records is known")
        if not 0 <= (counted.padded or 0) <= counted.delivered or not counted.order:
            raise ClaimError(
                f"{what}: {counted.padded} of {counted.delivered} records repeated to fill up ranks, "
                f"{len(counted.order)} order chains: these numbers exclude each other"
            )
        if counts is not None and records is not None and not _plausible(counted.delivered, counts, records):
            raise ClaimError(
                f"{what}: {counted.delivered} delivered, {counts.distinct} distinct of "
                f"{records}, multiplicities {counts.least} to {counts.greatest}: these numbers "
                "exclude each other"
            )


def _plausible(delivered: int, counts: Counts, records: int) -> bool:
    """Whether some multiplicities of `records` records have this sum, support, least and greatest."""
    least, greatest, distinct = counts.least, counts.greatest, counts.distinct
    if not 0 <= distinct <= records or not 0 <= least <= greatest or (least > 0) != (distinct == records):
        return False
    if distinct == 0:
        return greatest == delivered == 0
    others = distinct - 1  # beside one record that occurs `greatest` times
    fewest = greatest + others * max(least, 1)
    most = (least or greatest) + others * greatest
    return greatest > 0 and fewest <= delivered <= most
