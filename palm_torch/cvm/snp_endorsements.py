"""What a verifier needs beside an SNP report: AMD's certificates, and perhaps its revocation list.

The hypervisor may hand them to the guest with the report, in the certificate table of the guest-hypervisor
communication block. Some hand over the leaf alone; the rest AMD's key distribution service has. Nothing here
has been verified, and none of it has to be trusted: a wrong certificate makes a verification fail, never
succeed.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from palm_torch import codec
from palm_torch.cvm import certificate_bytes, snp_report, vcek
from palm_torch.encoding import decode_hex
from palm_torch.errors import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palm_torch.encoding import Json

CHAIN_CERTIFICATES: Final = 3
MAX_TABLE_BYTES: Final = 131_072
"""Largest certificate table read, in bytes; Linux reserves far less for it."""

ENTRY_BYTES: Final = 24
GUIDS: Final = {
    uuid.UUID("63da758d-e664-4564-adc5-f4b93be8accd"): "vcek",
    uuid.UUID("a8074bc2-a25a-483e-aae6-39c045a0b8a1"): "vlek",
    uuid.UUID("4ab7b379-bbac-4fe4-a02f-05aef327c782"): "ask",
    uuid.UUID("c0b406a4-a803-4952-9743-3fb6014cd0ae"): "ark",
    uuid.UUID("92f81bc3-5811-4d3d-97ff-d19f88dc67ea"): "crl",
}
"""Identifier of an entry → what it holds, DER: certificates, and the ARK's revocation list."""

_MAX_CHAIN_CHARACTERS: Final = 32_768
_MAX_CRL_CHARACTERS: Final = 524_288
_GUID_BYTES: Final = 16
_END: Final = bytes(ENTRY_BYTES)


@dataclass(frozen=True, slots=True)
class SnpEndorsements:
    """AMD's word on the key that signed a report, spelled as it travels; nothing in it has been verified.

    Attributes:
        certificate_chain: PEM of the VCEK or VLEK, of the ASK or ASVK that issued it, and of the ARK; the
            last one or two may be missing, until someone fetches them.
        crl: The ARK's revocation list, DER in lower-case hex; empty if there was none at hand.

    Raises:
        EvidenceError: If a field is too long.
        EncodingError: If PEM or hex is not in canonical form.
    """

    certificate_chain: str
    crl: str = ""

    def __post_init__(self) -> None:
        """Checks sizes and spellings."""
        for name, limit in (("certificate_chain", _MAX_CHAIN_CHARACTERS), ("crl", _MAX_CRL_CHARACTERS)):
            size = len(getattr(self, name))
            if size > limit:
                raise EvidenceError(
                    f"SNP endorsements: {name}: expected at most {limit} characters, got {size}"
                )
        self.chain()
        self.revocation_list()

    def chain(self) -> tuple[bytes, ...]:
        """Returns the DER certificates, leaf first."""
        what = "SNP endorsements: certificate_chain"
        try:
            pem = self.certificate_chain.encode("ascii")
        except UnicodeEncodeError as error:
            raise EvidenceError(f"{what}: expected ASCII: {error.reason}") from error
        count = pem.count(b"-----END CERTIFICATE-----\n")
        if not 1 <= count <= CHAIN_CERTIFICATES:
            raise EvidenceError(f"{what}: expected 1 to {CHAIN_CERTIFICATES} PEM certificates, got {count}")
        return certificate_bytes.decode_pem(pem, what=what, count=count)

    @property
    def complete(self) -> bool:
        """Whether all three certificates are there, which a verification needs."""
        return len(self.chain()) == CHAIN_CERTIFICATES

    def revocation_list(self) -> bytes | None:
        """Returns the revocation list, DER; None if there is none."""
        return decode_hex(self.crl, what="SNP endorsements: crl") or None


@dataclass(frozen=True, slots=True)
class CertificateTable:
    """What a hypervisor handed over with a report, DER each; None where it did not.

    Attributes:
        vcek: Certificate of the chip's key.
        vlek: Certificate of the cloud provider's key.
        ask: Certificate of the issuer of either.
        ark: AMD's root certificate.
        crl: The root's revocation list.
    """

    vcek: bytes | None = None
    vlek: bytes | None = None
    ask: bytes | None = None
    ark: bytes | None = None
    crl: bytes | None = None

    def endorsements(self, signing_key: int) -> SnpEndorsements | None:
        """Returns what the table has for a report; None if the certificate of its signing key is missing.

        Args:
            signing_key: The report's, as its flags have it.

        Raises:
            EvidenceError: If they are too long.
        """
        name = snp_report.SIGNING_KEYS.get(signing_key)
        leaf = getattr(self, name) if name is not None else None
        if leaf is None:
            return None
        chain = [leaf]
        for issuer in (self.ask, self.ark):
            if issuer is None:
                break
            chain.append(issuer)
        return make_endorsements(chain, crl=self.crl)


