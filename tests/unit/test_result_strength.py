"""How strong a claim is: hardware vouches only where nothing is simulated and the code was reviewed."""

from __future__ import annotations

from typing import Any

import pytest

from palm_torch import result
from palm_torch.result import Claim, Reservation
from palm_torch.roles import Source


def about(*subjects: Any) -> list[Reservation]:
    return [Reservation(about=subject, reason="r", advice="a") for subject in subjects]


@pytest.mark.parametrize(
    ("subjects", "strength"),
    [
        ((), "hardware"),
        (("platform", "claims", "freshness"), "hardware"),
        (("code",), "code"),
        (("session",), "code"),
        (("freshness", "session", "claims"), "code"),
    ],
)
def test_who_vouches_for_what_was_measured(subjects: tuple[str, ...], strength: str) -> None:
    assert result.strength_of(simulated=False, reservations=about(*subjects)) == strength
    assert result.strength_of(simulated=True, reservations=about(*subjects)) == "simulated"


def test_what_was_not_measured_is_never_stronger_than_its_source() -> None:
    said = [("a", "1", Source.MEASURED), ("b", "2", Source.REPORTED), ("c", "3", Source.DECLARED)]
    assert result.labelled(said, "hardware") == (
        Claim(name="a", value="1", strength="hardware"),
        Claim(name="b", value="2", strength="reported by code"),
        Claim(name="c", value="3", strength="declared"),
    )
