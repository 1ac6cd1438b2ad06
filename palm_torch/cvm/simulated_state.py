"""Where the simulated authority of TDX lives between runs: its keys and certificates in a private folder."""

from __future__ import annotations

import os
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

from palm_torch.cvm import certificate_bytes, private_folder, simulated_authority
from palm_torch.errors import AttesterError, EncodingError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

_IDENTITIES: Final = ("root", "pck_ca", "pck", "tcb_signer")
_ATTESTATION_KEY: Final = "attestation_key.key"


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
        private_folder.make(directory, lambda: _files(simulated_authority.make_authority(clock())))
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
        private_folder.check(directory)
        return private_folder.read(directory / "root.der")
    except OSError as error:
        raise AttesterError(
            f"simulated TEE: no root certificate in {directory}: {error.strerror or error}"
        ) from error


def _files(authority: simulated_authority.Authority) -> dict[str, bytes]:
    files = {_ATTESTATION_KEY: _key_bytes(authority.attestation_key)}
    for name in _IDENTITIES:
        identity: simulated_authority.Identity = getattr(authority, name)
        files |= {f"{name}.key": _key_bytes(identity.key), f"{name}.der": identity.der}
    return files


def _load(directory: Path) -> simulated_authority.Authority:
    private_folder.check(directory)
    identities = {name: _load_identity(directory, name) for name in _IDENTITIES}
    return simulated_authority.Authority(
        **identities, attestation_key=_load_key(directory / _ATTESTATION_KEY)
    )


def _load_identity(directory: Path, name: str) -> simulated_authority.Identity:
    key = _load_key(directory / f"{name}.key")
    path = directory / f"{name}.der"
    try:
        certificate = certificate_bytes.load_certificate(private_folder.read(path), what=str(path))
    except EncodingError as error:
        raise _damaged(path, str(error)) from error
    if not certificate_bytes.is_for(certificate, key):
        raise _damaged(path, "it does not belong to the key beside it")
    return simulated_authority.Identity(key, certificate)


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_der_private_key(private_folder.read(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _damaged(path, "it holds no private key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _damaged(path, "it holds a key of another kind")
    return key


def _key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def _damaged(path: Path, reason: str) -> AttesterError:
    return AttesterError(
        f"simulated TEE: {path} is damaged: {reason}; delete the folder, and a new root will be made"
    )
