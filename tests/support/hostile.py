"""Good bundles and receipts, and what a verifier makes of random mutations of them."""

from __future__ import annotations

import collections
import dataclasses
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import booted
import mutations
import relay
import stamping
import workshop
from mutations import Mutation

from palm_torch import evidence, receipt
from palm_torch.appraisal import receipts as receipts_of
from palm_torch.cvm import quote, timestamp
from palm_torch.errors import PalmTorchError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


SEED = 2026


@dataclass(frozen=True)
class Target:
    """A document that a verifier accepts.

    Attributes:
        data: The document.
        verify: The verifier, under the policy and for the request that the document satisfies.
        others: Valid documents of the same kind, this one among them, to take parts from.
    """

    data: bytes
    verify: Callable[[bytes], object]
    others: tuple[bytes, ...]


@dataclass
class Tally:
    """What became of mutations: by kind, how many were tried, and which error refused them.

    Attributes:
        tried: Mutations that changed a byte, by kind.
        refused: By (kind, name of the error).
        accepted: Those that the verifier took.
        foreign: Those that raised something else than our errors.
        missed: Fields that no mutation has touched.
    """

    tried: Counter[str] = field(default_factory=collections.Counter)
    refused: Counter[tuple[str, str]] = field(default_factory=collections.Counter)
    accepted: list[Mutation] = field(default_factory=list)
    foreign: list[tuple[Mutation, Exception]] = field(default_factory=list)
    missed: set[str] = field(default_factory=set)


def make(folder: Path) -> list[Target]:
    """Makes a plain run, a resumed run, a receipt, a stamped run, a booted machine's, and others.

    The others are there to take parts from. They are of the same machine or another, answer the same request,
    another or none. What is signed about a machine, and is as good for one run as for another, is shared by
    the documents of that machine: collateral, and the signature over the report on its quoting enclave.
    Exchanging it would change nothing.
    """
    plain, resumed = workshop.make_good_run(folder / "keys"), relay.make_resumed_run(folder / "keys")
    again, booted_run = relay.make_resumed_run(folder / "keys"), booted.make_booted_run(folder / "keys")
    far = workshop.make_good_run(folder / "other-keys"), relay.make_resumed_run(folder / "other-keys")
    near = (
        plain,
        resumed,
        again,
        workshop.make_good_run(folder / "keys"),
        workshop.make_good_run(folder / "keys", challenge=None),
        workshop.make_good_run(folder / "keys", challenge=workshop.make_request(nonce="a5" * 32)),
        booted_run,
    )
    shared = plain.bundle.collateral
    certified = quote.parse_quote(plain.bundle.end.quote).qe_report_signature
    bundles = tuple(
        workshop.put(
            dataclasses.replace(run.bundle, collateral=shared),
            "end.quote",
            lambda raw: raw.replace(quote.parse_quote(raw).qe_report_signature, certified),
        ).encode()
        for run in near
    )
    bundles += tuple(run.data for run in far)
    receipts = tuple(
        workshop.put(session.file, "session.collateral", shared).encode()
        for run in (resumed, again)
        for session in run.sessions
    )
    receipts += tuple(session.file.encode() for session in far[1].sessions)

    def verify_receipt(data: bytes) -> object:
        found = receipt.decode(data)
        return receipts_of.verify(found, policy=policy, at=workshop.NOW, challenge=resumed.request)

    policy, authority = resumed.policy(), stamping.make_authority()
    stamped = stamped_by(authority, bundles[0])
    return [
        Target(bundles[0], plain.verify, bundles),
        Target(bundles[1], resumed.verify, bundles),
        Target(receipts[0], verify_receipt, receipts),
        Target(
            stamped,
            lambda data: plain.verify(data, at=None, timestamp_root=authority.root.pem),
            (stamped, *(stamped_by(authority, data) for data in bundles[1:])),
        ),
        Target(bundles[near.index(booted_run)], booted_run.verify, bundles),
    ]


def stamped_by(authority: stamping.Authority, data: bytes) -> bytes:
    """Returns a bundle with a time-stamp token over it."""
    bundle = evidence.decode(data)
    token = authority.token(bundle.digest_to_stamp().value)
    kept = timestamp.normalised(token, root=authority.root.certificate)
    return dataclasses.replace(bundle, timestamp=kept).encode()


def attack(targets: Sequence[Target], count: int, *, seed: int = SEED) -> Tally:
    """Verifies `count` mutations; one that gives a good document again is drawn anew and not counted."""
    choices = random.Random(seed)
    tally = Tally(missed=set().union(*(mutations.fields_of(target.data) for target in targets)))
    while tally.tried.total() < count:
        target = choices.choice(targets)
        mutation = mutations.mutate(target.data, target.others, choices, wanted=tally.missed)
        if mutation.data in target.others:
            continue
        tally.tried[mutation.kind] += 1
        tally.missed -= mutation.fields
        try:
            target.verify(mutation.data)
        except PalmTorchError as error:
            tally.refused[mutation.kind, type(error).__name__] += 1
        except Exception as error:  # noqa: BLE001 (that there is none is what is counted)
            tally.foreign.append((mutation, error))
        else:
            tally.accepted.append(mutation)
    return tally
