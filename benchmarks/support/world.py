"""The model that is claimed, what provers have at hand, and what one of them shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import torch

from support import serving
from support.serving import Served

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.trained import Trained

PROMPT: Final = 96
NEW: Final = 33
"""TOPLOC makes one proof of the prompt and exactly one of such an answer, whose last token is never fed."""

Broken: TypeAlias = "Callable[[Literal['embedding', 'block', 'head'], int, int], bool]"
"""(kind of part, number of the block or 0, token) → whether an operation there does not hold."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a prover shows.

    Attributes:
        served: The tensors that it commits to, and the tokens that it claims.
        broken: Where the claimed computation does not hold.
        sealed: What was committed to at the time of the answer, if that is something else.
    """

    served: Served
    broken: Broken
    sealed: Served | None = None


@dataclass(slots=True)
class World:
    """The claimed model, and what provers have at hand.

    Attributes:
        model: What is claimed, bfloat16.
        other: The same architecture and data, another seed.
        tuned: The claimed model after some steps on other data.
        texts: Records that nobody trained on, int64 [records, 257], in random order: neighbours are of one
            file, and whoever calibrates on some of them shall have prompts like those that follow.
        weakest: The blocks with the lowest scores.
        new: Tokens of an answer.
    """

    model: Any
    other: Any
    tuned: Any
    texts: torch.Tensor
    weakest: tuple[int, ...] = ()
    new: int = NEW
    _made: dict[str, Any] = field(default_factory=dict)
    _honest: dict[int, Served] = field(default_factory=dict)

    @classmethod
    def of(cls, trained: Trained) -> World:
        """Returns the world of trained models, in bfloat16; the scores are still to come."""
        claimed, other, tuned = (
            model.bfloat16() for model in (trained.claimed, trained.other, trained.tuned)
        )
        mixed = torch.randperm(len(trained.unseen), generator=torch.Generator().manual_seed(0))
        return cls(claimed, other, tuned, trained.unseen[mixed])

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return int(self.model.config.num_hidden_layers)

    def prompt(self, run: int) -> torch.Tensor:
        """Returns a prompt, int64 [1, T]."""
        return self.texts[run % len(self.texts), None, :PROMPT]

    def honest(self, run: int) -> Served:
        """Returns the claimed model's answer to a prompt."""
        if run not in self._honest:
            self._honest[run] = serving.serve(self.model, self.prompt(run), self.new)
        return self._honest[run]

    def made(self, name: str, make: Callable[[], Any]) -> Any:  # noqa: ANN401 (transformers has no types)
        """Returns a changed model, made once."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]
