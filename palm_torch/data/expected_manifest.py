"""Opening the manifest of a dataset that is no row of files: items that code returns, chunks of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_torch.data.group_table import GroupTable
from palm_torch.errors import ManifestError

if TYPE_CHECKING:
    from pathlib import Path


def open_table(path: Path, *, of: str, kind: str, records: int, salted: bool, remedy: str) -> GroupTable:
    """Opens a manifest and compares what is quick to compare; the records are compared as they are read.

    Args:
        path: The manifest.
        of: Name of the dataset, for messages.
        kind: Name of the format that the manifest has to speak of.
        records: Number of records that there are.
        salted: Whether a salt is at hand.
        remedy: What makes a new manifest, for messages.

    Raises:
        ManifestError: If the file is no whole and consistent manifest, or another dataset's.
    """
    table = GroupTable.open(path)
    header = table.file.manifest
    if header.format != kind:
        raise ManifestError(
            f"{path}: expected a manifest of {kind!r}, got one of {header.format!r}: {remedy}"
        )
    if header.salted != salted:
        given = "a salt was given" if salted else "none was given"
        made = "with a salt" if header.salted else "without a salt"
        raise ManifestError(f"{path}: the manifest was made {made}, but {given}: pass salt= as then")
    if header.records != records:
        raise ManifestError(
            f"{path}: not the manifest of {of}: expected {header.records} records, got {records}: {remedy}"
        )
    return table
