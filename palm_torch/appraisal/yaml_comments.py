"""Comments in YAML that no text of others can leave.

Whatever somebody else wrote is quoted, shortened, and escaped to printable ASCII on one line.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final

from palm_torch.escaping import printable
from palm_torch.policies import strict_yaml

if TYPE_CHECKING:
    from collections.abc import Iterable

WIDTH: Final = 104
MAX_NAME_CHARACTERS: Final = 80
MAX_LISTED: Final = 60
MAX_LAYOUT_CHARACTERS: Final = 16 << 10


def comment(text: str, indent: int = 0, *, hanging: int = 0) -> list[str]:
    """Returns the lines of a comment, wrapped.

    Args:
        text: Printable ASCII, or made so by `quoted_name`.
        indent: Spaces before the number sign.
        hanging: Further spaces after it, from the second line on.
    """
    before = " " * indent + "# "
    return textwrap.wrap(
        text, WIDTH, initial_indent=before, subsequent_indent=before + " " * hanging, break_on_hyphens=False
    )


def listed(items: Iterable[str], indent: int) -> list[str]:
    """Returns a comment of one line or more for each item, up to `MAX_LISTED`.

    Args:
        items: What to list, text as for `comment`.
        indent: Spaces before the number sign.
    """
    every = list(items)
    lines = [line for item in every[:MAX_LISTED] for line in comment(f"  {item}", indent, hanging=4)]
    if len(every) > MAX_LISTED:
        lines += comment(f"  and {len(every) - MAX_LISTED} more, which `palm-torch inspect` shows", indent)
    return lines


def layout_rule(layouts: Iterable[str]) -> list[str]:
    """Returns the rule that accepts these kinds of records, in the claims part of a policy.

    Args:
        layouts: How records were read, as evidence says it.
    """
    known = sorted(set(layouts))
    if not known:
        return []
    lines = comment(
        "What the records were read as. CHECK: whether it is what they are; left out, any will do.", 2
    )
    if sum(map(len, known)) > MAX_LAYOUT_CHARACTERS:
        return [*lines, *comment("It is too long for this file: `palm-torch inspect` shows it.", 2)]
    return [*lines, "  layout:", *(f"    - {strict_yaml.quoted(layout)}" for layout in known)]


def plain(text: str) -> str:
    """Returns words with somebody else's text in them as they may stand in a comment: printable ASCII."""
    return printable(text).encode("ascii", "backslashreplace").decode("ascii")


def quoted_name(text: str) -> str:
    """Returns somebody else's text as it may stand in a comment: quoted, shortened, printable ASCII."""
    short = text if len(text) <= MAX_NAME_CHARACTERS else f"{text[:MAX_NAME_CHARACTERS]}..."
    return strict_yaml.quoted(short)
