"""`palm-torch demo`."""

from __future__ import annotations

from pathlib import Path

import click

from palm_torch import extras
from palm_torch.commands.arguments import FILE
from palm_torch.exit_codes import ACCEPTED, REJECTED


@click.command(short_help="Train, seal, verify, tamper, reject.")
@click.option(
    "--output",
    type=FILE,
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
        from palm_torch.demo import story

    size = story.FULL if steps is None else story.Size(steps=steps)
    return ACCEPTED if story.tell(output, size=size) else REJECTED
