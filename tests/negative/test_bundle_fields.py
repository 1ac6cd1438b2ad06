"""Every field of every type that a bundle can hold is bound: changed without the seal, it is refused."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import types
import typing
from typing import TYPE_CHECKING, Any

import pytest
import stamping
from workshop import NOW, put

from palm_torch import receipt, statement
from palm_torch.appraisal import receipts
from palm_torch.digest import TAGGED_SHA256, Digest, sha256_digest
from palm_torch.errors import (
    EncodingError,
    InputError,
    RejectedError,
)
from palm_torch.evidence import Bundle, GpuEndorsements, GpuEvidence, Phase, ReferenceManifest
from palm_torch.properties import Property, Train
from palm_torch.receipt import ArtifactsReceipt, Receipt, SegmentReceipt
from palm_torch.statement import Begin, Part, Ranks, Run, Statement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from booted import BootedRun
    from composite_run import CompositeRun
    from relay import ResumedRun
    from workshop import GoodRun

GPU = GpuEvidence(evidence=b"report", chain=b"chain")


RANKS = Ranks(
    world_size=2,
    own=0,
    parts=(Part(begin=Digest(TAGGED_SHA256, bytes(32)), first=0, count=2),),
    interconnect="none",
    differing=("norm.mean",),
)
"""What a statement of several ranks says of them; the good run is of one process."""


def flip(data: bytes, at: int = 0) -> bytes:
    """Returns the bytes with one bit of the byte at an index flipped."""
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


Field = tuple[type, str]
OPTIONAL_VALUES = {
    "request": sha256_digest(b"some"),
    "resumes": sha256_digest(b"some"),
    "digest": sha256_digest(b"some"),
    "register": "00" * 48,
    "Bundle.boot_log": b"log",
    "Begin.boot_log": sha256_digest(b"log"),
    "collateral": {"tcb_info": "{}"},
    "timestamp": b"token",
    "ranks": RANKS,
    "gpu_endorsements": GpuEndorsements(rims=(ReferenceManifest(id="a", xml=b"<a/>"),), ocsp=(), crls=()),
}
FIRST = {"crls": b"list"}
"""What an empty tuple gets, where an object would be of another type."""

HEX = set("0123456789abcdef")
KINDS = (Bundle, Begin, Statement, Receipt, ArtifactsReceipt, SegmentReceipt)
"""Every document that a verifier reads, with the documents inside that travel as bytes."""


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
            yield field, path, changed_somewhere(value)
        for name in (item.name for item in dataclasses.fields(value)):
            yield from mutations(getattr(value, name), f"{path}.{name}".lstrip("."), (type(value), name))
        return
    assert field is not None
    if isinstance(value, dict):
        yield field, path, {f"{key}x": item for key, item in value.items()} or {"x": 1}
        for key, item in value.items():
            yield from mutations(item, f"{path}.{key}", field)
    elif isinstance(value, (tuple, list)):
        yield (
            field,
            path,
            type(value)([*value, *value[-1:]] if value else [FIRST.get(field[1], {"cc": "on"})]),
        )
        yield field, path, value[1:]
        for index, item in enumerate(value):
            yield from mutations(item, f"{path}.{index}", field)
    else:
        yield field, path, other(value, field)


def changed_somewhere(value: Any) -> Any:
    """Returns a dataclass with the first change that its type accepts."""
    for _, path, new in mutations(value, "", None):
        with contextlib.suppress(EncodingError):
            return put(value, path, new)
    raise AssertionError(value)


def other(value: Any, field: Field) -> Any:
    """Returns another value of the same type."""
    if value is None:
        kind, name = field
        return OPTIONAL_VALUES.get(f"{kind.__name__}.{name}") or OPTIONAL_VALUES.get(name, "x")
    if isinstance(value, enum.Enum):
        return next(member for member in type(value) if member is not value)
    if isinstance(value, Digest):
        return Digest(value.algorithm, flip(value.value))
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, bytes):
        return flip(value)
    if value and set(value) <= HEX:  # another value of the same form reaches deeper than a malformed one
        return value[:-1] + ("1" if value[-1] == "0" else "0")
    return value + "x"


def changed(kind: Any, path: str, new: Any) -> bytes | None:
    """Returns a statement's bytes after a change, or None if the type itself refuses the value."""
    try:
        bent = put(kind, path, new)
        return receipt.encode_content(bent) if isinstance(kind, receipt.CONTENTS) else bent.encode()
    except EncodingError:
        return None


