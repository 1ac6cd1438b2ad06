"""Exit codes of every command."""

from __future__ import annotations

from typing import Final

ACCEPTED: Final = 0
REJECTED: Final = 1
"""Evidence that must not be believed; also a run, seal or attester that failed."""
MALFORMED: Final = 2
USAGE: Final = 3
INTERRUPTED: Final = 130
