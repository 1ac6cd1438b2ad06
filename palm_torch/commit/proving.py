"""What those who commit and open KZG nodes compute with, and those who check never load.

ckzg commits to blobs, with the pinned ceremony in the form it wants, and gmpy2 brings integers that are
faster than Python's. Both come with the extra `kzg`.
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any, Literal

from palm_torch import extras
from palm_torch.commit import ceremony

if TYPE_CHECKING:
    from collections.abc import Callable

    from palm_torch.commit import field

_WHAT = "committing and opening with KZG"


def blob_commitment(blob: bytes) -> bytes:
    """Returns the commitment of 4096 checked field elements, 48 bytes; infinity if all are 0.

    Raises:
        MissingExtraError: If the extra `kzg` is not installed.
        DataError: If the package's copy of the ceremony is missing or altered.
    """
    with extras.needed("kzg", for_what=_WHAT):
        import ckzg  # noqa: PLC0415 (an extra: only KZG trees need it)
    commitment: bytes = ckzg.blob_to_kzg_commitment(blob, settings())
    return commitment


def point_proof(blob: bytes, at: int) -> tuple[bytes, int]:
    """Returns the EIP-4844 proof for the value at any field element, 48 bytes, and that value.

    Raises:
        MissingExtraError: If the extra `kzg` is not installed.
        DataError: If the package's copy of the ceremony is missing or altered.
    """
    with extras.needed("kzg", for_what=_WHAT):
        import ckzg  # noqa: PLC0415 (as in `blob_commitment`)
    proof, value = ckzg.compute_kzg_proof(blob, at.to_bytes(32, "big"), settings())
    return bytes(proof), int.from_bytes(value, "big")


@functools.cache
def settings() -> Any:  # noqa: ANN401 (an opaque capsule of ckzg)
    """Returns the ceremony as ckzg's functions take it. The first call decodes 8,257 points: about 2 s.

    ckzg reads a path. It gets the bytes that were hashed, in memory without a name, and not the file again.

    Raises:
        MissingExtraError: If the extra `kzg` is not installed.
        DataError: If the package's copy of the ceremony is missing or altered.
    """
    with extras.needed("kzg", for_what=_WHAT):
        import ckzg  # noqa: PLC0415 (as in `blob_commitment`)
    text = ceremony.text()
    descriptor = os.memfd_create("palm-torch-kzg-ceremony")
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(text)
        stream.flush()
        return ckzg.load_trusted_setup(f"/proc/self/fd/{descriptor}", 0)


def fast_number() -> field.Number:
    """Returns gmpy2's integer type.

    Raises:
        MissingExtraError: If the extra `kzg` is not installed.
    """
    with extras.needed("kzg", for_what=_WHAT):
        import gmpy2  # type: ignore[import-untyped]  # noqa: PLC0415 (as in `blob_commitment`)
    number: field.Number = gmpy2.mpz
    return number


def fast_decoder() -> Callable[[bytes, Literal["big", "little"]], int]:
    """Returns what makes integers of that type of bytes, in half the time of one that makes `int` first.

    Raises:
        MissingExtraError: If the extra `kzg` is not installed.
    """
    with extras.needed("kzg", for_what=_WHAT):
        import gmpy2  # noqa: PLC0415 (as in `blob_commitment`)
    decoder: Callable[[bytes, Literal["big", "little"]], int] = gmpy2.mpz.from_bytes
    return decoder
