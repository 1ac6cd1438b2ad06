"""What NVIDIA's attestation service thought of GPUs whose evidence was accepted: it decides nothing.

The service looks at a GPU's report and signs what it thinks of it. Somebody else's verdict is no evidence: it
is looked at when the evidence itself has been accepted, in full and without it, and no check, reservation or
claim hangs on it. It cannot make up for anything.

Who hands one in says that it is the service's good word on this evidence. Where that does not hold, nobody
shall read ACCEPTED beside it, and the verification ends in an error:

1. The keys are a key set; each token parses.
2. A token is about one nonce, that of one GPU at one end of one session.
3. It is signed by one of the verifier's own keys, in force, about that GPU, and favourable; see
   `eat.verify_nras`.
4. It names the driver and the firmware image that the GPU's own report names.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from palm_torch.cvm import eat, jose
from palm_torch.errors import BindingError, prefixed
from palm_torch.result import Opinion

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from palm_torch.cvm.gpu import VerifiedGpu
    from palm_torch.gpu_files import Tokens


def of_gpus(tokens: Tokens, gpus: Sequence[tuple[str, VerifiedGpu]], *, now: datetime) -> tuple[Opinion, ...]:
    """Returns the opinions that tokens hold of GPUs.

    Args:
        tokens: What the verifier brought.
        gpus: The GPUs whose evidence was accepted, each with its place in the evidence, in words. One GPU
            comes as often as it attested, each time over another nonce.
        now: Time of verification, aware.

    Raises:
        PolicyError: If the keys are no key set.
        EvidenceError: If a token does not parse.
        RejectedError: Of the class that fits, if a step fails.
    """
    keys = jose.read_key_set(tokens.keys)  # 1
    found = []
    for name, token in tokens.files:
        with prefixed(f"{name}, an opinion beside evidence that was accepted without it"):
            found.append(_opinion(token, gpus, keys=keys, now=now))
    return tuple(found)


def _opinion(
    token: bytes, gpus: Sequence[tuple[str, VerifiedGpu]], *, keys: jose.KeySet, now: datetime
) -> Opinion:
    place, gpu = _asked(eat.nonce_of(token), gpus)
    held = eat.verify_nras(  # 3
        token, keys=keys, nonce=gpu.report.nonce, serials=(gpu.device.serial,), now=now
    )
    (of_gpu,) = held.gpus
    told = (of_gpu.driver_version, of_gpu.vbios_version)
    if told != (gpu.driver_version, gpu.vbios_version):  # 4
        raise BindingError(
            f"expected driver {gpu.driver_version} and VBIOS {gpu.vbios_version} of the GPU's report, got "
            f"{' and '.join(map(repr, told))[:120]}"
        )
    return Opinion(
        issuer=held.issuer,
        about=f"{place}, {gpu.chip_id}",
        says=f"every check good, with driver {of_gpu.driver_version}, VBIOS {of_gpu.vbios_version}",
        warns=of_gpu.warning,
        keys=held.key_ids,
        issued=held.issued.isoformat(),
        expires=held.expires.isoformat(),
    )


def _asked(nonce: bytes, gpus: Sequence[tuple[str, VerifiedGpu]]) -> tuple[str, VerifiedGpu]:
    """Step 2."""
    for place, gpu in gpus:
        if hmac.compare_digest(gpu.report.nonce, nonce):
            return place, gpu
    expected = ", ".join(f"{gpu.report.nonce.hex()} ({place})" for place, gpu in gpus)
    raise BindingError(
        f"it is about nonce {nonce.hex()}, over which no GPU of this evidence attested: expected one of "
        f"{expected or 'none: the evidence is of no GPU'}"
    )
