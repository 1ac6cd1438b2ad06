"""The history of a run's roots, one for each step: it can be extended and never rewritten.

A step is a training step, a decoded token or a block of them; its tree has a context and a root. The entries
stand in an RFC 9162 log (`history`), so the log of a longer run is shown to extend that of a shorter one, and
a step is shown to have its root, both with a handful of hashes. Whoever checks has the size of the log and
its root together, from the same place: the root alone does not say how long the log is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from palm_torch.commit import history
from palm_torch.encoding import length_prefixed
from palm_torch.errors import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Sequence

DIGEST_BYTES: Final = 32
ENTRY_BYTES: Final = 4 + len(b"palm-torch/step/v1") + 8 + 2 * DIGEST_BYTES

_TAG: Final = length_prefixed(b"palm-torch/step/v1")


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a run.

    Attributes:
        number: Which one, counted from 0; at most 2^53 − 2.
        context: `terkle.Context.digest` of the step's tree, 32 bytes.
        root: Root of that tree, 32 bytes.

    Raises:
        EvidenceError: If the number or a length is another one.
    """

    number: int
    context: bytes
    root: bytes

    def __post_init__(self) -> None:
        """Refuses what has no encoding."""
        if type(self.number) is not int:
            raise EvidenceError(f"step: expected a whole number, got {self.number!r}")
        if not 0 <= self.number < history.MAX_SIZE:
            raise EvidenceError(f"step: expected a number in [0, {history.MAX_SIZE}), got {self.number}")
        for what, value in (("context", self.context), ("root", self.root)):
            if not isinstance(value, bytes):
                raise EvidenceError(
                    f"step {self.number}: expected a {what} of bytes, got {type(value).__name__}"
                )
            if len(value) != DIGEST_BYTES:
                raise EvidenceError(
                    f"step {self.number}: expected a {what} of {DIGEST_BYTES} bytes, got {len(value)}"
                )

    def encode(self) -> bytes:
        """Returns the entry of the log: ``LP(tag) ‖ u64 number ‖ context ‖ root``, 94 bytes."""
        return _TAG + self.number.to_bytes(8, "big") + self.context + self.root

    @classmethod
    def decode(cls, data: bytes) -> Step:
        """Reads exactly what `encode` writes.

        Raises:
            EvidenceError: If the bytes are anything else.
        """
        if not isinstance(data, bytes):
            raise EvidenceError(f"step: expected {ENTRY_BYTES} bytes, got {type(data).__name__}")
        if len(data) != ENTRY_BYTES or not data.startswith(_TAG):
            raise EvidenceError(f"step: expected {ENTRY_BYTES} bytes that begin {_TAG!r}, got {data[:24]!r}")
        start = len(_TAG)
        number = int.from_bytes(data[start : start + 8], "big")
        return cls(number, data[-2 * DIGEST_BYTES : -DIGEST_BYTES], data[-DIGEST_BYTES:])


class Steps:
    """A growing history; keeps at most 64 bytes for each step."""

    __slots__ = ("_log",)

    def __init__(self) -> None:
        self._log = history.History()

    def __len__(self) -> int:
        """Returns the number of steps so far."""
        return self._log.size

    def append(self, context: bytes, root: bytes) -> Step:
        """Appends the next step and returns it.

        Args:
            context: `terkle.Context.digest` of the step's tree, 32 bytes.
            root: Root of that tree, 32 bytes.

        Raises:
            EvidenceError: If one of them has another length.
        """
        step = Step(len(self), context, root)
        self._log.append(step.encode())
        return step

    def root(self, size: int | None = None) -> bytes:
        """Returns the root of the first `size` steps (of all, if None), 32 bytes.

        Raises:
            DataError: If the history never had that size.
        """
        return self._log.root(size)

    def inclusion_proof(self, number: int, size: int | None = None) -> tuple[bytes, ...]:
        """Returns the proof that a step is among the first `size`.

        Raises:
            DataError: If the history never had that size, or the step is not among them.
        """
        return self._log.inclusion_proof(number, size)

    def consistency_proof(self, old: int, new: int | None = None) -> tuple[bytes, ...]:
        """Returns the proof that the first `new` steps begin with the first `old` ones.

        Raises:
            DataError: If the history never had those sizes, or `old` is above `new`.
        """
        return self._log.consistency_proof(old, new)


def verify_inclusion(step: Step, size: int, root: bytes, proof: Sequence[bytes]) -> None:
    """Checks that a step, by its own number, is in the history of this size and root.

    Raises:
        EvidenceError: If the step is not below the size, or the proof has another number of hashes.
        BindingError: If the history has another step there.
    """
    history.verify_inclusion(step.encode(), step.number, size, root, proof)


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Checks that the history of `new` steps begins with that of `old` steps: nothing was rewritten.

    Raises:
        EvidenceError: If `old` is above `new`, or the proof has another number of hashes.
        BindingError: If the proof does not lead from the one root to the other.
    """
    history.verify_consistency(old, new, old_root, new_root, proof)
