"""The receipt of an answer in the hands of whoever ran the session, with what opens its commitments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from palm_torch.attesting.signed_receipt import SignedReceipt
from palm_torch.commit.salted import SaltedOpening
from palm_torch.digest import Digest


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SignedAnswer(SignedReceipt):
    """A receipt that a session has just issued for one answer.

    Attributes:
        openings: ``query`` and ``response`` → what shows them to others, for whom the receipt alone shows
            nothing. They hold the content: let go of this object when they are not needed any more.
        logits: Digest of the logits of each generated token, in order, of which the trace binds the root;
            empty if none were given. They hide nothing from whoever has the model and guesses the question.
    """

    openings: Mapping[str, SaltedOpening]
    logits: tuple[Digest, ...] = ()
