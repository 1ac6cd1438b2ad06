"""`palm-torch measure`."""

from __future__ import annotations

import contextlib
import glob
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from palm_torch import extras, terminal
from palm_torch.commands import arguments
from palm_torch.commands.arguments import FILE
from palm_torch.errors import DataError, ManifestError
from palm_torch.escaping import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from palm_torch.commit.manifest import Manifest
    from palm_torch.data.measuring.ranks import Ranks


@click.command(short_help="Write or check the manifest of a dataset.")
@click.argument("paths", metavar="PATH...", type=FILE, nargs=-1, required=True)
@click.option("--format", help="Format, where names of files do not tell it, such as files.")
@click.option("--windows", is_flag=True, help="Measure a file by its 4 KiB chunks, for windows and slices.")
@click.option("--record-length", type=click.IntRange(min=1), help="Elements per record; .npy rows tell it.")
@click.option(
    "--token-dtype", help="Stored element type of .bin files, by its numpy name.  [default: uint16]"
)
@click.option("--tensor", help="Name of the tensor whose rows are the records, in .safetensors files.")
@click.option("--salted", is_flag=True, help="Key the digests with a new salt, kept apart from the data.")
@click.option("--salt-file", type=FILE, help="File with the secret that keys the digests of private data.")
@click.option("--processes", type=click.IntRange(min=1), help="Processes that share the work.  [default: 1]")
@click.option("--no-file-digest", is_flag=True, help="Leave out the SHA-256 of whole files: faster.")
@click.option("--incremental", is_flag=True, help="Reuse what you measured before, and go on if interrupted.")
@click.option("--check", is_flag=True, help="Compare the data with its manifest; write nothing.")
@click.option("--force", is_flag=True, help="Replace a manifest of another layout, or a salted one.")
def measure(paths: tuple[Path, ...], **options: Any) -> None:  # noqa: ANN401 (checked by click)
    """Read datasets once and write, for each, the manifest that authenticates every record.

    Each PATH is a dataset of its own: a file, or a folder of files of one format. A quoted pattern such as
    'corpora/*' stands for all that match. torchrun shares the work among machines that see one folder:
    torchrun --nnodes 2 --nproc-per-node 8 -m palm_torch measure PATH
    """
    with extras.needed("torch", for_what="palm-torch measure"):
        from palm_torch.data.measuring.ranks import Ranks

        _refuse_contradictions(options)
        if options["windows"]:
            options["format"] = "chunks"
        ranks = Ranks.of_environment()
        try:
            for path in _expanded(paths, options["format"]):
                if options["check"]:
                    _check(path, options, ranks)
                else:
                    _measure(path, options, ranks)
        except BaseException:
            if ranks is not None:
                ranks.give_up()
            raise


def _measure(path: Path, options: dict[str, Any], ranks: Ranks | None) -> None:
    from palm_torch.data import measure as measuring
    from palm_torch.data import shards

    words = {name: options[name] for name in ("record_length", "token_dtype", "format", "tensor")}
    if ranks is not None and ranks.rank:
        measuring.assist(path, ranks, salt=_salt_at_hand(options), **words)
        return
    target = shards.manifest_beside(path, words["format"])
    replaced = _manifest_there(target, force=options["force"])
    with _salt(path, target, options) as (salt_file, salt), _progress("measuring", path) as progress:
        if replaced is not None and not options["force"]:
            _refuse_exchange(path, target, replaced, salted=salt is not None, words=words)
        manifest = measuring.measure(
            path,
            salt=salt,
            progress=progress,
            processes=options["processes"] or 1,
            file_digests=not options["no_file_digest"],
            incremental=options["incremental"],
            ranks=ranks,
            **words,
        )
    click.echo(f"manifest  {printable(str(target))}")
    _describe(manifest)
    if replaced is not None and replaced.digest != manifest.digest:
        click.echo(f"replaced  {replaced.digest}")
    if salt_file is not None:
        click.echo(f"salt      {printable(str(salt_file))}")
        click.echo("          keep it, and keep it secret: nobody can read by this manifest without it")


def _check(path: Path, options: dict[str, Any], ranks: Ranks | None) -> None:
    from palm_torch.data import measure as measuring
    from palm_torch.data import shards

    salt = _salt_at_hand(options)
    if ranks is not None and ranks.rank:
        measuring.assist(path, ranks, salt=salt, format=options["format"], checking=True)
        return
    with _progress("checking", path) as progress:
        manifest = measuring.check(
            path,
            salt=salt,
            progress=progress,
            format=options["format"],
            processes=options["processes"] or 1,
            file_digests=not options["no_file_digest"],
            ranks=ranks,
        )
    click.echo(f"checked   {printable(str(shards.manifest_beside(path, options['format'])))}")
    _describe(manifest)
    click.echo("          every record is as the manifest says")


