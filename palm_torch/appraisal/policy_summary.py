"""What a policy demands, what it waves through, and where it accepts nothing at all, in words."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from palm_torch.appraisal import claims
from palm_torch.cvm import appraisal
from palm_torch.policies import policy as policies

if TYPE_CHECKING:
    from palm_torch.policies.policy import Policy

_UNSET: Final = {
    "platform.tdx.mr_seam": "any TDX module that Intel's TCB status covers",
    "platform.tdx.xfam": "any extended processor features",
    "platform.tdx.ppid": "any physical platform",
    "platform.tdx.min_tcb_evaluation_data_number": "TCB data of any number that has not expired",
    "code.packages": "any installed packages",
    "claims.initial_taken": "initial weights taken before the first batch, or only before the first step",
    "claims.records": "any number of records",
    "claims.epochs": "records that were never delivered",
    "claims.steps": "any number of steps",
    "claims.arguments": "any hyper-parameters",
    "claims.reported": "whatever the script reported",
}
"""What passes when a rule is left unset."""

_SAID: Final = {
    "platform.simulated_root": "a simulated TEE in place of hardware; no result is affirming",
    "code.unreviewed": "any code; no result is affirming",
}
"""What passes when a rule is set."""

_NOTHING: Final[dict[str, tuple[object, ...]]] = {
    "platform.tdx": (None, 0),
    "code": ((),),
    "claims": (None, {}),
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
    rules = {
        f"{path}.{field.name}": getattr(part, field.name)
        for path, part in (
            ("platform", policy.platform),
            ("platform.tdx", policy.platform.tdx),
            ("code", policy.code),
            ("claims", policy.claims),
        )
        for field in dataclasses.fields(part)
        if field.name != "tdx"
    }
    unset = [path for path in _UNSET if rules[path] in _NOTHING[path.rpartition(".")[0]]]
    waved = [f"{path}: {_UNSET[path]}" for path in unset]
    waved += [f"claims.{says}" for says in claims.waved_through(policy.claims)]
    waved += [f"{path}: {says}" for path, says in _SAID.items() if rules[path]]
    lesser = [status for status in policy.platform.tdx.tcb_statuses if status != appraisal.TCB_STATUSES[0]]
    if lesser:
        waved.append(f"platform.tdx.tcb_statuses: platforms that Intel calls {', '.join(lesser)}")
    if policy.claims.declared:
        waved.append(f"claims.declared: {policy.claims.declared} values that nobody measured")
    nothing = [
        path
        for path, value in rules.items()
        if path.startswith("platform.tdx.") and value == () and path != "platform.tdx.td_attributes"
    ]
    rules["claims.declared"] = f"at most {policy.claims.declared} values"
    return Summary(
        demands=tuple(
            (path, _words(value))
            for path, value in rules.items()
            if value not in (None, False, (), {}, (policies.ANY,)) and path not in (*unset, *_SAID)
        ),
        waves_through=tuple(waved),
        accepts_nothing=tuple(nothing),
    )


def _words(value: object) -> str:
    if isinstance(value, tuple):
        return " or ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    return str(value)