def bundles(good: GoodRun) -> Iterator[tuple[Field, str, Bundle | None]]:
    """Yields every mutation of the good bundle that leaves the seals as they are."""
    for field, path, new in mutations(good.bundle, "", None):
        if field[1] == "gpus" and isinstance(new, tuple) and any(isinstance(item, dict) for item in new):
            new = (GPU,)  # noqa: PLW2901 (a dictionary is no GPU's evidence)
        try:
            yield field, path, None if new is None else put(good.bundle, path, new)
        except EncodingError:
            yield field, path, None
    for gpu in ("evidence", "chain"):
        yield (GpuEvidence, gpu), f"end.gpus.0.{gpu}", put(good.bundle, "end.gpus", (put(GPU, gpu, b"x"),))
    for value, phase in ((good.begin, "begin"), (good.end, "end")):
        for field, path, new in mutations(value, "", None):
            data = changed(value, path, new)
            bundle = None if data is None else put(good.bundle, f"{phase}.statement", data)
            yield field, f"{phase}.statement: {path}", bundle

    for field, path, new in mutations(RANKS, "", None):
        try:
            data = changed(good.end, "run.ranks", put(RANKS, path, new))
        except EncodingError:
            data = None
        bundle = None if data is None else put(good.bundle, "end.statement", data)
        yield field, f"end.statement: run.ranks.{path}", bundle


def segments(resumed: ResumedRun) -> Iterator[tuple[Field, str, Bundle | None]]:
    """Yields every mutation of the parts of a resumed run that its last session did not seal itself."""
    for field, path, new in mutations(resumed.bundle.segments, "segments", (Bundle, "segments")):
        bent = (GPU,) if path.endswith("gpus") else new
        try:
            yield field, path, put(resumed.bundle, path, bent)
        except EncodingError:
            yield field, path, None
    for number, segment in enumerate(resumed.bundle.segments):
        parts = {
            "session.begin.statement": statement.decode_begin(segment.session.begin.statement),
            "receipt.payload": receipt.decode_content(segment.receipt.payload),
        }
        for part, value in parts.items():
            for field, path, new in mutations(value, "", None):
                data = changed(value, path, new)
                place = f"segments.{number}.{part}"
                yield field, f"{place}: {path}", None if data is None else put(resumed.bundle, place, data)


def files(resumed: ResumedRun) -> Iterator[tuple[Field, str, Receipt | None]]:
    """Yields every mutation of a receipt as a file."""
    good = resumed.sessions[0].file
    for field, path, new in mutations(good, "", None):
        bent = (GPU,) if path.endswith("gpus") else new
        try:
            yield field, path, put(good, path, bent)
        except EncodingError:
            yield field, path, None
    content = receipt.decode_content(good.envelope.payload)
    for field, path, new in mutations(content, "", None):
        data = changed(content, path, new)
        yield field, f"payload: {path}", None if data is None else put(good, "envelope.payload", data)


def test_every_field_of_every_type_is_mutated(
    good: GoodRun, resumed: ResumedRun, composite: CompositeRun
) -> None:
    walks = (bundles(good), segments(resumed), files(resumed), bundles(composite))
    seen = {field for walk in walks for field, *_ in walk}
    assert seen == set().union(*(reachable(kind, set()) for kind in KINDS))


