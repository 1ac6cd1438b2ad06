"""What results mean, in words for people who know none of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from palm_torch.result import AttestationResult

STRENGTHS: Final = {
    "hardware": "measured by code that your policy names; the hardware vouches that this code ran, unaltered",
    "simulated": "measured by the code, but no hardware vouches for machine or code: worth nothing as proof",
    "code": "measured by code that nobody vouches for, on a machine that its hardware vouches for",
    "reported by code": "what the training script said of itself; palm-torch did not measure it",
    "declared": "what the operator said; nobody measured it",
}
"""Who vouches for a claim."""

LINKS: Final = {
    "hardware": "genuine hardware and code that the policy names vouch for both ends",
    "named": "nothing given here produced it, but your own policy names its digest: you know its origin",
    "simulated": "a simulated machine vouches for one end: worth nothing as proof",
    "declared": "one end only says so, or was accepted with reservations, such as code nobody vouches for",
    "missing": (
        "nothing given here produced it. Raw data and fresh weights have no producer; for anything else ask "
        "for the evidence of its origin"
    ),
}
"""How far a link between two runs can be relied on."""

DIGESTS: Final = (
    "sha256 is what sha256sum prints for a file; palm-sha256 identifies weights, code and other things that "
    "have parts; to compare a file that you hold give --artifact ROLE=PATH"
)

WORDS: Final = (
    "words: policy = what you demand; affirming = all of it met, without reservations; digest = fingerprint;",
    "  TEE = processor that isolates a machine and signs what runs there (Intel TDX, AMD SEV-SNP);",
    "  quote = its signature; PPID, chip = the processor's number; TCB = its firmware, and what Intel thinks",
    "  of it; register = digest of software",
)

_REFUSALS: Final = {
    "RejectedError": "do not rely on it: ask whoever made it for evidence that holds",
    "InputError": "nothing was appraised: mend what the message names, and try again",
    "EncodingError": "the file is damaged, or was written by another program: ask for it once more",
    "DataError": "the file that you hold is damaged, or no file of its kind: get it once more",
    "ManifestError": "the manifest is damaged, or of another dataset: make it once more from the data",
    "TrustAnchorError": (
        "another maker signed it than your policy trusts. Evidence of a simulated machine looks like this "
        "under a policy for hardware: then ask for a run on real hardware. Otherwise take it for forged"
    ),
    "SignatureError": (
        "where the message speaks of a time outside of a window, get newer statements of the maker's, or "
        "check --at; otherwise take it for altered or forged, and ask whoever made it for the original"
    ),
    "PlatformError": (
        "it comes from another machine image, or one in another state, than your policy allows: ask for a "
        "run on an allowed one, or have that image reviewed and add its values; where the message asks for "
        "files, get those"
    ),
    "BindingError": "parts of it were exchanged or altered after the run: ask for the original file",
    "FreshnessError": (
        "it answers another request than yours, too late, or not for the first time: send a request of your "
        "own (`palm-torch request`) and ask for a run that answers it"
    ),
    "CodeError": (
        "other code ran than your policy names: have it reviewed and add its digest, or ask for a run of the "
        "reviewed code"
    ),
    "ClaimError": "the run is not what your policy demands: ask for one that is, or change what you demand",
    "ArtifactError": "the file that you hold is not the one of this run: ask for that one",
    "EvidenceError": "check the path; or the file is damaged, or of another version: ask for it once more",
    "PolicyError": "mend your policy; `palm-torch policy check` shows what it demands",
    "RequestError": "mend the request file, or leave it out",
}
"""Error class → what the reader can do; it holds for subclasses that are not listed."""


def advice(error: Exception) -> str | None:
    """Returns what the reader can do about a refusal; None for errors that are no refusals."""
    return next(
        (_REFUSALS[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in _REFUSALS), None
    )


def worth(result: AttestationResult) -> str:
    """Returns the answer to the first question of a reader: may I rely on it?"""
    if result.simulated:
        return (
            "NO. A simulated machine made it: a rehearsal, which shows that the mechanism works and proves "
            "nothing to anybody"
        )
    if result.session == "unclosed":
        return "NOT YET. It is a receipt, and nothing shows how the session ended that issued it"
    if result.reservations:
        return "WITH RESERVATIONS, each listed with what to do about it"
    return (
        "YES, for what your policy demands. The maker of the hardware vouches for the machine; for the code, "
        "whoever put its digest into your policy"
    )
