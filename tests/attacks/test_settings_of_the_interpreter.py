"""Variables and options change which code is loaded or run, and no digest of code tells: a warning does."""

from __future__ import annotations

import pytest
import workshop
from workshop import put

from palm_torch.appraisal import reservations

GOOD = workshop.make_statement("run")


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"variables": {"PYTHONPATH": "sha256:00", "PYTHONHASHSEED": "0"}}, "PYTHONPATH"),
        ({"variables": {"PYTHONUSERBASE": "sha256:00"}}, "PYTHONUSERBASE"),
        ({"python": {"optimize": 1}}, "Python's -O (level 1)"),
    ],
)
def test_what_changes_the_code_beneath_its_digest_is_warned_of(
    environment: dict[str, object], named: str
) -> None:
    (found,) = reservations.of_statement(put(GOOD, "run.environment.value", environment))
    assert (found.about, found.reason) == (
        "code",
        f"settings that change which code is loaded or run: {named}",
    )
    assert found.advice


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"variables": [], "python": None},
        {"variables": {"PYTHONHASHSEED": "0"}, "python": {"optimize": 0}},
    ],
)
def test_twin_other_settings_are_not(environment: dict[str, object]) -> None:
    assert reservations.of_statement(put(GOOD, "run.environment.value", environment)) == []
