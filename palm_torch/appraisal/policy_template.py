"""A commented policy to start from, made of evidence that nobody has verified.

It accepts exactly what somebody sent, and says at every value what the value is and where the right one
comes from. Nothing in it is trust before a person has gone through it. No text of the evidence can leave
the comment or the scalar it stands in: whatever is not printable ASCII is escaped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_torch import evidence, statement
from palm_torch.appraisal import (
    claims_template,
    dataset_template,
    inference_template,
    platform_template,
    yaml_comments,
)
from palm_torch.digest import sha256_digest
from palm_torch.errors import PolicyError
from palm_torch.policies import policy
from palm_torch.properties import Bind, Distribute, Infer, Preprocess, Session, Train
from palm_torch.statement import CodeSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from palm_torch.statement import Code, Statement


def starting_policy(
    data: bytes,
    *,
    what: str = "evidence",
    simulated_root: bytes | None = None,
    simulated_gpu_root: bytes | None = None,
    simulated_rim_root: bytes | None = None,
) -> str:
    """Returns a policy in YAML that accepts this very evidence, with comments that say what to check.

    Args:
        data: The bytes of an evidence bundle of training; nothing in it is verified.
        what: Name of the file, for the heading and for messages.
        simulated_root: Root certificate (DER) of a simulated TEE to admit in place of the vendor's; it must
            not come from the evidence.
        simulated_gpu_root: Likewise that of simulated GPUs.
        simulated_rim_root: Likewise that of who signs their reference manifests.

    Raises:
        InputError: If the evidence does not parse, is of a property that is not appraised, a root is
            no root certificate, or one is for GPUs, and the evidence has none.
    """
    bundle = evidence.decode(data, what=what)
    end = statement.decode(bundle.end.statement)
    claims = end.claims
    if isinstance(claims, Train):
        demanded = claims_template.lines(end, claims)
    elif isinstance(claims, (Bind, Preprocess, Distribute)):
        demanded = dataset_template.lines(end, claims)
    elif isinstance(claims, (Infer, Session)):
        demanded = inference_template.lines(end, claims)
    else:
        raise PolicyError(f"{what}: evidence of {end.operation!r}: this version does not appraise it")
    roots = platform_template.Roots(machine=simulated_root, gpus=simulated_gpu_root, rims=simulated_rim_root)
    lines = [
        *_head(data, what, end),
        "version: 1",
        "",
        *platform_template.lines(bundle, roots),
        "",
        *_code(end.run.code),
        *_packages(end),
        "",
        *demanded,
    ]
    text = "\n".join(lines) + "\n"
    policy.parse(text.encode("ascii"), what=f"starting policy for {what}")
    return text


def _head(data: bytes, what: str, end: Statement) -> Iterator[str]:
    yield from yaml_comments.comment("A policy to start from, made of evidence that NOBODY HAS VERIFIED.")
    yield "#"
    yield from yaml_comments.comment(
        "Every value below is what the file says of itself. As it stands, this policy accepts exactly the "
        "machine, the code and the claims that somebody sent: nothing here is trust yet. Go through it from "
        "top to bottom. Where it says CHECK, put in a value that you computed, or got from somebody you "
        "trust, or decide that it does not matter; then delete the comment."
    )
    yield "#"
    yield from yaml_comments.comment(
        f"made from {yaml_comments.quoted_name(what)}, {sha256_digest(data)}, {end.operation} run "
        f"{yaml_comments.quoted_name(end.run.run_id)}"
    )


def _code(code: Code) -> Iterator[str]:
    yield "code:"
    yield from yaml_comments.comment(
        f"The code that ran: {len(code.files)} source files outside of the standard library and the "
        "installed packages. CHECK: somebody has to read them before their digest belongs here. Until then, "
        "write `unreviewed: true` in place of `digests`; results are warnings at best then.",
        2,
    )
    if code.source is CodeSource.SELF_REPORTED:
        yield from yaml_comments.comment(
            "CHECK: the code reported itself, from the files on disk, so this digest is a hint. `palm-torch "
            "run` hashes what is compiled, before it runs.",
            2,
        )
    said = [
        f"{yaml_comments.quoted_name(file.module)}: "
        + (
            str(file.digest)
            if file.digest
            else f"NO DIGEST, {yaml_comments.quoted_name(file.reason or 'unsaid')}"
        )
        for file in sorted(code.files, key=lambda file: file.digest is not None)
    ]
    yield from yaml_comments.listed(said, 2)
    yield f'  digests: ["{code.digest}"]'


def _packages(end: Statement) -> Iterator[str]:
    packages = end.run.environment.value.get("packages")
    if not isinstance(packages, list):
        return
    yield from yaml_comments.comment(
        f"The list of {len(packages)} installed packages, with the digest of each one's RECORD (`palm-torch "
        "inspect --json` shows it). CHECK: compare it with the environment that you reviewed.",
        2,
    )
    yield f'  packages: ["{statement.value_digest(packages)}"]'
