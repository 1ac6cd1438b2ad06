"""Where the simulated authority lives between runs: one private directory, made whole or not at all.

Two processes that start at once agree on one root: each makes a directory of its own, the first to rename
it into place wins, and the other loads the winner's.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from palm_torch.cvm import certificate_bytes, simulated_authority
from palm_torch.errors import AttesterError, EncodingError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

_IDENTITIES: Final = ("root", "pck_ca", "pck", "tcb_signer")
_ATTESTATION_KEY: Final = "attestation_key.key"
_MAX_FILE_BYTES: Final = 65_536
_DIRECTORY_MODE: Final = 0o700
_FILE_MODE: Final = 0o600
_OTHERS: Final = 0o077


def default_directory() -> Path:
    """Returns ``$XDG_STATE_HOME/palm-torch/simulated``, or the same under ``~/.local/state``.

    Raises:
        AttesterError: If neither that variable nor a home directory is set.

    Source: XDG Base Directory Specification: a relative ``XDG_STATE_HOME`` is ignored.
    """
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():
        try:
            state = Path.home() / ".local" / "state"
        except RuntimeError as error:
            raise AttesterError(
                f"simulated TEE: nowhere to keep its keys: {error}; set XDG_STATE_HOME"
            ) from error
    return state / "palm-torch" / "simulated"


def load_or_create(directory: Path, *, clock: Callable[[], datetime]) -> simulated_authority.Authority:
    """Loads the authority in a directory, making it first where there is none.

    Args:
        directory: The directory; its parents are made where they are missing.
        clock: The time that new certificates start from.

    Raises:
        AttesterError: If the directory is not private to this user, not whole, or cannot be written.
    """
    try:
        if not os.path.lexists(directory):
            _create(directory, simulated_authority.make_authority(clock()))
        return _load(directory)
    except OSError as error:
        raise AttesterError(
            f"simulated TEE: cannot keep its keys in {directory}: {error.strerror or error}; "
            f"set XDG_STATE_HOME to a folder that can be written"
        ) from error


def read_root(directory: Path) -> bytes:
    """Returns the root certificate in a directory, DER, for a verifier on the same machine.

    Raises:
        AttesterError: If there is none, or the directory is not private to this user.
    """
    try:
        _check_private(directory, os.lstat(directory), stat.S_ISDIR)
        return _read(directory / "root.der")
    except OSError as error:
        raise AttesterError(
            f"simulated TEE: no root certificate in {directory}: {error.strerror or error}"
        ) from error


def _create(directory: Path, authority: simulated_authority.Authority) -> None:
    directory.parent.mkdir(parents=True, exist_ok=True, mode=_DIRECTORY_MODE)
    temporary = Path(tempfile.mkdtemp(prefix=".simulated-", dir=directory.parent))
    try:
        for name in _IDENTITIES:
            identity: simulated_authority.Identity = getattr(authority, name)
            _write(temporary / f"{name}.key", _key_bytes(identity.key))
            _write(temporary / f"{name}.der", identity.der)
        _write(temporary / _ATTESTATION_KEY, _key_bytes(authority.attestation_key))
        try:
            temporary.rename(directory)
        except OSError:
            if not os.path.lexists(directory):  # not lost to another process: a real failure
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _load(directory: Path) -> simulated_authority.Authority:
    _check_private(directory, os.lstat(directory), stat.S_ISDIR)
    identities = {name: _load_identity(directory, name) for name in _IDENTITIES}
    return simulated_authority.Authority(
        **identities, attestation_key=_load_key(directory / _ATTESTATION_KEY)
    )


def _load_identity(directory: Path, name: str) -> simulated_authority.Identity:
    key = _load_key(directory / f"{name}.key")
    path = directory / f"{name}.der"
    try:
        certificate = certificate_bytes.load_certificate(_read(path), what=str(path))
    except EncodingError as error:
        raise _damaged(path, str(error)) from error
    if certificate.public_key() != key.public_key():
        raise _damaged(path, "it does not belong to the key beside it")
    return simulated_authority.Identity(key, certificate)


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_der_private_key(_read(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _damaged(path, "it holds no private key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _damaged(path, "it holds a key of another kind")
    return key


def _key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        _check_private(path, os.fstat(descriptor), stat.S_ISREG)
        return stream.read(_MAX_FILE_BYTES)


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(descriptor)


def _check_private(path: Path, status: os.stat_result, is_kind: Callable[[int], bool]) -> None:
    if not is_kind(status.st_mode):
        raise AttesterError(f"simulated TEE: {path} is not what it should be; move it away")
    if status.st_uid != os.geteuid():
        raise AttesterError(
            f"simulated TEE: {path} belongs to user {status.st_uid}, expected {os.geteuid()}; "
            f"its keys are not ours to use"
        )
    if status.st_mode & _OTHERS:
        raise AttesterError(
            f"simulated TEE: {path} is open to others (mode {stat.S_IMODE(status.st_mode):04o}); "
            f"expected no access but the owner's: delete the folder, and a new root will be made"
        )


def _damaged(path: Path, reason: str) -> AttesterError:
    return AttesterError(
        f"simulated TEE: {path} is damaged: {reason}; delete the folder, and a new root will be made"
    )
