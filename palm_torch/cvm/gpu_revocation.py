"""Whether NVIDIA has withdrawn a certificate that a GPU's evidence rests on, as far as files at hand say.

Nothing is asked of a service here: answers (OCSP) and lists (CRL) are given by the verifier, or travel with
the evidence. What is about other certificates says nothing about this GPU and is passed over. The signers of
reference measurements are asked about as well: a stolen key of theirs vouches for anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from cryptography import x509

from palm_torch.cvm import certificate_bytes, hierarchies, ocsp, ocsp_answer, revocation
from palm_torch.errors import EncodingError, EvidenceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from palm_torch.cvm.certificates import VerifiedChain

MAX_LISTS: Final = 16
MAX_LIST_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class RevocationFiles:
    """What is at hand about the status of certificates, DER.

    Attributes:
        ocsp: Answers of NVIDIA's OCSP service.
        crls: NVIDIA's revocation lists.
    """

    ocsp: tuple[bytes, ...] = ()
    crls: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Statements:
    """What is at hand, parsed once for any number of GPUs; signed, and verified where it is used.

    Attributes:
        ocsp: Answers, in the order of the files.
        crls: Revocation lists, likewise.
    """

    ocsp: tuple[ocsp_answer.Answer, ...] = ()
    crls: tuple[x509.CertificateRevocationList, ...] = ()


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found out.

    Attributes:
        complete: Whether every certificate that has a status is known to be good.
        issued: When the oldest statement used was made; None if none was used.
        answers: Positions of the OCSP answers that are about this GPU.
        lists: Positions of the revocation lists that are about it.
    """

    complete: bool
    issued: datetime | None
    answers: frozenset[int]
    lists: frozenset[int]


NOTHING: Final = Statements()


def read(files: RevocationFiles) -> Statements:
    """Parses what is at hand.

    Args:
        files: What is at hand.

    Raises:
        EvidenceError: If a list or an answer does not parse (EncodingError: is not in canonical form), is too
            large, or there are too many.
    """
    if len(files.crls) > MAX_LISTS:
        raise EvidenceError(f"expected at most {MAX_LISTS} revocation lists, got {len(files.crls)}")
    answers = ocsp.parse(files.ocsp, hierarchy=hierarchies.NVIDIA)
    return Statements(answers, tuple(_read_list(number, data) for number, data in enumerate(files.crls)))


def check(
    chains: Mapping[str, VerifiedChain], given: RevocationFiles | Statements, *, now: datetime
) -> Checked:
    """Checks what is at hand about the status of the certificates that a GPU's evidence rests on.

    1. An answer about one of a chain's certificates is by its issuer, or by whom the issuer has told to
       answer, is current, and says that the certificate is good. (`ocsp.check_chain`.)
    2. A list by one of a chain's issuers is signed by it and current, and does not name the certificate
       below; one on hold is named as well.
    3. Certificates that name a service for their status have one, or the result says so.

    Args:
        chains: The verified chains, by names for messages.
        given: What is at hand; from `read` if there are several GPUs.
        now: Time of verification, aware.

    Raises:
        EvidenceError: As in `read`, or if one certificate has two answers.
        TrustAnchorError: If an answer about a chain was signed by one who may not.
        SignatureError: If one that is about a chain is not signed as it should be, is not current, or
            says that a certificate has been revoked, is on hold, or is not known.
    """
    statements = read(given) if isinstance(given, RevocationFiles) else given
    complete, answers, lists, made = True, set[int](), set[int](), list[datetime]()
    distinct: dict[tuple[x509.Certificate, ...], tuple[str, VerifiedChain]] = {}
    for name, chain in chains.items():
        distinct.setdefault(chain.certificates, (name, chain))  # one signer signs both manifests
    for name, chain in distinct.values():
        standing = ocsp.check_chain(  # 1
            chain, statements.ocsp, now=now, what=name, hierarchy=hierarchies.NVIDIA
        )
        listed: dict[int, datetime] = {}
        for number, crl in enumerate(statements.crls):  # 2
            found = _check_list(crl, chain, now=now, what=f"revocation list {number}", name=name)
            listed |= found
            lists |= {number} if found else set()
        complete = complete and listed.keys() >= set(standing.unknown)  # 3
        answers |= standing.used
        made += [*listed.values(), *([standing.issued] if standing.issued is not None else [])]
    return Checked(
        complete=complete,
        issued=min(made, default=None),
        answers=frozenset(answers),
        lists=frozenset(lists),
    )


def _read_list(number: int, data: bytes) -> x509.CertificateRevocationList:
    what = f"revocation list {number}"
    if len(data) > MAX_LIST_BYTES:
        raise EvidenceError(f"{what}: expected at most {MAX_LIST_BYTES} bytes, got {len(data)}")
    return certificate_bytes.load_crl(data, what=what, algorithms=hierarchies.NVIDIA.algorithms)


def _check_list(
    crl: x509.CertificateRevocationList, chain: VerifiedChain, *, now: datetime, what: str, name: str
) -> dict[int, datetime]:
    """Step 2 for one list; returns position of what it says something about → when it was made."""
    try:
        named = crl.issuer
    except certificate_bytes.FOREIGN_ERRORS as error:
        raise EncodingError(f"{what}: its issuer cannot be read: {error}") from error
    made: dict[int, datetime] = {}
    for position, issuer in enumerate(chain.certificates[1:]):
        if issuer.subject != named:
            continue
        revocation.check_crl(crl, issuer=issuer, now=now, what=what, hierarchy=hierarchies.NVIDIA)
        certificate = chain.certificates[position]
        revocation.check_not_revoked(certificate, crl, what=f"{name}, certificate {position}")
        made[position] = crl.last_update_utc
    return made
