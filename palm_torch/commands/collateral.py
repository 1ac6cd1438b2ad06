"""`palm-torch collateral`: fetch what vendors publish about a platform, for verifying offline."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from palm_torch.commands import arguments
from palm_torch.commands.arguments import FILE
from palm_torch.errors import EvidenceError
from palm_torch.escaping import printable

_TIMEOUT_S: Final = 20  # those of palm_torch.collateral_services, which is loaded when it runs
_MAX_TIMEOUT_S: Final = 3600


@click.group(short_help="Fetch what vendors publish about a platform.")
def collateral() -> None:
    """Fetch what vendors publish about a platform; nothing else of palm-torch opens a connection."""


@collateral.command(short_help="Fetch collateral for evidence that carries none.")
@click.argument("evidence", type=FILE)
@click.option("-o", "--output", type=FILE, default=Path("collateral.json"), show_default=True)
@click.option(
    "--source",
    metavar="intel|amd|URL",
    help="The vendor's service, or base URL of a PCCS or mirror.  [default: the vendor's]",
)
@click.option(
    "--timeout",
    type=click.IntRange(1, _MAX_TIMEOUT_S),
    default=_TIMEOUT_S,
    show_default=True,
    help="Seconds for all requests together.",
)
@click.option("--force", is_flag=True, help="Replace a file that is there already.")
def fetch(evidence: Path, output: Path, source: str | None, timeout: int, force: bool) -> None:
    """Fetch the certificates, revocation lists and TCB data that verifying EVIDENCE needs.

    EVIDENCE is a bundle, a receipt, a raw TDX quote or a raw SEV-SNP report; whoever made it learns nothing
    of this, the service learns which platform you ask about. What is fetched is checked by `verify`, offline.
    """
    from palm_torch import collateral_file, collateral_services
    from palm_torch import evidence as bundles

    if output.exists() and not force:
        raise EvidenceError(f"{output}: there is a file already; --force replaces it")
    arguments.apart(output, evidence)
    data = bundles.read(evidence)
    content = collateral_services.fetch(data, what=str(evidence), source=source, timeout_s=timeout)
    collateral_file.write(output, content)
    name = printable(str(output))
    click.echo(f"collateral  {name}")
    click.echo(f"for         {content.attester}: {', '.join(sorted(content.collateral))}")
    click.echo(f"next        palm-torch verify … --collateral {name}")
