"""Rows of a trace as arrays, each out of an opening that was checked against the trace root.

The arrays are views of the bytes that were hashed, and read-only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from palm_torch.audit import weights_file
from palm_torch.challenge.modules import Modules
from palm_torch.commit import trace_opening
from palm_torch.commit.trace_rows import Sites
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from palm_torch.commit.trace import Context
    from palm_torch.commit.trace_opening import TraceOpening
    from palm_torch.commit.trace_rows import Question
    from palm_torch.digest import Digest


class Opened:
    """Rows that were opened, by module, sequence and token; `verified` makes it.

    Args:
        arrays: For each question its answer: sequences × tokens × channels.
        shared: Modules of which one sequence stands for all, as that of positions does.
    """

    def __init__(self, arrays: Sequence[tuple[Question, NDArray[Any]]], shared: Collection[str] = ()) -> None:
        self._shared = frozenset(shared)
        self._by_module: dict[str, list[tuple[Question, NDArray[Any]]]] = {}
        for question, array in arrays:
            self._by_module.setdefault(question.site.module, []).append((question, array))

    def rows(self, module: str, sequence: int, tokens: range) -> NDArray[Any]:
        """Returns rows of a module, tokens × channels, in the element type of the trace.

        Args:
            module: Canonical path of the module.
            sequence: Number of the sequence.
            tokens: The tokens, as the module's own calls count them; at least one, without steps.

        Raises:
            DataError: If they are not all within the openings.
        """
        if module in self._shared:
            sequence = 0
        pieces: list[NDArray[Any]] = []
        at = tokens.start
        for question, array in self._by_module.get(module, []):
            (batch, past_batch), (first, last) = question.batch, question.tokens
            if batch <= sequence < past_batch and first <= at < last:
                end = min(last, tokens.stop)
                pieces.append(array[sequence - batch, at - first : end - first])
                at = end
            if at == tokens.stop:
                return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        raise DataError(
            f"{module}: expected openings with sequence {sequence}, tokens {tokens.start} to "
            f"{tokens.stop - 1}, got none with token {at}"
        )

    def row(self, module: str, sequence: int, token: int) -> NDArray[Any]:
        """Returns one row of a module, as `rows` does."""
        found: NDArray[Any] = self.rows(module, sequence, range(token, token + 1))[0]
        return found

    def dtype(self, module: str) -> str:
        """Returns torch's name of the element type of a module's opened rows.

        Raises:
            DataError: If none were opened.
        """
        for _, array in self._by_module.get(module, []):
            return next(name for name, dtype in weights_file.DTYPES.items() if dtype == array.dtype)
        raise DataError(f"{module}: expected an opening of it, got none")


def verified(
    root: Digest, context: Context, questions: Sequence[Question], openings: Sequence[TraceOpening]
) -> Opened:
    """Checks the openings of an answer, each against the trace root, and returns what they show.

    Args:
        root: The trace root.
        context: The trace's context, decoded after its root was found equal.
        questions: What the request asks.
        openings: What the answer shows, one for each question, in the same order.

    Raises:
        BindingError: If one answers something else, or is not of this trace.
        EvidenceError: If one is malformed.
        DataError: If one has an element type that no audit computes with.
    """
    sites = Sites(context)
    arrays = [
        (question, _array(root, context, question, opening, sites))
        for question, opening in zip(questions, openings, strict=True)
    ]
    modules = dict.fromkeys(question.site.module for question in questions)
    found = Modules(context)
    batches = {module: found.find(module)[1].schedule[0].batch for module in modules}
    most = max(batches.values(), default=1)
    return Opened(arrays, [module for module, batch in batches.items() if batch == 1 < most])


def _array(
    root: Digest, context: Context, question: Question, opening: TraceOpening, sites: Sites
) -> NDArray[Any]:
    shown = trace_opening.verify_in(root, context, question, opening, sites=sites)
    dtype = weights_file.DTYPES.get(shown.dtype)
    if dtype is None:
        raise DataError(
            f"opening of {question.site}: expected one of {', '.join(weights_file.DTYPES)}, got "
            f"{shown.dtype}: no audit computes with it"
        )
    return np.frombuffer(shown.values, dtype).reshape(shown.shape)
