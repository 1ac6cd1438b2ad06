"""What surrounds a run, as statements say it: code, environment, seeds, and the files a script names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palm_torch import codec, reported, statement
from palm_torch.digest import sha256_digest, sha256_file
from palm_torch.errors import MeasurementError
from palm_torch.hooks import environment, rng, source
from palm_torch.properties import Train
from palm_torch.roles import Artifact, Source, Value
from palm_torch.statement import Code

if TYPE_CHECKING:
    from collections.abc import Mapping

    from palm_torch.encoding import Json
    from palm_torch.statement import SourceFile


def code_now(*, before: tuple[SourceFile, ...] = ()) -> Code:
    """Returns the code identity of this moment.

    Args:
        before: Files of an earlier identity, whose digests stay: a file edited since was not what ran.
    """
    files = {file.module: file for file in (*source.loaded_sources(), *before)}
    ordered = tuple(files[module] for module in sorted(files))
    return Code(
        source=statement.CodeSource.SELF_REPORTED, digest=statement.code_digest(ordered), files=ordered
    )


def environment_now(*, before: Value | None = None) -> Value:
    """Returns interpreter, packages, switches and threads of this moment.

    Args:
        before: An earlier environment, whose packages stay listed beside those found since.
    """
    now = _object(codec.to_json(environment.environment()))
    if before is not None:
        listed = before.value["packages"]
        now["packages"] = [*listed, *(item for item in now["packages"] if item not in listed)]
    return Value(source=Source.MEASURED, value=now)


def seeds_now() -> Value:
    """Returns seeds, and digests of the random number generators' states, of this moment."""
    return Value(source=Source.MEASURED, value=_object(codec.to_json(rng.rng_digests())))


def artifacts(items: Mapping[str, str | Path | bytes], *, but: str = "") -> dict[str, Artifact]:
    """Hashes what a script names by role: files by path, or bytes.

    Args:
        items: Role → path or bytes.
        but: The one role of the property that a script does name.

    Raises:
        MeasurementError: If a role is measured by itself, its name is not printable text, or a file cannot
            be read.
    """
    measured = Train.__dataclass_fields__.keys() - {but}
    for role in items:
        if role in measured:
            raise MeasurementError(
                f"{role}=...: the role {role!r} is not named by the script; choose another"
            )
        reported.require_name(role, what="a role")
    return {role: _artifact(role, item) for role, item in items.items()}


def _artifact(role: str, item: str | Path | bytes) -> Artifact:
    if isinstance(item, bytes):
        return Artifact(source=Source.MEASURED, kind="bytes", digest=sha256_digest(item))
    if not isinstance(item, (str, os.PathLike)):
        raise MeasurementError(f"{role}=...: expected a path or bytes, got {type(item).__name__}")
    try:
        digest = sha256_file(Path(item))
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        reason = error.strerror if isinstance(error, OSError) else error
        raise MeasurementError(f"{role}={str(item)!r}: cannot be read: {reason}") from error
    return Artifact(source=Source.MEASURED, kind="file", digest=digest)


def _object(value: Json) -> dict[str, Any]:
    return value if isinstance(value, dict) else {"value": value}
