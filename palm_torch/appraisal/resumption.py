"""What resuming a run leaves open: what a script restored by itself, and where its sessions ran.

Model, optimizers and data are compared when a run goes on from a checkpoint. Generators of random numbers
are looked at: where the first batch after resuming found them is compared with where the checkpoint had left
them, and the result says which stood elsewhere. The rest is not looked at: `NOT_COMPARED`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from palm_torch.errors import ClaimError
from palm_torch.properties import Train

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palm_torch.sessions.segments import CheckedSegment
    from palm_torch.statement import Statement

NOT_COMPARED: Final = (
    "what the script restored besides the tensors of the model, the optimizers and the data: averaged models "
    "(EMA), schedules, extra state of modules and buffers that are not saved may be others than before"
)

GENERATORS: Final = ("torch", "cuda", "python", "numpy")
"""Names under which statements give the generators' states."""

FIRST_BATCH: Final = "first_batch"
"""Under which a statement gives the states that the first batch after resuming found."""


def left_open(checked: Sequence[CheckedSegment], end: Statement) -> list[str]:
    """Returns what is not shown about the parts of a resumed run.

    Args:
        checked: The segments, oldest first; none for a run that was never resumed.
        end: The end statement.

    Raises:
        ClaimError: If the end statement gives other generators than the sessions themselves.
    """
    if not checked or not isinstance(end.claims, Train):
        return []
    listed = end.claims.seeds.value.get("resumed")
    if listed is None:
        listed = [{}] * len(checked)
    if not isinstance(listed, list) or len(listed) != len(checked):
        raise ClaimError(f"seeds: resumed {len(checked)} times, generators are listed otherwise")
    found = [NOT_COMPARED]
    for segment, entry in zip(checked, listed, strict=True):
        line = _generators(segment, entry)
        if line:
            found.append(f"after segment {segment.number}: {line}")
    return found


def environments(checked: Sequence[CheckedSegment], end: Statement) -> str:
    """Returns which parts of the environment were others in an earlier session; empty if none was."""
    last = end.run.environment.value
    different = {
        name
        for segment in checked
        for name in segment.content.environment.value.keys() | last.keys()
        if name not in ("packages", "resumed")
        and segment.content.environment.value.get(name) != last.get(name)
    }
    return ", ".join(sorted(different))


def _generators(segment: CheckedSegment, entry: Any) -> str:  # noqa: ANN401 (the script's side wrote it)
    """Says which generators were not where the checkpoint had left them; empty if all were."""
    before = segment.content.seeds.value
    if not isinstance(entry, dict) or entry.get("receipt", before) != before:
        raise ClaimError(
            f"seeds: resumed from segment {segment.number} with other generators than its receipt's"
        )
    found = entry.get(FIRST_BATCH)
    if not isinstance(found, dict):
        return "whether random numbers went on where the checkpoint left them: no batch was counted since"
    other = [name for name in GENERATORS if before.get(name) and found.get(name) != before.get(name)]
    if not other:
        return ""
    return (
        f"that random numbers went on where the checkpoint left them: the generators of {', '.join(other)} "
        "stood elsewhere when the first batch arrived (a loader that begins a pass draws from torch's)"
    )
