"""Checks that allow for rounding: our fingerprint and TOPLOC, on the same rows, calibrated on the same runs.

The threshold of both comes about in one way, that of `palm_torch.audit.calibration`. Every third prompt says
how large each measure of a method is; a score is the largest measure in these units; the threshold is the
largest score of the other prompts, none of which exceeds it. So, if later honest prompts are like these n,
each method accuses at most one of n + 1 of them.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import ml_dtypes
import torch

from palm_torch.audit import calibration, fingerprint, fingerprint_distance
from support import toploc
from support.world import PROMPT

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from palm_torch.audit.fingerprint_file import Fingerprint
    from support.rerunning import Rows

Apart: TypeAlias = Any
"""How far two runs are apart, as a method says it."""

RATE: Final = 1e-6
"""Of false alarms, so low that no calibration run may exceed the threshold."""

_UNITS_EVERY: Final = 3
_FLOORS: Final = (1.0, 0.1, 0.1)
"""Least that counts as a unit of TOPLOC's three errors."""


class Judge(Protocol):
    """A method with a threshold."""

    @property
    def threshold(self) -> float:
        """The score above which a run is no honest one."""

    def score(self, apart: Apart) -> float:
        """Returns how far two runs are apart, as one number."""


class Method(Protocol):
    """A way to compare two runs.

    Attributes:
        name: For tables.
        rows: How many runs of it were compared.
    """

    @property
    def name(self) -> str:
        """For tables."""

    def modules(self, depth: int) -> list[str]:
        """Returns which rows it needs of a Llama with so many blocks."""

    def nbytes(self, shown: Rows) -> int:
        """Returns how much a prover sends."""

    def apart(self, shown: Rows, own: Rows) -> Apart:
        """Compares what a prover shows with a run of one's own."""

    def calibrated(self, prompts: Sequence[Sequence[Apart]]) -> Judge:
        """Returns the judge that honest re-runs give, for each prompt some."""


@dataclass(frozen=True, slots=True)
class Toploc:
    """TOPLOC as it was restated: the last hidden states."""

    name: str = "TOPLOC, restated"

    def modules(self, depth: int) -> list[str]:  # noqa: ARG002 (as others are asked)
        """Returns the last norm."""
        return ["model.norm"]

    def nbytes(self, shown: Rows) -> int:
        """Returns the size of the proofs."""
        return sum(map(len, toploc.proofs(_calls(shown["model.norm"]))))

    def apart(self, shown: Rows, own: Rows) -> toploc.Errors:
        """Makes the prover's proofs and checks them; the largest of each error over all proofs."""
        made = toploc.proofs(_calls(shown["model.norm"]))
        return toploc.check(made, _calls(own["model.norm"]))

    def calibrated(self, prompts: Sequence[Sequence[toploc.Errors]]) -> ToplocJudge:
        """Returns units and threshold."""
        runs = [astuple(found) for prompt in prompts[::_UNITS_EVERY] for found in prompt]
        columns = zip(*runs, strict=True)
        units = tuple(max(floor, *column) for floor, column in zip(_FLOORS, columns, strict=True))
        judge = ToplocJudge(units, 0.0)
        others = [prompt for number, prompt in enumerate(prompts) if number % _UNITS_EVERY]
        return ToplocJudge(units, max(judge.score(found) for prompt in others for found in prompt))


@dataclass(frozen=True, slots=True)
class ToplocJudge:
    """TOPLOC's errors in units of those that honest runs have.

    Attributes:
        units: Of the three errors.
        threshold: As in `Judge`.
    """

    units: tuple[float, ...]
    threshold: float

    def score(self, apart: toploc.Errors) -> float:
        """Returns the largest error in its unit."""
        found: float = max(value / unit for value, unit in zip(astuple(apart), self.units, strict=True))
        return found


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """Our fingerprint of the last block and of one in the middle."""

    name: str = "our fingerprint"

    def modules(self, depth: int) -> list[str]:
        """Returns the two blocks."""
        return [f"model.layers.{number}" for number in (depth // 2 - 1, depth - 1)]

    def nbytes(self, shown: Rows) -> int:
        """Returns the size of the file."""
        return len(_made(shown).encode())

    def apart(self, shown: Rows, own: Rows) -> tuple[fingerprint_distance.Distances, ...]:
        """Makes both fingerprints and compares them."""
        return fingerprint_distance.distances(_made(own), _made(shown))

    def calibrated(
        self, prompts: Sequence[Sequence[Sequence[fingerprint_distance.Distances]]]
    ) -> FingerprintJudge:
        """Returns the library's calibration."""
        return FingerprintJudge(calibration.calibrate(prompts, tokens=(1, 1), rate=RATE))


@dataclass(frozen=True, slots=True)
class FingerprintJudge:
    """The library's calibration.

    Attributes:
        made: It.
    """

    made: calibration.Calibration

    @property
    def threshold(self) -> float:
        """As in `Judge`."""
        return self.made.threshold

    def score(self, apart: Sequence[fingerprint_distance.Distances]) -> float:
        """Returns the largest measure in its unit."""
        return calibration.score(self.made, apart)


METHODS: Final[tuple[Method, ...]] = (Fingerprints(), Toploc())


def _made(rows: Rows) -> Fingerprint:
    return fingerprint.make({name: _array(tensor) for name, tensor in rows.items()})


def _array(tensor: torch.Tensor) -> npt.NDArray[np.generic]:
    """Returns bfloat16 rows as numpy's."""
    return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)


def _calls(rows: torch.Tensor) -> list[torch.Tensor]:
    """Splits rows into those of the prompt and of each token after it."""
    return [rows[:PROMPT], *(rows[at : at + 1] for at in range(PROMPT, len(rows)))]
