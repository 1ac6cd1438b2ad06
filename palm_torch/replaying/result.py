"""What a replay found: how far what was committed lies from float64, beside the model's own rounding.

Nothing is called consistent here, since no bound is derived: a replay says how far, and whether that is more
than the verifier allowed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from palm_torch.audit.findings import Detection
from palm_torch.codec import to_json
from palm_torch.digest import Digest
from palm_torch.encoding import encode_json

MEDIA_TYPE: Final = "application/vnd.palm-torch.replay-result+json;version=1"

Verdict: TypeAlias = Literal["replayed", "differs", "not checked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What was found of one block at one token.

    Attributes:
        block: Path of the block.
        sequence: Number of the sequence.
        token: The token, counted through all calls.
        verdict: What came out.
        difference: |committed − float64|, both from the inputs that were opened, at most or in the middle
            channel, whichever is more in units of rounding; None where nothing finite was compared.
        rounding: |the model's own dtype − float64| in the same way, but at least half a unit in the last
            place of |float64|; None where nothing was compared.
        ratio: The first by the second; None as before, and where the second is 0 and the first is not.
        words: Where it differs, or why nothing was compared.
        blind: Whether it is what was committed that keeps it from being compared.
    """

    block: str
    sequence: int
    token: int
    verdict: Verdict
    difference: float | None
    rounding: float | None
    ratio: float | None
    words: str
    blind: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayResult:
    """What a replay found.

    Attributes:
        media_type: `MEDIA_TYPE`, which carries the version.
        request: Digest of the request.
        trace: The trace root.
        sealed: Whether the request names claims that were sealed before its nonce was drawn.
        within: The largest ratio that the verifier allowed.
        findings: One for each place, each place once.
        detection: How likely one of the places was drawn.
        not_checked: Everything that was not looked at, in words.
    """

    media_type: str
    request: Digest
    trace: Digest
    sealed: bool
    within: float
    findings: tuple[Replayed, ...]
    detection: tuple[Detection, ...]
    not_checked: tuple[str, ...]

    @property
    def differing(self) -> tuple[Replayed, ...]:
        """The findings that lie farther off than allowed."""
        return tuple(one for one in self.findings if one.verdict == "differs")

    @property
    def farthest(self) -> float | None:
        """The largest ratio of what was replayed; None if nothing was."""
        ratios = [one.ratio for one in self.findings if one.verdict == "replayed"]
        return max((ratio for ratio in ratios if ratio is not None), default=None)

    @property
    def accepted(self) -> bool:
        """Whether something was replayed, nothing differs, and nothing committed kept it from being seen."""
        blind = any(one.blind for one in self.findings)
        return not self.differing and not blind and self.farthest is not None

    def encode(self) -> bytes:
        """Returns the result's bytes, canonical JSON."""
        return encode_json(to_json(self))
