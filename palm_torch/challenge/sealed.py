"""What was sealed about a run, as an audit's request names it.

Of evidence it is the claims root of its end, which the last quote commits to. Of a receipt, which is signed
before there is an end, it is the SHA-256 of its statement: the very bytes that are signed. Neither says what
is true; whoever draws a request has appraised them before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_torch import receipt
from palm_torch.digest import TAGGED_SHA256, Digest, sha256_digest
from palm_torch.sessions import seals

if TYPE_CHECKING:
    from palm_torch.evidence import Bundle
    from palm_torch.receipt import AnswerReceipt


def of_evidence(bundle: Bundle) -> Digest:
    """Returns the claims root that the last quote of sealed evidence commits to."""
    return Digest(TAGGED_SHA256, seals.end_claims_root(bundle))


def of_receipt(content: AnswerReceipt) -> Digest:
    """Returns the SHA-256 of the statement of a receipt: its identity, whatever its signature."""
    return sha256_digest(receipt.encode_content(content))
