"""The claims of a statement against the claim rules of a policy, and the claims a result reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeVar

from palm_torch.errors import ClaimError
from palm_torch.policy import ANY, NONE
from palm_torch.properties import Train
from palm_torch.result import Claim
from palm_torch.roles import Artifact, Dataset, Source, Steps, Weights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from palm_torch.digest import Digest
    from palm_torch.policy import ClaimRules, Range, References
    from palm_torch.roles import Value
    from palm_torch.statement import Statement

T = TypeVar("T")
_RESERVATIONS: Final = {
    "steps_without_new_records": "steps followed no newly delivered record of their optimizer",
    "writes_outside_steps": "times parameters were written to between steps, by other code than an optimizer",
}
"""Counts in the configuration that are zero in a plain training loop."""

Strength = Literal["hardware", "simulated", "code"]


def check_claims(end: Statement, rules: ClaimRules) -> None:
    """Checks a statement against the claim rules.

    Raises:
        ClaimError: Naming the claim, what the policy demands and what the statement says.
    """
    if end.operation != rules.property:
        raise ClaimError(f"the policy asks for {rules.property!r}, the evidence is of {end.operation!r}")
    claims = end.claims
    if not isinstance(claims, Train):
        raise ClaimError(f"this version appraises 'train', not {end.operation!r}")
    trained = [dataset.uses["train"] for dataset in claims.data.values() if "train" in dataset.uses]
    if not trained:  # a list without data must not pass because nothing in it is wrong
        _check_reference("data", None, rules.references("data"))
    for name, dataset in claims.data.items():
        _check_reference(f"data.{name}", dataset.manifest, rules.references("data"))
    _check_reference("initial", claims.initial.digest, rules.references("initial"))
    _check_reference("tokenizer", claims.tokenizer.digest, rules.references("tokenizer"))
    _check_reference("architecture", claims.architecture.digest, rules.references("architecture"))

    _check_range("records", sum(use.delivered for use in trained), rules.records)
    _check_range("epochs", min((use.least for use in trained), default=0), rules.epochs)
    _check_range("steps", claims.steps.taken, rules.steps)
    for name, allowed in rules.arguments.items():
        _check_argument(name, claims.configuration, allowed)
    for name, allowed in rules.reported.items():
        series = end.run.reported.get(name)
        if series is None:
            raise ClaimError(f"reported.{name}: the policy demands {allowed}, the script logged none")
        _check_range(f"reported.{name}", _finite(f"reported.{name}", series.last), allowed)
    declared = [name for name, source in _sources(end) if source is Source.DECLARED]
    if len(declared) > rules.declared:
        raise ClaimError(
            f"{len(declared)} values are merely declared ({', '.join(sorted(declared))}), the policy allows "
            f"{rules.declared}"
        )


def check_measured(end: Statement, role: str) -> None:
    """Checks that a role is filled with something that was measured.

    Raises:
        ClaimError: If it is not.
    """
    named: dict[str, object] = {**end.run.outputs, **end.run.inputs, **end.roles()}
    filled = named.get(role)  # an input named like a role does not fill it
    items = list(filled.values()) if isinstance(filled, dict) else [filled]
    if not items or not all(getattr(item, "source", None) is Source.MEASURED for item in items):
        raise ClaimError(f"the request asks for the role {role!r}, which the evidence has not measured")


def waved_through(rules: ClaimRules) -> list[str]:
    """Returns what the policy lets pass unread."""
    return [
        f"{role}: the policy accepts any"
        for role in ("data", "initial", "tokenizer", "architecture")
        if rules.references(role).word == ANY
    ]


def reservations(end: Statement) -> list[str]:
    """Returns what in a statement keeps a result from being affirming, whatever the policy says."""
    if not isinstance(end.claims, Train):
        return []
    found = [
        f"data {name}, {use}: counted as read; code between the dataset and the loop may have dropped records"
        for name, dataset in end.claims.data.items()
        for use, delivered in dataset.uses.items()
        if not delivered.exact
    ]
    for key, says in _RESERVATIONS.items():
        count = end.claims.configuration.value.get(key)
        if count != 0:
            found.append(f"{count} {says}")
    return found


def claims_of(end: Statement, strength: Strength) -> tuple[Claim, ...]:
    """Returns what the evidence says, each claim with its strength."""
    labels: dict[Source, Literal["reported by code", "declared"]] = {
        Source.REPORTED: "reported by code",
        Source.DECLARED: "declared",
    }
    return tuple(
        Claim(name=name, value=value, strength=labels.get(source, strength))
        for name, value, source in _said(end)
    )


def _check_reference(name: str, digest: Digest | None, allowed: References) -> None:
    if allowed.word == ANY or (allowed.word == NONE and digest is None):
        return
    if digest is None or digest not in allowed.digests:
        wanted = "none" if allowed.word == NONE else ", ".join(sorted(map(str, allowed.digests)))
        raise ClaimError(f"{name}: the policy demands {wanted}, the evidence says {digest or 'none'}")


def _check_range(name: str, value: float, allowed: Range | None) -> None:
    if allowed is not None and not allowed.holds(value):
        raise ClaimError(f"{name}: the policy demands {allowed}, the evidence says {value}")


def _check_argument(name: str, configuration: Value, allowed: Range) -> None:
    for optimizer in _members(configuration.value, "optimizers", list):
        for group in _members(optimizer, "groups", list):
            options = _members(group, "options", dict)
            if name not in options:
                raise ClaimError(
                    f"arguments.{name}: the policy demands {allowed}, a parameter group does not say"
                )
            for end_of_range in ("least", "greatest"):
                value = _finite(f"arguments.{name}", _members(options[name], end_of_range, object))
                _check_range(f"arguments.{name}", value, allowed)
    if not configuration.value["optimizers"]:
        raise ClaimError(f"arguments.{name}: the policy demands {allowed}, no optimizer is listed")


def _members(value: object, key: str, kind: type[T]) -> T:
    """Returns a part of the configuration, whose form is the business of whoever sealed it."""
    part = value.get(key) if isinstance(value, dict) else None
    if not isinstance(part, kind):
        raise ClaimError(f"configuration: expected {key!r} to be of type {kind.__name__}, got {part!r:.80}")
    return part


def _finite(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ClaimError(f"{name}: expected a number, the evidence says {value!r:.80}")
    return float(value)


def _sources(end: Statement) -> Iterator[tuple[str, Source]]:
    named: list[tuple[str, object]] = [
        *end.roles().items(),
        *end.run.inputs.items(),  # names of inputs and outputs may be those of roles: nothing hides another
        *end.run.outputs.items(),
        *end.run.reported.items(),
        ("environment", end.run.environment),
    ]
    for name, item in named:
        nested = list(item.values()) if isinstance(item, dict) else [item]
        for part in nested:
            source = getattr(part, "source", None)
            if isinstance(source, Source) and getattr(part, "kind", "") != NONE:
                yield name, source


def _said(end: Statement) -> Iterator[tuple[str, str, Source]]:
    for role, filled in end.roles().items():
        yield from _role(role, filled)
    yield "code", str(end.run.code.digest), Source.MEASURED
    for group, items in (("input", end.run.inputs), ("output", end.run.outputs)):
        for name, artifact in items.items():
            yield f"{group} {name}", str(artifact.digest or "none"), artifact.source
    for name, series in end.run.reported.items():
        yield (
            f"reported {name}",
            f"{_short(series.first)} → {_short(series.last)} over {series.count} values",
            series.source,
        )


def _role(name: str, filled: object) -> Iterator[tuple[str, str, Source]]:
    if isinstance(filled, (Weights, Artifact)):
        yield name, str(filled.digest or "none"), filled.source
    elif isinstance(filled, Dataset):
        yield from _dataset(name, filled)
    elif isinstance(filled, Steps):
        yield name, f"{filled.taken} taken, {filled.skipped} skipped", filled.source
    elif isinstance(filled, dict):
        for key, item in filled.items():
            yield from _role(f"{name} {key}", item)


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"


def _dataset(name: str, dataset: Dataset) -> Iterator[tuple[str, str, Source]]:
    manifest = dataset.manifest or "no manifest"
    yield name, f"{dataset.records} records of {dataset.record_bytes} bytes, {manifest}", dataset.source
    for use, delivered in sorted(dataset.uses.items()):
        yield (
            f"{name}, {use}",
            (
                f"{delivered.delivered} delivered, {delivered.distinct} distinct, each {delivered.least} to "
                f"{delivered.greatest} times"
            ),
            dataset.source,
        )
