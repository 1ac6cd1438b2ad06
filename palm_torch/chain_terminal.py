"""What people see of a chain: where everything that a run used came from, and the verdict on each run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_torch import terminal, wording
from palm_torch.appraisal import chain_text
from palm_torch.appraisal.chain import Label
from palm_torch.escaping import printable

if TYPE_CHECKING:
    from rich.console import Console

    from palm_torch.chain_verification import VerifiedChain


def show(out: Console, verified: VerifiedChain) -> None:
    """Prints each run with where everything that it used came from, and each verdict."""
    out.print("CHAIN: for each run, what it used, and which other run that came from", style="bold")
    for text, label in chain_text.render(verified.chain, escape=printable)[1:]:
        out.print(f"  {text}", style="yellow" if label is Label.MISSING else "")
    out.print()
    for label in chain_text.labels(verified.chain):
        terminal.line(out, f"  {label.value}: {wording.LINKS[label.value]}", "dim")
    out.print("\nVERDICTS; `palm-torch verify` with one file alone shows every check and claim", style="bold")
    for name, result in verified.results.items():
        style = "yellow" if result.reservations else "green"
        terminal.line(out, f"  {printable(name)}: {terminal.verdict(result)}", style)
        terminal.line(out, f"    may I rely on it? {wording.worth(result)}")
    terminal.show_left_open(out, verified.not_checked)


def verdict(verified: VerifiedChain) -> str:
    """Returns the one line that says what came out of a chain."""
    return f"ACCEPTED ({verified.tier.value}): {chain_text.summary(verified.chain)}"
