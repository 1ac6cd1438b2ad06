"""Measuring a dataset: one pass over every file makes the manifest.

This is what the paper calls binding (PAL*M, arXiv 2601.16199): afterwards each record can be authenticated
when it is read, and the dataset has one name. Memory stays bounded whatever the size of the data; several
processes, here or on several machines, may share the work, and the manifest is the same.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from palm_torch import private_files
from palm_torch.commit import records
from palm_torch.data import opening, shards
from palm_torch.data.formats import table
from palm_torch.data.measuring import private, processes, products, units, worker
from palm_torch.data.measuring.checking import Check
from palm_torch.data.measuring.job import Measurement
from palm_torch.data.measuring.pool import Pool, run_here
from palm_torch.data.measuring.reading import Digester
from palm_torch.data.measuring.writing import ManifestWriter, write_manifest
from palm_torch.errors import DataError, EncodingError, ManifestError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from multiprocessing.connection import Connection

    from palm_torch.commit import manifest as manifests
    from palm_torch.data.measuring.job import Work
    from palm_torch.data.measuring.ranks import Ranks

__all__ = ["assist", "check", "measure", "write_manifest"]


def measure(  # noqa: PLR0913 (options that are independent of each other)
    path: str | os.PathLike[str],
    *,
    record_length: int | None = None,
    token_dtype: str | None = None,
    salt: bytes | None = None,
    progress: Callable[[int, int], None] | None = None,
    format: str | None = None,  # noqa: A002 (the word for it everywhere else)
    tensor: str | None = None,
    processes: int = 1,
    file_digests: bool = True,
    incremental: bool = False,
    ranks: Ranks | None = None,
) -> manifests.Manifest:
    """Reads every file of a dataset once and writes the manifest beside it.

    Args:
        path: A file, or a folder of files of one format.
        record_length: Elements per record, where the files do not say it.
        token_dtype: Stored element type by its numpy name; ``"uint16"`` for ``.bin`` unless given.
        salt: Secret that keys the record digests, for private data, at least 16 bytes; needed again whenever
            they are read.
        progress: Called with (bytes read so far, bytes in all) after every few MiB.
        format: Name of the format, where names of files do not tell it, or tell another.
        tensor: Name of the tensor whose rows are the records, in files that hold several.
        processes: How many processes share the work. With 1 it is all done in this one; others are fresh
            interpreters, whose code a session does not see.
        file_digests: Whether the manifest says the SHA-256 of each file. With a salt it never does: whoever
            reads the manifest could test a guess of a file.
        incremental: Whether to reuse products that this user made before and keeps beside the manifest: what
            is read and hashed anew and was multiplied before is not multiplied again. What an interrupted
            measurement had done is reused, too.
        ranks: Processes on several machines that share the work, of which this one is the first.

    Returns:
        The manifest as written. One that was there is replaced, or stays untouched if this fails.

    Raises:
        DataError: If the data is missing, empty, ragged or mixed, changes while it is read, or the
            manifest cannot be written (no permission, disk full); nothing half-written stays.
        MeasurementError: If a process that shares the work ends before it is done.
    """
    where = Path(path)
    wanted = table.Wanted(record_length, token_dtype, format, tensor=tensor, fresh=True)
    files = shards.open_all(where, wanted)
    layout = files[0].view.layout
    key = records.record_key(salt, kind=layout.kind)
    if salt is not None:
        private_files.keep(file.path for file in files)
    target = shards.manifest_beside(where, format)
    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(ManifestWriter(target))
        known = None
        if incremental:
            beside = target.with_suffix(products.SUFFIX)
            known = stack.enter_context(products.Products(beside, private.reuse_key()))
        workers = _workers(processes, ranks)
        work = Measurement(
            files,
            writer,
            file_digests=file_digests and salt is None,
            workers=workers,
            known=known,
            progress=progress,
        )
        with _naming(where):
            work.shards()  # a name that no manifest can hold is refused before anything is read
        _run(work, files, key, _team(where, wanted, key, processes, ranks))
        if known is not None:
            known.finish()
        return writer.finish(layout=layout, shards=work.shards(), salted=salt is not None)


def check(
    path: str | os.PathLike[str],
    *,
    salt: bytes | None = None,
    progress: Callable[[int, int], None] | None = None,
    format: str | None = None,  # noqa: A002 (as `measure`)
    processes: int = 1,
    file_digests: bool = True,
    ranks: Ranks | None = None,
) -> manifests.Manifest:
    """Reads a dataset whole and compares it with the manifest beside it.

    Args:
        path: As for `measure`.
        salt: The secret that the manifest was made with, if it was.
        progress: As for `measure`.
        format: As for `measure`; the manifest says it, too.
        processes: As for `measure`.
        file_digests: Whether to compare the files' own SHA-256, too.
        ranks: As for `measure`.

    Returns:
        The manifest, every part of which was found again in the data.

    Raises:
        RecordError: If a record or a file is not what the manifest was made of; the first is named.
        ManifestError: If there is no manifest, or it is another dataset's, or says what is not so.
        DataError: If the data cannot be read.
        MeasurementError: As `measure` does.
    """
    where = Path(path)
    beside = shards.manifest_beside(where, format)
    if not beside.is_file():
        raise ManifestError(f"{beside}: no manifest there: run `palm-torch measure` without --check first")
    wanted = table.Wanted(format=format, fresh=True)
    files, found = opening.open_all(where, wanted, manifest=beside, salt=salt)
    if found is None:
        raise ManifestError(f"{beside}: no manifest there")
    layout = files[0].view.layout
    key = records.record_key(salt, kind=layout.kind)
    workers = _workers(processes, ranks)
    work = Check(files, found, file_digests=file_digests, workers=workers, progress=progress)
    wanted = _as_told(layout)
    _run(work, files, key, _team(where, wanted, key, processes, ranks))
    work.finish()
    return found.file.manifest


def assist(
    path: str | os.PathLike[str],
    ranks: Ranks,
    *,
    record_length: int | None = None,
    token_dtype: str | None = None,
    salt: bytes | None = None,
    format: str | None = None,  # noqa: A002 (as `measure`)
    tensor: str | None = None,
    checking: bool = False,
) -> None:
    """Shares the work of the first rank, which calls `measure` or `check` with the same words.

    Args:
        path: As for `measure`.
        ranks: The processes that share the work, of which this one is not the first.
        record_length: As for `measure`.
        token_dtype: As for `measure`.
        salt: As for `measure`.
        format: As for `measure`.
        tensor: As for `measure`.
        checking: Whether the first rank calls `check`.

    Raises:
        DataError: If the data cannot be read here.
        MeasurementError: If the first rank ends before the work is done.
    """
    where = Path(path)
    with ranks.joined() as connection:
        with worker.telling(connection):
            if checking:
                manifest = shards.manifest_beside(where, format)
                wanted = table.Wanted(format=format, fresh=True)
                files, _ = opening.open_all(where, wanted, manifest=manifest, salt=salt)
            else:
                wanted = table.Wanted(record_length, token_dtype, format, tensor=tensor, fresh=True)
                files = shards.open_all(where, wanted)
        worker.serve(connection, files, records.record_key(salt, kind=files[0].view.layout.kind))


def _workers(processes: int, ranks: Ranks | None) -> int:
    if processes < 1:
        raise DataError(f"processes: expected at least 1, got {processes}")
    return processes if ranks is None else ranks.size


def _as_told(layout: table.Layout) -> table.Wanted:
    told = shards.wanted_for(layout)
    return table.Wanted(told.record_length, told.dtype, told.format, tensor=told.tensor, fresh=True)


def _team(
    where: Path, wanted: table.Wanted, key: bytes, count: int, ranks: Ranks | None
) -> AbstractContextManager[dict[Connection, str]]:
    """Returns what brings the workers together: none where this process does it all."""
    setup = worker.setup(where, wanted, key)
    if ranks is not None:
        return ranks.gathered(setup)
    return contextlib.nullcontext({}) if count == 1 else processes.started(count, setup)


def _run(
    work: Work,
    files: Sequence[shards.ShardFile],
    key: bytes,
    team: AbstractContextManager[dict[Connection, str]],
) -> None:
    with team as connections:
        if not connections:
            run_here(work, Digester(files, key))
            return
        Pool(work, files, connections, expected=units.fingerprint(files, key)).run()


@contextlib.contextmanager
def _naming(where: Path) -> Iterator[None]:
    """Turns what a manifest cannot say (a file name with a backslash, say) into an error of the dataset."""
    try:
        yield
    except EncodingError as error:
        raise DataError(f"{where}: no manifest can be written: {error}") from error
