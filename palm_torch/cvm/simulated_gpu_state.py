"""Where the simulated maker of GPUs lives between runs: its keys and certificates in a private folder."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric import ec

from palm_torch.cvm import (
    certificate_bytes,
    gpu_certificate,
    key_folder,
    private_folder,
    simulated_gpu_authority,
    simulated_rim,
    simulated_state,
)
from palm_torch.cvm.key_folder import KeyFolder, key_bytes
from palm_torch.cvm.simulated_authority import Identity
from palm_torch.cvm.simulated_gpu_authority import Authority, Chip
from palm_torch.cvm.simulated_rim import RimAuthority
from palm_torch.errors import EncodingError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

FOLDER: Final = "simulated-gpu"
"""Name of the folder with the keys, beside the one of the simulated TDX machine."""

_WHAT: Final = "simulated GPU"
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
    return KeyFolder(directory, _WHAT).read_root(_ROOT)


def read_rim_root(directory: Path) -> bytes:
    """Returns the root certificate of who signs their manifests, DER.

    Raises:
        AttesterError: If there is none, or the directory is not private to this user.
    """
    return KeyFolder(directory, _WHAT).read_root(_RIM_ROOT)


def load_or_create(directory: Path, *, clock: Callable[[], datetime]) -> Makers:
    """Loads the makers in a directory, making them first where there are none.

    Args:
        directory: The directory; its parents are made where they are missing.
        clock: The time that new certificates start from.

    Raises:
        AttesterError: If the directory is not private to this user, not whole, or cannot be written.
    """
    now = clock()
    folder = KeyFolder(directory, _WHAT)
    return folder.load_or_create(lambda: _new_files(now), lambda: _load(folder, now))


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
        found |= {f"{name}.key": key_bytes(identity.key), f"{name}.der": identity.der}
    for number, chip in enumerate(gpus.chips):
        found |= {f"chip{number}.key": key_bytes(chip.key), f"chip{number}.chain": chip.chain}
    return found


def _load(folder: KeyFolder, now: datetime) -> Makers:
    chips = tuple(_load_chip(folder, number) for number in range(simulated_gpu_authority.CHIPS))
    root, family, provisioner = (_load_identity(folder, name) for name in ("root", "family", "provisioner"))
    rim_root, rim_family, product = (
        _load_identity(folder, name) for name in ("rim_root", "rim_family", "rim_product")
    )
    signer = simulated_rim.make_signer("Simulated RIM L4 Signer", product, now - _BEFORE)
    return Makers(
        Authority(root, family, provisioner, chips), RimAuthority(rim_root, rim_family, product, signer)
    )


def _load_identity(folder: KeyFolder, name: str) -> Identity:
    key = _load_key(folder, f"{name}.key")
    return Identity(key, folder.certificate(f"{name}.der", key, algorithms=certificate_bytes.NVIDIA))


def _load_chip(folder: KeyFolder, number: int) -> Chip:
    name = f"chip{number}.chain"
    key = _load_key(folder, f"chip{number}.key")
    chain = private_folder.read(folder.path / name)
    try:
        leaf, *_ = gpu_certificate.split_chain(chain)
    except EncodingError as error:
        raise folder.damaged(name, str(error)) from error
    folder.belonging(name, leaf, key, algorithms=certificate_bytes.NVIDIA)
    return Chip(key, chain)


def _load_key(folder: KeyFolder, name: str) -> ec.EllipticCurvePrivateKey:
    key = folder.elliptic_key(name)
    if not isinstance(key.curve, ec.SECP384R1):
        raise folder.damaged(name, key_folder.ANOTHER_KIND)
    return key
