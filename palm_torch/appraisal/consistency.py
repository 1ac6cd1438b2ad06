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
from palm_torch.roles import Dataset, Weights

if TYPE_CHECKING:
    from palm_torch.roles import Delivered
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
        elif isinstance(filled, Dataset):
            _check_dataset(role, filled)
        elif isinstance(filled, dict):
            for name, item in filled.items():
                if isinstance(item, Dataset):
                    _check_dataset(f"{role}.{name}", item)
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
    if dataset.records <= 0 or dataset.record_bytes <= 0:
        raise ClaimError(f"{role}: a dataset of {dataset.records} records of {dataset.record_bytes} bytes")
    for use, counted in dataset.uses.items():
        what = f"{role}.{use}"
        delivered.check(what, counted.multiset, counted.delivered)
        if not _plausible(counted, dataset.records):
            raise ClaimError(
                f"{what}: {counted.delivered} delivered, {counted.distinct} distinct of "
                f"{dataset.records}, multiplicities {counted.least} to {counted.greatest}: these numbers "
                "exclude each other"
            )


def _plausible(counted: Delivered, records: int) -> bool:
    """Whether some multiplicities of `records` records have this sum, support, least and greatest."""
    least, greatest, distinct = counted.least, counted.greatest, counted.distinct
    if not 0 <= distinct <= records or not 0 <= least <= greatest or (least > 0) != (distinct == records):
        return False
    if distinct == 0:
        return greatest == counted.delivered == 0
    others = distinct - 1  # beside one record that occurs `greatest` times
    fewest = greatest + others * max(least, 1)
    most = (least or greatest) + others * greatest
    return greatest > 0 and fewest <= counted.delivered <= most
