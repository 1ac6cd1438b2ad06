"""`palm-torch prove-record` and `palm-torch check-record`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from palm_torch.commands import arguments, printing
from palm_torch.commands.arguments import FILE
from palm_torch.errors import ArtifactError, DataError, InputError, RejectedError, SealError
from palm_torch.escaping import printable
from palm_torch.exit_codes import ACCEPTED, MALFORMED, REJECTED
from palm_torch.files import read_bounded, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from palm_torch.commit.manifest import Manifest

SUFFIX = ".record-proof.json"


def _record_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--salt-file", type=FILE, help="The secret of a salted dataset."),
        click.option("--file", "content", type=FILE, help="The record: the file's bytes are its own."),
        click.option("--text", help="The record as text; UTF-8, without a line feed at the end."),
    ):
        command = option(command)
    return command


@click.command("prove-record", short_help="Prove that a record is in a dataset.")
@click.argument("manifest", type=FILE)
@click.option("--index", type=click.IntRange(min=0), help="Number of the record, from 0.")
@_record_options
@click.option("-o", "--output", type=FILE, help="Where to write the proof.  [default: only show it]")
def prove_record(
    manifest: Path,
    *,
    index: int | None,
    text: str | None,
    content: Path | None,
    salt_file: Path | None,
    output: Path | None,
) -> int:
    """Find a record in a dataset by its manifest, and write the proof that it is there.

    Without --index the dataset is searched for the record itself. With both, the record at that index must
    be the one given. Nobody needs the dataset to check the proof: `palm-torch check-record`.
    """
    from palm_torch.commit import manifest_file, record_proof

    if index is None and text is None and content is None:
        raise click.UsageError("prove-record needs --index N, --text TEXT or --file FILE")
    arguments.apart(output, manifest, content, salt_file)
    header = manifest_file.read_header(manifest)
    digest = _digest(header, text, content, salt_file)
    search = record_proof.Search(index=index, digest=digest if index is None else None)
    proof = search.read(manifest)
    if proof is None and index is not None:
        raise DataError(f"{manifest}: expected a record from 0 to {header.records - 1}, got {index}")
    if proof is None:
        raise ArtifactError(f"{manifest}: none of its {header.records} records is the one given")
    proven = record_proof.check(proof, header.digest)
    _compare(proven.digest, digest, f"record {proof.index} of {manifest}")
    if output is not None:
        write_atomically(output, [proof.encode()], error=SealError)
    click.echo(printable(f"record    {proof.index} of {header.records} in {manifest}"))
    if search.count > 1:
        click.echo(f"places    {search.count}: {', '.join(map(str, search.found))}")
    click.echo(f"digest    {proven.digest.hex()}")
    click.echo(f"manifest  {header.digest}")
    click.echo(
        printable(f"proof     {output if output is not None else 'not written; -o PROOF.json writes it'}")
    )
    return ACCEPTED


@click.command("check-record", short_help="Check a proof that a record is in a dataset.")
@click.argument("proof", type=FILE)
@click.option("--manifest-digest", required=True, help="Digest of the dataset's manifest: sha256:...")
@_record_options
@click.option("--json", "as_json", is_flag=True, help="Print what was proven, or why not, as JSON.")
def check_record(
    proof: Path,
    *,
    manifest_digest: str,
    text: str | None,
    content: Path | None,
    salt_file: Path | None,
    as_json: bool,
) -> int:
    """Check that a record is in the dataset whose manifest has a digest, offline and without the dataset.

    With --text or --file also that it is this record; without, the proof speaks of a digest alone.
    """
    from palm_torch.commit import record_proof
    from palm_torch.digest import Digest

    try:
        expected = Digest.parse(manifest_digest, what="--manifest-digest")
        proven = record_proof.check(record_proof.read(proof), expected)
        digest = _digest(proven.manifest, text, content, salt_file)
        _compare(proven.digest, digest, f"record {proven.index}")
    except RejectedError as error:
        return printing.refused("REJECTED", error, REJECTED, as_json=as_json)
    except InputError as error:
        return printing.refused("MALFORMED", error, MALFORMED, as_json=as_json)
    if as_json:
        printing.print_json(
            {
                "index": proven.index,
                "records": proven.manifest.records,
                "digest": proven.digest.hex(),
                "manifest": str(expected),
                "compared": digest is not None,
            }
        )
        return ACCEPTED
    click.echo(f"manifest  {expected}")
    click.echo(f"digest    {proven.digest.hex()}")
    what = "the record given" if digest is not None else "a record with this digest (no record was compared)"
    click.secho(
        f"PROVEN: {what} is number {proven.index} of {proven.manifest.records} in the dataset", fg="green"
    )
    return ACCEPTED


def _compare(found: bytes, digest: bytes | None, what: str) -> None:
    if digest is not None and digest != found:
        raise ArtifactError(
            f"{what}: expected the record given, with digest {digest.hex()}, got {found.hex()}"
        )


def _digest(header: Manifest, text: str | None, content: Path | None, salt_file: Path | None) -> bytes | None:
    """Returns the record digest of what was given; None if no record was."""
    from palm_torch.commit import manifest as manifests
    from palm_torch.commit import records

    if text is not None and content is not None:
        raise click.UsageError("a record is either --text or --file")
    if text is None and content is None:
        if salt_file is not None:
            raise click.UsageError("--salt-file goes with --text or --file")
        return None
    if header.salted != (salt_file is not None):
        raise DataError(
            "a salted dataset: give its secret with --salt-file"
            if header.salted
            else "a dataset without a salt: leave out --salt-file"
        )
    record = _text_record(header, text) if content is None else _read_record(content)
    salt = None if salt_file is None else arguments.salt(salt_file)
    return records.record_digest(
        record, salt=salt, kind=manifests.kind_of(header.format, header.dtype, header.columns)
    )


def _read_record(path: Path) -> bytes:
    from palm_torch.commit import manifest as manifests

    return read_bounded(path, what="the record", max_bytes=manifests.MAX_RECORD_BYTES, error=DataError)


def _text_record(header: Manifest, text: str | None) -> bytes:
    """Returns the canonical bytes of a record that is one text: a line, or a row of one column of text."""
    from palm_torch.commit import rows

    try:
        data = (text or "").encode()
    except UnicodeEncodeError as error:
        raise DataError(f"--text: expected text that UTF-8 can spell: {error.reason}") from error
    if header.columns is None and header.format not in ("items", "encoded", "chunks"):
        return data
    types = [column.type for column in header.columns or ()]
    if header.dtype is None and types == ["string"]:
        return rows.Codec(header.columns or ()).encode([text])
    raise DataError(
        f"--text: a record of this dataset ({header.format}) is no text alone: write its canonical bytes "
        "(docs/spec/40-data.md) to a file and give that with --file; or give --index"
    )
