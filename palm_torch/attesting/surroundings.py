"""What surrounds a run, as statements say it: code, environment, seeds, and the files a script names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from palm_torch import codec, statement
from palm_torch.attesting import reported
from palm_torch.digest import sha256_digest, sha256_file
from palm_torch.encoding import encode_json
from palm_torch.errors import EncodingError, MeasurementError
from palm_torch.hooks import environment, importing, opened, rng
from palm_torch.properties import Train
from palm_torch.roles import BYTES, COMMAND, FILE, Artifact, Source, Value
from palm_torch.statement import Code, CodeSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from palm_torch.encoding import Json
    from palm_torch.properties import Property
    from palm_torch.statement import SourceFile

RESUMED: Final = "resumed"
"""Where the environment of a run that went on from a checkpoint lists those of its earlier sessions."""

MAX_INPUT_BYTES: Final = 64 << 20
"""Largest file whose content `take` hands on."""


def code_now(loaded: Iterable[SourceFile], *, before: Iterable[SourceFile] = ()) -> Code:
    """Returns the code identity of this moment: as imported, if the hook was older than the script.

    Args:
        loaded: What `palm_torch.hooks.source.loaded_sources` returned just now.
        before: Files of an earlier identity, whose digests stay: a file edited since was not what ran.
    """
    files = {file.module: file for file in (*loaded, *before)}
    ordered = tuple(files[module] for module in sorted(files))
    how = CodeSource.IMPORTED if importing.saw_entry() else CodeSource.SELF_REPORTED
    return Code(source=how, digest=statement.code_digest(ordered), files=ordered)


def environment_now(*, before: Value | None = None, resumed: Value | None = None) -> Value:
    """Returns interpreter, packages, switches and threads of this moment.

    Args:
        before: An earlier environment, whose packages stay listed beside those found since.
        resumed: That of the checkpoint which the run went on from. Where earlier sessions had others than
            that of this moment, they are listed under `RESUMED`, oldest first, without their packages.
    """
    now = _object(codec.to_json(environment.environment()))
    if before is not None:
        listed = before.value["packages"]
        now["packages"] = [*listed, *(item for item in now["packages"] if item not in listed)]
    if resumed is not None and (earlier := _others(resumed.value, now)):
        now[RESUMED] = earlier
    return Value(source=Source.MEASURED, value=now)


def seeds_now() -> Value:
    """Returns seeds, and digests of the random number generators' states, of this moment."""
    return Value(source=Source.MEASURED, value=_object(codec.to_json(rng.rng_digests())))


def artifacts(
    items: Mapping[str, str | Path | bytes], *, of: type[Property] = Train, but: Sequence[str] = ()
) -> dict[str, Artifact]:
    """Hashes what a script names by role: files by path, or bytes.

    Args:
        items: Role → path or bytes.
        of: The property of the run, whose roles are measured.
        but: Those roles that a script does name.

    Raises:
        MeasurementError: If a role is measured by itself, its name is not printable text, or a file cannot
            be read.
    """
    _require_roles(items, of, but)
    return {role: _artifact(role, item) for role, item in items.items()}


def command(words: Sequence[str], *, session: int) -> dict[str, Artifact]:
    """Returns the words that a run was started with, as an input of it.

    Args:
        words: The script and its words.
        session: Which session of the run they started: each has its own role, ``command``, ``command#2``, ...
    """
    role = COMMAND if session == 1 else f"{COMMAND}#{session}"
    digest = sha256_digest(encode_json(list(words)))
    return {role: Artifact(source=Source.MEASURED, kind=BYTES, digest=digest)}


def take(
    items: Mapping[str, str | Path | bytes], *, of: type[Property] = Train, but: Sequence[str] = ()
) -> tuple[dict[str, Artifact], dict[str, bytes]]:
    """Hashes what a script names by role, reading each file once, and hands on what was hashed.

    Args:
        items: As in `artifacts`.
        of: As in `artifacts`.
        but: As in `artifacts`.

    Returns:
        Role → artifact, and role → the bytes hashed, for all but files of more than `MAX_INPUT_BYTES`.

    Raises:
        MeasurementError: As in `artifacts`.
    """
    _require_roles(items, of, but)
    taken: dict[str, Artifact] = {}
    contents: dict[str, bytes] = {}
    for role, item in items.items():
        data = item if isinstance(item, bytes) else _content(role, item)
        if data is None:
            taken[role] = _artifact(role, item)
        else:
            taken[role], contents[role] = _artifact(role, data), data
    return taken, contents


def require_json(values: Mapping[str, object], *, what: str) -> None:
    """Checks values by name, so that the one without a JSON form is named.

    Raises:
        EncodingError: Naming it.
    """
    for name, value in values.items():
        try:
            encode_json(value)  # type: ignore[arg-type]  # whether it is JSON is what is asked
        except EncodingError as error:
            raise EncodingError(f"{what}({name}=...): {error}") from error


def _require_roles(items: Mapping[str, object], of: type[Property], but: Sequence[str]) -> None:
    measured = of.__dataclass_fields__.keys() - set(but)
    for role in items:
        if role in measured or role.startswith(opened.PREFIX) or role.partition("#")[0] == COMMAND:
            raise MeasurementError(
                f"{role}=...: the role {role!r} is not named by the script; choose another"
            )
        reported.require_name(role, what="a role")


def _content(role: str, item: str | Path) -> bytes | None:
    """Returns what a file holds, read once; None if it is large."""
    try:
        with _path(role, item).open("rb") as stream:
            data = stream.read(MAX_INPUT_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise _unreadable(role, item, error) from error
    return data if len(data) <= MAX_INPUT_BYTES else None


def _artifact(role: str, item: str | Path | bytes) -> Artifact:
    if isinstance(item, bytes):
        return Artifact(source=Source.MEASURED, kind=BYTES, digest=sha256_digest(item))
    try:
        digest = sha256_file(_path(role, item))
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise _unreadable(role, item, error) from error
    return Artifact(source=Source.MEASURED, kind=FILE, digest=digest)


def _path(role: str, item: str | Path) -> Path:
    if not isinstance(item, (str, os.PathLike)):
        raise MeasurementError(f"{role}=...: expected a path or bytes, got {type(item).__name__}")
    return Path(item)


def _unreadable(role: str, item: str | Path, error: OSError | ValueError) -> MeasurementError:
    reason = error.strerror if isinstance(error, OSError) else error
    return MeasurementError(f"{role}={str(item)!r}: cannot be read: {reason}")


def _others(resumed: dict[str, Any], now: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the environments of earlier sessions that differ from this one, each once, without packages."""
    here = _alone(now)
    found: list[dict[str, Any]] = []
    for each in (*resumed.get(RESUMED, ()), _alone(resumed)):
        if each not in (here, *found):
            found.append(each)
    return found


def _alone(environment: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in environment.items() if name not in {RESUMED, "packages"}}


def _object(value: Json) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MeasurementError(
            f"surroundings: expected an object of values by name, got {type(value).__name__}"
        )
    return value
