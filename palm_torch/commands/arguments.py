"""Words of the command line to values: moments, durations, files by role."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from palm_torch import files
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

FILE: Final = click.Path(path_type=Path)
MAX_SALT_BYTES: Final = 4096

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION: Final = re.compile(r"([1-9][0-9]{0,5})([smhdw])")


def artifacts(pairs: Sequence[str]) -> dict[str, Path]:
    """Parses ``ROLE=PATH`` words; each role once."""
    at_hand: dict[str, Path] = {}
    for pair in pairs:
        role, equals, path = pair.partition("=")
        if not (role and equals and path):
            raise click.BadParameter(f"expected ROLE=PATH, got {pair!r}", param_hint="--artifact")
        if role in at_hand:
            raise click.BadParameter(f"role {role!r} was given twice", param_hint="--artifact")
        at_hand[role] = Path(path)
    return at_hand


def by_role(pairs: Sequence[str]) -> list[tuple[str, Path]]:
    """Parses ``ROLE=PATH`` words, where a path alone has the empty role; a role has no slash."""
    found = []
    for pair in pairs:
        role, equals, path = pair.partition("=")
        found.append((role, Path(path)) if equals and path and "/" not in role else ("", Path(pair)))
    return found


def apart(output: Path | None, *inputs: Path | None) -> None:
    """Refuses to write over what is read.

    Args:
        output: Where something will be written, if it will be.
        inputs: What is read, as far as it is given.

    Raises:
        click.UsageError: If they are one file, whatever names it has.
    """
    for path in inputs:
        if output is not None and path is not None and files.is_same(output, path):
            raise click.UsageError(f"{output}: what is read from {path} would be replaced: write elsewhere")


def salt(path: Path) -> bytes:
    """Reads the secret of private data.

    Raises:
        DataError: If the file cannot be read, or holds too few bytes to be one, or too many.
    """
    from palm_torch.commit import records
    from palm_torch.errors import prefixed

    secret = files.read_bounded(path, what="the salt", max_bytes=MAX_SALT_BYTES, error=DataError)
    with prefixed(str(path)):
        records.check_salt(secret)
    return secret


def moment(text: str, option: str) -> datetime:
    """Parses a time with a time zone.

    Args:
        text: The time, ISO 8601.
        option: The option it was given with, for messages.

    Raises:
        click.BadParameter: If it is none, naming the option.
    """
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(
            f"expected a time such as 2026-05-01T12:00:00Z, got {text!r}", param_hint=option
        ) from error
    if parsed.tzinfo is None:
        raise click.BadParameter(f"{text!r} has no time zone; append Z for UTC", param_hint=option)
    try:
        return parsed.astimezone(UTC)
    except OverflowError as error:
        raise click.BadParameter(f"{text!r} lies outside of the calendar", param_hint=option) from error


def after(duration: str | None) -> datetime | None:
    """Returns the moment that lies a duration such as ``7d`` after now; None for none."""
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
