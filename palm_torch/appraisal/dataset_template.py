"""The claims part of a policy to start from, for the properties of datasets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_torch import statement
from palm_torch.appraisal import claims, dataset_claims, dataset_words, yaml_comments
from palm_torch.properties import Bind, Distribute, Preprocess
from palm_torch.roles import Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from palm_torch.digest import Digest
    from palm_torch.roles import Dataset
    from palm_torch.statement import Statement


def lines(end: Statement, found: Bind | Preprocess | Distribute) -> Iterator[str]:
    """Yields the claims part of a policy that accepts what a statement says of a dataset."""
    yield "claims:"
    yield f"  property: {end.operation}"
    if isinstance(found, Bind):
        yield from _bind(found)
    else:
        yield from _source(found.data)
        yield from _function(found)
        yield from _preprocess(found) if isinstance(found, Preprocess) else _distribute(found)
    declared = claims.declared(end)
    names = ", ".join(map(yaml_comments.quoted_name, declared[: yaml_comments.MAX_LISTED]))
    yield from _comment(
        "How many values may be merely declared by whoever ran it. CHECK each of these"
        + (f": {names}" if declared else "; there are none.")
    )
    yield f"  declared: {len(declared)}"


def _bind(found: Bind) -> Iterator[str]:
    yield from _comment(
        "The manifest that was made. CHECK: measure your own copy with `palm-torch measure`, or [any] if you "
        "want to learn the digest from this evidence."
    )
    yield from _references("manifest", [found.manifest.digest])
    yield from _comment("Records in the dataset. CHECK: how many you expect.")
    yield f"  records: {{least: {found.records}, greatest: {found.records}}}"


def _source(data: dict[str, Dataset]) -> Iterator[str]:
    yield from _comment(
        "Manifests of the data that was read. CHECK: measure your own copy with `palm-torch measure`, or get "
        "the digest from whoever curates the data."
    )
    yield from yaml_comments.listed(
        (
            f"{yaml_comments.quoted_name(name)}: {yaml_comments.plain(dataset_words.in_words(dataset))}"
            for name, dataset in data.items()
        ),
        2,
    )
    known = {dataset.manifest for dataset in data.values()}
    if known != {None} and None in known:
        yield from _comment("CHECK: only part of the data has a manifest; [any] waves all of it through.")
        yield "  data: [any]"
    else:
        yield from _references("data", known)
    yield from yaml_comments.layout_rule(dataset.layout for dataset in data.values())
    counts = [use.counts for dataset in data.values() for use in dataset.uses.values()]
    known_counts = [count for count in counts if count is not None]
    if len(known_counts) < len(counts):
        yield from _comment("CHECK: streams were read, of which nobody can tell what was left out.")
        yield "  streams: true"
    least = min((count.least for count in known_counts), default=1)
    greatest = max((count.greatest for count in known_counts), default=1)
    yield from _comment("How often each record was read. CHECK: left out, exactly once is demanded.")
    yield f"  multiplicity: {{least: {least}, greatest: {greatest}}}"
    if not all(use.exact for dataset in data.values() for use in dataset.uses.values()):
        yield from _comment(
            "CHECK: code between the data and what was read from it may have dropped records."
        )
        yield "  exact: false"


def _function(found: Preprocess | Distribute) -> Iterator[str]:
    yield from _comment("The function that was applied. CHECK: somebody has to read it.")
    yield from _references("function", [found.function.digest])
    yield from _comment("Its arguments. CHECK each; [any] with `ranges` demands single numbers.")
    arguments = found.arguments.value
    yield from yaml_comments.listed(
        (
            f"{yaml_comments.quoted_name(name)}: {yaml_comments.quoted_name(repr(arguments[name]))}"
            for name in sorted(arguments)
        ),
        2,
    )
    yield from _references("arguments", [statement.value_digest(arguments) if arguments else None])


def _preprocess(found: Preprocess) -> Iterator[str]:
    yield from _comment("What was written. CHECK: [any] if you want to learn it from this evidence.")
    yield from yaml_comments.listed(
        (
            f"{yaml_comments.quoted_name(name)}: {dataset_claims.written_in_words(written)}"
            for name, written in found.produced.items()
        ),
        2,
    )
    yield from _references("produced", {written.digest for written in found.produced.values()})
    records = sum(written.records for written in found.produced.values())
    yield from _comment("Records written, over all of it. CHECK: how many you expect.")
    yield f"  records: {{least: {records}, greatest: {records}}}"


def _distribute(found: Distribute) -> Iterator[str]:
    value = found.distribution
    yield from _comment(
        "What was found. CHECK: [any] with `bounds` demands single numbers, as in bounds: {records: "
        "{least: 1}}"
    )
    yield from _references("distribution", [statement.value_digest(value.value)])
    if value.source is not Source.MEASURED:
        yield from _comment("CHECK: the script computed it by itself, and its code alone says how.")
        yield "  computed_by_script: true"


def _references(role: str, digests: Iterable[Digest | None]) -> Iterator[str]:
    known = sorted(str(digest) for digest in digests if digest is not None)
    yield f"  {role}:" if known else f"  {role}: [none]"
    yield from (f'    - "{digest}"' for digest in known)


def _comment(text: str) -> list[str]:
    return yaml_comments.comment(text, 2)
