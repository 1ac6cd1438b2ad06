"""What a run used and what it made, one by one, as a chain of evidence sees it."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from palm_torch.digest import Digest
from palm_torch.properties import Bind
from palm_torch.roles import COMMAND, Artifact, Dataset, Source, Value, Weights, Written
from palm_torch.statement import Statement, value_digest

if TYPE_CHECKING:
    from collections.abc import Iterator

INPUTS: Final = "inputs."
"""How the roles of the inputs begin that a script named."""

USES: Final[dict[str, dict[str, bool]]] = {
    "preprocess": {"data": True},
    "distribute": {"data": True},
    "bind": {"files": False},
    "train": {"data": True, "tokenizer": True, "initial": True},
    "optimize": {"base": True, "tokenizer": True, "adapter": True, "data": True},
    "evaluate": {"model": True, "tokenizer": True, "data": True, "benchmark": False},
    "infer": {"model": True, "tokenizer": True, "query": False},
    "session": {"model": True, "tokenizer": True, "query": False},
}
"""Operation → roles that are used → whether they have to come from somewhere in the chain.

What is produced stands beside each property (`OUTPUTS`); inputs and outputs that a script named come on
top, and a named input has to come from somewhere, but for the words of the command line. Code and functions
are identities, not products.
"""


class Kind(enum.Enum):
    """What a digest names: only things of one kind can be one thing."""

    DATASET = enum.auto()  # SHA-256 of a manifest's header
    WEIGHTS = enum.auto()
    VALUE = enum.auto()
    FILE = enum.auto()


class Port(NamedTuple):
    """One thing that a run used or made.

    Attributes:
        role: What it was there.
        kind: What its digest names.
        digest: None for data that nothing identifies.
        source: Where the digest comes from.
        expected: Whether it has to come from somewhere.
    """

    role: str
    kind: Kind
    digest: Digest | None
    source: Source
    expected: bool

    @property
    def key(self) -> Key:
        """What is equal exactly where two ports are of one thing."""
        return self.kind, self.digest


Key: TypeAlias = tuple[Kind, Digest | None]


def used(statement: Statement) -> Iterator[Port]:
    """Yields what a run used: the roles of its property, then the inputs its script named."""
    for role, expected in USES[statement.operation].items():
        yield from _ports(role, getattr(statement.claims, role), expected=expected)
    for name, item in sorted(statement.run.inputs.items()):
        yield from _ports(f"{INPUTS}{name}", item, expected=name.partition("#")[0] != COMMAND)


def made(statement: Statement) -> Iterator[Port]:
    """Yields what a run produced: the roles of its property, then the outputs its script named."""
    for role in type(statement.claims).OUTPUTS:
        for port in _ports(role, getattr(statement.claims, role), expected=False):
            bound = isinstance(statement.claims, Bind)  # its one output is a manifest
            yield port._replace(kind=Kind.DATASET) if bound else port
    yield from _ports("outputs", statement.run.outputs, expected=False)


def _ports(role: str, filled: object, *, expected: bool) -> Iterator[Port]:
    if isinstance(filled, dict):
        for name in sorted(filled):
            yield from _ports(f"{role}.{name}", filled[name], expected=expected)
    elif isinstance(filled, Dataset):
        yield Port(role, Kind.DATASET, filled.manifest, filled.source, expected)
    elif isinstance(filled, Value):
        yield Port(role, Kind.VALUE, value_digest(filled.value), filled.source, expected)
    elif isinstance(filled, Written):
        yield Port(role, Kind.DATASET, filled.digest, filled.source, expected)
        yield from _ports(f"{role}.files", filled.files, expected=expected)
    elif isinstance(filled, Weights):
        yield Port(role, Kind.WEIGHTS, filled.digest, filled.source, expected)
    elif isinstance(filled, Artifact) and filled.digest is not None:
        yield Port(role, Kind.FILE, filled.digest, filled.source, expected)
