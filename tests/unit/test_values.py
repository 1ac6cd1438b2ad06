"""Values cannot change after they were checked: the verifier's dataclasses are frozen and slotted."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from typing import Any

import palm_torch

FLOORS = ("appraisal", "commit", "cvm", "policies", "sessions")
OWNED = {"palm_torch.appraisal.verifier._Findings"}
"""What one function builds up and nobody else holds."""


def modules() -> list[str]:
    single = [
        item.name
        for item in pkgutil.iter_modules(palm_torch.__path__)
        if not item.ispkg and item.name not in ("__main__", "bootstrap")
    ]
    package = [
        f"{floor}.{item.name}"
        for floor in FLOORS
        for item in pkgutil.iter_modules([f"{palm_torch.__path__[0]}/{floor}"])
    ]
    return [f"palm_torch.{name}" for name in (*single, *package)]


def dataclasses_of(module: str) -> dict[str, Any]:
    members = vars(importlib.import_module(module))
    return {
        f"{module}.{name}": kind
        for name, kind in members.items()
        if isinstance(kind, type) and kind.__module__ == module and dataclasses.is_dataclass(kind)
    }


def loose(found: dict[str, Any]) -> set[str]:
    return {
        name
        for name, kind in found.items()
        if not kind.__dataclass_params__.frozen or "__slots__" not in vars(kind)
    }


def test_every_value_is_frozen_and_has_no_room_for_more() -> None:
    found = {name: kind for module in modules() for name, kind in dataclasses_of(module).items()}
    assert len(found) > 80
    assert "palm_torch.policies.policy.Policy" in found
    assert loose(found) == OWNED


def test_twin_one_that_is_not_would_be_found() -> None:
    kinds = {
        "frozen": dataclasses.make_dataclass("Frozen", ["part"], frozen=True, slots=True),
        "slotted": dataclasses.make_dataclass("Slotted", ["part"], slots=True),
        "roomy": dataclasses.make_dataclass("Roomy", ["part"], frozen=True),
    }
    assert loose(kinds) == {"slotted", "roomy"}
