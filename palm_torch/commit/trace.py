"""The context of a trace: what one root binds of an inference.

It names the groups of sites with the roots of their trees, and everything else that was recorded of the run;
the trace root is the hash of it. Specification: docs/spec/26-traces.md.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final

from palm_torch.codec import from_bytes, to_json
from palm_torch.commit import trace_schemes
from palm_torch.commit.trace_groups import Calls, Group, Site, tiling
from palm_torch.digest import Digest, tagged_digest
from palm_torch.encoding import encode_json
from palm_torch.errors import EvidenceError

__all__ = ["Calls", "Context", "Group", "ModuleCoverage", "NotCaptured", "Site", "decode", "root", "tiling"]

MEDIA_TYPE: Final = "application/vnd.palm-torch.trace+json;version=1"
SUFFIX: Final = ".palm-trace.json"

START: Final = b'{"coverage":['
"""What every context begins with, being canonical JSON."""

MAX_CONTEXT_BYTES: Final = 64 << 20

MAX_SHARED_RUNS: Final = 1 << 20
"""Most runs of calls, over all sets of groups that have a site in common."""

_TRACE_TAG: Final = "palm-torch/trace/v1"
_ACTIVATIONS_TAG: Final = "palm-torch/activations/v1"


@dataclass(frozen=True, slots=True)
class ModuleCoverage:
    """How often a tapped module was seen.

    Attributes:
        module: Canonical path.
        rule: When a call of it was expected, in words.
        expected: How many calls were expected.
        fired: How many were seen outside of backward passes, in which checkpointing repeats calls.
    """

    module: str
    rule: str
    expected: int
    fired: int


@dataclass(frozen=True, slots=True)
class NotCaptured:
    """An output of a tapped module that is no part of the commitment.

    Attributes:
        module: Canonical path.
        output: Path within what the module returned.
        kind: What was there instead of a tensor.
    """

    module: str
    output: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Everything that a trace root binds.

    Attributes:
        media_type: `MEDIA_TYPE`, which carries the version.
        scheme: What the trees are made of; see `palm_torch.commit.trace_schemes`.
        model: The weights root of the model; None if it was not measured.
        groups: The groups, in the order of their first call.
        coverage: Every tapped module, by path.
        not_captured: Outputs that were seen and left out.
        environment: Versions, threads and switches in force at the first capture, by name.
        facts: Digests of what else belongs to the run, such as prompt and output, by name.

    Raises:
        EvidenceError: If it cannot be the context of a trace.
    """

    media_type: str
    scheme: trace_schemes.Name
    model: Digest | None
    groups: tuple[Group, ...]
    coverage: tuple[ModuleCoverage, ...]
    not_captured: tuple[NotCaptured, ...]
    environment: dict[str, str]
    facts: dict[str, Digest]

    def __post_init__(self) -> None:
        """Refuses another version, and calls of a site that two groups claim."""
        if self.media_type != MEDIA_TYPE:
            raise EvidenceError(f"media_type: expected {MEDIA_TYPE!r}, got {self.media_type[:80]!r}")
        _require_calls_once(self.groups)

    def encode(self) -> bytes:
        """Returns the context's bytes, canonical JSON."""
        return encode_json(to_json(self))

    def activations(self) -> Digest:
        """Returns the digest of the groups alone: equal for runs that computed the same tensors."""
        return tagged_digest(_ACTIVATIONS_TAG, encode_json(to_json(self.groups)))


def _require_calls_once(groups: tuple[Group, ...]) -> None:
    """Refuses groups that both have the same call of a site.

    Sites that are in the same groups are looked at once: the work does not grow with sites times calls.
    """
    holders: dict[Site, list[int]] = {}
    for number, group in enumerate(groups):
        for site in group.sites:
            holders.setdefault(site, []).append(number)
    shared = {tuple(numbers): site for site, numbers in holders.items() if len(numbers) > 1}
    runs = sum(len(groups[number].schedule) for numbers in shared for number in numbers)
    if runs > MAX_SHARED_RUNS:
        raise EvidenceError(
            f"groups: expected at most {MAX_SHARED_RUNS} runs of calls of sites that are in several, "
            f"got {runs}"
        )
    for numbers, site in shared.items():
        calls = [run for number in numbers for run in groups[number].schedule]
        calls.sort(key=lambda run: run.first)
        if any(after.first < before.end for before, after in itertools.pairwise(calls)):
            raise EvidenceError(f"groups: two of them have the same call of {site}")


def root(context: bytes) -> Digest:
    """Returns the trace root of a context's bytes."""
    return tagged_digest(_TRACE_TAG, context)


def decode(data: bytes, *, what: str) -> Context:
    """Parses a context.

    Args:
        data: Its bytes.
        what: Name of it, for messages.

    Raises:
        EvidenceError: If they are not exactly a context.
    """
    return from_bytes(Context, data, what=what, max_bytes=MAX_CONTEXT_BYTES, error=EvidenceError)
