"""What a policy demands, what it waves through, and where it accepts nothing at all, in words."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from palm_torch.appraisal import claims
from palm_torch.cvm import appraisal
from palm_torch.cvm.snp_report import TcbVersion
from palm_torch.policies import policy as policies

if TYPE_CHECKING:
    from collections.abc import Iterator

    from palm_torch.cvm.gpu_rules import GpuRules
    from palm_torch.cvm.snp_rules import SnpRules
    from palm_torch.policies.policy import Platform, Policy

_UNSET: Final = {
    "platform.tdx.mr_seam": "any TDX module that Intel's TCB status covers",
    "platform.tdx.xfam": "any extended processor features",
    "platform.tdx.ppid": "any physical platform",
    "platform.tdx.min_tcb_evaluation_data_number": "TCB data of any number that has not expired",
    "platform.tdx.max_collateral_age_days": "TCB data of any age that has not expired",
    "platform.snp.id_key_digest": "guests that anybody's key, or nobody's, vouched for at launch",
    "platform.snp.author_key_digest": "identity keys of any author, or of none",
    "platform.snp.family_id": "any family of images: the measurement decides",
    "platform.snp.image_id": "any name of an image: the measurement decides",
    "platform.snp.chip_id": "any chip, also one whose identity the host masks",
    "platform.snp.csp_id": "keys of any cloud provider, where such a key signed",
    "platform.snp.require_single_socket": "guests that may span several sockets",
    "platform.snp.require_alias_check": "platforms that never checked their memory for aliases",
    "platform.snp.require_revocation_list": "platforms for which no revocation list of AMD was at hand",
    "platform.gpu.chip_ids": "any chip of these generations",
    "platform.gpu.require_rims": "GPUs for whose driver and firmware nobody vouches",
    "platform.gpu.require_fwid": "reports that do not name the firmware which holds their key",
    "platform.gpu.require_cc": "GPUs in which confidential computing is off",
    "platform.gpu.require_production": "GPUs in an environment that is not the production one",
    "platform.gpu.require_revocation": "GPUs for whose certificates no status was at hand",
    "platform.gpu.max_revocation_age_days": "statuses of any age that have not expired, if any are at hand",
    "code.packages": "any installed packages",
    "claims.initial_taken": "initial weights taken before the first batch, or only before the first step",
    "claims.layout": "records of any kind, where no digest of a manifest says which",
    "claims.records": "any number of records",
    "claims.epochs": "records that were never delivered",
    "claims.multiplicity": "records delivered any number of times, others never",
    "claims.exact": "counts of what was read, where code may have dropped records",
    "claims.ranks": "records delivered to any number of ranks",
    "claims.steps": "any number of steps",
    "claims.arguments": "any hyper-parameters",
    "claims.reported": "whatever the script reported",
}
"""What passes when a rule is left unset."""

_SAID: Final = {
    "platform.simulated_root": "a simulated TEE in place of hardware; no result is affirming",
    "platform.snp.allow_smt": "guests whose processor cores may run other threads beside theirs",
    "platform.snp.allow_cxl": "guests with memory and devices on CXL",
    "platform.simulated_gpu_root": "simulated GPUs in place of NVIDIA's; no result is affirming",
    "platform.simulated_rim_root": "simulated reference manifests in place of NVIDIA's",
    "platform.gpu.allow_devtools": "GPUs into which debuggers may look",
    "code.unreviewed": "any code; no result is affirming",
    "claims.unknown_padding": "samplers that do not tell what they repeated to make ranks equal",
    "claims.streams": "streams, of which nobody can tell which records they gave",
}
"""What passes when a rule is set."""

_AGES: Final = {
    "platform.tdx.max_collateral_age_days": "at most {} days old",
    "platform.gpu.max_revocation_age_days": "the status of every certificate, at most {} days old",
}
"""What a rule demands that is a number of days, 0 among them."""

_REFUSED: Final = {
    "platform.snp.allow_smt": "the guest's processor cores run no other threads",
    "platform.snp.allow_cxl": "no memory and no devices on CXL",
    "platform.gpu.allow_devtools": "no debuggers may look into the GPUs",
    "claims.unknown_padding": "no sampler but torch's own where ranks are made equal",
    "claims.streams": "no streams: all data has an index",
}
"""What a rule demands that is not set."""

_NO_MACHINE: Final = {"tdx": "no Intel TDX machine", "snp": "no AMD SEV-SNP machine", "gpu": "no GPUs"}
"""What a policy demands that has no rules for a kind of machine."""

_MANDATORY: Final[tuple[str, ...]] = (
    "platform.snp.min_tcb",
    "platform.gpu.min_driver_version",
    "platform.gpu.min_vbios_version",
)
"""Rules that accept nothing when unset, beside the empty lists."""

_NOTHING: Final[dict[str, tuple[object, ...]]] = {
    "platform.tdx": (None, 0),
    "platform.snp": (None, False),
    "platform.gpu": (None, False),
    "code": ((),),
    "claims": (None, {}, False),
}
"""Values of unset rules, by part; an empty list of a platform rule accepts nothing instead."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A policy in words.

    Attributes:
        demands: Path of a rule, and what it demands.
        waves_through: What passes unchecked, each with the path of the rule that would check it.
        accepts_nothing: Paths of rules that name no accepted value, so that no evidence can pass.
    """

    demands: tuple[tuple[str, str], ...]
    waves_through: tuple[str, ...]
    accepts_nothing: tuple[str, ...]


def summarize(policy: Policy) -> Summary:
    """Returns a policy in words."""
    rules = _rules(policy)
    for path, says in _AGES.items():
        if rules.get(path) is not None:
            rules[path] = says.format(rules[path])
    if rules.get("platform.gpu.max_revocation_age_days") is not None:
        del rules["platform.gpu.require_revocation"]  # the age asks for no less
    unset = [path for path in _UNSET if path in rules and rules[path] in _NOTHING[path.rpartition(".")[0]]]
    waved = [f"{path}: {_UNSET[path]}" for path in unset]
    waved += [f"claims.{says}" for says in claims.waved_through(policy.claims)]
    waved += [f"{path}: {says}" for path, says in _SAID.items() if rules.get(path)]
    waved += _lesser(policy.platform)
    if policy.claims.declared:
        waved.append(f"claims.declared: {policy.claims.declared} values that nobody measured")
    if padded := rules.get("claims.padded"):
        waved.append(f"claims.padded: {padded} records that a sampler repeated to make ranks equal")
    nothing = [path for path in _MANDATORY if path in rules and rules[path] is None]
    nothing += [
        path
        for path, value in rules.items()
        if path.startswith("platform.") and value == () and path != "platform.tdx.td_attributes"
    ]
    if policy.platform.gpu is not None:
        rules["platform.gpu.count"] = f"exactly {policy.platform.gpu.count}"
    rules["claims.declared"] = f"at most {policy.claims.declared} values"
    if padded is not None:
        rules["claims.padded"] = f"at most {padded} records"
    missing = [
        (f"platform.{kind}", says)
        for kind, says in _NO_MACHINE.items()
        if getattr(policy.platform, kind) is None
    ]
    refused = [(path, says) for path, says in _REFUSED.items() if rules.get(path) is False]
    return Summary(
        demands=(
            *missing,
            *refused,
            *(
                (path, _words(value))
                for path, value in rules.items()
                if value not in (None, False, (), {}, (policies.ANY,)) and path not in (*unset, *_SAID)
            ),
        ),
        waves_through=tuple(waved),
        accepts_nothing=tuple(nothing),
    )


def _rules(policy: Policy) -> dict[str, object]:
    """Returns every rule by its path; none of a kind of machine that the policy does not name."""
    return {
        f"{path}.{field.name}": getattr(part, field.name)
        for path, part in (
            ("platform", policy.platform),
            ("platform.tdx", policy.platform.tdx),
            ("platform.snp", policy.platform.snp),
            ("platform.gpu", policy.platform.gpu),
            ("code", policy.code),
            ("claims", policy.claims),
        )
        if part is not None
        for field in dataclasses.fields(part)
        if field.name not in _NO_MACHINE
    }


def _lesser(platform: Platform) -> Iterator[str]:
    """Yields what rules wave through although they are set."""
    tdx, snp = platform.tdx, platform.snp
    lesser = [status for status in tdx.tcb_statuses if status != appraisal.TCB_STATUSES[0]] if tdx else []
    if lesser:
        yield f"platform.tdx.tcb_statuses: platforms that Intel calls {', '.join(lesser)}"
    yield from () if snp is None else _lesser_of_snp(snp)
    yield from () if platform.gpu is None else _lesser_of_gpus(platform.gpu)


def _lesser_of_gpus(rules: GpuRules) -> Iterator[str]:
    yield "platform.gpu: GPUs that sit in another machine: no rule can tell"
    if "ppcie" in rules.modes:
        yield "platform.gpu.modes: GPUs whose links to each other are in the clear"
    if "unstated" in rules.modes:
        yield "platform.gpu.modes: reports of drivers that do not say how the GPUs work together"


def _lesser_of_snp(snp: SnpRules) -> Iterator[str]:
    if "vlek" in snp.signing_keys:
        yield "platform.snp.signing_keys: keys that a cloud provider loaded into many chips"
    if snp.min_tcb is not None and not any(dataclasses.astuple(snp.min_tcb)):
        yield "platform.snp.min_tcb: firmware of any age"
    if any(snp.vmpl):
        yield "platform.snp.vmpl: reports that a lesser part of the guest asked for"


def _words(value: object) -> str:
    if isinstance(value, TcbVersion):
        return f"at least {value}"
    if isinstance(value, tuple):
        return " or ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    return str(value)
