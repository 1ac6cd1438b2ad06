"""What an audit found, in words: a line for each part that was looked at, what accuses, what nobody saw."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from palm_torch.audit.findings import AuditResult, Finding

_SHOWN: Final = 8
_FARTHEST: Final = 2


def of_result(found: AuditResult) -> Iterator[str]:
    """Yields the lines about a result, without the verdict."""
    yield f"trace     {found.trace}"
    whole = f", and all rows of {', '.join(found.whole)}" if found.whole else ""
    yield f"drawn     {len(found.places)} places{whole}"
    parts = list(dict.fromkeys(finding.part for finding in found.findings))
    width = max(map(len, parts), default=0)
    for part in parts:
        of_part = [finding for finding in found.findings if finding.part == part]
        yield f"  {part:{width}}  {_summary(of_part)}"
    accusing = found.inconsistent
    for finding in accusing[:_SHOWN]:
        yield f"INCONSISTENT  {_where(finding)}: {finding.words}"
    if len(accusing) > _SHOWN:
        yield f"INCONSISTENT  {len(accusing) - _SHOWN} more operations; --json lists them"
    for finding in found.blind[:_SHOWN]:
        yield f"NOT CHECKED   {_where(finding)}: {finding.words}"
    chances = (f"{one.fraction:.3g} of all places with {one.probability:.3g}" for one in found.detection)
    yield f"chances   of drawing what is wrong: at {', '.join(chances)}"
    for words in found.not_checked:
        yield f"NOT CHECKED   {words}"


def verdict(found: AuditResult) -> str:
    """Returns the one line that says what came out."""
    consistent = sum(finding.verdict == "consistent" for finding in found.findings)
    looked = f"{len(found.places)} drawn places" + (
        f" and {len(found.whole)} whole blocks" if found.whole else ""
    )
    if found.inconsistent:
        return (
            f"INCONSISTENT: {len(found.inconsistent)} operations cannot have given what the trace says, at "
            f"{looked}; {consistent} are consistent"
        )
    if not found.consistent:
        return (
            f"INCONCLUSIVE: {consistent} operations are consistent at {looked}; {len(found.blind)} cannot be "
            "looked at because of what was committed before them"
        )
    return (
        f"CONSISTENT: {consistent} operations at {looked}, the farthest at {found.margin:.3f} of its bound; "
        "nothing is proved by that"
    )


def _summary(findings: list[Finding]) -> str:
    """Returns how many operations of a part are consistent, and which came closest to their bounds."""
    count = Counter(finding.verdict for finding in findings)
    said = [f"{number} {verdict}" for verdict, number in sorted(count.items())]
    margins: dict[str, float] = {}
    for finding in findings:
        if finding.verdict == "consistent" and finding.margin is not None:
            margins[finding.operation] = max(finding.margin, margins.get(finding.operation, 0.0))
    farthest = sorted(margins.items(), key=lambda item: -item[1])[:_FARTHEST]
    names = ", ".join(f"{operation} {margin:.2f}" for operation, margin in farthest)
    return ", ".join(said) + (f"; farthest {names}" if names else "")


def _where(finding: Finding) -> str:
    if finding.place is None:
        return f"{finding.part}, {finding.operation}"
    return (
        f"{finding.part}, {finding.operation}, sequence {finding.place.sequence}, token {finding.place.token}"
    )
