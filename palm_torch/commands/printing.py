"""What several commands print: rejections and JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from palm_torch import terminal
from palm_torch.errors import RejectedError

if TYPE_CHECKING:
    from palm_torch.errors import PalmTorchError


def refused(word: str, error: PalmTorchError, code: int, *, as_json: bool) -> int:
    """Prints why evidence was not accepted, and returns the exit code.

    Args:
        word: The verdict, the first word of the last line.
        error: Why.
        code: The exit code.
        as_json: Whether to print JSON.
    """
    from palm_torch import result

    checks = tuple(check for check in getattr(error, "checks", ()) if isinstance(check, result.Check))
    if as_json:
        said = result.rejection(error, checks)
        print_json(said if isinstance(error, RejectedError) else {**said, "tier": "none"})
        return code
    terminal.show_refused(terminal.console(), error, checks)
    click.secho(terminal.refusal(word, error), bold=True, fg="red")
    return code


def print_json(value: Any) -> None:  # noqa: ANN401 (any JSON value)
    """Prints a JSON value, indented, keys sorted."""
    click.echo(json.dumps(value, indent=2, sort_keys=True))
