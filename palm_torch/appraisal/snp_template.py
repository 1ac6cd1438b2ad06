"""The SEV-SNP rules of a policy to start from: the image pinned, the machine left open in comments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from palm_torch.appraisal import yaml_comments
from palm_torch.cvm import certificate_bytes, snp_endorsements, snp_report, snp_rules, vcek
from palm_torch.policies import strict_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

    from palm_torch.evidence import Bundle

_BY_OWNER: Final = (
    (
        "host_data",
        (
            "What the host handed over when it launched the guest. CHECK: it is zero unless your operator "
            "uses it; ask what this value stands for."
        ),
    ),
    (
        "id_key_digest",
        (
            "Digest of the key that signed the guest's identity block. CHECK: compute it from the public key "
            "of whoever publishes the image."
        ),
    ),
    (
        "author_key_digest",
        "Digest of the key that vouches for that key. CHECK: compute it from the author's public key.",
    ),
    ("family_id", "Family of images that the identity block names. CHECK: ask whoever publishes the image."),
    ("image_id", "Image that the identity block names. CHECK: ask whoever publishes the image."),
)
"""What to say of fields that the host or the guest's owner sets, and that are zero where nobody did."""

_KNOWN_POLICY_BITS: Final = snp_rules.HARDENING_BITS | {
    snp_rules.SMT_BIT,
    snp_rules.RESERVED_ONE_BIT,
    snp_rules.CXL_BIT,
}


def lines(bundle: Bundle) -> Iterator[str]:
    """Yields the rules for SEV-SNP that accept what an end quote says.

    Args:
        bundle: Evidence of such a machine; nothing in it is verified.

    Raises:
        InputError: If the report or the collateral does not parse.
    """
    report = snp_report.parse_report(bundle.end.quote)
    yield "  snp:"
    yield from yaml_comments.comment(
        "Launch digest of the guest: its virtual firmware, and what that was given to check (kernel, command "
        "line, initial file system). CHECK: compute it from the image that you reviewed, for the number and "
        "model of processors that you allow.",
        4,
    )
    yield f'    measurement: ["{report.measurement.hex()}"]'
    for name, says in _BY_OWNER:
        value: bytes = getattr(report, name)
        if any(value):
            yield from yaml_comments.comment(says, 4)
            yield f'    {name}: ["{value.hex()}"]'
    yield from _least_tcb(report)
    yield from _vmpl(report)
    yield from _guest_policy(report)
    yield from _signing_key(report, bundle.collateral)
    if any(report.chip_id):
        yield from yaml_comments.comment("The one chip this ran on; any unless you pin it.", 4)
        yield f'    # chip_id: ["{report.chip_id.hex()}"]'
    else:
        yield from yaml_comments.comment(
            "The host masks the chip's identity, so that no chip_id can be pinned.", 4
        )


def _least_tcb(report: snp_report.SnpReport) -> Iterator[str]:
    versions: list[snp_report.TcbVersion] = [getattr(report, name) for name in snp_rules.TCB_FIELDS]
    least = {
        component: min(getattr(version, component) for version in versions)
        for component in snp_report.TcbVersion.__slots__
    }
    yield from yaml_comments.comment(
        "Least security versions of the platform. AMD gives no opinion on them. CHECK: raise them to those "
        "that AMD's security bulletins name for your processors.",
        4,
    )
    if least != {component: getattr(report.reported_tcb, component) for component in least}:
        yield from yaml_comments.comment(
            f"CHECK: the report was signed under better ones ({report.reported_tcb}) than the platform had "
            "committed to, runs, or ran when the guest was launched.",
            4,
        )
    yield f"    min_tcb: {{{', '.join(f'{name}: {value}' for name, value in least.items())}}}"


def _vmpl(report: snp_report.SnpReport) -> Iterator[str]:
    if report.vmpl > snp_rules.MAX_VMPL:
        yield from yaml_comments.comment(
            f"CHECK: privilege level {report.vmpl} asked for this report, which no guest has: no policy can "
            "allow it.",
            4,
        )
        return
    yield from yaml_comments.comment(
        "Privilege level in the guest that asked for the report, 0 the highest. CHECK: 0, unless another "
        "program, such as a paravisor, holds the levels below that number in your image.",
        4,
    )
    yield f"    vmpl: [{report.vmpl}]"


def _guest_policy(report: snp_report.SnpReport) -> Iterator[str]:
    bits = {bit for bit in range(snp_rules.POLICY_VERSION_BITS, 64) if report.policy >> bit & 1}
    if (
        bits - _KNOWN_POLICY_BITS
        or snp_rules.RESERVED_ONE_BIT not in bits
        or report.report_id_ma != snp_rules.NO_MIGRATION_AGENT
    ):
        yield from yaml_comments.comment(
            f"CHECK: what this guest allows its host is {report.policy:#x}, or it has a migration agent, "
            "which no policy of yours can allow (debugging, migration, or bits that nobody knows).",
            4,
        )
    if snp_rules.CXL_BIT in bits:
        yield from yaml_comments.comment(
            "The guest admits memory and devices on CXL. CHECK whether you accept that.", 4
        )
        yield "    allow_cxl: true"
    if snp_rules.SMT_BIT not in bits:
        yield from yaml_comments.comment(
            "The guest confines its host to one thread per core; nobody has to unless you demand it.", 4
        )
        yield "    # allow_smt: false"
    if snp_rules.SINGLE_SOCKET_BIT in bits:
        yield from yaml_comments.comment(
            "The guest confines itself to one socket; nobody has to unless you demand it.", 4
        )
        yield "    # require_single_socket: true"
    if report.platform_info >> snp_rules.ALIAS_CHECK_BIT & 1:
        yield from yaml_comments.comment(
            "The platform checked its memory for aliases; nobody has to unless you demand it.", 4
        )
        yield "    # require_alias_check: true"


def _signing_key(report: snp_report.SnpReport, fields: dict[str, str] | None) -> Iterator[str]:
    kind = snp_report.SIGNING_KEYS.get(report.signing_key)
    if kind is None:
        yield from yaml_comments.comment(
            f"CHECK: key number {report.signing_key} signed this report, which no policy can accept.", 4
        )
        return
    yield from yaml_comments.comment(
        "Whose key may have signed: the chip's own (vcek), or one that a cloud provider loaded into many "
        "chips (vlek); either unless you pin it.",
        4,
    )
    yield f"    # signing_keys: [{kind}]"
    if fields is None:
        return
    held = snp_endorsements.from_json(dict(fields))
    if kind == "vlek":
        leaf = certificate_bytes.load_certificate(
            held.chain()[0], what="VLEK certificate", algorithms=certificate_bytes.AMD, zero_serial=True
        )
        provider = vcek.read_endorsed(leaf, what="VLEK certificate").csp_id or ""
        yield from yaml_comments.comment("The cloud provider whose key signed; any unless you pin it.", 4)
        yield f"    # csp_id: [{strict_yaml.quoted(provider)}]"
    if held.revocation_list() is not None:
        yield from yaml_comments.comment(
            "The evidence carries AMD's revocation list; it may be missing unless you demand it.", 4
        )
        yield "    # require_revocation_list: true"
