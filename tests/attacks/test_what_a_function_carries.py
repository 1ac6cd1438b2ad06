"""Attacks on the identity of a function: what it says of itself, what it carries, what it is called with."""

# ruff: noqa: PT012, SIM117 (a session is opened and left inside of what must raise)

from __future__ import annotations

import functools
import multiprocessing
from typing import TYPE_CHECKING, Any

import dataset_runs
import pytest
from dataset_runs import LENGTH

import palm_torch
from palm_torch.data.measure import measure
from palm_torch.data.shard_writer import ShardWriter
from palm_torch.errors import CoverageError, EncodingError, MeasurementError
from palm_torch.hooks import functions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    path = dataset_runs.raw(tmp_path)
    measure(path, record_length=LENGTH)
    return path


def claims_of(raw: Path, function: Callable[..., Any], **arguments: Any) -> Any:
    """Applies a function to all records, and returns what the evidence says of it."""
    with palm_torch.attested("preprocess", attester="simulated") as run:
        source = palm_torch.AttestedMmapDataset(raw)
        apply = run.function(function, **arguments)
        with ShardWriter(raw.parent / f"out{len(list(raw.parent.iterdir()))}") as writer:
            writer.write_all(apply(source[at]) for at in range(len(source)))
    return dataset_runs.end_of(run).claims


def refused(function: Callable[..., Any], says: str, /, **arguments: Any) -> None:
    with pytest.raises(MeasurementError, match=says):
        with palm_torch.attested("preprocess", attester="simulated") as run:
            run.function(function, **arguments)


def _evil(record: Any, *, by: int = 2) -> Any:
    return record * by * 0


evil: Any = functools.wraps(dataset_runs.double)(_evil)


def test_a_wrapper_that_takes_over_another_functions_name(raw: Path) -> None:
    reviewed = claims_of(raw, dataset_runs.double, by=2).function.digest
    assert claims_of(raw, evil, by=2).function.digest != reviewed
    layers = functions.function_identity(evil).layers
    assert [layer.rpartition(":")[0] for layer in layers] == [f"{__name__}._evil", "dataset_runs.double"]


def plain(record: Any) -> Any:
    return record


def test_a_name_written_over(raw: Path) -> None:
    plain.__module__, plain.__qualname__ = "dataset_runs", "double"
    assert functions.function_identity(plain).name == f"{__name__}.plain"
    assert claims_of(raw, plain).function.digest == functions.function_identity(plain).digest


def test_code_from_another_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_runs.double, "__code__", evil.__code__)
    refused(dataset_runs.double, "its code came from elsewhere than that file")


def deeper(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return call


@deeper
def wrapped(record: Any, *, by: int = 3) -> Any:
    return record * by


def test_a_decorated_function_is_its_layers(raw: Path) -> None:
    claims = claims_of(raw, wrapped)
    assert claims.arguments.value == {"by": 3}
    assert claims.function.digest == functions.function_identity(wrapped).digest


def test_code_put_into_a_layer_beneath(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MeasurementError, match="its code was replaced inside the block"):
        with palm_torch.attested("preprocess", attester="simulated") as run:
            source = palm_torch.AttestedMmapDataset(raw)
            apply = run.function(wrapped)
            monkeypatch.setattr(wrapped.__wrapped__, "__code__", evil.__code__)  # type: ignore[attr-defined]
            with ShardWriter(raw.parent / "out") as writer:
                writer.write_all(apply(source[at]) for at in range(len(source)))


def around(by: int) -> Callable[..., Any]:
    def inner(record: Any) -> Any:
        return record * by

    return inner


def nothing() -> None:
    pass


class Scale:
    def __init__(self, by: int) -> None:
        self.by = by

    def __call__(self, record: Any) -> Any:
        return record * self.by

    def apply(self, record: Any) -> Any:
        return record * self.by

    @staticmethod
    def whole(record: Any) -> Any:
        return record


def test_what_a_function_carries_is_refused() -> None:
    refused(around(5), "uses 'by' of the function around it")
    refused(Scale(5), "whose code or state nothing would identify")
    refused(Scale(5).apply, "got a method of a Scale")
    refused(functools.lru_cache(plain), "whose code or state")
    refused(len, "whose code or state")
    refused(functools.partial(dataset_runs.double, 3), "by its place")
    refused(nothing, "whose first parameter is the record")
    refused(plain, "no argument of that name", record=3)
    refused(plain, "cannot be called like this", function=3)


def test_a_function_of_a_class_is_one(raw: Path) -> None:
    assert claims_of(raw, Scale.whole).arguments.value == {}


def defaults(record: Any, by: int = 2) -> Any:
    return record * by


def unsaid(record: Any, *, by: object = object()) -> Any:
    del by
    return record


def test_defaults_are_arguments(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert claims_of(raw, defaults).arguments.value == {"by": 2}
    monkeypatch.setattr(defaults, "__defaults__", (0,))
    assert claims_of(raw, defaults).arguments.value == {"by": 0}
    with pytest.raises(EncodingError, match="argument 'by'"):
        with palm_torch.attested("preprocess", attester="simulated") as run:
            run.function(unsaid)


def test_arguments_given_in_a_call(raw: Path) -> None:
    for call in (lambda apply, record: apply(record, by=0), lambda apply, record: apply(record, 0)):
        with pytest.raises(MeasurementError, match="arguments are given once"):
            with palm_torch.attested("preprocess", attester="simulated") as run:
                call(run.function(defaults), palm_torch.AttestedMmapDataset(raw)[0])


def remembering(record: Any, *, seen: list[int]) -> Any:
    seen.append(1)
    return record * len(seen)


def test_a_function_that_keeps_something_in_its_arguments(raw: Path) -> None:
    with pytest.raises(MeasurementError, match="its arguments were changed inside the block"):
        claims_of(raw, remembering, seen=[])


def test_a_function_that_was_named_and_never_called(raw: Path) -> None:
    with pytest.raises(CoverageError, match="named and never called"):
        with palm_torch.attested("preprocess", attester="simulated") as run:
            source = palm_torch.AttestedMmapDataset(raw)
            run.function(plain)
            with ShardWriter(raw.parent / "out") as writer:
                writer.write_all(source[at] for at in range(len(source)))


def test_a_call_in_a_forked_process_is_a_call() -> None:
    with pytest.raises(KeyboardInterrupt):
        with palm_torch.attested("preprocess", attester="simulated") as run:
            apply: Any = run.function(plain)
            child = multiprocessing.get_context("fork").Process(target=apply, args=(1,))
            child.start()
            child.join()
            assert apply.was_called
            raise KeyboardInterrupt
