"""Where the simulated maker of GPUs lives between runs: its keys and certificates in a private folder."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from palm_torch.cvm import (
    certificate_bytes,
    gpu_certificate,
    private_folder,
    simulated_gpu_authority,
    simulated_rim,
    simulated_state,
)
from palm_torch.cvm.simulated_authority import Identity
from palm_torch.cvm.simulated_gpu_authority import Authority, Chip
from palm_torch.cvm.simulated_rim import RimAuthority
from palm_torch.errors import AttesterError, EncodingError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from cryptography import x509

FOLDER: Final = "simulated-gpu"
"""Name of the folder with the keys, beside the one of the simulated TDX machine."""

_ROOT: Final = "root.der"
_RIM_ROOT: Final = "rim_root.der"
_BEFORE: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Makers:
    """Who makes the simulated GPUs, and who signs what they measure.

    Attributes:
        gpus: The maker, with its GPUs.
        rims: The signer; its last certificate is made anew each time, and lives for two years.
    """

    gpus: Authority
    rims: RimAuthority


def default_directory() -> Path:
    """Returns ``$XDG_STATE_HOME/palm-torch/simulated-gpu``, or the same under ``~/.local/state``.

    Raises:
        AttesterError: If neither that variable nor a home directory is set.
    """
    return simulated_state.default_directory().with_name(FOLDER)


def read_root(directory: Path) -> bytes:
    """Returns the root certificate of the GPUs in a directory, DER, for a verifier on the same machine.

    Raises:
        AttesterError: If there is none, or the directory is not private to this user.
    """
    return _read_root(directory, _ROOT)


def read_rim_root(directory: Path) -> bytes:
    """Returns the root certificate of who signs their manifests, DER.

    Raises:
        AttesterError: If there is none, or the directory is not private to this user.
    """
    return _read_root(directory, _RIM_ROOT)


def load_or_create(directory: Path, *, clock: Callable[[], datetime]) -> Makers:
    """Loads the makers in a directory, making them first where there are none.

    Args:
        directory: The directory; its parents are made where they are missing.
        clock: The time that new certificates start from.

    Raises:
        AttesterError: If the directory is not private to this user, not whole, or cannot be written.
    """
    now = clock()
    try:
        private_folder.make(directory, lambda: _new_files(now))
        private_folder.check(directory)
        chips = tuple(_load_chip(directory, number) for number in range(simulated_gpu_authority.CHIPS))
        root, family, provisioner = (
            _load_identity(directory, name) for name in ("root", "family", "provisioner")
        )
        rim_root, rim_family, product = (
            _load_identity(directory, name) for name in ("rim_root", "rim_family", "rim_product")
        )
    except OSError as error:
        raise AttesterError(
            f"simulated GPU: cannot keep its keys in {directory}: {error.strerror or error}; "
            f"set XDG_STATE_HOME to a folder that can be written"
        ) from error
    signer = simulated_rim.make_signer("Simulated RIM L4 Signer", product, now - _BEFORE)
    return Makers(
        Authority(root, family, provisioner, chips), RimAuthority(rim_root, rim_family, product, signer)
    )


def _new_files(now: datetime) -> dict[str, bytes]:
    gpus, rims = simulated_gpu_authority.make_authority(now), simulated_rim.make_authority(now)
    found: dict[str, bytes] = {}
    for name, identity in (
        ("root", gpus.root),
        ("family", gpus.family),
        ("provisioner", gpus.provisioner),
        ("rim_root", rims.root),
        ("rim_family", rims.family),
        ("rim_product", rims.product),
    ):
        found |= {f"{name}.key": _key_bytes(identity.key), f"{name}.der": identity.der}
    for number, chip in enumerate(gpus.chips):
        found |= {f"chip{number}.key": _key_bytes(chip.key), f"chip{number}.chain": chip.chain}
    return found


def _read_root(directory: Path, name: str) -> bytes:
    try:
        private_folder.check(directory)
        return private_folder.read(directory / name)
    except OSError as error:
        raise AttesterError(
            f"simulated GPU: no root certificate in {directory}: {error.strerror or error}"
        ) from error


def _load_identity(directory: Path, name: str) -> Identity:
    path = directory / f"{name}.der"
    key = _load_key(directory / f"{name}.key")
    return Identity(key, _load_certificate(private_folder.read(path), key, path))


def _load_chip(directory: Path, number: int) -> Chip:
    path = directory / f"chip{number}.chain"
    key = _load_key(directory / f"chip{number}.key")
    chain = private_folder.read(path)
    try:
        leaf, *_ = gpu_certificate.split_chain(chain)
    except EncodingError as error:
        raise _damaged(path, str(error)) from error
    _load_certificate(leaf, key, path)
    return Chip(key, chain)


def _load_certificate(data: bytes, key: ec.EllipticCurvePrivateKey, path: Path) -> x509.Certificate:
    try:
        certificate = certificate_bytes.load_certificate(
            data, what=str(path), algorithms=certificate_bytes.NVIDIA
        )
    except EncodingError as error:
        raise _damaged(path, str(error)) from error
    if not certificate_bytes.is_for(certificate, key):
        raise _damaged(path, "it does not belong to the key beside it")
    return certificate


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_der_private_key(private_folder.read(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _damaged(path, "it holds no private key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise _damaged(path, "it holds a key of another kind")
    return key


def _key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def _damaged(path: Path, reason: str) -> AttesterError:
    return AttesterError(
        f"simulated GPU: {path} is damaged: {reason}; delete the folder, and a new root will be made"
    )
