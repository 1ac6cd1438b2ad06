"""The claims part of a policy to start from, for inference; see `palm_torch.appraisal.policy_template`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_torch.appraisal import claims, yaml_comments
from palm_torch.commit import answers
from palm_torch.policies import strict_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

    from palm_torch.properties import Infer, Session
    from palm_torch.statement import Statement


def lines(end: Statement, found: Infer | Session) -> Iterator[str]:
    """Yields the claims part of a policy that accepts what a statement says of answers.

    Raises:
        EvidenceError: If its account of answers does not parse.
    """
    account = answers.account_of(found.decoding.value)
    yield "claims:"
    yield f"  property: {end.operation}"
    yield from _comment("The model that answered. CHECK: a published model's weights root.")
    yield f'  model: ["{found.model.digest}"]'
    yield from _comment(
        "Its tokenizer; [none] where the script named none. CHECK: whether it is the one you know."
    )
    digest = found.tokenizer.digest
    yield f'  tokenizer: ["{digest}"]' if digest else "  tokenizer: [none]"
    ranges = {
        name: one
        for name, one in account.parameters.items()
        if one.said == account.answers
        and not one.others
        and one.least is not None
        and len(name) <= yaml_comments.MAX_NAME_CHARACTERS
    }
    if ranges:
        yield from _comment(
            "Parameters of decoding, as the script said them. CHECK: the ranges that you accept."
        )
        yield "  decoding:"
        for name, one in ranges.items():
            yield f"    {strict_yaml.quoted(name)}: {{least: {one.least}, greatest: {one.greatest}}}"
    choices = {
        name: one.others
        for name, one in account.parameters.items()
        if one.said == account.answers
        and one.least is None
        and all(map(_is_short, one.others))
        and len(name) <= yaml_comments.MAX_NAME_CHARACTERS
    }
    if choices:
        yield from _comment("Likewise those that are no numbers. CHECK: the values that you accept.")
        yield "  choices:"
        for name, values in choices.items():
            yield f"    {strict_yaml.quoted(name)}: [{', '.join(map(_scalar, values))}]"
    yield from _comment("Answers that the session gave. CHECK: how many you expect.")
    yield f"  answers: {{least: {account.answers}, greatest: {account.answers}}}"
    if account.revoked:
        yield from _comment(
            "CHECK: so many answers are revoked, for the weights were found changed; take this out to "
            "accept none."
        )
        yield f"  revoked: {account.revoked_answers}"
    if account.traced == account.answers:
        yield from _comment("Every answer's receipt names a trace of what the model computed.")
        yield "  traced: true"
    declared = claims.declared(end)
    names = ", ".join(map(yaml_comments.quoted_name, declared[: yaml_comments.MAX_LISTED]))
    yield from _comment(
        "How many values may be merely declared by whoever ran it. CHECK each of these"
        + (f": {names}" if declared else "; there are none.")
    )
    yield f"  declared: {len(declared)}"


def _is_short(value: object) -> bool:
    return (
        value is None
        or isinstance(value, bool)
        or (isinstance(value, str) and len(value) <= yaml_comments.MAX_NAME_CHARACTERS)
    )


def _scalar(value: str | bool | None) -> str:  # noqa: FBT001 (a value)
    """Returns a value as YAML."""
    if isinstance(value, str):
        return strict_yaml.quoted(value)
    return "null" if value is None else str(value).lower()


def _comment(text: str) -> list[str]:
    return yaml_comments.comment(text, 2)
