"""Every error palm-torch raises, as one tree.

A class exists where the caller does something different; everything else is said in the message,
which names what was looked at, where, what was expected and what was found.

    PalmTorchError
    ├── InputError                 what was handed in is malformed; nothing was appraised    (exit 2)
    │   ├── EncodingError          bytes that are not canonical JSON, hex, base64, DER or PEM
    │   ├── EvidenceError          an evidence bundle, statement, quote or collateral that does not parse
    │   ├── PolicyError            a policy with a missing part, an unknown key or a wrong type
    │   ├── RequestError           a challenge file that does not parse or has expired before use
    │   └── DataError              a dataset: missing, empty, ragged, of the wrong dtype
    │       └── ManifestError      a manifest that does not parse or belongs to another dataset
    ├── RejectedError              well-formed evidence that must not be believed            (exit 1)
    │   ├── TrustAnchorError       the certificates do not lead to a root the verifier configured
    │   ├── SignatureError         a signature, key binding or revocation check failed
    │   ├── PlatformError          the platform is not the one, or not in the state, the policy asks for
    │   ├── BindingError           the hardware evidence does not seal these claims
    │   ├── FreshnessError         replayed, expired, or answering another challenge
    │   ├── CodeError              the code that ran is not the code the policy names
    │   ├── ClaimError             a claim is missing or outside what the policy allows
    │   └── ArtifactError          a file at hand is not the one the evidence speaks of
    ├── MeasurementError           the run itself cannot be attested; there will be no evidence
    │   ├── CoverageError          something promised was not, or could not be, measured
    │   ├── RecordError            a record's bytes are not those of the manifest
    │   └── SessionError           a session was used out of order, from a thread or from a fork
    ├── SealError                  the measurements are whole, but sealing or writing them failed
    ├── AttesterError              a TEE is present but would not attest
    ├── FetchError                 a service did not give what was asked of it
    └── MissingExtraError          a feature needs an optional dependency; the message names the extra
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class PalmTorchError(Exception):
    """Root of the tree: catching it catches everything palm-torch raises on purpose."""


class InputError(PalmTorchError):
    """Malformed input: it was not appraised at all."""


class EncodingError(InputError):
    """Bytes that are not in the one canonical form this library writes."""


class EvidenceError(InputError):
    """An evidence bundle, or something inside it, that does not parse."""


class PolicyError(InputError):
    """An appraisal policy that does not parse, lacks a part or has unknown keys."""


class RequestError(InputError):
    """A challenge file that does not parse, or that had expired when it was to be answered."""


class DataError(InputError):
    """A dataset that cannot be read as the records it is said to hold."""


class ManifestError(DataError):
    """A manifest that does not parse, or that describes another dataset."""


class RejectedError(PalmTorchError):
    """Well-formed evidence that must not be believed.

    Attributes:
        checks: The checks that had passed before, as `palm_torch.result.Check`s; the verifier sets it.
    """

    checks: tuple[object, ...] = ()


class TrustAnchorError(RejectedError):
    """The certificate chain does not lead to a root that the verifier configured."""


class SignatureError(RejectedError):
    """A signature, a key binding or a revocation check failed."""


class PlatformError(RejectedError):
    """The platform is not the one, or not in the state, that the policy requires."""


class BindingError(RejectedError):
    """The hardware evidence does not seal the claims it travels with."""


class FreshnessError(RejectedError):
    """The evidence answers another challenge, answers too late, or answers none."""


class CodeError(RejectedError):
    """The code that ran is not the code the policy names."""


class ClaimError(RejectedError):
    """A claim is missing, or lies outside what the policy allows."""


class ArtifactError(RejectedError):
    """A file at hand is not the one that the evidence speaks of."""


class MeasurementError(PalmTorchError):
    """The run itself cannot be attested: no evidence will be made of it."""


class CoverageError(MeasurementError):
    """Something that was promised was not, or could not be, measured."""


class RecordError(MeasurementError):
    """A record's bytes differ from those the manifest was made of."""


class SessionError(MeasurementError):
    """A session was used out of order, from another thread or from a forked process."""


class SealError(PalmTorchError):
    """The measurements are complete, but sealing them or writing the evidence failed."""


class AttesterError(PalmTorchError):
    """A trusted execution environment is present but did not attest."""


class FetchError(PalmTorchError):
    """A service did not give what was asked of it; trying again, or asking another one, may help."""


class MissingExtraError(PalmTorchError, ImportError):
    """An optional dependency is missing; the message names the extra that brings it."""


@contextlib.contextmanager
def prefixed(what: str) -> Iterator[None]:
    """Puts a name before the message of an error of this tree that comes from below; its class stays."""
    try:
        yield
    except PalmTorchError as error:
        told = type(error)(f"{what}: {error}")
        if isinstance(error, RejectedError) and isinstance(told, RejectedError):
            told.checks = error.checks
        raise told from error
