"""The command line: one verb, one meaning.

Exit codes: 0 accepted, 1 rejected (or a run, seal or attester that failed), 2 malformed input, 3 usage,
130 interrupted. They are set here and nowhere else; click's own differ. `verify` says its verdict in the
last line of standard output; every other error is one line on standard error.

What a command needs is imported when it runs: `verify` starts without torch, and without rich if it only
prints JSON.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from palm_torch import __version__, extras, terminal
from palm_torch.errors import DataError, InputError, PalmTorchError, RejectedError, RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

ACCEPTED: Final = 0
REJECTED: Final = 1
MALFORMED: Final = 2
USAGE: Final = 3
INTERRUPTED: Final = 130

MAX_SALT_BYTES: Final = 4096

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION: Final = re.compile(r"([1-9][0-9]{0,5})([smhdw])")
_FILE: Final = click.Path(path_type=Path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code.

    Args:
        arguments: The words after the program's name; those of this process if None.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = commands.main(args=arguments, prog_name="palm-torch", standalone_mode=False)
        sys.stdout.flush()
    except click.Abort:
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return USAGE
    except PalmTorchError as error:
        click.echo(f"error: {terminal.refusal('', error).strip()}", err=True)
        return MALFORMED if isinstance(error, InputError) else REJECTED
    except BrokenPipeError:
        # Whoever was reading is gone and the verdict with them. Python would complain once more when it
        # flushes at exit.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return REJECTED
    except OSError as error:
        click.echo(f"error: {terminal.printable(str(error))}", err=True)
        return REJECTED
    return code if isinstance(code, int) else ACCEPTED


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="palm-torch")
def commands() -> None:
    """Hardware-sealed evidence of what a PyTorch run did, checked offline.

    Exit codes: 0 accepted, 1 rejected, 2 malformed input, 3 usage, 130 interrupted.
    """


@commands.command(short_help="Train, seal, verify, tamper, reject.")
@click.option(
    "--output",
    type=_FILE,
    default=Path("demo-out"),
    show_default=True,
    help="Folder for everything the demo makes; an earlier demo there is replaced.",
)
@click.option(
    "--steps", type=click.IntRange(20, 1500), default=None, help="Training steps; fewer are quicker."
)
def demo(output: Path, steps: int | None) -> int:
    """Train, seal, verify, then tamper six times and watch each being rejected."""
    with extras.needed("torch", for_what="palm-torch demo"):
        from palm_torch.demo import story  # noqa: PLC0415 (needs torch, which verify must not)

    size = story.FULL if steps is None else story.Size(steps=steps)
    return ACCEPTED if story.tell(output, size=size) else REJECTED


@commands.command(short_help="Write the manifest of a dataset.")
@click.argument("path", type=_FILE)
@click.option("--record-length", type=click.IntRange(min=1), help="Elements per record; .npy rows tell it.")
@click.option(
    "--token-dtype", help="Stored element type of .bin files, by its numpy name.  [default: uint16]"
)
@click.option("--salt-file", type=_FILE, help="File with the secret that keys the digests of private data.")
def measure(path: Path, record_length: int | None, token_dtype: str | None, salt_file: Path | None) -> None:
    """Read a dataset once and write the manifest that authenticates every record."""
    with extras.needed("torch", for_what="palm-torch measure"):
        from palm_torch.commit import manifest as manifests  # noqa: PLC0415 (as in `demo`)
        from palm_torch.data import measure as measuring  # noqa: PLC0415 (as in `demo`)

    salt = None if salt_file is None else _read_salt(salt_file)
    with terminal.progress_bytes(f"measuring {path}") as progress:
        manifest = measuring.measure(
            path, record_length=record_length, token_dtype=token_dtype, salt=salt, progress=progress
        )
    click.echo(f"manifest  {terminal.printable(str(manifests.path_beside(path)))}")
    click.echo(f"digest    {manifest.digest}")
    click.echo(
        f"records   {manifest.records} of {manifest.record_bytes} bytes in {len(manifest.shards)} files"
    )


@commands.command(short_help="Write a challenge for evidence to answer.")
@click.option("--operation", required=True, help="What to attest, such as train.")
@click.option(
    "--role", "roles", multiple=True, help="Role that must be filled with something measured; repeatable."
)
@click.option("--expires-in", help="How long an answer is in time, such as 90m, 12h or 7d.")
@click.option("--expires", help="Last moment for an answer, ISO 8601 with time zone.")
@click.option("-o", "--output", type=_FILE, default=Path("request.json"), show_default=True)
@click.option("--force", is_flag=True, help="Replace a request that is there already.")
def request(
    operation: str,
    roles: tuple[str, ...],
    expires_in: str | None,
    expires: str | None,
    output: Path,
    force: bool,
) -> None:
    """Write a challenge: a request file with a fresh nonce, for evidence to answer."""
    import secrets  # noqa: PLC0415 (this command alone draws a nonce)

    from palm_torch import files, properties  # noqa: PLC0415 (as in `demo`)
    from palm_torch import request as requests  # noqa: PLC0415 (as in `demo`)

    if operation not in properties.PROPERTIES:
        known = ", ".join(properties.OPERATIONS)
        raise click.BadParameter(f"expected one of {known}, got {operation!r}", param_hint="--operation")
    if expires is not None and expires_in is not None:
        raise click.UsageError("give --expires or --expires-in, not both")
    last = _moment(expires, "--expires") if expires is not None else _after(expires_in)
    if output.exists() and not force:
        raise RequestError(f"{output}: there is a request already; --force replaces it and its nonce")
    asked = requests.Request(
        type=requests.TYPE,
        nonce=secrets.token_hex(requests.NONCE_BYTES),
        operation=operation,  # type: ignore[arg-type]  # one of PROPERTIES, as was checked
        roles=roles,
        expires=None if last is None else last.strftime(requests.TIME_FORMAT),
    )
    files.write_atomically(output, [asked.encode()], error=RequestError)
    fields = {field.name for field in dataclasses.fields(properties.PROPERTIES[operation])}
    for role in roles:
        if role not in fields:
            click.echo(
                f"note: {role!r} is no role of {operation}: the script has to name it with run.input or "
                "run.output",
                err=True,
            )
    click.echo(f"request  {terminal.printable(str(output))}")
    click.echo(f"sha256   {requests.nonce_of(asked.encode()).hex()}")
    click.echo(f"expires  {asked.expires or 'never'}")


@commands.command(short_help="Appraise evidence against a policy.")
@click.argument("evidence", type=_FILE)
@click.option("--policy", type=_FILE, required=True, help="What is demanded, YAML.")
@click.option("--request", "request_path", type=_FILE, help="The request that the evidence should answer.")
@click.option("--at", help="Time of verification, ISO 8601 with time zone.  [default: this machine's clock]")
@click.option(
    "--freshness",
    type=click.Choice(["required", "not_checked"]),
    default="required",
    show_default=True,
    help="not_checked accepts an answer to a request that is not at hand.",
)
@click.option(
    "--artifact",
    "artifacts",
    multiple=True,
    metavar="ROLE=PATH",
    help="Compare a file with a role; repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result, or the rejection, as JSON.")
def verify(
    evidence: Path,
    policy: Path,
    request_path: Path | None,
    at: str | None,
    freshness: Literal["required", "not_checked"],
    artifacts: tuple[str, ...],
    as_json: bool,
) -> int:
    """Appraise evidence against a policy, offline; the verdict is the last line."""
    from palm_torch import verification  # noqa: PLC0415 (as in `demo`)

    when = None if at is None else _moment(at, "--at")
    at_hand = _artifacts(artifacts)
    try:
        result = verification.verify(
            evidence, policy=policy, request=request_path, at=when, freshness=freshness, artifacts=at_hand
        )
    except RejectedError as error:
        return _refused("REJECTED", error, REJECTED, as_json=as_json)
    except InputError as error:
        return _refused("MALFORMED", error, MALFORMED, as_json=as_json)
    if as_json:
        _print_json(result.to_json())
        return ACCEPTED
    terminal.show_result(terminal.console(), result)
    click.secho(f"\n{terminal.verdict(result)}", bold=True, fg="green" if not result.warnings else "yellow")
    return ACCEPTED


@commands.command(short_help="Show evidence without believing it.")
@click.argument("evidence", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help='Print JSON, with "verified": false.')
def inspect(evidence: Path, as_json: bool) -> None:
    """Show what evidence says, without believing it."""
    from palm_torch import evidence as bundles  # noqa: PLC0415 (as in `demo`)
    from palm_torch import inspection  # noqa: PLC0415 (as in `demo`)

    data = bundles.read_bounded(evidence, max_bytes=bundles.MAX_BUNDLE_BYTES, what="the evidence")
    inspected = inspection.inspect(data, what=str(evidence))
    if as_json:
        _print_json(inspected.document)
    else:
        terminal.show_inspected(terminal.console(), inspected, evidence)


def _refused(word: str, error: PalmTorchError, code: int, *, as_json: bool) -> int:
    """Prints why evidence was not accepted, and returns the exit code."""
    from palm_torch import result  # noqa: PLC0415 (as in `demo`)

    checks = tuple(check for check in getattr(error, "checks", ()) if isinstance(check, result.Check))
    if as_json:
        said = result.rejection(error, checks)
        _print_json(said if isinstance(error, RejectedError) else {**said, "tier": "none"})
        return code
    if checks:
        terminal.show_checks(terminal.console(), checks)
        click.echo()
    click.secho(terminal.refusal(word, error), bold=True, fg="red")
    return code


def _print_json(value: Any) -> None:  # noqa: ANN401 (any JSON value)
    click.echo(json.dumps(value, indent=2, sort_keys=True))


def _artifacts(pairs: Sequence[str]) -> dict[str, Path]:
    at_hand: dict[str, Path] = {}
    for pair in pairs:
        role, equals, path = pair.partition("=")
        if not (role and equals and path):
            raise click.BadParameter(f"expected ROLE=PATH, got {pair!r}", param_hint="--artifact")
        if role in at_hand:
            raise click.BadParameter(f"role {role!r} was given twice", param_hint="--artifact")
        at_hand[role] = Path(path)
    return at_hand


def _moment(text: str, option: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(
            f"expected a time such as 2026-05-01T12:00:00Z, got {text!r}", param_hint=option
        ) from error
    if moment.tzinfo is None:
        raise click.BadParameter(f"{text!r} has no time zone; append Z for UTC", param_hint=option)
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise click.BadParameter(f"{text!r} lies outside of the calendar", param_hint=option) from error


def _after(duration: str | None) -> datetime | None:
    if duration is None:
        return None
    match = _DURATION.fullmatch(duration)
    if match is None:
        raise click.BadParameter(
            f"expected a number and one of s, m, h, d, w, such as 7d, got {duration!r}",
            param_hint="--expires-in",
        )
    try:
        return datetime.now(UTC) + timedelta(seconds=int(match[1]) * _SECONDS[match[2]])
    except OverflowError as error:
        raise click.BadParameter(
            f"{duration!r} lies outside of the calendar", param_hint="--expires-in"
        ) from error


def _read_salt(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            salt = stream.read(MAX_SALT_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot read the salt: {error.strerror}") from error
    if not 0 < len(salt) <= MAX_SALT_BYTES:
        raise DataError(f"{path}: expected a salt of 1 to {MAX_SALT_BYTES} bytes, got {len(salt)} or more")
    return salt
