"""What a verifier holds besides evidence: files by role, data and proofs, other parts of its run.

Nothing is read here, and what reads it is loaded only where there is some.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from palm_torch.statement import Statement

NO_FILE: Final = (
    "whether a file that you hold is the model, or anything else, of this run: no file was compared"
)


class Records(Protocol):
    """The records themselves, at hand."""

    def digest(self, number: int) -> bytes:
        """Returns the digest of a record as it lies there now, 32 bytes."""

    def where(self, number: int) -> str:
        """Says where a record lies, for messages."""


@dataclass(frozen=True, slots=True)
class Held:
    """What the verifier holds of one dataset.

    Attributes:
        path: The manifest.
        records: The records, if they are to be read and hashed again.
    """

    path: Path
    records: Records | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """What the verifier holds of the data of a run.

    Attributes:
        datasets: Role of a dataset and what is held of it; the empty role leaves it to the manifest.
        coverage: Coverage maps, under any name.
        inclusions: Proofs of how often one record was delivered.
        evidence: Where the evidence lies, and the coverage maps that travelled with it.
    """

    datasets: tuple[tuple[str, Held], ...] = ()
    coverage: tuple[Path, ...] = ()
    inclusions: tuple[Path, ...] = ()
    evidence: Path | None = None


NO_DATA: Final = Data()


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """What parts say together.

    Attributes:
        end: A statement as one machine would have made it, of all ranks at hand.
        at_hand: Numbers of the parts at hand.
    """

    end: Statement
    at_hand: tuple[int, ...]
