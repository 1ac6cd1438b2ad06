"""A receipt in the hands of whoever ran the session."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from palm_torch import receipt
from palm_torch.errors import SealError
from palm_torch.files import write_atomically
from palm_torch.receipt import Receipt

SIMULATED_SUFFIX: Final = f".simulated{receipt.SUFFIX}"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SignedReceipt:
    """A receipt that a session has just issued.

    Attributes:
        receipt: What goes into the file.
        simulated: Whether the attester was the simulated one; decides the file's name.
    """

    receipt: Receipt
    simulated: bool

    def __repr__(self) -> str:
        """Returns one line, without the receipt's bytes."""
        kind = "simulated" if self.simulated else self.receipt.session.attester
        return f"<Receipt of run {self.receipt.session.run_id}, {kind}>"

    def save(self, path: str | Path) -> Path:
        """Writes the receipt, whole or not at all.

        Args:
            path: Where to write; receipts of the simulated attester get the suffix
                ``.simulated.palm-receipt.json`` whatever name was asked for.

        Returns:
            The path written.

        Raises:
            SealError: If the place cannot be written to.
        """
        target = self._named(Path(path))
        if not target.name or "\0" in str(target) or target.is_dir():
            raise SealError(
                f"{str(path)!r}: expected the path of a file to write, such as 'x{receipt.SUFFIX}'"
            )
        write_atomically(target, [self.receipt.encode()], error=SealError)
        return target

    def _named(self, path: Path) -> Path:
        if not self.simulated or path.name.endswith(SIMULATED_SUFFIX) or not path.name:
            return path
        stem = path.name.removesuffix(receipt.SUFFIX) if path.name.endswith(receipt.SUFFIX) else path.stem
        return path.with_name(stem + SIMULATED_SUFFIX)