def test_no_field_of_a_bundle_can_be_changed(good: GoodRun) -> None:
    count = 0
    stamped = {"timestamp_root": stamping.make_authority().root.pem}  # without it a token is not looked at
    for _, path, bundle in bundles(good):
        if bundle is not None and bundle != good.bundle:
            count += 1
            with pytest.raises((RejectedError, InputError)):  # the path is in the failure's traceback
                accepted_at(path, good.verify(bundle, **(stamped if path == "timestamp" else {})))
    assert count > 250


def test_no_field_about_the_time_before_a_session_can_be_changed(booted: BootedRun) -> None:
    assert booted.verify().checks
    seen = set()
    for field, path, bundle in bundles(booted):
        if field[1] in {"boot_log", "register_log", "register"} and bundle is not None:
            seen.add(field)
            with pytest.raises((RejectedError, InputError)):
                accepted_at(path, booted.verify(bundle))
    assert seen == {(Bundle, "boot_log"), (Bundle, "register_log"), (Begin, "boot_log"), (Begin, "register")}


def test_no_field_about_gpus_can_be_changed(composite: CompositeRun) -> None:
    rules = composite.policy().platform.gpu
    demanding = put(composite.policy(), "platform.gpu", put(rules, "require_revocation", new=True))
    assert composite.verify(policy=demanding).checks
    seen = set()
    for field, path, bundle in bundles(composite):
        if bundle is None or bundle == composite.bundle or "gpu" not in path:
            continue
        seen.add(field)
        with pytest.raises((RejectedError, InputError)):
            accepted_at(path, composite.verify(bundle, policy=demanding))
    assert seen == {
        *((GpuEvidence, name) for name in ("evidence", "chain")),
        *((GpuEndorsements, name) for name in ("rims", "ocsp", "crls")),
        *((ReferenceManifest, name) for name in ("id", "xml")),
        *((Phase, "gpus"), (Begin, "gpu"), (Run, "gpu"), (Bundle, "gpu_endorsements")),
    }


def test_no_field_of_a_segment_can_be_changed(resumed: ResumedRun) -> None:
    assert resumed.verify().checks
    count = 0
    for _, path, bundle in segments(resumed):
        if bundle is not None and bundle != resumed.bundle:
            count += 1
            with pytest.raises((RejectedError, InputError)):
                accepted_at(path, resumed.verify(bundle))
    assert count > 250


@pytest.mark.parametrize("closed", [False, True])
def test_no_field_of_a_receipt_can_be_changed(resumed: ResumedRun, *, closed: bool) -> None:
    options: dict[str, Any] = {"policy": resumed.policy(), "at": NOW, "challenge": resumed.request}
    if closed:
        options["closing"] = resumed.data
    assert receipts.verify(resumed.sessions[0].file, **options).checks
    count = 0
    for _, path, bent in files(resumed):
        if bent is not None:
            count += 1
            with pytest.raises((RejectedError, InputError)):
                accepted_at(path, receipts.verify(receipt.decode(bent.encode()), **options))
    assert count > 50


def accepted_at(path: str, result: Any) -> None:
    pytest.fail(f"accepted after a change of {path}: {result.tier}")


def test_the_walk_reaches_the_types_by_name() -> None:
    names = {kind.__name__ for root in KINDS for kind, _ in reachable(root, set())}
    assert names == {
        "Artifact",
        "ArtifactsReceipt",
        "Begin",
        "CodeSoFar",
        "Bundle",
        "Challenge",
        "Code",
        "Counts",
        "Dataset",
        "DatasetAccount",
        "Delivered",
        "DeliveredSoFar",
        "Device",
        "Envelope",
        "GpuEndorsements",
        "GpuEvidence",
        "Issued",
        "Multiset",
        "Opening",
        "Part",
        "Phase",
        "Ranks",
        "Receipt",
        "ReferenceManifest",
        "Run",
        "Segment",
        "SegmentReceipt",
        "Series",
        "Signature",
        "SourceFile",
        "Statement",
        "Steps",
        "Tensor",
        "Train",
        "Value",
        "Weights",
    }
