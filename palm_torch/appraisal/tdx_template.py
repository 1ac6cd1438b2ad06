"""The TDX rules of a policy to start from: the image pinned, the machine left open in comments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from palm_torch.appraisal import yaml_comments
from palm_torch.cvm import appraisal, certificate_bytes, collateral, pck, quote, tcb_documents, td_attributes
from palm_torch.errors import PlatformError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from palm_torch.evidence import Bundle

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


def lines(bundle: Bundle) -> Iterator[str]:
    """Yields the rules for TDX that accept what an end quote says.

    Args:
        bundle: Evidence of such a machine; nothing in it is verified.

    Raises:
        InputError: If the quote or the collateral does not parse.
    """
    parsed = quote.parse_quote(bundle.end.quote)
    report = parsed.td_report
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
            tcb_documents.read_tcb_info(held.signed_text("tcb_info")).evaluation_data_number,
            tcb_documents.read_qe_identity(held.signed_text("qe_identity")).evaluation_data_number,
        )
        yield from yaml_comments.comment(
            "Least number of Intel's TCB data, against old ones. CHECK: Intel's current one.", 4
        )
        yield f"    # min_tcb_evaluation_data_number: {number}"
        yield from yaml_comments.comment(
            "How many days ago Intel's TCB data may have been issued when you verify. They are valid for 30, "
            "and any that are valid count unless you demand newer ones.",
            4,
        )
        yield "    # max_collateral_age_days: 30"
    yield from yaml_comments.comment("The TDX module; left to the TCB status unless you pin it.", 4)
    yield f'    # mr_seam: ["{report.mr_seam.hex()}"]'
    yield from yaml_comments.comment(
        "Extended processor features the trust domain may use; any unless you pin them.", 4
    )
    yield f'    # xfam: ["{report.xfam.hex()}"]'
    pck_certificate = certificate_bytes.load_certificate(parsed.certificates[0], what="PCK certificate")
    yield from yaml_comments.comment("The one physical platform this ran on; any unless you pin it.", 4)
    yield f'    # ppid: ["{pck.read_platform(pck_certificate).ppid.hex()}"]'


def _attributes(report: quote.TdReport) -> Iterator[str]:
    usual = appraisal.TdxRules().td_attributes
    try:
        td_attributes.check(report)
    except PlatformError:
        yield from yaml_comments.comment(
            f"CHECK: the attributes of this trust domain are {report.td_attributes.hex()}, which no policy "
            "can allow (debugging, migration, a service TD, or pages that the host may take away).",
            4,
        )
        return
    extra = {*td_attributes.set_bits(report)} - {td_attributes.SEPT_VE_DISABLE_BIT, *usual}
    if extra:
        yield from yaml_comments.comment(
            "Attributes of the trust domain that may be set. CHECK what each bit allows.", 4
        )
        yield f"    td_attributes: {sorted({*usual, *extra})}"
