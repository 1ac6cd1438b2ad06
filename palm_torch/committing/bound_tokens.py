"""The ids of the tokens of a run, bound to its trace: from tensors to a commitment with a salt."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from palm_torch.challenge import tokens as audit_tokens
from palm_torch.challenge.tokens import PADDING, Tokens
from palm_torch.commit import salted
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palm_torch.commit.salted import SaltedOpening
    from palm_torch.commit.trace_groups import Group
    from palm_torch.digest import Digest

_DIMENSIONS: Final = 2
_MASKS: Final = frozenset({torch.bool, torch.int32, torch.int64, torch.float32})


@dataclass(frozen=True, slots=True)
class BoundTokens:
    """Ids with the salt of their commitment.

    Attributes:
        tokens: The ids.
        salt: 32 bytes.
    """

    tokens: Tokens
    salt: bytes

    @property
    def digest(self) -> Digest:
        """The commitment."""
        return salted.commit(self.tokens.content(), self.salt)

    def require_fit(self, groups: Sequence[Group]) -> None:
        """Refuses ids of another run, as far as the shapes of what was captured say so.

        Args:
            groups: The groups of the trace; none while nothing is known of it.

        Raises:
            DataError: If no tensor has as many sequences and tokens.
        """
        there = {
            (group.schedule[0].batch, sum(run.count * run.tokens for run in group.schedule))
            for group in groups
        }
        fitting = {(self.tokens.batch, self.tokens.length), (self.tokens.batch, self.tokens.length - 1)}
        if there and not there & fitting:
            raise DataError(
                f"tokens: expected as many as were fed, with or without the last that was generated, got "
                f"{self.tokens.batch} sequences of {self.tokens.length}: the tensors that were captured have "
                f"{sorted(there)[:4]} (sequences, tokens)"
            )

    def opening(self) -> SaltedOpening:
        """Returns what shows the ids."""
        return audit_tokens.opening(self.tokens, self.salt)


def bind(ids: object, attention_mask: object) -> BoundTokens:
    """Returns ids with a fresh salt.

    Args:
        ids: int64 [B, T]: prompt and what was generated, as `generate` returns them.
        attention_mask: [B, T'] with T' up to T, 0 where there is padding; tokens beyond it are none.

    Raises:
        DataError: If they are none of these.
    """
    if not isinstance(ids, torch.Tensor) or ids.dtype != torch.int64 or ids.dim() != _DIMENSIONS:
        raise DataError(
            f"tokens: expected a tensor int64 [sequences, tokens], got {_described(ids)}; of an output with "
            "fields, pass its `sequences`"
        )
    rows = ids.tolist()
    if attention_mask is not None:
        mask = attention_mask
        if not isinstance(mask, torch.Tensor) or mask.dtype not in _MASKS or mask.dim() != _DIMENSIONS:
            raise DataError(
                f"attention_mask: expected a tensor [sequences, tokens] of 0 and 1, got {_described(mask)}"
            )
        if len(mask) != len(ids) or mask.shape[1] > ids.shape[1]:
            raise DataError(
                f"attention_mask: expected {len(ids)} sequences of at most {ids.shape[1]} tokens, got "
                f"{list(mask.shape)}"
            )
        if not bool(((mask == 0) | (mask == 1)).all()):
            raise DataError("attention_mask: expected 0 and 1 alone, got other numbers")
        for row, bits in zip(rows, mask.tolist(), strict=True):
            row[: len(bits)] = [token if bit else PADDING for token, bit in zip(row, bits, strict=False)]
    bound = Tokens(tuple(map(tuple, rows)))
    return BoundTokens(bound, secrets.token_bytes(salted.SALT_BYTES))


def _described(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return type(value).__name__
