"""The parts of a run on several machines as they lie in files, each with its coverage maps beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_torch import evidence as bundles
from palm_torch import receipt as receipt_files
from palm_torch import statement
from palm_torch.appraisal import parts
from palm_torch.appraisal.parts import GivenPart
from palm_torch.commit import coverage
from palm_torch.data.shares import CountMap
from palm_torch.errors import InputError, RejectedError, prefixed
from palm_torch.evidence import SIMULATED_SUFFIX, SUFFIX
from palm_torch.properties import Train

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from palm_torch.appraisal.at_hand import Whole
    from palm_torch.evidence import Bundle
    from palm_torch.result import AttestationResult
    from palm_torch.statement import Statement


def verify(
    paths: Sequence[Path], *, appraise: Callable[[bytes, str, Whole], AttestationResult]
) -> tuple[AttestationResult, list[tuple[Bundle, AttestationResult]]]:
    """Appraises parts together.

    Args:
        paths: Their evidence files, in any order.
        appraise: Appraises one of them: its bytes, its name, and what all say together.

    Returns:
        One result for all, and each bundle with its own.

    Raises:
        InputError: If a file is missing or malformed, a receipt, or a coverage map is missing.
        RejectedError: If a part must not be believed, or they are not parts of one run.
    """
    read = [(path, bundles.read(path)) for path in paths]
    for path, data in read:
        if receipt_files.is_receipt(data):
            raise InputError(f"{path}: a receipt; parts of a run are sealed evidence")
    decoded = [(path, data, bundles.decode(data, what=str(path))) for path, data in read]
    ends = [statement.decode(bundle.end.statement) for _, _, bundle in decoded]
    whole = parts.merge(
        [
            GivenPart(what=str(path), end=end, maps=_maps(path, end))
            for (path, _, _), end in zip(decoded, ends, strict=True)
        ]
    )
    results: list[AttestationResult] = []
    for path, data, _ in decoded:
        with prefixed(str(path)):
            results.append(appraise(data, "evidence", whole))
    try:
        combined = parts.combine(list(zip(ends, results, strict=True)), whole)
    except RejectedError as error:
        error.checks = results[0].checks
        raise
    return combined, [(bundle, result) for (_, _, bundle), result in zip(decoded, results, strict=True)]


def _maps(path: Path, end: Statement) -> dict[tuple[str, str], CountMap]:
    """Reads the coverage maps that lie beside a part, each checked against the root in its statement."""
    name = path.name
    stem = name.removesuffix(SIMULATED_SUFFIX if name.endswith(SIMULATED_SUFFIX) else SUFFIX)
    found: dict[tuple[str, str], CountMap] = {}
    data = end.claims.data if isinstance(end.claims, Train) else {}
    for dataset, item in data.items():
        for use, delivered in item.uses.items():
            beside = path.with_name(f"{stem}.{dataset}.{use}.coverage")
            if delivered.counts is not None and beside.is_file():
                counts, width = coverage.read_sidecar(beside, delivered.counts.coverage)
                found[dataset, use] = CountMap(counts, width)
    return found
