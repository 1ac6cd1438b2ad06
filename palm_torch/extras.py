"""Optional dependencies: which packages an extra brings, and the error when one is missing."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from palm_torch.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGES: Final = {
    "torch": frozenset({"torch", "numpy", "safetensors", "gmpy2"}),
    "kzg": frozenset({"ckzg", "py_arkworks_bls12381", "gmpy2"}),
    "audit": frozenset({"numpy", "ml_dtypes"}),
    "data": frozenset({"pyarrow"}),
    "hf": frozenset({"transformers", "datasets", "peft", "accelerate"}),
    "resume": frozenset({"torchdata"}),
    "nvidia": frozenset({"pynvml"}),
    "nv-sdk": frozenset({"nv_attestation_sdk", "verifier"}),
}
"""Extra → the top-level packages that it brings."""


@contextlib.contextmanager
def needed(extra: str, *, for_what: str) -> Iterator[None]:
    """Names the extra when an import in the ``with`` block misses one of its packages.

    Args:
        extra: A key of `PACKAGES`.
        for_what: What needs it, for the message.

    Raises:
        MissingExtraError: If a package of the extra is not installed; other import errors pass.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in PACKAGES[extra]:
            raise
        raise MissingExtraError(
            f"{for_what} needs {package}, which is not installed: pip install 'palm-torch[{extra}]'",
            name=error.name,
        ) from error
