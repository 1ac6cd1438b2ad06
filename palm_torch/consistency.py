"""Whether a statement agrees with itself: roots with their parts, counts with each other.

None of this needs a policy: a statement that fails here was not made by this library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_torch import statement
from palm_torch.commit import multiset, weights_root
from palm_torch.errors import ClaimError, DataError, PalmTorchError
from palm_torch.properties import Bind
from palm_torch.roles import Dataset, Multiset, Weights

if TYPE_CHECKING:
    from palm_torch.statement import Statement


def check(end: Statement) -> None:
    """Checks everything that one part of a statement says about another.

    Raises:
        ClaimError: Naming the role and the two values that disagree.
    """
    if end.run.code.digest != statement.code_digest(end.run.code.files):
        raise ClaimError("code: the digest is not that of the files listed")
    for role in type(end.claims).__dataclass_fields__:
        filled = getattr(end.claims, role)
        if isinstance(filled, Weights):
            _check_weights(role, filled)
        elif isinstance(filled, Dataset):
            _check_dataset(role, filled)
        elif isinstance(filled, dict):
            for name, item in filled.items():
                if isinstance(item, Dataset):
                    _check_dataset(f"{role}.{name}", item)
    if isinstance(end.claims, Bind):
        _check_multiset("multiset", end.claims.multiset, end.claims.records)


def _check_weights(role: str, weights: Weights) -> None:
    try:
        root = weights_root.claimed_root(weights.tensors)
    except DataError as error:
        raise ClaimError(f"{role}: {error}") from error
    if root != weights.digest:
        raise ClaimError(f"{role}: weights root {weights.digest}, but its tensors give {root}")


def _check_multiset(role: str, claimed: Multiset, count: int) -> None:
    if claimed.scheme not in multiset.POLICY_SCHEMES:
        raise ClaimError(f"{role}: multiset scheme {claimed.scheme[:40]!r} is for known answers only")
    try:
        multiset.MultisetHash.from_state(bytes.fromhex(claimed.state), claimed.count)
    except PalmTorchError as error:
        raise ClaimError(f"{role}: {error}") from error
    if claimed.count != count:
        raise ClaimError(f"{role}: multiset of {claimed.count} records, but {count} were delivered")


def _check_dataset(role: str, dataset: Dataset) -> None:
    if dataset.records <= 0 or dataset.record_bytes <= 0:
        raise ClaimError(f"{role}: a dataset of {dataset.records} records of {dataset.record_bytes} bytes")
    for use, delivered in dataset.uses.items():
        what = f"{role}.{use}"
        _check_multiset(what, delivered.multiset, delivered.delivered)
        least, greatest = delivered.least, delivered.greatest
        plausible = (
            0 <= least <= greatest
            and least * dataset.records <= delivered.delivered <= greatest * delivered.distinct
            and 0 <= delivered.distinct <= min(dataset.records, delivered.delivered)
            and (least > 0) == (delivered.distinct == dataset.records)
        )
        if not plausible:
            raise ClaimError(
                f"{what}: {delivered.delivered} delivered, {delivered.distinct} distinct of "
                f"{dataset.records}, multiplicities {least} to {greatest}: these numbers exclude each other"
            )
