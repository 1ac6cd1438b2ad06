"""Opening a dataset together with the manifest that authenticates it, if there is one."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palm_torch import private_files
from palm_torch.data import shards
from palm_torch.data.formats import huggingface, table
from palm_torch.data.group_table import GroupTable
from palm_torch.errors import DataError, ManifestError, prefixed

if TYPE_CHECKING:
    import os


def open_all(
    where: Path, wanted: table.Wanted, *, manifest: str | os.PathLike[str] | None, salt: bytes | None
) -> tuple[list[shards.ShardFile], GroupTable | None]:
    """Opens the files of a dataset, and its manifest.

    Without a manifest nothing would show that an index beside the data leaves records out or joins them: then
    it is made anew, in private.

    Args:
        where: The dataset's file or folder.
        wanted: What the caller says of the layout.
        manifest: ``"auto"`` takes the manifest beside the data if there is one; a path insists on that one;
            None opens without.
        salt: Secret of a private dataset, if the caller gave one.

    Raises:
        DataError: If the data is missing, empty, ragged, mixed or of another type than asked for.
        ManifestError: If the manifest does not parse, is another dataset's, or was made with another salt.
    """
    authentic = _open_table(where, manifest, wanted.format)
    if authentic is None:
        files = shards.open_all(where, dataclasses.replace(wanted, fresh=True))
    else:
        files = shards.open_all(where, _agreeing(wanted, authentic, salt))
        _check_same_dataset(where, files, authentic)
    if salt is not None:
        private_files.keep(file.path for file in files)
    return files, authentic


def open_held(
    dataset: Any,  # noqa: ANN401 (of a library that is an extra)
    *,
    manifest: str | os.PathLike[str] | None,
    salt: bytes | None,
) -> tuple[list[shards.ShardFile], GroupTable | None]:
    """Takes the rows of a `datasets.Dataset` at hand, and opens its manifest if the caller names one.

    The manifest may be that of files which the dataset's rows came from: their names are not compared, for
    the object has none; the digests of the records decide.

    Raises:
        DataError: If the dataset shows other rows than those stored, or rows of types without an encoding.
        ManifestError: If the manifest does not parse, is another dataset's, or was made with another salt.
    """
    view = huggingface.rows_of(dataset)
    files = [shards.ShardFile("dataset", Path(huggingface.LABEL), view.size_bytes, view)]
    if manifest is None or manifest == "auto":
        return files, None
    authentic = GroupTable.open(Path(manifest))
    header = authentic.file.manifest
    _agreeing(table.Wanted(), authentic, salt)
    if (header.records, header.columns) != (view.records, view.layout.columns):
        told = table.Layout(header.format, header.dtype, header.record_shape, header.columns)
        raise ManifestError(
            f"{authentic.file.path}: not the manifest of {huggingface.LABEL}: expected {header.records} "
            f"{told}, got {view.records} {view.layout}"
        )
    return files, authentic


def is_held(source: object) -> bool:
    """Returns whether this is a `datasets.Dataset`; does not import what was not imported before."""
    library = sys.modules.get("datasets")
    return library is not None and isinstance(source, library.Dataset)


def _open_table(
    where: Path, manifest: str | os.PathLike[str] | None, wanted: str | None
) -> GroupTable | None:
    if manifest is None:
        return None
    if manifest != "auto":
        return GroupTable.open(Path(manifest))
    beside = shards.look_up(shards.manifest_beside(where, wanted))
    return GroupTable.open(beside) if beside.is_file() else None


def _agreeing(wanted: table.Wanted, authentic: GroupTable, salt: bytes | None) -> table.Wanted:
    """Returns what the manifest says of the layout, unless the caller said otherwise."""
    header, path = authentic.file.manifest, authentic.file.path
    if header.salted != (salt is not None):
        given = "none was given" if salt is None else "a salt was given"
        made = "with a salt" if header.salted else "without a salt"
        raise ManifestError(f"{path}: the manifest was made {made}, but {given}: pass salt= as then")
    if wanted.format not in (None, header.format):
        raise DataError(
            f"{path}: expected format {wanted.format}, got {header.format} in the manifest: pass "
            "manifest=None, or a manifest of this reading of the data"
        )
    if wanted.dtype not in (None, header.dtype):
        raise DataError(f"{path}: expected {wanted.dtype} elements, got {header.dtype} in the manifest")
    if wanted.record_length is not None and (wanted.record_length,) != header.record_shape:
        raise DataError(
            f"{path}: expected records of {wanted.record_length} elements, got "
            f"{list(header.record_shape or ())} in the manifest"
        )
    with prefixed(str(path)):
        told = shards.wanted_for(
            table.Layout(header.format, header.dtype, header.record_shape, header.columns)
        )
    if wanted.tensor not in (None, told.tensor):
        raise DataError(f"{path}: expected tensor {wanted.tensor!r}, got {told.tensor!r} in the manifest")
    return dataclasses.replace(told, fresh=wanted.fresh)


def _check_same_dataset(where: Path, files: list[shards.ShardFile], authentic: GroupTable) -> None:
    """Compares what is quick to compare; the records themselves are compared as they are read."""
    header = authentic.file.manifest
    told = table.Layout(header.format, header.dtype, header.record_shape, header.columns)
    listed = [(shard.name, shard.bytes, shard.records) for shard in header.shards]
    found = [(file.name, file.size_bytes, file.view.records) for file in files]
    layout = files[0].view.layout
    if listed == found and layout == told:
        return
    pairs = itertools.zip_longest(listed, found)
    expected, got = next((pair for pair in pairs if pair[0] != pair[1]), (str(told), str(layout)))
    raise ManifestError(
        f"{authentic.file.path}: not the manifest of {where}: expected shard (name, bytes, records) "
        f"{expected}, got {got}; the manifest is another dataset's, or the data was rewritten "
        f"meanwhile: run `palm-torch measure {where}` again if the change is meant"
    )
