"""The modules of a trace by name, each with its one output and the group with its tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_torch.commit import trace_question, trace_rows

if TYPE_CHECKING:
    from palm_torch.commit.trace import Context, Site
    from palm_torch.commit.trace_groups import Group


class Modules:
    """Looks modules up in a trace, without going through all of them each time.

    Args:
        context: The trace's context.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._found: dict[str, list[tuple[Site, Group]]] = {}
        for group in context.groups:
            for site in group.sites:
                self._found.setdefault(site.module, []).append((site, group))

    def find(self, module: str) -> tuple[Site, Group]:
        """Returns a module's only output, and the group with its tensors.

        Args:
            module: Canonical path.

        Raises:
            DataError: If there is none, or the module has several outputs or kinds of tensors.
        """
        found = self._found.get(module, [])
        if len(found) == 1:
            return found[0]
        site = trace_question.site_of(self._context, module, None)  # these say what is wrong
        return site, trace_rows.find(self._context, site, None)[0]
