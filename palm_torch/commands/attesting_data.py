"""What the verbs that attest a dataset share: their options, and how they hand over to a measured session."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from palm_torch import extras, nesting
from palm_torch.commands import run
from palm_torch.commands.arguments import FILE
from palm_torch.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

SCRIPT: Final = "palm_torch.attesting.dataset_script"


def session_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that say how the session attests; the command gets them as ``session``'s keywords."""
    for option in (
        click.option("--gpu-collector", default="auto", show_default=True, help="As for `palm-torch run`."),
        click.option(
            "--collateral", type=FILE, help="What the vendor says of this platform, to travel with it."
        ),
        click.option(
            "--attester",
            default="auto",
            show_default=True,
            help="auto, tdx, snp, simulated or simulated-snp.",
        ),
        click.option("--request", type=FILE, help="A verifier's request to answer; without, unchallenged."),
    ):
        command = option(command)
    return command


def hand_over(
    operation: str,
    spec: dict[str, Any],
    *,
    evidence: Path | None,
    name: str,
    request: Path | None,
    attester: str,
    collateral: Path | None,
    gpu_collector: str,
) -> NoReturn:
    """Goes on in a fresh interpreter whose import hook sees all code, inside a session.

    Args:
        operation: What the session is about.
        spec: What `palm_torch.attesting.dataset_script` shall do.
        evidence: Where the evidence goes; None names it after `name`.
        name: The dataset's name.
        request: As in `palm_torch.attested`.
        attester: Likewise.
        collateral: Likewise.
        gpu_collector: Likewise.
    """
    with extras.needed("torch", for_what=f"palm-torch {operation}"):
        from palm_torch.attesting.launch import Plan
    run.hand_over(
        Plan(
            operation=operation,
            module=True,
            words=(SCRIPT, operation, json.dumps(spec, ensure_ascii=True, sort_keys=True)),
            output=str(evidence or Path(f"{name}.{operation}.palm.json")),
            request=None if request is None else str(request),
            attester=attester,
            collateral=None if collateral is None else str(collateral.absolute()),
            gpu_collector=gpu_collector,
        )
    )


def require_function(text: str) -> str:
    """Checks what ``--function`` was given.

    Raises:
        UsageError: If it is not ``module:name``.
    """
    module, colon, name = text.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
        raise click.UsageError(f"--function: expected module:name, got {text!r}")
    return text


def read_arguments(text: str | None) -> dict[str, Any]:
    """Reads what ``--arguments`` was given: a JSON object.

    Raises:
        InputError: If it is something else.
    """
    if text is None:
        return {}
    data = text.encode("utf-8", "surrogatepass")  # not as the terminal spells it
    nesting.check(data, what="--arguments: expected a JSON object", error=InputError)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"--arguments: expected a JSON object: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"--arguments: expected a JSON object, got {text[:80]!r}")
    return value


def require_data(path: Path) -> str:
    """Returns the dataset's path as text.

    Raises:
        InputError: If nothing is there.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    return str(path)


def read_salt(path: Path | None) -> str | None:
    """Returns the path of a salt's file; the secret itself stands in no command line."""
    return None if path is None else str(path.absolute())
