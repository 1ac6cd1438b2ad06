"""What a training run says of itself that no digest covers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from palm_torch.errors import ClaimError
from palm_torch.properties import Train
from palm_torch.result import Reservation

if TYPE_CHECKING:
    from palm_torch.statement import Statement

EXTRA_STATE: Final = "extra_state"
"""Under which the configuration lists modules that keep state of their own."""


def of_statement(end: Statement) -> list[Reservation]:
    """Returns a reservation if modules keep state that is neither parameter nor buffer.

    Raises:
        ClaimError: If they are listed in another form.
    """
    if not isinstance(end.claims, Train):
        return []
    listed = end.claims.configuration.value.get(EXTRA_STATE)
    if not isinstance(listed, list):
        raise ClaimError(f"configuration: expected {EXTRA_STATE!r} to be a list, got {listed!r:.80}")
    if not listed:
        return []
    return [
        Reservation(
            about="claims",
            reason=f"{len(listed)} modules keep extra state, such as {listed[0]}, which is in no digest",
            advice=(
                "see in the code what get_extra_state of those modules keeps, and ask for a script that "
                "keeps it in a buffer"
            ),
        )
    ]
