"""A chain of evidence as lines of plain text: each run, and below it where the things it used came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from palm_torch.appraisal.chain import Label

if TYPE_CHECKING:
    from collections.abc import Callable

    from palm_torch.appraisal.chain import Chain, Link
    from palm_torch.appraisal.shared_sessions import Shared

DIGEST_DIGITS: Final = 12
"""Hex digits of a digest that are shown."""


def render(chain: Chain, *, escape: Callable[[str], str]) -> list[tuple[str, Label | None]]:
    """Returns the lines that show a chain: runs in order, links below the run that used something.

    Beside each line that shows a link stands its label.

    Args:
        chain: The chain.
        escape: Makes a name or a role harmless for where the lines go.
    """
    names = {node.name: f"[{number}]" for number, node in enumerate(chain.nodes, 1)}
    lines: list[tuple[str, Label | None]] = [(summary(chain), None)]
    for node in chain.nodes:
        heading = (
            f"{names[node.name]} {escape(node.name)}: "
            f"{node.operation} run {escape(node.run_id)}, {node.strength}"
        )
        lines.append((heading, None))
        lines += [
            (_line(link, names, escape), link.label) for link in chain.links if link.consumer == node.name
        ]
        if node.name in chain.loose and len(chain.nodes) > 1:
            lines.append(("    linked to no other evidence given here", None))
        lines += [
            (_common(shared, node.name, names), None) for shared in chain.shared if node.name in shared.names
        ]
    if len(chain.parts) > 1:
        apart = "; ".join(" ".join(names[name] for name in part) for part in chain.parts)
        lines.append((f"falls into {len(chain.parts)} parts that nothing links: {apart}", None))
    return lines


def summary(chain: Chain) -> str:
    """Returns one line: how many runs, and how many links of each label."""
    counts = ", ".join(f"{chain.count(label)} {label.value}" for label in labels(chain))
    runs = "1 run" if len(chain.nodes) == 1 else f"{len(chain.nodes)} runs"
    return f"chain of {runs}; links: {counts or 'none'}"


def labels(chain: Chain) -> list[Label]:
    """Returns the labels that some link has, strongest first."""
    return [label for label in Label if chain.count(label)]


def _common(shared: Shared, name: str, names: dict[str, str]) -> str:
    (other,) = (each for each in shared.names if each != name)
    return (
        f"    shares session {shared.session[:8]} with {names[other]}, up to step {shared.steps}: that work "
        "was done once"
    )


def _line(link: Link, names: dict[str, str], escape: Callable[[str], str]) -> str:
    label = link.label.value.upper() if link.label is Label.MISSING else link.label.value
    said = f"    {escape(link.role_in)} <- "
    if link.producer is not None:
        said += f"{names[link.producer]} {escape(link.role_out or '')} "
    shown = (
        "" if link.digest is None else f", {link.digest.algorithm}:{link.digest.value.hex()[:DIGEST_DIGITS]}"
    )
    return said + f"({label}{shown})" + (f": {escape(link.reason)}" if link.reason else "")