def _describe(manifest: Manifest) -> None:
    size = "of any length" if manifest.record_bytes is None else f"of {manifest.record_bytes} bytes"
    click.echo(f"digest    {manifest.digest}")
    click.echo(f"records   {manifest.records} {size} in {len(manifest.shards)} files")


def _progress(doing: str, path: Path) -> contextlib.AbstractContextManager[Callable[[int, int], None]]:
    return terminal.progress_bytes(f"{doing} {path}")


def _refuse_contradictions(options: dict[str, Any]) -> None:
    from palm_torch.data.measuring import ranks

    if ranks.are_there() and (options["processes"] or options["salted"]):
        raise click.UsageError(
            "torchrun decides how many processes there are, and a salt is made before: leave out "
            "--processes and --salted, and pass --salt-file"
        )
    if options["salted"] and options["salt_file"]:
        raise click.UsageError("--salted makes a new salt, and --salt-file takes one: choose")
    if options["windows"] and options["format"]:
        raise click.UsageError("--windows is --format chunks: leave out --format")
    making = ("record_length", "token_dtype", "tensor", "salted", "incremental", "force")
    for name in making:
        if options["check"] and options[name]:
            option = f"--{name.replace('_', '-')}"
            raise click.UsageError(f"--check takes everything from the manifest: leave out {option}")


def _expanded(paths: Sequence[Path], wanted: str | None) -> list[Path]:
    """Returns the datasets meant: patterns that the shell left alone are expanded here.

    Each comes once, whatever it is called: a pair of files has two names, and one manifest.
    """
    from palm_torch.data import shards
    from palm_torch.data.formats import files

    found: dict[str, Path] = {}
    for path in paths:
        text = str(path)
        matches = [path]
        if glob.has_magic(text) and not path.exists():
            matches = [Path(one) for one in sorted(glob.glob(text, recursive=True))]  # noqa: PTH207 (absolute patterns, too)
            matches = [one for one in matches if not one.name.endswith(files.OWN_SUFFIXES)]
            if not matches:
                raise DataError(f"{path}: nothing matches the pattern")
        for one in matches:
            found.setdefault(os.path.abspath(shards.manifest_beside(one, wanted)), one)  # noqa: PTH100 (links stay)
    return list(found.values())


def _manifest_there(target: Path, *, force: bool) -> Manifest | None:
    """Returns the manifest that would be replaced, if there is one."""
    from palm_torch.commit import manifest_file

    if not target.exists():
        return None
    try:
        with manifest_file.ManifestFile.open(target) as file:
            return file.manifest
    except ManifestError as error:
        if force:
            return None
        raise ManifestError(f"{error}; --force replaces it") from error


def _refuse_exchange(
    path: Path, target: Path, there: Manifest, *, salted: bool, words: dict[str, Any]
) -> None:
    """Refuses to replace a manifest whose digests would come to mean something else."""
    if there.salted != salted:
        was, would = ("with", "without") if there.salted else ("without", "with")
        raise DataError(
            f"{target}: it was made {was} a salt, and this would be {would} one: --force replaces it"
        )
    length = (
        there.record_shape[0] if there.record_shape is not None and len(there.record_shape) == 1 else None
    )
    tensor = there.columns[0].name if there.columns and there.dtype else None
    kept = {"record_length": length, "token_dtype": there.dtype, "format": there.format, "tensor": tensor}
    for name, was_so in kept.items():
        if words[name] is not None and words[name] != was_so:
            option = f"--{name.replace('_', '-')}"
            raise DataError(
                f"{path}: its manifest was made with {option} {was_so}, and this asks for {words[name]}: "
                "--force replaces it"
            )


@contextlib.contextmanager
def _salt(path: Path, target: Path, options: dict[str, Any]) -> Iterator[tuple[Path | None, bytes | None]]:
    """Yields the salt, and the file it was put into if it is new.

    That file goes again if all fails and the manifest is the one that was there: one made with the salt may
    be in its place already, and nobody can read by it without the salt.
    """
    if not options["salted"]:
        yield None, _salt_at_hand(options)
        return
    from palm_torch.data.measuring import private

    before = _identity(target)
    file, salt = private.new_salt(path)
    try:
        yield file, salt
    except BaseException:
        if _identity(target) == before:
            file.unlink(missing_ok=True)
        else:
            click.echo(f"salt      {printable(str(file))}")
        raise


def _identity(target: Path) -> tuple[int, ...] | None:
    """Returns what differs between a file and one that was put in its place; None if there is none."""
    try:
        status = target.lstat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def _salt_at_hand(options: dict[str, Any]) -> bytes | None:
    file: Path | None = options["salt_file"]
    return None if file is None else arguments.salt(file)
