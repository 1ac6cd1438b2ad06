"""Openings of what was asked and answered, against verified receipts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from palm_torch.commit import salted
from palm_torch.errors import BindingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palm_torch.commit.salted import Content, SaltedOpening
    from palm_torch.receipt import AnswerReceipt

ROLES: Final = ("query", "response")
"""Roles of a receipt that are salted commitments."""


def match(
    opening: SaltedOpening, answers: Sequence[AnswerReceipt], *, what: str = "opening"
) -> tuple[int, str, Content]:
    """Finds what an opening opens, and checks that it does.

    Args:
        opening: The opening.
        answers: What verified receipts say.
        what: Name of the opening, for messages.

    Returns:
        Place among the answers, role, and what was asked or answered.

    Raises:
        BindingError: If none of the answers has its commitment in its role, or it does not make it.
    """
    for place, answer in enumerate(answers):
        for role in ROLES:
            digest = getattr(answer, role).digest
            if role == opening.role and digest == opening.digest:
                return place, role, salted.verify(opening, digest, what=what)
    raise BindingError(
        f"{what}: expected an opening of the {' or '.join(ROLES)} of one of {len(answers)} answers, got "
        f"{opening.role[:40]!r} {opening.digest}"
    )
