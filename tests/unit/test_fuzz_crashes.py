"""Every input that ever broke a decoder, and every good one that fuzzing begins with, kept for ever after."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from palm_torch.errors import PalmTorchError

if TYPE_CHECKING:
    from collections.abc import Callable

FUZZ = Path(__file__).parents[1] / "fuzz"
CRASHES = sorted(path for path in (FUZZ / "crashes").rglob("*") if path.is_file())
GROUPS = sorted(path.stem.removeprefix("fuzz_") for path in FUZZ.glob("fuzz_*.py"))
sys.path.append(str(FUZZ))


def target(group: str) -> Callable[[bytes], None]:
    """Returns what a fuzzer calls with each input; it needs no fuzzer."""
    one_input: Callable[[bytes], None] = importlib.import_module(f"fuzz_{group}").one_input
    return one_input


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    make = importlib.import_module("seeds").make
    made: dict[str, dict[str, bytes]] = make(tmp_path_factory.mktemp("seeds"))
    return made


@pytest.mark.filterwarnings("ignore:Parsed a serial number")  # what cryptography thinks of such certificates
@pytest.mark.parametrize("path", CRASHES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_once_broke_a_decoder(path: Path) -> None:
    target(path.parent.name)(path.read_bytes())


@pytest.mark.parametrize("group", GROUPS)
def test_good_inputs(group: str, seeds: dict[str, dict[str, bytes]]) -> None:
    for data in seeds[group].values():
        target(group)(data)
        target(group)(data[: len(data) // 2])
        target(group)(data + b"\0")


def test_every_group_has_seeds_and_words(seeds: dict[str, dict[str, bytes]]) -> None:
    assert sorted(seeds) == GROUPS
    assert len(GROUPS) <= 14
    words = importlib.import_module("seeds").words
    assert all(10 < len(words(group)) < 2000 for group in seeds.values())


def test_crashes_lie_under_their_group() -> None:
    assert CRASHES
    assert {path.parent.name for path in CRASHES} <= set(GROUPS)


class Lax:
    """A decoder as it should not be."""

    def __call__(self, data: bytes) -> Any:
        if data == b"foreign":
            raise KeyError(data)
        if data == b"refused":
            raise PalmTorchError("no")
        return data.strip()


def test_twin_the_law_can_be_broken() -> None:
    laws = importlib.import_module("laws")
    assert laws.accepted(b"good", Lax(), bytes) == b"good"
    assert laws.accepted(b"refused", Lax(), bytes) is laws.REFUSED
    assert laws.accepted(b"lax ", Lax(), None) == b"lax"
    with pytest.raises(AssertionError, match="accepted b'lax '"):
        laws.accepted(b"lax ", Lax(), bytes)
    with pytest.raises(KeyError):
        laws.accepted(b"foreign", Lax(), bytes)
    with pytest.raises(KeyError):
        laws.ours(Lax(), b"foreign")
