"""The claims of a statement against the claim rules of a policy, and the claims a result reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from palm_torch import result
from palm_torch.appraisal import data_rules, dataset_claims, dataset_words, demands, inference_claims
from palm_torch.errors import ClaimError
from palm_torch.policies.inference_rules import InferenceRules
from palm_torch.policies.policy import ANY, ClaimRules
from palm_torch.properties import Train
from palm_torch.roles import EMPTY, Artifact, Dataset, Source, Steps, Weights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from palm_torch.digest import Digest
    from palm_torch.policies.dataset_rules import DatasetRules
    from palm_torch.policies.policy import Range
    from palm_torch.result import Claim, Strength
    from palm_torch.roles import Delivered, Value
    from palm_torch.statement import Series, Statement

T = TypeVar("T")

_TRAINING_ROLES: Final = ("data", "initial", "tokenizer", "architecture")


def check_claims(end: Statement, rules: ClaimRules | DatasetRules | InferenceRules) -> None:
    """Checks a statement against the claim rules.

    Raises:
        ClaimError: Naming the claim, what the policy demands and what the statement says.
    """
    if end.operation != rules.property:
        raise ClaimError(f"the policy asks for {rules.property!r}, the evidence is of {end.operation!r}")
    if isinstance(rules, ClaimRules):
        _check_training(end, rules)
    elif isinstance(rules, InferenceRules):
        inference_claims.check(end.claims, rules)
    else:
        dataset_claims.check(end.claims, rules)
    merely = declared(end)
    if len(merely) > rules.declared:
        raise ClaimError(
            f"{len(merely)} values are merely declared ({', '.join(merely)}), the policy allows "
            f"{rules.declared}"
        )


def declared(end: Statement) -> list[str]:
    """Returns the names of the values that are merely declared by whoever ran it, sorted."""
    return sorted(name for name, source in _sources(end) if source is Source.DECLARED)


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


def waved_through(rules: ClaimRules | DatasetRules | InferenceRules) -> list[str]:
    """Returns what the policy lets pass unread."""
    if isinstance(rules, InferenceRules):
        return list(inference_claims.waved_through(rules))
    if not isinstance(rules, ClaimRules):
        return list(dataset_claims.waved_through(rules))
    return [
        f"{role}: the policy accepts any" for role in _TRAINING_ROLES if rules.references(role).word == ANY
    ]


def named(rules: ClaimRules | DatasetRules | InferenceRules) -> dict[str, frozenset[Digest]]:
    """Returns the digests that the policy names, by role."""
    roles = _TRAINING_ROLES if isinstance(rules, ClaimRules) else rules.ROLES
    return {role: rules.references(role).digests for role in roles}


def claims_of(end: Statement, strength: Strength) -> tuple[Claim, ...]:
    """Returns what the evidence says, each claim with its strength."""
    return result.labelled(_said(end), strength)


def steps_in_words(steps: Steps) -> str:
    """Returns how many steps were taken and skipped."""
    return f"{steps.taken} taken, {steps.skipped} skipped"


def whole_epochs(delivered: Delivered) -> int:
    """Returns how often every record of a dataset was delivered, at least; 0 for a stream."""
    return 0 if delivered.counts is None else delivered.counts.least


def _check_training(end: Statement, rules: ClaimRules) -> None:
    claims = end.claims
    if not isinstance(claims, Train):
        raise ClaimError(f"the rules are for training, the evidence is of {end.operation!r}")
    trained = [dataset.uses["train"] for dataset in claims.data.values() if "train" in dataset.uses]
    if not trained:  # a list without data must not pass because nothing in it is wrong
        demands.reference("data", None, rules.references("data"))
    for name, dataset in claims.data.items():
        demands.reference(f"data.{name}", dataset.manifest, rules.references("data"))
    demands.reference("initial", claims.initial.digest, rules.references("initial"))
    if rules.initial_taken not in (None, claims.initial.taken):
        raise ClaimError(
            f"initial: the policy demands weights taken at {rules.initial_taken}, the evidence says "
            f"{claims.initial.taken}"
        )
    demands.reference("tokenizer", claims.tokenizer.digest, rules.references("tokenizer"))
    demands.reference("architecture", claims.architecture.digest, rules.references("architecture"))

    demands.in_range("records", sum(use.delivered for use in trained), rules.records)
    demands.in_range("epochs", min((whole_epochs(use) for use in trained), default=0), rules.epochs)
    data_rules.check(claims.data, rules)
    demands.in_range("steps", claims.steps.taken, rules.steps)
    for name, allowed in rules.arguments.items():
        _check_argument(name, claims.configuration, allowed)
    for name, allowed in rules.reported.items():
        series = end.run.reported.get(name)
        if series is None:
            raise ClaimError(f"reported.{name}: the policy demands {allowed}, the script logged none")
        demands.in_range(f"reported.{name}", demands.number(f"reported.{name}", series.last), allowed)


def argument_values(name: str, configuration: Value) -> list[float]:
    """Returns least and greatest value of a hyper-parameter in every group of every optimizer.

    Args:
        name: The hyper-parameter, such as ``lr``.
        configuration: The configuration that a statement of training claims.

    Raises:
        ClaimError: If no optimizer is listed, or a group does not say or says no number.
    """
    values: list[float] = []
    for optimizer in _members(configuration.value, "optimizers", list):
        for group in _members(optimizer, "groups", list):
            options = _members(group, "options", dict)
            if name not in options:
                raise ClaimError(f"arguments.{name}: a parameter group does not say")
            values += [
                demands.number(f"arguments.{name}", _members(options[name], end_of_range, object))
                for end_of_range in ("least", "greatest")
            ]
    if not values:
        raise ClaimError(f"arguments.{name}: no optimizer is listed, or none with a parameter group")
    return values


def _check_argument(name: str, configuration: Value, allowed: Range) -> None:
    try:
        values = argument_values(name, configuration)
    except ClaimError as error:
        raise ClaimError(f"{error}; the policy demands {allowed}") from error
    for value in values:
        demands.in_range(f"arguments.{name}", value, allowed)


def _members(value: object, key: str, kind: type[T]) -> T:
    """Returns a part of the configuration, whose form is the business of whoever sealed it."""
    part = value.get(key) if isinstance(value, dict) else None
    if not isinstance(part, kind):
        raise ClaimError(f"configuration: expected {key!r} to be of type {kind.__name__}, got {part!r:.80}")
    return part


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
            if isinstance(source, Source) and getattr(part, "kind", "") != EMPTY:
                yield name, source


def _said(end: Statement) -> Iterator[tuple[str, str, Source]]:
    for role, filled in end.roles().items():
        yield from _role(role, filled)
    if isinstance(end.claims, Train):
        yield from _optimizers(end.claims.configuration)
    yield from dataset_claims.said(end.claims)
    yield from inference_claims.said(end.claims)
    yield "code", str(end.run.code.digest), Source.MEASURED
    for group, items in (("input", end.run.inputs), ("output", end.run.outputs)):
        for name, artifact in items.items():
            yield f"{group} {name}", str(artifact.digest or "none"), artifact.source
    for name, series in end.run.reported.items():
        yield (
            f"reported {name}",
            _span(series),
            series.source,
        )


def _role(name: str, filled: object) -> Iterator[tuple[str, str, Source]]:
    if isinstance(filled, (Weights, Artifact)):
        yield name, str(filled.digest or "none"), filled.source
    elif isinstance(filled, Dataset):
        yield from dataset_words.said(name, filled)
    elif isinstance(filled, Steps):
        yield name, steps_in_words(filled), filled.source
    elif isinstance(filled, dict):
        for key, item in filled.items():
            yield from _role(f"{name} {key}", item)


def _optimizers(configuration: Value) -> Iterator[tuple[str, str, Source]]:
    """Yields what stepped, as far as the configuration has the form of ours."""
    listed = configuration.value.get("optimizers")
    for number, item in enumerate(listed if isinstance(listed, list) else [], 1):
        if isinstance(item, dict) and isinstance(item.get("class"), str):
            said = f"{item['class']:.160}, {item.get('steps')!s:.20} steps"
            if item.get("steps_inside"):
                said += f" and {item['steps_inside']!s:.20} within another's"
            if item.get("begun_with"):
                said += f", began with the state {item['begun_with']!s:.80}"
            yield f"optimizer {number}", said, configuration.source


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"


def _span(series: Series) -> str:
    if series.count == 1:
        return f"{_short(series.last)}, one value"
    return f"first {_short(series.first)}, last {_short(series.last)} of {series.count} values"