def make_endorsements(chain: Sequence[bytes], *, crl: bytes | None = None) -> SnpEndorsements:
    """Builds endorsements of DER certificates, leaf first, and of the ARK's revocation list, DER.

    Raises:
        EvidenceError: If they are too long, or not one to three certificates.
    """
    return SnpEndorsements(
        certificate_chain=certificate_bytes.encode_pem(chain).decode("ascii"), crl=(crl or b"").hex()
    )


def from_json(value: Json) -> SnpEndorsements:
    """Builds endorsements from a JSON object with exactly its two keys, both text.

    Raises:
        EvidenceError: If a key is missing, unknown or not text, or a value is not in canonical form.
    """
    return codec.from_json(SnpEndorsements, value, what="SNP endorsements", error=EvidenceError)


def read_certificate_table(data: bytes) -> CertificateTable:
    """Reads the certificate table that a hypervisor put beside a report.

    1. Entries of 24 bytes: GUID (16, in the order it is spelled), offset and length (4 each, little
       endian); an entry of zeros ends them. No bytes at all are an empty table.
    2. The content of every entry, known or not, lies in the table and behind the entries; no two of them
       share a byte. One of no bytes is none.
    3. No kind of content occurs twice. Contents of unknown kinds are left out: they are not evidence.

    Args:
        data: The table as the kernel returned it (``auxblob``), zeros after it included.

    Raises:
        EvidenceError: If it is malformed.

    Source: AMD 56421, SEV-ES Guest-Hypervisor Communication Block Standardization, SNP Extended Guest
    Request; Linux, Documentation/ABI/testing/configfs-tsm-report.
    """
    if len(data) > MAX_TABLE_BYTES:
        raise EvidenceError(f"certificate table: expected at most {MAX_TABLE_BYTES} bytes, got {len(data)}")
    entries = _entries(data)
    contents: dict[str, bytes] = {}
    free_from = ENTRY_BYTES * (len(entries) + 1)
    for start, end, kind in sorted(entries, key=lambda entry: entry[:2]):
        name = GUIDS.get(kind)
        if start == end:
            continue
        if not free_from <= start < end <= len(data):  # 2
            raise EvidenceError(
                f"certificate table: {name or kind}: expected bytes between {free_from} and {len(data)}, "
                f"got {start} to {end}"
            )
        free_from = end
        if name in contents:  # 3
            raise EvidenceError(f"certificate table: {name} occurs twice")
        if name is not None:
            contents[name] = data[start:end]
    return CertificateTable(**contents)


def handed_over(table: bytes, report: snp_report.SnpReport) -> SnpEndorsements | None:
    """Returns what a hypervisor handed over for a report, if it is of any use; nothing is verified.

    Args:
        table: The certificate table that came with the report.
        report: The report.

    Returns:
        Certificates and list; None if there is no certificate of the signing key, or one of another chip or
        of other firmware: whoever verifies can ask AMD for the right one.

    Raises:
        InputError: If the table, a certificate or the list does not parse.
    """
    found = read_certificate_table(table).endorsements(report.signing_key)
    if found is None:
        return None
    leaf, *above = found.chain()
    for certificate in above:
        certificate_bytes.load_certificate(
            certificate, what="ASK, ASVK or ARK certificate", algorithms=certificate_bytes.AMD
        )
    if (crl := found.revocation_list()) is not None:
        certificate_bytes.load_crl(crl, what="AMD's revocation list", algorithms=certificate_bytes.AMD)
    return found if vcek.speaks_for(leaf, report) else None


def _entries(data: bytes) -> list[tuple[int, int, uuid.UUID]]:
    """Returns start, end and kind of every entry, in their order."""
    entries: list[tuple[int, int, uuid.UUID]] = []
    for at in range(0, len(data), ENTRY_BYTES):  # 1
        entry = data[at : at + ENTRY_BYTES]
        if entry == _END:
            return entries
        if len(entry) < ENTRY_BYTES:
            break
        start = int.from_bytes(entry[_GUID_BYTES : _GUID_BYTES + 4], "little")
        size = int.from_bytes(entry[_GUID_BYTES + 4 :], "little")
        entries.append((start, start + size, uuid.UUID(bytes=entry[:_GUID_BYTES])))
    if data:
        raise EvidenceError("certificate table: expected an entry of zeros at the end of the entries")
    return entries
