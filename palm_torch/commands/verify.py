"""`palm-torch verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import click

from palm_torch import terminal
from palm_torch.commands import appraising, arguments, printing
from palm_torch.commands.arguments import FILE
from palm_torch.errors import InputError, RejectedError
from palm_torch.exit_codes import ACCEPTED, MALFORMED, REJECTED

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.chain_verification import VerifiedChain


@click.command(short_help="Appraise evidence against a policy.")
@click.argument("evidence", nargs=-1, required=True, type=FILE)
@appraising.options(several=True)
@click.option(
    "--artifact",
    "artifacts",
    multiple=True,
    metavar="ROLE=PATH",
    help="Compare a file with a role; repeatable.",
)
@click.option(
    "--seen",
    type=FILE,
    help="Your store of what you accepted: each request is answered once, each session counts once.",
)
@click.option("--again", is_flag=True, help="With --seen: accept the very same evidence once more.")
@click.option("--closing", type=FILE, help="For a receipt: the sealed evidence of its session.")
@click.option(
    "--dataset",
    "datasets",
    multiple=True,
    metavar="[ROLE=]MANIFEST",
    help="Compare what was delivered with a dataset, by its manifest and the coverage map; repeatable.",
)
@click.option(
    "--coverage",
    "maps",
    type=FILE,
    multiple=True,
    help="Coverage map that does not lie beside the evidence; repeatable.",
)
@click.option(
    "--recompute",
    multiple=True,
    metavar="[ROLE=]PATH",
    help="With --dataset: read and hash the records again that were delivered; needs palm-torch[torch].",
)
@click.option("--salt-file", type=FILE, help="With --recompute: the secret of private data.")
@click.option(
    "--inclusion",
    "inclusions",
    type=FILE,
    multiple=True,
    help="Proof, from `coverage`, of how often one record was delivered; repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result, or the rejection, as JSON.")
def verify(  # noqa: PLR0913, PLR0917 (one for each option)
    evidence: tuple[Path, ...],
    policies: tuple[Path, ...],
    requests: tuple[Path, ...],
    at: str | None,
    freshness: Literal["required", "not_checked"],
    artifacts: tuple[str, ...],
    reference_values: Path | None,
    authority_key: Path | None,
    timestamp_root: Path | None,
    seen: Path | None,
    again: bool,
    closing: Path | None,
    collaterals: tuple[Path, ...],
    rims: tuple[str, ...],
    ocsp: tuple[Path, ...],
    gpu_crls: tuple[Path, ...],
    parts: tuple[Path, ...],
    datasets: tuple[str, ...],
    maps: tuple[Path, ...],
    recompute: tuple[str, ...],
    salt_file: Path | None,
    inclusions: tuple[Path, ...],
    nras: tuple[Path, ...],
    jwks: Path | None,
    as_json: bool,
) -> int:
    """Appraise evidence, receipts, or a chain of evidence against a policy, offline.

    The verdict is the last line. With several pieces of evidence each is appraised, and what one run used
    is looked up among what the others produced.
    """
    from palm_torch import verification

    if again and seen is None:
        raise click.UsageError("--again goes with --seen")
    appraising.check_tokens(nras, jwks)
    at_hand = arguments.artifacts(artifacts)
    of_data: dict[str, Any] = {
        "datasets": arguments.by_role(datasets),
        "coverage": maps,
        "recompute": arguments.by_role(recompute),
        "inclusions": inclusions,
    }
    choices: dict[str, Any] = {
        "at": None if at is None else arguments.moment(at, "--at"),
        "freshness": freshness,
        "reference_values": reference_values,
        "authority_key": authority_key,
        "timestamp_root": timestamp_root,
        "seen": seen,
        "again": again,
        "rims": rims,
        "ocsp": ocsp,
        "gpu_crls": gpu_crls,
    }
    try:
        if len(evidence) > 1:
            if at_hand or closing is not None or parts or salt_file or nras or any(of_data.values()):
                raise click.UsageError(
                    "--artifact, --closing, --nras, --part, --dataset, --coverage, --recompute, --salt-file "
                    "and --inclusion go with a single piece of evidence"
                )
            from palm_torch import chain_verification

            verified = chain_verification.verify_chain(
                evidence, policies=policies, requests=requests, collaterals=collaterals, **choices
            )
            return _show_chain(verified, as_json=as_json)
        if max(len(policies), len(requests), len(collaterals)) > 1:
            raise click.UsageError("one piece of evidence takes one --policy, --request and --collateral")
        result = verification.verify(
            evidence[0],
            policy=policies[0],
            request=requests[0] if requests else None,
            artifacts=at_hand,
            closing=closing,
            collateral=collaterals[0] if collaterals else None,
            parts=parts,
            salt=None if salt_file is None else arguments.salt(salt_file),
            **of_data,
            nras=nras,
            jwks=jwks,
            **choices,
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


def _show_chain(verified: VerifiedChain, *, as_json: bool) -> int:
    from palm_torch import chain_terminal
    from palm_torch.result import Tier

    if as_json:
        printing.print_json(verified.to_json())
        return ACCEPTED
    chain_terminal.show(terminal.console(), verified)
    color = "green" if verified.tier is Tier.AFFIRMING else "yellow"
    click.secho(f"\n{chain_terminal.verdict(verified)}", bold=True, fg=color)
    return ACCEPTED
