"""The ids of the tokens that a model was given, as a fact of the trace: committed to with a salt.

The content is int64[B,T], all ids of each sequence, prompt and generated, with -1 where there is padding. It
says what the rows of the embedding were looked up by, and is shown only to whom an answer goes.

Specification: docs/spec/57-audit.md.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from palm_torch.commit import salted
from palm_torch.commit.salted import Content, SaltedOpening
from palm_torch.errors import BindingError, DataError, EvidenceError

if TYPE_CHECKING:
    from palm_torch.digest import Digest

FACT: Final = "tokens"
"""Name of the fact, and role of its opening."""

PADDING: Final = -1

_ID_BYTES: Final = 8
_FORM: Final = re.compile(r"int64\[([1-9][0-9]{0,9}),([1-9][0-9]{0,9})\]")


@dataclass(frozen=True, slots=True)
class Tokens:
    """Ids of the tokens of some sequences.

    Attributes:
        rows: The ids of each sequence, equally many; `PADDING` where there is none.

    Raises:
        DataError: If there are none, not equally many, or an id is no id.
    """

    rows: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        """Refuses what is no batch of ids."""
        lengths = {len(row) for row in self.rows}
        if len(lengths) != 1 or 0 in lengths:
            raise DataError(f"tokens: expected sequences of one length, got lengths {sorted(lengths)[:4]}")
        if (least := min(map(min, self.rows))) < PADDING:
            raise DataError(f"tokens: expected ids from 0 on, or -1 for padding, got {least}")

    @property
    def batch(self) -> int:
        """How many sequences."""
        return len(self.rows)

    @property
    def length(self) -> int:
        """How many tokens each of them has."""
        return len(self.rows[0])

    def require_fit(self, batch: int, fed: int) -> None:
        """Refuses ids of another run than the trace's.

        Args:
            batch: How many sequences the trace has.
            fed: How many tokens of each were fed to the model.

        Raises:
            DataError: If there are others.
        """
        if self.batch != batch or self.length not in (fed, fed + 1):
            raise DataError(
                f"tokens: expected {batch} sequences of {fed} ids, or {fed + 1} with the last one that was "
                f"generated, got {self.batch} of {self.length}: a trace is of one forward pass, or of one "
                "generation"
            )

    def require_generated(self, given: int) -> None:
        """Refuses padding among the tokens that the model generated: what it computed there would go unseen.

        Args:
            given: How many tokens of each sequence may have been given, padding among them; all of them, of a
                forward pass alone.

        Raises:
            BindingError: If there is some.
        """
        for sequence, row in enumerate(self.rows):
            if PADDING in row[given:]:
                raise BindingError(
                    f"tokens: sequence {sequence}, token {row.index(PADDING, given)} was generated, and is "
                    "bound as padding: what was computed there would go unseen; bind ids with the attention "
                    "mask of the prompt"
                )

    def content(self) -> Content:
        """Returns what is committed to."""
        packed = b"".join(struct.pack(f"<{self.length}q", *row) for row in self.rows)
        return Content(f"int64[{self.batch},{self.length}]", packed)

    def position(self, sequence: int, token: int) -> int:
        """Returns how many tokens before this one are no padding: its position for the model."""
        return sum(number != PADDING for number in self.rows[sequence][:token])


def opening(tokens: Tokens, salt: bytes) -> SaltedOpening:
    """Returns what shows the ids to whoever may know them.

    Args:
        tokens: The ids.
        salt: 32 bytes, those of the commitment.
    """
    content = tokens.content()
    return SaltedOpening(
        digest=salted.commit(content, salt), role=FACT, form=content.form, content=content.content, salt=salt
    )


def verify(shown: SaltedOpening, fact: Digest | None) -> Tokens:
    """Checks that an opening is that of a trace's fact, and returns the ids.

    Args:
        shown: The opening.
        fact: The fact `FACT` of the trace's context; None if it has none.

    Raises:
        BindingError: If it is another one's.
        EvidenceError: If what was committed to are no ids of tokens.
    """
    content = salted.verify(shown, fact, what="opening of the tokens")
    match = _FORM.fullmatch(content.form)
    if match is None:
        raise EvidenceError(f"tokens: form: expected int64[B,T], got {content.form!r}")
    batch, length = map(int, match.groups())
    if len(content.content) != batch * length * _ID_BYTES:
        raise EvidenceError(f"tokens: expected {content.form}, got {len(content.content)} bytes")
    step = length * _ID_BYTES
    rows = [content.content[at : at + step] for at in range(0, batch * step, step)]
    try:
        return Tokens(tuple(struct.unpack(f"<{length}q", row) for row in rows))
    except DataError as error:
        raise EvidenceError(str(error)) from error
