"""The receipt of an answer in the hands of whoever ran the session, with what opens its commitments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from palm_torch.attesting.signed_receipt import SignedReceipt
from palm_torch.commit.salted import Content, Salts
from palm_torch.digest import Digest

if TYPE_CHECKING:
    from palm_torch.commit.salted import SaltedOpening


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SignedAnswer(SignedReceipt):
    """A receipt that a session has just issued for one answer.

    It holds question and answer, and their salts: let go of it when they are not needed any more.

    Attributes:
        salts: What opens the commitments to question and answer.
        query: What was asked.
        response: What was answered.
        logits: Digest of the logits of each generated token, in order, of which the trace binds the root;
            empty if none were given. They hide nothing from whoever has the model and guesses the question.
    """

    salts: Salts
    query: Content
    response: Content
    logits: tuple[Digest, ...] = ()

    @property
    def openings(self) -> dict[str, SaltedOpening]:
        """What shows ``query`` and ``response`` to others, for whom the receipt alone shows nothing."""
        return {
            "query": self.salts.opening("query", self.query),
            "response": self.salts.opening("response", self.response),
        }
