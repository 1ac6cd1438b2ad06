"""The claims part of a policy to start from; see `palm_torch.appraisal.policy_template`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_torch.appraisal import claims, data_rules, dataset_words, yaml_comments
from palm_torch.errors import ClaimError
from palm_torch.policies import strict_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

    from palm_torch.properties import Train
    from palm_torch.statement import Statement


def lines(end: Statement, train: Train) -> Iterator[str]:
    """Yields the claims part of a policy that accepts what a statement says of training."""
    yield "claims:"
    yield "  property: train"
    yield from _data(train)
    yield from yaml_comments.comment(
        "Weights the training started from. CHECK: a published base model's weights root.", 2
    )
    yield from yaml_comments.comment("Random ones differ with every seed: [any] if it does not matter.", 2)
    yield f'  initial: ["{train.initial.digest}"]'
    if train.initial.taken != "end":
        yield from yaml_comments.comment(
            "When they were read: first_delivery is before the first batch, first_step before the first "
            "step, when forward passes may have moved buffers.",
            2,
        )
        yield f"  initial_taken: {train.initial.taken}"
    for name, artifact, says in (
        ("tokenizer", train.tokenizer, "The tokenizer; [none] where records are tokens already."),
        ("architecture", train.architecture, "The model's architecture; [any]: the weights decide."),
    ):
        yield from yaml_comments.comment(f"{says} CHECK: whether it is the one you know.", 2)
        yield f'  {name}: ["{artifact.digest}"]' if artifact.digest else f"  {name}: [none]"
    uses = [dataset.uses["train"] for dataset in train.data.values() if "train" in dataset.uses]
    records = sum(use.delivered for use in uses)
    epochs = min((claims.whole_epochs(use) for use in uses), default=0)
    for name, value, says in (
        ("records", records, "Records delivered for training, over all datasets."),
        ("epochs", epochs, "How often each record was delivered for training, at least."),
        ("steps", train.steps.taken, "Optimizer steps that moved parameters."),
    ):
        yield from yaml_comments.comment(f"{says} CHECK: what the run was to be.", 2)
        yield f"  {name}: {{least: {value}, greatest: {value}}}"
    yield from _delivery(train)
    yield from _arguments(train)
    yield from _reported(end)
    declared = claims.declared(end)
    names = ", ".join(map(yaml_comments.quoted_name, declared[: yaml_comments.MAX_LISTED]))
    yield from yaml_comments.comment(
        "How many values may be merely declared by whoever ran it. CHECK each of these"
        + (f": {names}" if declared else "; there are none."),
        2,
    )
    yield f"  declared: {len(declared)}"


def _data(train: Train) -> Iterator[str]:
    manifests = sorted({str(dataset.manifest) for dataset in train.data.values() if dataset.manifest})
    trained = any("train" in dataset.uses for dataset in train.data.values())
    yield from yaml_comments.comment(
        "Manifests of the data. CHECK: measure your own copy with `palm-torch measure`, or get the digest "
        "from whoever curates the data.",
        2,
    )
    yield from yaml_comments.listed(
        (
            f"{yaml_comments.quoted_name(name)}: {yaml_comments.plain(dataset_words.in_words(dataset))}"
            for name, dataset in train.data.items()
        ),
        2,
    )
    if not manifests:
        yield from yaml_comments.comment(
            "CHECK: no data with a manifest was counted, so nothing says which data it was.", 2
        )
        yield "  data: [none]"
    elif not trained or any(dataset.manifest is None for dataset in train.data.values()):
        yield from yaml_comments.comment(
            "CHECK: only part of the data that was trained on has a manifest, so nothing says which data it "
            "was; [any] waves it through.",
            2,
        )
        yield "  data: [any]"
    else:
        yield "  data:"
        yield from (f'    - "{manifest}"' for manifest in manifests)
    yield from yaml_comments.layout_rule(dataset.layout for dataset in train.data.values())


def _delivery(train: Train) -> Iterator[str]:
    """Yields the rules about how records were delivered, beyond how many."""
    counts = [
        use.counts
        for dataset in train.data.values()
        for name, use in dataset.uses.items()
        if name == "train" and use.counts is not None
    ]
    streams = any(dataset.records is None for dataset in train.data.values())
    uses = [use for _, _, use in data_rules.uses(train.data)]
    if counts and not streams:
        yield from yaml_comments.comment(
            "How often any record was delivered for training, at least and at most. CHECK: what sampling the "
            "run was to do.",
            2,
        )
        least, greatest = min(one.least for one in counts), max(one.greatest for one in counts)
        yield f"  multiplicity: {{least: {least}, greatest: {greatest}}}"
    if uses and all(use.exact for use in uses):
        yield from yaml_comments.comment(
            "The batches were the records themselves: no code in between could drop any.", 2
        )
        yield "  exact: true"
    if any(use.padded is None for use in uses):
        yield from yaml_comments.comment(
            "CHECK: how many records a sampler repeated to make ranks equal is not known, for it is none of "
            "torch's own.",
            2,
        )
        yield "  unknown_padding: true"
    padded = sum(use.padded or 0 for use in uses)
    if padded:
        yield from yaml_comments.comment(
            "Records that a sampler repeated to make ranks equal. CHECK: whether so many may count twice.", 2
        )
        yield f"  padded: {padded}"
    if streams:
        yield from yaml_comments.comment(
            "CHECK: some data is a stream, and which of its records were delivered cannot be told; take this "
            "out to accept data with an index alone.",
            2,
        )
        yield "  streams: true"
    chains = [len(use.order) for use in uses]
    if chains:
        yield from yaml_comments.comment("Ranks that each use was delivered to. CHECK: the machines used.", 2)
        yield f"  ranks: {{least: {min(chains)}, greatest: {max(chains)}}}"


def _arguments(train: Train) -> Iterator[str]:
    ranges: list[str] = []
    for name in _option_names(train):
        try:
            values = claims.argument_values(name, train.configuration)
        except ClaimError:  # not a number in every group: no range can be demanded of it
            continue
        if len(name) <= yaml_comments.MAX_NAME_CHARACTERS:
            ranges.append(
                f"    {strict_yaml.quoted(name)}: {{least: {min(values)}, greatest: {max(values)}}}"
            )
    if ranges:
        yield from yaml_comments.comment(
            "Hyper-parameters, over all groups and steps. CHECK: the ranges that you accept.", 2
        )
        yield "  arguments:"
        yield from ranges


def _option_names(train: Train) -> list[str]:
    """Returns the option names of the first parameter group; a range needs the name in every group."""
    part: object = train.configuration.value
    for key in ("optimizers", 0, "groups", 0, "options"):
        if isinstance(part, dict):
            part = part.get(key)
        else:
            part = part[0] if isinstance(part, list) and part else None
    return sorted(part) if isinstance(part, dict) else []


def _reported(end: Statement) -> Iterator[str]:
    if not end.run.reported:
        return
    yield from yaml_comments.comment(
        "Last values that the script logged. CHECK: demand what you need, as in", 2
    )
    yield from yaml_comments.comment("reported: {loss: {greatest: 1.5}}", 2)
    said = (
        f"{yaml_comments.quoted_name(name)}: {yaml_comments.quoted_name(str(series.last))}"
        for name, series in end.run.reported.items()
    )
    yield from yaml_comments.listed(said, 2)
