"""Where the simulated authority of TDX lives between runs: its keys and certificates in a private folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from palm_torch.cvm import certificate_bytes, simulated_authority
from palm_torch.cvm.key_folder import KeyFolder, key_bytes
from palm_torch.errors import AttesterError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

WHAT: Final = "simulated TEE"
"""Whose keys they are, for messages."""

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
    folder = KeyFolder(directory, WHAT)
    return folder.load_or_create(
        lambda: _files(simulated_authority.make_authority(clock())), lambda: _load(folder)
    )


def read_root(directory: Path) -> bytes:
    """Returns the root certificate in a directory, DER, for a verifier on the same machine.

    Raises:
        AttesterError: If there is none, or the directory is not private to this user.
    """
    return KeyFolder(directory, WHAT).read_root("root.der")


def _files(authority: simulated_authority.Authority) -> dict[str, bytes]:
    files = {_ATTESTATION_KEY: key_bytes(authority.attestation_key)}
    for name in _IDENTITIES:
        identity: simulated_authority.Identity = getattr(authority, name)
        files |= {f"{name}.key": key_bytes(identity.key), f"{name}.der": identity.der}
    return files


def _load(folder: KeyFolder) -> simulated_authority.Authority:
    identities = {name: _load_identity(folder, name) for name in _IDENTITIES}
    attestation_key = folder.elliptic_key(_ATTESTATION_KEY)
    return simulated_authority.Authority(**identities, attestation_key=attestation_key)


def _load_identity(folder: KeyFolder, name: str) -> simulated_authority.Identity:
    key = folder.elliptic_key(f"{name}.key")
    certificate = folder.certificate(f"{name}.der", key, algorithms=certificate_bytes.INTEL)
    return simulated_authority.Identity(key, certificate)
