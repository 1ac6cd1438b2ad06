"""Several pieces of evidence as one chain: what one run produced is what another one used, by digest.

A link is no stronger than its weaker end. It is *hardware* if genuine hardware and named code vouch for
both ends and both digests were measured; *simulated* if a simulated machine vouches for one; *declared* if
one end only says so: the role is declared or reported by code, or the evidence of that end is accepted
under warnings of its own, unreviewed code among them. An input that has to come from somewhere, and that
nothing in the chain produced, is *missing*; it is *named* if the verifier's own policy for that run names its
digest: then it is the verifier who knows where it comes from.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from palm_torch.appraisal import chain_graph, shared_sessions
from palm_torch.appraisal.chain_ports import INPUTS, Key, Port, made, used
from palm_torch.appraisal.shared_sessions import Earlier, Shared
from palm_torch.digest import Digest
from palm_torch.errors import InputError
from palm_torch.properties import Train
from palm_torch.result import Strength
from palm_torch.roles import Source
from palm_torch.statement import Statement

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


_FILES: Final = "files."
"""How the roles of the files begin that a binding read."""


class Label(enum.StrEnum):
    """How far a link can be relied on, strongest first."""

    HARDWARE = "hardware"
    NAMED = "named"
    SIMULATED = "simulated"
    DECLARED = "declared"
    MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One piece of accepted evidence.

    Attributes:
        name: Name of the evidence.
        statement: Its end statement.
        strength: How strong its measured claims are.
        reserved: Whether it was accepted with reservations, of whatever kind.
        earlier: The sessions that it went on from, oldest first.
        named: Digests that the policy for it names by role.
    """

    name: str
    statement: Statement
    strength: Strength
    reserved: bool
    earlier: tuple[Earlier, ...] = ()
    named: Mapping[str, frozenset[Digest]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One run of the chain."""

    name: str
    operation: str
    run_id: str
    strength: Strength


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One use of one thing.

    Attributes:
        producer: Name of the evidence that it came from; None if it is missing.
        role_out: The role it had there, such as ``model`` or ``outputs.log``.
        consumer: Name of the evidence that used it.
        role_in: The role it has there, such as ``initial`` or ``data.corpus``.
        digest: What both name; None for data that nothing identifies.
        label: How far the link can be relied on.
        reason: Why it has no better label; empty for the best.
    """

    producer: str | None
    role_out: str | None
    consumer: str
    role_in: str
    digest: Digest | None
    label: Label
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The graph: every run after those whose products it used, and the links in the order of their users.

    Attributes:
        nodes: The runs; where nothing else decides, in the order given.
        links: Every use; several for one role if several runs produced the same.
        loose: Names of evidence that is linked to no other.
        shared: Pairs of runs that have a session in common: their work up to there was done once.
        parts: Names of evidence that hangs together by data, models and other roles of its properties; inputs
            that a script named hold nothing together. One part: no gap.
    """

    nodes: tuple[Node, ...]
    links: tuple[Link, ...]
    loose: tuple[str, ...]
    shared: tuple[Shared, ...] = ()
    parts: tuple[tuple[str, ...], ...] = ()

    def count(self, label: Label) -> int:
        """Returns how many links have a label."""
        return sum(link.label is label for link in self.links)


def build(members: Sequence[Member]) -> Chain:
    """Links accepted evidence by digests.

    1. Each piece stands for a run of its own, under a name of its own.
    2. Every role used is looked up among what the other runs produced, by digest among things of its kind:
       a data set comes from the binding or from the run that wrote it, whatever else has its manifest's
       digest. What a run used and handed on unchanged it did not make: it is the origin only for runs that
       did not do the same, and only if nobody made it. So neither a run nor a file passed around is its own
       origin; nor are files of a data set whose very bytes came out again of a run that had used that data
       set.
    3. Runs are put in order; runs that go in a circle are refused.

    Args:
        members: Evidence that was accepted, each by itself.

    Raises:
        InputError: If there is none, or two pieces have one name or are of one run.
        ClaimError: If each of some runs used what another of them produced.
    """
    _check_distinct(members)  # 1
    origins = _Origins(members)
    links = _without_echoes([link for member in members for link in origins.links_of(member)])  # 2
    ordered = _ordered(members, links)  # 3
    names = [member.name for member in ordered]
    place = {name: position for position, name in enumerate(names)}
    linked = {name for link in links if link.producer for name in (link.producer, link.consumer)}
    return Chain(
        nodes=tuple(
            Node(
                name=member.name,
                operation=member.statement.operation,
                run_id=member.statement.run.run_id,
                strength=member.strength,
            )
            for member in ordered
        ),
        links=tuple(sorted(links, key=lambda link: place[link.consumer])),
        loose=tuple(member.name for member in ordered if member.name not in linked),
        shared=tuple(shared_sessions.find({member.name: _sessions(member) for member in members})),
        parts=chain_graph.parts(
            names, [edge for edge, link in _edges(links) if not link.role_in.startswith(INPUTS)]
        ),
    )


class _Origins:
    """Who made what: kind and digest → the evidence, and the role the thing has there."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._used = {member.name: tuple(used(member.statement)) for member in members}
        self._makers: dict[Key, list[tuple[Member, Port]]] = defaultdict(list)
        self._bearers: dict[Key, list[tuple[Member, Port]]] = defaultdict(list)
        for member in members:
            taken = {port.key for port in self._used[member.name]}
            best: dict[Key, Port] = {}
            for port in sorted(made(member.statement), key=_weakness):  # of several roles, the strongest
                best.setdefault(port.key, port)
            for key, port in best.items():
                (self._bearers if key in taken else self._makers)[key].append((member, port))

    def links_of(self, member: Member) -> Iterator[Link]:
        """Yields a link for each origin of each thing used, in order of roles."""
        for port in self._used[member.name]:
            found = self._found(member, port)
            for maker, product in found:
                label, reason = _label((maker, product), (member, port))
                yield Link(
                    producer=maker.name,
                    role_out=product.role,
                    consumer=member.name,
                    role_in=port.role,
                    digest=port.digest,
                    label=label,
                    reason=reason,
                )
            if not found and port.expected:
                role = port.role.partition(".")[0]
                named = port.digest in member.named.get(role, frozenset())
                yield _named(member, port) if named else _missing(member, port)

    def _found(self, member: Member, port: Port) -> list[tuple[Member, Port]]:
        if port.digest is None:
            return []
        if makers := self._makers.get(port.key):
            return makers
        bearers = self._bearers.get(port.key, [])
        return [] if any(bearer.name == member.name for bearer, _ in bearers) else bearers


def _named(member: Member, port: Port) -> Link:
    measured = port.source is Source.MEASURED
    return Link(
        producer=None,
        role_out=None,
        consumer=member.name,
        role_in=port.role,
        digest=port.digest,
        label=Label.NAMED if measured else Label.DECLARED,
        reason=(
            "no evidence given here produced it; the policy names its digest"
            if measured
            else f"{port.role} of {member.name} is {port.source.value}"
        ),
    )


def _missing(member: Member, port: Port) -> Link:
    unnamed = "nothing identifies this data: it was read without a manifest"
    return Link(
        producer=None,
        role_out=None,
        consumer=member.name,
        role_in=port.role,
        digest=port.digest,
        label=Label.MISSING,
        reason=unnamed if port.digest is None else "no evidence given here produced it",
    )


def _label(producer: tuple[Member, Port], consumer: tuple[Member, Port]) -> tuple[Label, str]:
    """Returns the label of a link and what keeps it from a better one."""
    ends = (producer, consumer)
    for member, port in ends:
        if port.source is not Source.MEASURED:
            return Label.DECLARED, f"{port.role} of {member.name} is {port.source.value}"
    for member, _ in ends:
        if member.strength != "simulated" and member.reserved:
            return Label.DECLARED, f"{member.name} was accepted under warnings"
    for member, _ in ends:
        if member.strength == "simulated":
            return Label.SIMULATED, f"{member.name} is of a simulated machine"
    return Label.HARDWARE, ""


def _weakness(port: Port) -> int:
    return list(Source).index(port.source)


def _check_distinct(members: Sequence[Member]) -> None:
    if not members:
        raise InputError("chain: expected at least one piece of evidence, got none")
    names: set[str] = set()
    runs: dict[str, str] = {}
    for member in members:
        if member.name in names:
            raise InputError(f"chain: {member.name!r} was given twice")
        names.add(member.name)
        other = runs.setdefault(member.statement.run.run_id, member.name)
        if other != member.name:
            raise InputError(f"chain: {other!r} and {member.name!r} are evidence of one and the same run")


def _sessions(member: Member) -> dict[str, int]:
    """Returns session → steps of the run when it ended, oldest first."""
    claims = member.statement.claims
    sealed = claims.steps.taken if isinstance(claims, Train) else 0
    return {
        **{item.session: item.steps for item in member.earlier},
        member.statement.run.run_id: sealed,
    }


def _without_echoes(links: Sequence[Link]) -> list[Link]:
    """Leaves out links to files that came from the data set they are said to be the origin of."""
    origins: dict[str, set[str]] = defaultdict(set)
    for link in links:
        if link.producer is not None and not link.role_in.startswith(_FILES):
            origins[link.consumer].add(link.producer)

    def came_from(name: str, origin: str) -> bool:
        seen, waiting = set[str](), [name]
        while waiting:
            seen.add(following := waiting.pop())
            waiting += origins[following] - seen
        return origin in seen

    return [
        link
        for link in links
        if not (
            link.producer is not None
            and link.role_in.startswith(_FILES)
            and came_from(link.producer, link.consumer)
        )
    ]


def _edges(links: Iterable[Link]) -> Iterator[tuple[chain_graph.Edge, Link]]:
    """Yields (producer, consumer) for each link that has both."""
    return (((link.producer, link.consumer), link) for link in links if link.producer is not None)


def _ordered(members: Sequence[Member], links: Iterable[Link]) -> list[Member]:
    by_name = {member.name: member for member in members}
    return [by_name[name] for name in chain_graph.ordered(list(by_name), [edge for edge, _ in _edges(links)])]
