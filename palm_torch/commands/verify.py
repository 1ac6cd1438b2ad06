"""`palm-torch verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from palm_torch import terminal
from palm_torch.commands import arguments, printing
from palm_torch.commands.arguments import FILE
from palm_torch.commands.codes import ACCEPTED, MALFORMED, REJECTED
from palm_torch.errors import InputError, RejectedError

if TYPE_CHECKING:
    from pathlib import Path


@click.command(short_help="Appraise evidence against a policy.")
@click.argument("evidence", type=FILE)
@click.option("--policy", type=FILE, required=True, help="What is demanded, YAML.")
@click.option("--request", "request_path", type=FILE, help="The request that the evidence should answer.")
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

    when = None if at is None else arguments.moment(at, "--at")
    at_hand = arguments.artifacts(artifacts)
    try:
        result = verification.verify(
            evidence, policy=policy, request=request_path, at=when, freshness=freshness, artifacts=at_hand
        )
    except RejectedError as error:
        return printing.refused("REJECTED", error, REJECTED, as_json=as_json)
    except InputError as error:
        return printing.refused("MALFORMED", error, MALFORMED, as_json=as_json)
    if as_json:
        printing.print_json(result.to_json())
        return ACCEPTED
    terminal.show_result(terminal.console(), result)
    click.secho(f"\n{terminal.verdict(result)}", bold=True, fg="green" if not result.warnings else "yellow")
    return ACCEPTED
