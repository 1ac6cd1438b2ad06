"""Tokens of NVIDIA's attestation service (NRAS), a detached EAT bundle: an opinion beside the evidence.

The service looked at a GPU's evidence and says what it thinks of it. This library looks at the evidence
itself, and that decides; a token adds what somebody else thought.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import InitVar, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from palm_torch.cvm import jose, nras_claims
from palm_torch.encoding import decode_hex
from palm_torch.errors import (
    BindingError,
    EncodingError,
    EvidenceError,
    FreshnessError,
    PlatformError,
    SignatureError,
    TrustAnchorError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palm_torch.cvm import signed_json

ISSUER: Final = "https://nras.attestation.nvidia.com"
SUBJECT: Final = "NVIDIA-PLATFORM-ATTESTATION"
CLAIMS_VERSION: Final = "3.0"
MAX_BUNDLE_BYTES: Final = 1 << 20
MAX_GPUS: Final = 64
NONCE_BYTES: Final = 32

_DIGEST_ALGORITHM: Final = "SHA-256"
_LAST_SECOND: Final = 253_402_300_799  # of the year 9999
_MADE_HERE: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class NrasOpinion:
    """A favourable opinion of NVIDIA's attestation service; `verify_nras` alone makes it.

    It is no verdict, and no evidence: it says what somebody else thought of evidence that is verified anyway.

    Attributes:
        issuer: The service.
        key_ids: Names of the configured keys that signed the tokens, in order, each once.
        gpus: What it thinks of each GPU, in the order of the evidence.
        issued: When it said so.
        expires: Until when it stands by it.
    """

    issuer: str
    key_ids: tuple[str, ...]
    gpus: tuple[nras_claims.GpuOpinion, ...]
    issued: datetime
    expires: datetime
    token: InitVar[object]

    def __post_init__(self, token: object) -> None:
        """Refuses to be made elsewhere."""
        if token is not _MADE_HERE:
            raise TypeError("an NrasOpinion is made by verify_nras alone")

    @property
    def label(self) -> str:
        """One line for people, which says that it decides nothing."""
        return f"opinion of {self.issuer}, beside the evidence: {len(self.gpus)} GPUs good at {self.issued}"


def verify_nras(
    bundle: bytes, *, keys: jose.KeySet, nonce: bytes, serials: Sequence[int], now: datetime
) -> NrasOpinion:
    """Verifies a detached EAT bundle of version 3 against the evidence that it is about.

     1. Strict JSON, ``[["JWT", overall], {name: token}]``: no key twice, no fraction, bounded size and depth.
     2. The overall token is signed by ES384, to the letter, and by one of `keys`.
     3. Its signature is raw r ‖ s over its canonical base64url. (2 and 3: `jose.verify`.)
     4. Issuer and subject are the production service's; not before ≤ `now` < expiry.
     5. Its nonce is the one asked for.
     6. Its submodules are the detached tokens, by name and by SHA-256 of each as it stands.
     7. 2 to 5 for each detached token (which may leave out the subject).
     8. The service found everything good: measurements, debugging off, secure boot, and every check.
     9. Each GPU is, by its certificate's serial number, the one of the evidence at its place.

    10 is for the caller: the opinion decides nothing, the evidence does.

    Args:
        bundle: The bundle, as the service answers it.
        keys: The service's keys, from the verifier's own configuration (`jose.read_key_set`).
        nonce: What the GPUs were asked over, 32 bytes.
        serials: Serial number of the leaf certificate of each GPU's evidence, in the order in which the
            service was shown it.
        now: Time of verification, aware.

    Raises:
        EvidenceError: If the bundle or a token does not parse (EncodingError: is not in canonical form).
        TrustAnchorError: If a token names none of the keys, or another issuer.
        SignatureError: If a token is signed in another way, a signature does not verify, or the detached
            tokens are not the ones that the overall token was signed with.
        FreshnessError: If a token is not valid at `now`.
        BindingError: If a token is about another nonce or another GPU.
        PlatformError: If the service found something that is not good.

    Source: RFC 9711 section 5 (detached EAT bundles), NVIDIA attestation service claims, version 3.0.
    """
    overall, detached = _open(bundle)  # 1
    if len(detached) != len(serials):
        raise BindingError(f"token: expected {len(serials)} GPUs, as there is evidence, got {len(detached)}")
    main = _verify_token(overall, keys=keys, nonce=nonce, now=now, what="token")  # 2, 3, 4, 5
    nras_claims.expect(main.claims, "sub", SUBJECT)
    nras_claims.expect(main.claims, "x-nvidia-ver", CLAIMS_VERSION)
    if main.claims.key("x-nvidia-overall-att-result").value is not True:
        raise PlatformError("token: the service did not find everything good (x-nvidia-overall-att-result)")
    _check_digests(main.claims.key("submods"), detached)  # 6
    key_ids, gpus = [main.key_id], []
    for number, serial in enumerate(serials):
        name = f"GPU-{number}"
        if name not in detached:
            raise BindingError(f"token: expected GPUs GPU-0 to GPU-{len(serials) - 1}, got no {name}")
        what = f"token: {name}"
        verified = _verify_token(detached[name], keys=keys, nonce=nonce, now=now, what=what)  # 7
        if "sub" in verified.claims.value:
            nras_claims.expect(verified.claims, "sub", SUBJECT)
        key_ids.append(verified.key_id)
        gpus.append(nras_claims.read_gpu(verified.claims, name=name))  # 8
        if gpus[-1].serial != serial:  # 9
            raise BindingError(
                f"{what}: expected the GPU of the evidence, serial number {serial}, got {gpus[-1].serial}"
            )
    return NrasOpinion(
        issuer=ISSUER,
        key_ids=tuple(dict.fromkeys(key_ids)),
        gpus=tuple(gpus),
        issued=_second(main.claims.key("iat")),
        expires=_second(main.claims.key("exp")),
        token=_MADE_HERE,
    )


def nonce_of(bundle: bytes) -> bytes:
    """Returns the nonce that a bundle says it is about, 32 bytes; nothing is verified.

    Raises:
        EvidenceError: If the bundle does not parse.
    """
    overall, _ = _open(bundle)
    return _nonce(jose.look_into(overall, what="token"))


def detached_digest(token: str) -> str:
    """Returns the SHA-256 in hex that an overall token names a detached one by.

    Raises:
        EvidenceError: If the token is not ASCII.
    """
    try:
        return hashlib.sha256(token.encode("ascii")).hexdigest()
    except UnicodeEncodeError as error:
        raise EvidenceError(f"token: expected ASCII, got {token[:40]!r}") from error


def _open(bundle: bytes) -> tuple[str, dict[str, str]]:
    """Step 1: returns the overall token, and the detached ones by name."""
    match jose.read_value(bundle, what="token", max_bytes=MAX_BUNDLE_BYTES):
        case [["JWT", str(overall)], dict(detached)] if 0 < len(detached) <= MAX_GPUS and all(
            isinstance(token, str) for token in detached.values()
        ):
            return overall, detached
        case other:
            raise EvidenceError(
                f'token: expected [["JWT", token], {{name: token}}] with 1 to {MAX_GPUS} names, '
                f"got {other!r:.80}"
            )


def _verify_token(
    token: str, *, keys: jose.KeySet, nonce: bytes, now: datetime, what: str
) -> jose.VerifiedToken:
    """Steps 2 to 5 for one token, but for the subject."""
    verified = jose.verify(token, keys, what=what)
    claims = verified.claims
    issuer = claims.key("iss").text()
    if issuer != ISSUER:
        raise TrustAnchorError(f"{what}: expected issuer {ISSUER!r}, got {issuer[:80]!r}")
    begins, ends = _second(claims.key("nbf")), _second(claims.key("exp"))
    if not begins <= now < ends:
        raise FreshnessError(f"{what}: expected {begins} ≤ time < {ends}, got {now}")
    answered = _nonce(claims)
    if not hmac.compare_digest(answered, nonce):
        raise BindingError(f"{what}: expected nonce {nonce.hex()}, got {answered.hex()}")
    return verified


def _nonce(claims: signed_json.Node) -> bytes:
    found = claims.key("eat_nonce")
    try:
        return decode_hex(found.text(), what=found.path, length_bytes=NONCE_BYTES)
    except EncodingError as error:
        raise EvidenceError(str(error)) from error


def _check_digests(submodules: signed_json.Node, detached: dict[str, str]) -> None:
    """Step 6."""
    if not isinstance(submodules.value, dict) or set(submodules.value) != set(detached):
        raise SignatureError(
            f"{submodules.path}: expected {sorted(detached)!r:.120}, as there are detached tokens, "
            f"got {submodules.value!r:.120}"
        )
    for name, token in detached.items():
        if submodules.value[name] != ["DIGEST", [_DIGEST_ALGORITHM, detached_digest(token)]]:
            raise SignatureError(
                f"{submodules.path}: {name}: expected the {_DIGEST_ALGORITHM} of the detached token, "
                f"{detached_digest(token)}, got {submodules.value[name]!r:.120}"
            )


def _second(claim: signed_json.Node) -> datetime:
    return datetime.fromtimestamp(claim.number(_LAST_SECOND), UTC)
