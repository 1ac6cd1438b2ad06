"""The script that `palm-torch bind`, `preprocess` and `distribute` run inside a session.

It runs as any script under ``palm-torch run`` does: its one word is a JSON object that says what to do.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from palm_torch.attesting.attested import attested
from palm_torch.commit import records
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.shard_writer import ShardWriter
from palm_torch.encoding import encode_json
from palm_torch.errors import DataError, InputError, PalmTorchError, prefixed
from palm_torch.escaping import printable
from palm_torch.exit_codes import MALFORMED, REJECTED
from palm_torch.files import read_bounded

if TYPE_CHECKING:
    from palm_torch.attesting.session import Session
    from palm_torch.commit.manifest import Manifest

MAX_SALT_BYTES: Final = 4096


def main(operation: str, spec: dict[str, Any]) -> None:
    """Does what one of the verbs was asked for, inside the session that is open."""
    with attested(operation) as run:
        _VERBS[operation](run, spec)


def function_named(text: str) -> Callable[..., Any]:
    """Imports a function by ``module:name``.

    Raises:
        InputError: If there is no such module, or no such function in it.
    """
    module, _, name = text.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as error:
        if error.name is None or not (module == error.name or module.startswith(f"{error.name}.")):
            raise
        raise InputError(f"--function {text}: there is no module {error.name!r} here or installed") from error
    except AttributeError as error:
        raise InputError(f"--function {text}: {error}") from error
    if not callable(found):
        raise InputError(f"--function {text}: expected a function, got {type(found).__name__}")
    function: Callable[..., Any] = found
    return function


def _bind(run: Session, spec: dict[str, Any]) -> None:
    manifest = run.bind(spec["path"], salt=_salt(spec), **_given(spec["options"]))
    _tell(manifest, None)


def _preprocess(run: Session, spec: dict[str, Any]) -> None:
    apply = run.function(function_named(spec["function"]), **spec["arguments"])
    source = _open(spec)
    with ShardWriter(spec["output"], **_given(spec["written"])) as writer:
        for record in run.records(source):
            made = apply(record)
            if isinstance(made, Iterator):
                writer.write_all(made)
            elif made is not None:
                writer.write(made)
    if writer.manifest is not None:
        _tell(writer.manifest, spec["output"])


def _distribute(run: Session, spec: dict[str, Any]) -> None:
    source = _open(spec)
    if spec["statistic"] is not None:
        result = run.statistic(source, spec["statistic"], **spec["arguments"])
    else:
        compute = run.function(function_named(spec["function"]), **spec["arguments"])
        result = compute(run.records(source))
        run.result(result)
    sys.stdout.write(printable(encode_json(result).decode()) + "\n")


_VERBS: Final = {
    "bind": _bind,
    "preprocess": _preprocess,
    "distribute": _distribute,
}


def _open(spec: dict[str, Any]) -> AttestedMmapDataset:
    return AttestedMmapDataset(spec["path"], salt=_salt(spec), **_given(spec["options"]))


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _salt(spec: dict[str, Any]) -> bytes | None:
    if spec["salt_file"] is None:
        return None
    path = Path(spec["salt_file"])
    salt = read_bounded(path, what="the salt", max_bytes=MAX_SALT_BYTES, error=DataError)
    with prefixed(str(path)):
        records.check_salt(salt)
    return salt


def _tell(manifest: Manifest, folder: str | None) -> None:
    if folder is not None:
        sys.stdout.write(f"data      {printable(folder)}\n")
    sys.stdout.write(
        f"digest    {manifest.digest}\nrecords   {manifest.records} in {len(manifest.shards)} files\n"
    )


if __name__ == "__main__":
    try:
        main(sys.argv[1], json.loads(sys.argv[2]))
    except PalmTorchError as error:
        sys.stderr.write(f"error: {type(error).__name__}: {printable(str(error))}\n")
        raise SystemExit(MALFORMED if isinstance(error, InputError) else REJECTED) from error
