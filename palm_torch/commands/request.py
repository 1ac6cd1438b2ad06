"""`palm-torch request`."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from palm_torch.commands.arguments import FILE, after, moment
from palm_torch.errors import RequestError
from palm_torch.escaping import printable

ATTESTED: Final = ("preprocess", "distribute", "bind", "train", "infer", "session")
"""Operations that a session of this version can attest; the rest can be asked for already."""


@click.command(short_help="Write a challenge for evidence to answer.")
@click.option("--operation", required=True, help="What to attest, such as train.")
@click.option(
    "--role", "roles", multiple=True, help="Role that must be filled with something measured; repeatable."
)
@click.option("--expires-in", help="How long an answer is in time, such as 90m, 12h or 7d.")
@click.option("--expires", help="Last moment for an answer, ISO 8601 with time zone.")
@click.option("-o", "--output", type=FILE, default=Path("request.json"), show_default=True)
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
    import secrets

    from palm_torch import files, properties
    from palm_torch import request as requests

    if operation not in properties.PROPERTIES:
        known = ", ".join(properties.OPERATIONS)
        raise click.BadParameter(f"expected one of {known}, got {operation!r}", param_hint="--operation")
    for role in roles:
        if not role.strip() or not role.isprintable():
            raise click.BadParameter(f"expected the name of a role, got {role[:80]!r}", param_hint="--role")
    if expires is not None and expires_in is not None:
        raise click.UsageError("give --expires or --expires-in, not both")
    last = moment(expires, "--expires") if expires is not None else after(expires_in)
    if last is not None and last <= datetime.now(UTC):
        raise click.BadParameter(f"{expires!r} is over: no answer could be in time", param_hint="--expires")
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
    if operation not in ATTESTED:
        click.echo(
            f"note: this version attests {', '.join(ATTESTED)}: nothing can answer for {operation} yet",
            err=True,
        )
    fields = {field.name for field in dataclasses.fields(properties.PROPERTIES[operation])}
    for role in roles:
        if role not in fields:
            click.echo(
                f"note: {role!r} is no role of {operation}: the script has to name it with run.input or "
                "run.output",
                err=True,
            )
    click.echo(f"request  {printable(str(output))}")
    click.echo(f"sha256   {requests.nonce_of(asked.encode()).hex()}")
    click.echo(f"expires  {asked.expires or 'never'}")
