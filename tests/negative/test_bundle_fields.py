"""Every field of every type that a bundle can hold is bound: changed without the seal, it is refused."""

from __future__ import annotations

import dataclasses
import enum
import os
import types
import typing
from typing import TYPE_CHECKING, Any

import pytest
from workshop import put

from palm_torch.digest import Digest, sha256_digest
from palm_torch.errors import (
    EncodingError,
    InputError,
    RejectedError,
)
from palm_torch.evidence import Bundle, GpuEvidence
from palm_torch.properties import Property, Train
from palm_torch.statement import Begin, Statement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workshop import GoodRun

FLIPS = 20_000 if os.environ.get("PALM_TORCH_THOROUGH") == "1" else 2_000
GPU = GpuEvidence(evidence=b"report", chain=b"chain")


def flip(data: bytes, at: int = 0) -> bytes:
    """Returns the bytes with one bit of the byte at an index flipped."""
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


Field = tuple[type, str]
OPTIONAL_VALUES = {"request": sha256_digest(b"some"), "digest": sha256_digest(b"some"), "register": "00" * 48}


def reachable(kind: Any, found: set[Field]) -> set[Field]:
    """Collects (type, field) for every dataclass that values of a type hint may hold."""
    if isinstance(kind, (types.UnionType, types.GenericAlias)) or typing.get_origin(kind) is not None:
        for argument in typing.get_args(kind):
            reachable(Train if argument in typing.get_args(Property) else argument, found)
    elif dataclasses.is_dataclass(kind) and kind is not Digest:
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            if (kind, field.name) not in found:
                found.add((kind, field.name))
                reachable(hints[field.name], found)
    return found


def mutations(value: Any, path: str, field: Field | None) -> Iterator[tuple[Field, str, Any]]:
    """Yields (field, path, new value): every leaf changed within its type, every container's size changed."""
    if dataclasses.is_dataclass(value) and not isinstance(value, Digest):
        if field is not None:
            _, inner, new = next(mutations(value, "", None))
            yield field, path, put(value, inner, new)
        for name in (item.name for item in dataclasses.fields(value)):
            yield from mutations(getattr(value, name), f"{path}.{name}".lstrip("."), (type(value), name))
        return
    assert field is not None
    if isinstance(value, dict):
        yield field, path, {f"{key}x": item for key, item in value.items()} or {"x": 1}
        for key, item in value.items():
            yield from mutations(item, f"{path}.{key}", field)
    elif isinstance(value, (tuple, list)):
        yield field, path, type(value)([*value, *value[-1:]] if value else [{"cc": "on"}])
        yield field, path, value[1:]
        for index, item in enumerate(value):
            yield from mutations(item, f"{path}.{index}", field)
    else:
        yield field, path, other(value, field[1])


def other(value: Any, name: str) -> Any:
    """Returns another value of the same type."""
    if value is None:
        return OPTIONAL_VALUES.get(name, "x")
    if isinstance(value, enum.Enum):
        return next(member for member in type(value) if member is not value)
    if isinstance(value, Digest):
        return Digest(value.algorithm, flip(value.value))
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    return flip(value) if isinstance(value, bytes) else value + "x"


def changed(statement: Any, path: str, new: Any) -> bytes | None:
    """Returns a statement's bytes after a change, or None if the type itself refuses the value."""
    try:
        return put(statement, path, new).encode()
    except EncodingError:
        return None


def bundles(good: GoodRun) -> Iterator[tuple[Field, str, Bundle | None]]:
    """Yields every mutation of the good bundle that leaves the seals as they are."""
    for field, path, new in mutations(good.bundle, "", None):
        if field == (type(good.bundle.begin), "gpus"):
            new = (GPU,) if new else None  # noqa: PLW2901 (a dictionary is no GPU's evidence)
        try:
            yield field, path, None if new is None else put(good.bundle, path, new)
        except EncodingError:
            yield field, path, None
    for gpu in ("evidence", "chain"):
        yield (GpuEvidence, gpu), f"end.gpus.0.{gpu}", put(good.bundle, "end.gpus", (put(GPU, gpu, b"x"),))
    for statement, phase in ((good.begin, "begin"), (good.end, "end")):
        for field, path, new in mutations(statement, "", None):
            data = changed(statement, path, new)
            bundle = None if data is None else put(good.bundle, f"{phase}.statement", data)
            yield field, f"{phase}.statement: {path}", bundle


def test_every_field_of_every_type_is_bound(good: GoodRun) -> None:
    seen: set[Field] = set()
    count = 0
    for field, path, bundle in bundles(good):
        seen.add(field)
        if bundle is None or bundle == good.bundle:
            continue
        count += 1
        with pytest.raises((RejectedError, InputError)):  # the path is in the failure's traceback
            accepted_at(path, good.verify(bundle))
    assert seen == set().union(*(reachable(kind, set()) for kind in (Bundle, Begin, Statement)))
    assert count > 250


def accepted_at(path: str, result: Any) -> None:
    pytest.fail(f"accepted after a change of {path}: {result.tier}")


def test_the_walk_reaches_the_types_by_name() -> None:
    names = {kind.__name__ for kind, _ in reachable(Statement, set()) | reachable(Bundle, set())}
    assert names == {
        "Artifact",
        "Bundle",
        "Challenge",
        "Code",
        "Dataset",
        "Delivered",
        "Device",
        "GpuEvidence",
        "Multiset",
        "Phase",
        "Run",
        "Series",
        "SourceFile",
        "Statement",
        "Steps",
        "Tensor",
        "Train",
        "Value",
        "Weights",
    }
