"""What a caller of `palm_torch.verify` holds of a run's data: manifests, maps, records, proofs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from palm_torch import extras
from palm_torch.appraisal.at_hand import Data, Held
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from palm_torch.appraisal.at_hand import Records

ByRole: TypeAlias = "str | Path | Mapping[str, str | Path] | Sequence[tuple[str, str | Path]] | None"
"""Paths by the role of a dataset, such as ``data.dataset1``; a path alone leaves it to the manifest."""


def gather(
    *,
    datasets: ByRole = None,
    coverage: Sequence[str | Path] = (),
    inclusions: Sequence[str | Path] = (),
    recompute: ByRole = None,
    salt: bytes | None = None,
) -> Data:
    """Returns what is at hand, with the records opened that are to be hashed again.

    Args:
        datasets: Manifests by role.
        coverage: Coverage maps that do not lie beside the evidence.
        inclusions: Proofs that `palm-torch coverage` wrote.
        recompute: Files or folders of data by the role of their manifest.
        salt: Secret of private data.

    Raises:
        DataError: If there are records without a manifest, or data cannot be read.
        MissingExtraError: If reading it needs a package that is not installed.
    """
    manifests, again = _pairs(datasets), _pairs(recompute)
    if (coverage or again) and not manifests:
        raise DataError("--coverage and --recompute go with --dataset: give the manifest of the data too")
    if salt is not None and not again:
        raise DataError("--salt-file goes with --recompute: it is needed to hash records again")
    held = []
    for role, path in manifests:
        mine = [item for item in again if item[0] == role or len(manifests) == 1]
        if len(mine) > 1:
            raise DataError(f"--recompute: {len(mine)} paths for one dataset")
        held.append((role, Held(path, _opened(mine[0][1], path, salt) if mine else None)))
        again = [item for item in again if item not in mine]
    if again:
        raise DataError(
            f"--recompute {again[0][1]}: expected ROLE=PATH with a role that a --dataset was given for, got "
            f"{again[0][0] or 'none'}"
        )
    return Data(
        datasets=tuple(held),
        coverage=tuple(map(Path, coverage)),
        inclusions=tuple(map(Path, inclusions)),
    )


def _pairs(given: ByRole) -> list[tuple[str, Path]]:
    if given is None:
        return []
    if isinstance(given, (str, Path)):
        return [("", Path(given))]
    pairs = given.items() if isinstance(given, Mapping) else given
    return [(role, Path(path)) for role, path in pairs]


def _opened(path: Path, manifest: Path, salt: bytes | None) -> Records:
    with extras.needed("torch", for_what="palm-torch verify --recompute"):
        from palm_torch import recomputation  # noqa: PLC0415 (numpy, which verifying does without)
    return recomputation.RecordsAtHand(path, manifest, salt=salt)
