"""A commented policy to start from, made of evidence that nobody has verified.

It accepts exactly what somebody sent, and says at every value what the value is and where the right one
comes from. Nothing in it is trust before a person has gone through it. No text of the evidence can leave
the comment or the scalar it stands in: whatever is not printable ASCII is escaped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from palm_torch import evidence, statement
from palm_torch.appraisal import claims_template, yaml_comments
from palm_torch.cvm import appraisal, certificate_bytes, collateral, pck, quote
from palm_torch.digest import sha256_digest
from palm_torch.errors import PolicyError
from palm_torch.policies import policy
from palm_torch.properties import Train
from palm_torch.statement import CodeSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from palm_torch.evidence import Bundle
    from palm_torch.statement import Code, Statement

_OF_IMAGE: Final = (
    (
        "MRTD, the initial memory of the trust domain: its virtual firmware. CHECK: compute it from the "
        "firmware image that you reviewed, or get it from whoever publishes that image."
    ),
    (
        "RTMR0, what the firmware was configured with: virtual hardware, ACPI tables, boot variables. "
        "CHECK: compute it for the machine shape you allow; it differs between shapes."
    ),
    "RTMR1, the boot loader and the kernel. CHECK: compute it from the image that you reviewed.",
    (
        "RTMR2, the kernel command line and the initial file system: what ties the root file system to "
        "the quote. CHECK: compute it from the image that you reviewed."
    ),
)
"""What to say of each of `appraisal.IMAGE_REGISTERS`."""

_BY_HOST: Final = (
    (
        "Configuration that the host set when it made the trust domain. CHECK: it is zero unless "
        "your operator uses it; ask what this value stands for."
    ),
    "Owner that the host set. CHECK: ask your operator what this value stands for.",
    "Owner's configuration that the host set. CHECK: ask what this value stands for.",
)
"""What to say of each of `appraisal.HOST_REGISTERS`."""


def starting_policy(data: bytes, *, what: str = "evidence", simulated_root: bytes | None = None) -> str:
    """Returns a policy in YAML that accepts this very evidence, with comments that say what to check.

    Args:
        data: The bytes of an evidence bundle of training on TDX; nothing in it is verified.
        what: Name of the file, for the heading and for messages.
        simulated_root: Root certificate (DER) of a simulated TEE to admit in place of Intel's; it must not
            come from the evidence.

    Raises:
        InputError: If the evidence does not parse, is not of training on TDX, or the root is no root
            certificate.
    """
    bundle = evidence.decode(data, what=what)
    end = statement.decode(bundle.end.statement)
    if bundle.attester != "tdx" or not isinstance(end.claims, Train):
        raise PolicyError(
            f"{what}: evidence of {end.operation!r} on {bundle.attester!r}: this version appraises 'train' "
            "on 'tdx' alone"
        )
    lines = [
        *_head(data, what, end),
        "version: 1",
        "",
        *_platform(bundle, simulated_root),
        "",
        *_code(end.run.code),
        *_packages(end),
        "",
        *claims_template.lines(end, end.claims),
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


def _platform(bundle: Bundle, simulated_root: bytes | None) -> Iterator[str]:
    parsed = quote.parse_quote(bundle.end.quote)
    report = parsed.td_report
    yield "platform:"
    yield "  tdx:"
    for name, says in zip(appraisal.IMAGE_REGISTERS, _OF_IMAGE, strict=True):
        yield from yaml_comments.comment(says, 4)
        yield f'    {name}: ["{getattr(report, name).hex()}"]'
    for name, says in zip(appraisal.HOST_REGISTERS, _BY_HOST, strict=True):
        value: bytes = getattr(report, name)
        if any(value):
            yield from yaml_comments.comment(says, 4)
            yield f'    {name}: ["{value.hex()}"]'
    yield from _attributes(report)
    yield from yaml_comments.comment(
        "Opinions of Intel on the platform that you accept. CHECK before you add any of "
        f"{', '.join(appraisal.TCB_STATUSES[1:])}: read the advisories first.",
        4,
    )
    yield "    tcb_statuses: [UpToDate]"
    if bundle.collateral is not None:
        held = collateral.from_json(dict(bundle.collateral))
        number = min(
            collateral.read_tcb_info(held.signed_text("tcb_info"))[0].evaluation_data_number,
            collateral.read_qe_identity(held.signed_text("qe_identity")).evaluation_data_number,
        )
        yield from yaml_comments.comment(
            "Least number of Intel's TCB data, against old ones. CHECK: Intel's current one.", 4
        )
        yield f"    # min_tcb_evaluation_data_number: {number}"
    yield from yaml_comments.comment("The TDX module; left to the TCB status unless you pin it.", 4)
    yield f'    # mr_seam: ["{report.mr_seam.hex()}"]'
    yield from yaml_comments.comment(
        "Extended processor features the trust domain may use; any unless you pin them.", 4
    )
    yield f'    # xfam: ["{report.xfam.hex()}"]'
    pck_certificate = certificate_bytes.load_certificate(parsed.certificates[0], what="PCK certificate")
    yield from yaml_comments.comment("The one physical platform this ran on; any unless you pin it.", 4)
    yield f'    # ppid: ["{pck.read_platform(pck_certificate).ppid.hex()}"]'
    yield from _root(simulated_root)


def _attributes(report: quote.TdReport) -> Iterator[str]:
    value = int.from_bytes(report.td_attributes, "little")
    bits = [bit for bit in range(64) if value >> bit & 1 and bit != appraisal.SEPT_VE_DISABLE_BIT]
    extra = set(bits) - set(appraisal.TdxRules().td_attributes)
    never = sorted(extra - appraisal.OPTIONAL_ATTRIBUTE_BITS)
    if never or not value >> appraisal.SEPT_VE_DISABLE_BIT & 1:
        yield from yaml_comments.comment(
            f"CHECK: the attributes of this trust domain are {report.td_attributes.hex()}, which no policy "
            "can allow (debugging, migration, a service TD, or pages that the host may take away).",
            4,
        )
    elif extra:
        yield from yaml_comments.comment(
            "Attributes of the trust domain that may be set. CHECK what each bit allows.", 4
        )
        yield f"    td_attributes: {sorted(set(appraisal.TdxRules().td_attributes) | extra)}"


def _root(simulated_root: bytes | None) -> Iterator[str]:
    if simulated_root is None:
        yield from yaml_comments.comment(
            "Quotes must lead to Intel's root. For a rehearsal with a simulated TEE, whose results are never "
            "affirming, admit its root here as simulated_root: `palm-torch policy init --simulated-root "
            "auto` does so on the machine that ran the rehearsal.",
            2,
        )
        return
    yield from yaml_comments.comment(
        "CHECK: this admits a simulated TEE IN PLACE OF Intel's root. No hardware vouches for anything under "
        "this policy, and no result is affirming. Delete it for real evidence.",
        2,
    )
    yield "  simulated_root: |"
    yield from (
        f"    {line}" for line in certificate_bytes.encode_pem([simulated_root]).decode().splitlines()
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
