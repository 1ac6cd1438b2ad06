"""Comments in YAML that no text of others can leave.

Whatever somebody else wrote is quoted, shortened, and escaped to printable ASCII on one line.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final

from palm_torch.policies import strict_yaml

if TYPE_CHECKING:
    from collections.abc import Iterable

WIDTH: Final = 104
MAX_NAME_CHARACTERS: Final = 80
MAX_LISTED: Final = 60


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


def quoted_name(text: str) -> str:
    """Returns somebody else's text as it may stand in a comment: quoted, shortened, printable ASCII."""
    short = text if len(text) <= MAX_NAME_CHARACTERS else f"{text[:MAX_NAME_CHARACTERS]}..."
    return strict_yaml.quoted(short)
