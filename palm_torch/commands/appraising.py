"""Options of the verbs that appraise evidence: `verify`, and `check --evidence`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from palm_torch.commands.arguments import FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_ONE: Final = (
    click.option("--policy", type=FILE, help="With --evidence or --receipt: what is demanded of it, YAML."),
    click.option(
        "--collateral", type=FILE, help="What the vendor says of the platform, from `collateral fetch`."
    ),
)

_SEVERAL: Final = (
    click.option(
        "--policy",
        "policies",
        type=FILE,
        required=True,
        multiple=True,
        help="What is demanded, YAML; with several pieces of evidence once for all, or once for each in "
        "order.",
    ),
    click.option(
        "--request",
        "requests",
        type=FILE,
        multiple=True,
        help="The request that the evidence should answer; with several, in any order.",
    ),
    click.option(
        "--collateral",
        "collaterals",
        type=FILE,
        multiple=True,
        help="What the vendor says of the platform, from `collateral fetch`; with several pieces of evidence "
        "once for all, or once for each in order.",
    ),
)

_COMMON: Final = (
    click.option(
        "--at",
        help="Time of verification, ISO 8601 with time zone.  [default: the time stamp's with "
        "--timestamp-root, else this machine's clock]",
    ),
    click.option(
        "--freshness",
        type=click.Choice(["required", "not_checked"]),
        default="required",
        show_default=True,
        help="not_checked accepts an answer to a request that is not at hand.",
    ),
    click.option("--reference-values", type=FILE, help="Signed values, for a policy that says [authority]."),
    click.option("--authority-key", type=FILE, help="Public key of who signed the reference values, PEM."),
    click.option("--timestamp-root", type=FILE, help="Root certificate of the time-stamping authority, PEM."),
    click.option(
        "--rim",
        "rims",
        multiple=True,
        metavar="[NAME=]FILE",
        help="Reference manifest of a GPU's driver or firmware image, XML, in place of what came; "
        "repeatable. NVIDIA's name for it, which says for which board it is, is that of the file unless NAME "
        "is given.",
    ),
    click.option(
        "--ocsp",
        type=FILE,
        multiple=True,
        help="Answer about the status of a GPU's certificate, DER, in place of what came; repeatable.",
    ),
    click.option(
        "--gpu-crl",
        "gpu_crls",
        type=FILE,
        multiple=True,
        help="Revocation list of GPUs' certificates, DER, in place of what came; repeatable.",
    ),
    click.option(
        "--part",
        "parts",
        type=FILE,
        multiple=True,
        help="Evidence of another machine of the same run, with its coverage files beside it; repeatable.",
    ),
    click.option(
        "--nras",
        type=FILE,
        multiple=True,
        help="Token of NVIDIA's attestation service about a GPU: an opinion, which is shown and decides "
        "nothing; repeatable.",
    ),
    click.option("--jwks", type=FILE, help="With --nras: the service's keys, a JSON Web Key Set."),
)


def options(
    *, several: bool, request: str = "--request"
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Returns what adds the options.

    Args:
        several: Whether several pieces of evidence may be given, each with a policy, request and collateral.
        request: How the request that one piece of evidence answers is given, where another request has that
            name.
    """
    asked = click.option(request, "request", type=FILE, help="The request that the evidence should answer.")
    first = _SEVERAL if several else (_ONE[0], asked, *_ONE[1:])

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed((*first, *_COMMON)):
            command = option(command)
        return command

    return add


def check_tokens(nras: tuple[Path, ...], jwks: Path | None) -> None:
    """Refuses tokens without keys, and keys without tokens.

    Raises:
        click.UsageError: If only one of them is given.
    """
    if bool(nras) is (jwks is None):
        raise click.UsageError("--nras and --jwks go together: give both")


def given(names: Iterable[str]) -> list[str]:
    """Returns the options among these that somebody gave, as they are spelled on the command line."""
    context = click.get_current_context()
    found = {name for name in names if context.get_parameter_source(name) is not ParameterSource.DEFAULT}
    return [one.opts[0] for one in context.command.params if one.name in found]


def check_usage(source: str, appraisal: dict[str, Any], *, appraises: bool) -> None:
    """Refuses options of an appraisal where nothing is appraised, and an appraisal without a policy.

    Args:
        source: The option that brings what is appraised, for messages.
        appraisal: What it is appraised with, by the words of the command line.
        appraises: Whether that option was given.

    Raises:
        click.UsageError: If so.
    """
    if not appraises and (options := given(appraisal)):
        raise click.UsageError(f"{options[0]} goes with {source}")
    if appraises and appraisal["policy"] is None:
        raise click.UsageError(f"{source.partition(' ')[0]} goes with --policy POLICY: what you demand of it")
    check_tokens(appraisal["nras"], appraisal["jwks"])


def paths(appraisal: dict[str, Any]) -> list[Path]:
    """Returns the files that evidence is appraised with; a reference manifest may stand behind its name."""
    files = [*appraisal["parts"], *appraisal["ocsp"], *appraisal["gpu_crls"], *appraisal["nras"]]
    files += [Path(rim.rpartition("=")[2]) for rim in appraisal["rims"]]
    return files + [value for value in appraisal.values() if isinstance(value, Path)]
