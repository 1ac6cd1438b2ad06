"""The sealed evidence that closes a session, appraised once for all receipts of it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from palm_torch import evidence, statement
from palm_torch.appraisal import verifier
from palm_torch.commit import answers

if TYPE_CHECKING:
    from palm_torch.commit.answers import Replayed
    from palm_torch.evidence import Bundle
    from palm_torch.result import AttestationResult
    from palm_torch.statement import Statement

NAME: Final = "closing evidence"
"""How messages call it."""


class Closing:
    """Sealed evidence of a session, and what came of looking at it.

    Args:
        data: The evidence file's bytes.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._appraised: tuple[dict[str, Any], AttestationResult] | None = None

    @cached_property
    def bundle(self) -> Bundle:
        """The evidence, decoded and not yet believed.

        Raises:
            InputError: If it is malformed.
        """
        return evidence.decode(self._data, what=NAME)

    @cached_property
    def end(self) -> Statement:
        """What it states.

        Raises:
            InputError: If it is malformed.
        """
        return statement.decode(self.bundle.end.statement)

    @cached_property
    def replayed(self) -> Replayed:
        """What its log says of answers.

        Raises:
            BindingError: If that is nothing that happens in a session of answers.
        """
        return answers.replay(self.bundle.log)

    def appraise(self, **demands: Any) -> AttestationResult:  # noqa: ANN401 (as `verifier.verify` takes them)
        """Returns what came of appraising it, anew only if something else is demanded.

        Args:
            demands: Of `palm_torch.appraisal.verifier.verify`.

        Raises:
            InputError: If it is malformed.
            RejectedError: If it must not be believed.
        """
        if self._appraised is None or self._appraised[0] != demands:
            self._appraised = demands, verifier.verify(self._data, what=NAME, **demands)
        return self._appraised[1]
