"""The keys and certificates of a simulated maker, in a private folder: made once, then read back.

What cannot be read back is said to be damaged, and what to do about it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from palm_torch.cvm import certificate_bytes, private_folder
from palm_torch.errors import AttesterError, EncodingError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cryptography import x509

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
_Maker = TypeVar("_Maker")

ANOTHER_KIND: Final = "it holds a key of another kind"


@dataclass(frozen=True, slots=True)
class KeyFolder:
    """A folder of keys, as private keys in PKCS #8 and certificates in DER.

    Attributes:
        path: The folder.
        what: Whose keys they are, for messages: "simulated TEE".
    """

    path: Path
    what: str

    def load_or_create(
        self, contents: Callable[[], Mapping[str, bytes]], load: Callable[[], _Maker]
    ) -> _Maker:
        """Reads the folder, making it first where there is none.

        Args:
            contents: What returns its files, name → bytes; called only if there is no folder.
            load: What makes an object of them.

        Raises:
            AttesterError: If it is not private to this user, not whole, or cannot be written.
        """
        try:
            private_folder.make(self.path, contents)
            private_folder.check(self.path)
            return load()
        except OSError as error:
            raise AttesterError(
                f"{self.what}: cannot keep its keys in {self.path}: {error.strerror or error}; "
                f"set XDG_STATE_HOME to a folder that can be written"
            ) from error

    def read_root(self, name: str) -> bytes:
        """Returns a root certificate, DER, for a verifier on the same machine.

        Raises:
            AttesterError: If there is none, or the folder is not private to this user.
        """
        try:
            private_folder.check(self.path)
            return private_folder.read(self.path / name)
        except OSError as error:
            raise AttesterError(
                f"{self.what}: no root certificate in {self.path}: {error.strerror or error}"
            ) from error

    def elliptic_key(self, name: str) -> ec.EllipticCurvePrivateKey:
        """Returns a private key on an elliptic curve.

        Raises:
            AttesterError: If the file holds something else.
            OSError: If it cannot be read.
        """
        key = self._key(name)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise self.damaged(name, ANOTHER_KIND)
        return key

    def rsa_key(self, name: str) -> rsa.RSAPrivateKey:
        """Returns a private RSA key; raises as `elliptic_key`."""
        key = self._key(name)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise self.damaged(name, ANOTHER_KIND)
        return key

    def certificate(
        self, name: str, key: PrivateKey, *, algorithms: Mapping[bytes, str], zero_serial: bool = False
    ) -> x509.Certificate:
        """Returns the certificate that a file holds, of the public half of a key.

        Args:
            name: The file.
            key: The key.
            algorithms: As in `certificate_bytes.load_certificate`.
            zero_serial: Likewise.

        Raises:
            AttesterError: If it is none, or another key's.
            OSError: If the file cannot be read.
        """
        data = private_folder.read(self.path / name)
        return self.belonging(name, data, key, algorithms=algorithms, zero_serial=zero_serial)

    def belonging(
        self,
        name: str,
        data: bytes,
        key: PrivateKey,
        *,
        algorithms: Mapping[bytes, str],
        zero_serial: bool = False,
    ) -> x509.Certificate:
        """Returns a certificate out of a file's bytes; otherwise as `certificate`."""
        try:
            found = certificate_bytes.load_certificate(
                data, what=str(self.path / name), algorithms=algorithms, zero_serial=zero_serial
            )
        except EncodingError as error:
            raise self.damaged(name, str(error)) from error
        if not certificate_bytes.is_for(found, key):
            raise self.damaged(name, "it does not belong to the key beside it")
        return found

    def damaged(self, name: str, reason: str) -> AttesterError:
        """Returns the error for a file that is not what was once written."""
        return AttesterError(
            f"{self.what}: {self.path / name} is damaged: {reason}; delete the folder, and a new root will "
            "be made"
        )

    def _key(self, name: str) -> object:
        data = private_folder.read(self.path / name)
        try:  # whether the numbers are prime takes long to see, and the certificate has the public half
            return load_der_private_key(data, password=None, unsafe_skip_rsa_key_validation=True)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise self.damaged(name, "it holds no private key") from error


def key_bytes(key: PrivateKey) -> bytes:
    """Returns a private key as a folder keeps it: PKCS #8, DER."""
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
