"""Coverage maps at hand: which of them is the map that evidence seals for a dataset and a use.

A map is known by its root. Those that travelled beside the evidence are looked up by name, and must be what
their name says; those that the verifier was handed may have any name, and each must be a map of the evidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from palm_torch.commit import coverage_file
from palm_torch.digest import Digest
from palm_torch.errors import ArtifactError
from palm_torch.evidence import SIMULATED_SUFFIX, SUFFIX
from palm_torch.roles import Dataset

if TYPE_CHECKING:
    from collections.abc import Iterator

    from palm_torch.statement import Statement


@dataclass(frozen=True, slots=True)
class Maps:
    """The maps at hand.

    Attributes:
        given: Root → the map that the verifier was handed.
        evidence: Where the evidence lies; its maps lie beside it. None if it came as bytes alone.
    """

    given: Mapping[Digest, Path] = field(default_factory=dict)
    evidence: Path | None = None

    def find(self, name: str, use: str, root: Digest) -> Path | None:
        """Returns the map of a dataset and a use; None if there is none at hand.

        Args:
            name: Name of the dataset in the evidence.
            use: The use, such as ``train``.
            root: The coverage root that the evidence seals.
        """
        beside = self.place(name, use)
        if root in self.given or beside is None:
            return self.given.get(root)
        return beside if beside.is_file() else None

    def place(self, name: str, use: str) -> Path | None:
        """Returns where a map lies that travelled beside the evidence; None if no file can have its name."""
        if self.evidence is None or "/" in name or "\0" in name:
            return None
        stem = self.evidence.name.removesuffix(SIMULATED_SUFFIX).removesuffix(SUFFIX)
        return self.evidence.with_name(f"{stem}.{name}.{use}.coverage")


def recognised(given: tuple[Path, ...], evidence: Path | None, end: Statement) -> Maps:
    """Returns the maps at hand, once each that was handed in is known to be a map of the evidence.

    Args:
        given: Files that were handed in.
        evidence: Where the evidence lies, if it lies anywhere.
        end: What the evidence says.

    Raises:
        EvidenceError: If a file cannot be read or is not exactly a coverage map.
        ArtifactError: If it is the map of something else.
    """
    sealed = {
        delivered.counts.coverage: f"{name}, {use}"
        for name, dataset in datasets(end)
        for use, delivered in dataset.uses.items()
        if delivered.counts is not None
    }
    maps = {}
    for path in given:
        root = coverage_file.read(path).root
        if root not in sealed:
            says = "; ".join(f"{what}: {known}" for known, what in sealed.items()) or "none"
            raise ArtifactError(f"{path}: expected a coverage map of the evidence ({says}), got root {root}")
        maps[root] = path
    return Maps(maps, evidence)


def datasets(end: Statement) -> Iterator[tuple[str, Dataset]]:
    """Yields full role, such as ``data.dataset1``, and dataset for every dataset of a statement."""
    for role, filled in end.roles().items():
        for name, item in filled.items() if isinstance(filled, dict) else ():
            if isinstance(item, Dataset):
                yield f"{role}.{name}", item
