"""The multiset hash of delivered records: a hash in use, well-formed, over as many records as are counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_torch.commit import multiset
from palm_torch.errors import ClaimError, PalmTorchError

if TYPE_CHECKING:
    from palm_torch.roles import Multiset


def check(what: str, claimed: Multiset, count: int) -> None:
    """Checks a multiset hash against the number of records delivered.

    Args:
        what: Whose hash it is, for messages.
        claimed: What the statement or receipt says.
        count: How many records it says were delivered.

    Raises:
        ClaimError: If the scheme is none for evidence, the state is no state of it, or the counts differ.
    """
    if claimed.scheme not in multiset.POLICY_SCHEMES:
        raise ClaimError(f"{what}: multiset scheme {claimed.scheme[:40]!r} is for known answers only")
    try:
        multiset.MultisetHash.from_state(bytes.fromhex(claimed.state), claimed.count)
    except PalmTorchError as error:
        raise ClaimError(f"{what}: {error}") from error
    if claimed.count != count:
        raise ClaimError(f"{what}: multiset of {claimed.count} records, but {count} were delivered")
