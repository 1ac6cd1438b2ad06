"""`palm-torch request`: what cannot be answered in time is refused, what nobody can answer yet is said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from palm_torch import cli, request
from palm_torch.commands import request as command
from palm_torch.properties import OPERATIONS

if TYPE_CHECKING:
    from pathlib import Path


def ask(path: Path, *words: str) -> int:
    return cli.main(["request", *words, "-o", str(path)])


@pytest.mark.parametrize("ago", [timedelta(0), timedelta(seconds=1), timedelta(days=4000)])
def test_an_expiry_that_is_over(tmp_path: Path, ago: timedelta, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "request.json"
    moment = (datetime.now(UTC) - ago).isoformat()
    assert ask(path, "--operation", "train", "--expires", moment) == cli.USAGE
    assert "is over" in capsys.readouterr().err
    assert not path.exists()


def test_twin_an_expiry_to_come(tmp_path: Path) -> None:
    path = tmp_path / "request.json"
    moment = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    assert ask(path, "--operation", "train", "--expires", moment) == cli.ACCEPTED
    assert not request.decode(path.read_bytes()).expired(datetime.now(UTC))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_that_nothing_can_attest_yet(
    tmp_path: Path, operation: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "request.json"
    assert ask(path, "--operation", operation) == cli.ACCEPTED
    noted = f"nothing can answer for {operation} yet" in capsys.readouterr().err
    assert noted == (operation not in command.ATTESTED)
    assert request.decode(path.read_bytes()).operation == operation


def test_the_operations_that_can_be_attested_are_those_of_a_session() -> None:
    operations = pytest.importorskip("palm_torch.attesting.operations", exc_type=ImportError)
    assert command.ATTESTED == operations.AVAILABLE


@pytest.mark.parametrize("role", ["", "  ", "model\n"])
def test_a_role_without_a_name_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], role: str
) -> None:
    output = tmp_path / "r.json"
    assert cli.main(["request", "--operation", "train", "--role", role, "-o", str(output)]) != 0
    assert "--role" in capsys.readouterr().err
    assert not output.exists()
