"""Why a result is not affirming, each reason with what the reader can do about it.

These hold whatever a policy says: a policy chooses what it rejects, not what it may call certain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from palm_torch.appraisal import dataset_claims, inference_claims
from palm_torch.properties import Train
from palm_torch.result import Reservation
from palm_torch.roles import EMPTY, FILE, OPENED
from palm_torch.statement import LOADING, CodeSource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from palm_torch.policies.policy import CodeRules
    from palm_torch.roles import Artifact
    from palm_torch.statement import Code, Statement

SIMULATED: Final = Reservation(
    about="platform",
    reason="simulated TEE: no hardware vouches for any of this",
    advice=(
        "treat it as a rehearsal: ask whoever made it for a run on a machine with Intel TDX or AMD SEV-SNP, "
        "and verify with a policy without simulated_root"
    ),
)
SIMULATED_GPUS: Final = Reservation(
    about="platform",
    reason="simulated GPUs: no hardware vouches for what they did",
    advice=(
        "treat it as a rehearsal: ask whoever made it for a run on a machine with NVIDIA GPUs, and verify "
        "with a policy without simulated_gpu_root and simulated_rim_root"
    ),
)
UNCHALLENGED: Final = Reservation(
    about="freshness",
    reason="unchallenged: the evidence answers nobody's request and may be old",
    advice="write a challenge with `palm-torch request`, and ask for a run that answers it",
)
NOT_CHECKED: Final = Reservation(
    about="freshness",
    reason="freshness not checked, by the verifier's choice",
    advice="get the request file that the evidence answers, and give it with --request",
)
UNCLOSED: Final = Reservation(
    about="session",
    reason="unclosed: nothing shows how the session ended that issued this receipt",
    advice="ask for the sealed evidence of that session, and give it with --closing",
)


BY_ITSELF: Final = "opened:"
"""How the roles begin of what a script opened by itself."""

_HANDED_ON: Final = (
    "storage of the host is not to be trusted: ask for a script that hands on bytes, in run.input(...), "
    "run.output(...) or run.receipt(...), or reads its data through palm-torch"
)


def of_code(rules: CodeRules, code: Code) -> list[Reservation]:
    """Returns the reservations about the code that ran, which keep a claim from being ``hardware``."""
    if rules.covered_by_image:
        return []
    found = []
    if rules.unreviewed:
        found.append(
            Reservation(
                about="code",
                reason="unreviewed code: the policy names no code digest",
                advice=(
                    "have somebody read the files that ran (`palm-torch inspect --json` lists them); then "
                    f"name their digest in the policy, under code.digests: {code.digest}"
                ),
            )
        )
    if code.source is CodeSource.SELF_REPORTED:
        found.append(
            Reservation(
                about="code",
                reason="self-reported code: the session was opened inside a running script",
                advice="ask for a run under `palm-torch run`, which hashes the code before it runs",
            )
        )
    unknown = [file.module for file in code.files if file.digest is None]
    if unknown:
        found.append(
            Reservation(
                about="code",
                reason=f"{len(unknown)} modules without a digest ran, such as {unknown[0]}",
                advice="ask for a run without code from archives, command lines or run time",
            )
        )
    if rules.digests and not rules.packages:
        found.append(
            Reservation(
                about="code",
                reason="unpinned packages: the policy names code, but no list of installed packages",
                advice="name those that you reviewed, under code.packages; NOT SHOWN gives the digest",
            )
        )
    return found


def of_statement(end: Statement) -> list[Reservation]:
    """Returns what a statement itself leaves open."""
    found = [*_of_files(end), *_of_environment(end.run.environment.value)]
    if isinstance(end.claims, Train):
        found += _of_training(end.claims)
    found += dataset_claims.reservations(end.claims)
    found += inference_claims.reservations(end.claims)
    return found


def of_files(artifacts: Mapping[str, Artifact], *, kind: str, says: str) -> list[Reservation]:
    """Returns what files leave open that were hashed on a storage which the host can write.

    Args:
        artifacts: Name → what it is filled with.
        kind: `OPENED` or `FILE`; or `EMPTY`, for what the script opened and could not be hashed.
        says: The reason, with places for ``count`` and ``name``.
    """
    names = sorted(
        name
        for name, item in artifacts.items()
        if item.kind == kind and (kind != EMPTY or name.startswith(BY_ITSELF))
    )
    if not names:
        return []
    return [
        Reservation(about="claims", reason=says.format(count=len(names), name=names[0]), advice=_HANDED_ON)
    ]


def _of_files(end: Statement) -> list[Reservation]:
    return [
        *of_files(
            end.run.inputs,
            kind=OPENED,
            says="{count} files that the script opened by itself were hashed when opened, such as {name}: "
            "what it read later may differ",
        ),
        *of_files(
            end.run.inputs,
            kind=EMPTY,
            says="{count} things that the script opened by itself, or could read, have no digest, such as "
            "{name}: nothing is known of what came from them",
        ),
        *of_files(
            end.run.inputs,
            kind=FILE,
            says="{count} inputs were hashed where they lay, such as {name}: what the script read may differ",
        ),
        *of_files(
            end.run.outputs,
            kind=FILE,
            says="{count} outputs were hashed where they lay, such as {name}: what was written may differ",
        ),
    ]


def _of_environment(environment: Mapping[str, Any]) -> list[Reservation]:
    """Returns what can change the code that ran without another digest of it."""
    variables, python = environment.get("variables", {}), environment.get("python", {})
    found = [name for name in LOADING if isinstance(variables, dict) and name in variables]
    optimize = python.get("optimize") if isinstance(python, dict) else None
    if optimize:
        found.append(f"Python's -O (level {optimize})")
    if not found:
        return []
    return [
        Reservation(
            about="code",
            reason=f"settings that change which code is loaded or run: {', '.join(found)}",
            advice=(
                "ask for a run without them, or for an image that sets them and nothing else; their digests "
                "stand in the environment (`palm-torch inspect --json`)"
            ),
        )
    ]


def _of_training(claims: Train) -> list[Reservation]:
    found = []
    if not any("train" in dataset.uses for dataset in claims.data.values()):
        found.append(
            Reservation(
                about="claims",
                reason="no training data was counted: the script read its data by itself",
                advice="ask for a script that reads through palm_torch.AttestedMmapDataset and DataLoader",
            )
        )
    for name, dataset in claims.data.items():
        for use, delivered in dataset.uses.items():
            if not delivered.exact:
                found.append(
                    Reservation(
                        about="claims",
                        reason=f"data {name}, {use}: counted as read; code between the dataset and the loop "
                        "may have dropped records",
                        advice="read the collate function and the datasets that wrap the attested one",
                    )
                )
        if dataset.records is None:
            found.append(
                Reservation(
                    about="claims",
                    reason=f"data {name}: a stream, no index: which records it gave, and which it left out, "
                    "cannot be told",
                    advice="ask for data with an index and a manifest (palm_torch.AttestedDataset, "
                    "`palm-torch measure`), or compare it with a manifest that you hold (--dataset)",
                )
            )
        elif dataset.manifest is None and dataset.uses:
            found.append(
                Reservation(
                    about="claims",
                    reason=f"data {name}: no manifest: indices were counted, not contents; what lay there "
                    "may have changed between two readings, or two sessions",
                    advice="ask for data with a manifest (`palm-torch measure`), and name that in the policy",
                )
            )
    for key, (says, advice) in _COUNTS.items():
        count = claims.configuration.value.get(key)
        if count != 0:
            found.append(Reservation(about="claims", reason=f"{count} {says}", advice=advice))
    return found


_COUNTS: Final = {
    "steps_without_new_records": (
        "steps followed no newly delivered record of their optimizer",
        "see in the code what those steps were computed from",
    ),
    "writes_outside_steps": (
        "times parameters were written to between steps, by other code than an optimizer",
        "see in the code what writes to parameters between the steps",
    ),
    "parameters_changed_without_steps": (
        "parameters changed or were written to although no optimizer steps them",
        "see in the code what writes to them, such as a moving average; compare initial and final tensors",
    ),
    "optimizers_begun_with_state": (
        "optimizers had a state before their first step, and what made it is not in this evidence",
        "see in the code where it was loaded from, for moments can move weights anywhere",
    ),
    "batches_carried_over": (
        "batches waited for their step when the run was resumed, and their gradients may be lost",
        "see in the code whether it saved the gradients; ask for checkpoints right after a step",
    ),
}
"""Counts in the configuration that are zero in a plain training loop."""
