"""A run begins in an honest trust domain and ends in one that the attacker owns."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
import workshop

from palm_torch.errors import BindingError, TrustAnchorError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from workshop import GoodRun

    from palm_torch.cvm.quote import TdReport


def test_two_machines_of_one_vendor(good: GoodRun) -> None:
    other: Any = workshop.Neighbour(good.machine)
    assert good.verify(good.resealed(good.bundle, machine=other)).checks  # it is a good machine by itself
    begun_there = good.resealed(good.resealed(good.bundle, machine=other, phases=("begin",)), phases=("end",))
    ended_there = good.resealed(good.bundle, machine=other, phases=("end",))
    for mixed in (begun_there, ended_there):
        with pytest.raises(BindingError, match="expected one platform, got PPID"):
            good.verify(mixed)


def test_two_machines_of_two_vendors(good: GoodRun, tmp_path: Path) -> None:
    other = workshop.machine(tmp_path / "keys")
    with pytest.raises(TrustAnchorError):
        good.verify(good.resealed(good.bundle, machine=other, phases=("end",)))


@pytest.mark.parametrize("register", ["mr_td", "rtmr0", "rtmr1", "rtmr2"])
def test_two_domains_on_one_machine(good: GoodRun, register: str) -> None:
    accepted = getattr(good.policy().platform.tdx, register)
    policy = good.policy({f"platform.tdx.{register}": [*accepted, "00" * 48]})
    bend: Callable[[TdReport], TdReport] = lambda report: dataclasses.replace(report, **{register: bytes(48)})  # noqa: E731 (it is passed on twice)
    assert good.verify(good.resealed(good.bundle, report=bend), policy=policy).checks
    with pytest.raises(BindingError, match=f"{register} differs"):
        good.verify(good.resealed(good.bundle, phases=("end",), report=bend), policy=policy)
