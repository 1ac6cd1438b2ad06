"""One pass over a manifest's record digests, with the coverage maps and the records themselves beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from palm_torch.commit import coverage_file, records
from palm_torch.commit.coverage_file import CoverageFile
from palm_torch.commit.deliveries import Deliveries
from palm_torch.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palm_torch.appraisal.at_hand import Held
    from palm_torch.commit.multiset import MultisetHash


@dataclass(frozen=True, slots=True)
class Mapped:
    """A coverage map that is being read, and what its counts make of the record digests."""

    file: CoverageFile
    made: Deliveries


class Reading:
    """One pass over the record digests of a manifest, which come a piece at a time.

    Args:
        held: What is at hand.
        mapped: The coverage maps that are read beside.
        whole: What every digest is added to once, or None.
        every: Whether every record was delivered, or only those that a map counts.
    """

    __slots__ = ("_every", "_held", "_mapped", "_seen", "_whole", "again")

    def __init__(
        self, held: Held, mapped: Sequence[Mapped], whole: MultisetHash | None, *, every: bool
    ) -> None:
        self._held = held
        self._mapped = mapped
        self._whole = whole
        self._every = every
        self._seen = 0
        self.again = 0

    def take(self, digests: bytes) -> None:
        """Takes the next record digests, in order."""
        number = len(digests) // records.DIGEST_BYTES
        counted = [(one, one.file.take(number)) for one in self._mapped]
        if self._held.records is not None:
            numbers = [coverage_file.numbers(counts, one.file.width) for one, counts in counted]
            for at in range(number):
                if self._every or any(counts[at] for counts in numbers):
                    self._hash_again(
                        self._seen + at, digests[at * records.DIGEST_BYTES : (at + 1) * records.DIGEST_BYTES]
                    )
        for one, counts in counted:
            one.made.add(digests, counts, one.file.width)
        if self._whole is not None:
            self._whole.add_many(digests)
        self._seen += number

    def _hash_again(self, number: int, expected: bytes) -> None:
        at_hand = self._held.records
        if at_hand is not None and at_hand.digest(number) != expected:
            raise ArtifactError(
                f"record {number} ({at_hand.where(number)}) is not the one that {self._held.path} was made "
                "of: it changed since, or the salt is another"
            )
        self.again += 1
