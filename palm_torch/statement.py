"""The two statements of a run: what was known when it began, and what it was when it ended.

The end statement is an in-toto Statement v1 with one predicate type per property; its canonical JSON bytes
are hashed and carried as they are. The begin statement is sealed before the loop starts.
"""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass
from typing import Any, Final, Literal

from palm_torch import codec
from palm_torch.digest import Digest, tagged_digest
from palm_torch.encoding import Json, decode_hex, encode_json
from palm_torch.errors import CodeError, EncodingError, EvidenceError
from palm_torch.properties import PROPERTIES, Operation, Property
from palm_torch.roles import Artifact, Source, Value

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://palm-torch/predicate/{operation}/v1"
BEGIN_TYPE: Final = "palm-torch/begin/v1"

MAX_STATEMENT_BYTES: Final = 16 << 20

LOADING: Final = (
    "LD_AUDIT",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONUSERBASE",
    "PYTHONWARNINGS",
    "TORCHINDUCTOR_CACHE_DIR",
    "TORCH_EXTENSIONS_DIR",
    "TRITON_CACHE_DIR",
)
"""Environment variables that change which code is loaded."""


class CodeSource(enum.StrEnum):
    """How the code that ran became known."""

    IMPORTED = "imported"
    """Hashed from the bytes that were compiled, by an import hook older than the script."""
    SELF_REPORTED = "self_reported"
    """Hashed from the files that the running program says it was loaded from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A source file that was loaded: module name, digest, and why there is no digest."""

    module: str
    digest: Digest | None
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """The code that ran outside the standard library and the installed packages."""

    source: CodeSource
    digest: Digest
    files: tuple[SourceFile, ...]


@dataclass(frozen=True, slots=True)
class Device:
    """A device on which measured tensors lived.

    Attributes:
        type: Torch's device type, e.g. ``cpu`` or ``cuda``.
        name: Model name of the device; None for the CPU.
        uuid: The device's own identifier; None where it has none.
    """

    type: str
    name: str | None
    uuid: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A quantity the script logged with `run.log`, summed up; the chain binds every value."""

    source: Source
    count: int
    first: float | str
    last: float | str
    least: float | str
    greatest: float | str
    chain: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a run: the session of one machine, with the ranks that it speaks for.

    Attributes:
        begin: What its begin quote commits to: `palm_torch.cvm.binding.begin_claims_root`.
        first: Its first rank.
        count: How many ranks it has; their numbers follow each other.
    """

    begin: Digest
    first: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """The ranks of a run that several processes made (docs/spec/45-ranks.md).

    Attributes:
        world_size: How many ranks the run had.
        own: Which of `parts` this statement is of.
        parts: All parts, in order of their ranks; together they have each rank once.
        interconnect: ``none`` if one machine has all ranks; ``unprotected`` if gradients went over a network
            that no evidence speaks of.
        differing: Buffers that were not the same in every rank: the statement has those of the run's first.
    """

    world_size: int
    own: int
    parts: tuple[Part, ...]
    interconnect: Literal["none", "unprotected"]
    differing: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuses parts that leave a rank out, or have one twice."""
        following = 0
        for number, part in enumerate(self.parts):
            if part.first != following or part.count < 1:
                raise EncodingError(
                    f"parts[{number}]: expected ranks from {following} on, got {part.count} from {part.first}"
                )
            following += part.count
        if following != self.world_size or not 0 <= self.own < len(self.parts):
            raise EncodingError(
                f"ranks: expected part {self.own} of some that have {self.world_size} ranks, got "
                f"{len(self.parts)} with {following}"
            )
        if len({part.begin for part in self.parts}) != len(self.parts):
            raise EncodingError("parts: one session is there twice")
        if (self.interconnect == "none") != (len(self.parts) == 1):
            raise EncodingError(f"interconnect: {self.interconnect!r} between {len(self.parts)} parts")
        if list(self.differing) != sorted(set(self.differing)):
            raise EncodingError("differing: expected names that ascend, each once")

    @property
    def here(self) -> Part:
        """The part that the statement is of."""
        return self.parts[self.own]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What every property shares.

    Attributes:
        run_id: Random name of the run, in hex; part of every nonce.
        code: What code ran.
        environment: Packages, interpreter, torch settings.
        devices: Every device on which measured tensors lived.
        inputs: Further inputs the script named with `run.input` or `run.config`.
        outputs: Further outputs the script named with `run.output`.
        reported: What the script logged.
        gpu: Confidential-computing state of each GPU at the end, in the order of `Begin.gpu`; empty without
            GPUs.
        ranks: The ranks, if several processes made the run; None if one did.
    """

    run_id: str
    code: Code
    environment: Value
    devices: tuple[Device, ...]
    inputs: dict[str, Artifact]
    outputs: dict[str, Artifact]
    reported: dict[str, Series]
    gpu: tuple[dict[str, Any], ...]
    ranks: Ranks | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """The end statement: what the run was, and the property it is evidence of."""

    run: Run
    claims: Property

    @property
    def operation(self) -> str:
        """The operation, one of `OPERATIONS`."""
        return next(name for name, kind in PROPERTIES.items() if kind is type(self.claims))

    def roles(self) -> dict[str, object]:
        """Returns the roles of the property: name → what fills it."""
        return {field.name: getattr(self.claims, field.name) for field in dataclasses.fields(self.claims)}

    def subjects(self) -> dict[str, Digest]:
        """Returns what was produced: role → digest; values are digested as canonical JSON."""
        subjects = {name: item.digest for name, item in self.run.outputs.items() if item.digest}
        for role in type(self.claims).OUTPUTS:
            produced = getattr(self.claims, role)
            if isinstance(produced, Value):
                subjects[role] = value_digest(produced.value)
            elif isinstance(produced, dict):
                subjects.update({f"{role}.{name}": item.digest for name, item in produced.items()})
            elif produced.digest is not None:
                subjects[role] = produced.digest
        return subjects

    def encode(self) -> bytes:
        """Returns the canonical JSON bytes; they are hashed and carried as they are."""
        return encode_json(
            {
                "_type": STATEMENT_TYPE,
                "subject": [
                    {"name": name, "digest": {digest.algorithm: digest.value.hex()}}
                    for name, digest in sorted(self.subjects().items())
                ],
                "predicateType": PREDICATE_TYPE.format(operation=self.operation),
                "predicate": {"run": codec.to_json(self.run), "property": codec.to_json(self.claims)},
            }
        )


def require_one_source(before: Code, after: Code) -> None:
    """Checks that the code of one session became known in one way.

    Args:
        before: The code known at one moment.
        after: The code known later.

    Raises:
        CodeError: If it did not.
    """
    if before.source is not after.source:
        raise CodeError(
            f"the code identity was taken in one way and then in another: {before.source.value}, "
            f"{after.source.value}"
        )


def code_digest(files: tuple[SourceFile, ...]) -> Digest:
    """Returns the identity of a set of source files, listed in order of module name."""
    return tagged_digest("palm-torch/code/v1", encode_json(codec.to_json(files)))


def value_digest(value: Json) -> Digest:
    """Returns the digest under which a travelling value is known as an artifact."""
    return tagged_digest("palm-torch/value/v1", encode_json(value))


def decode(data: bytes) -> Statement:
    """Decodes an end statement, accepting exactly what `Statement.encode` makes.

    Raises:
        EvidenceError: If the bytes are not a canonical statement with all roles of its property.
    """
    document = _document(data, "statement")
    predicate_type, predicate = document.get("predicateType"), document.get("predicate")
    kind = next(
        (
            kind
            for name, kind in PROPERTIES.items()
            if predicate_type == PREDICATE_TYPE.format(operation=name)
        ),
        None,
    )
    if kind is None:
        raise EvidenceError(f"statement: unknown predicateType {str(predicate_type)[:80]!r}")
    if not isinstance(predicate, dict) or predicate.keys() != {"run", "property"}:
        raise EvidenceError("statement.predicate: expected the keys 'run' and 'property'")
    statement = Statement(
        run=codec.from_json(Run, predicate["run"], what="statement.run", error=EvidenceError),
        claims=codec.from_json(
            kind, predicate["property"], what=f"statement.{kind.__name__.lower()}", error=EvidenceError
        ),
    )
    if statement.encode() != data:
        raise EvidenceError("statement: _type, subject or a number is not as its predicate says")
    return statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """The begin statement: everything that was known before the loop started.

    Attributes:
        type: Always `BEGIN_TYPE`.
        run_id: As in `Run`.
        operation: As in the end statement.
        request: SHA-256 of the verifier's request file; None for an unchallenged run.
        resumes: SHA-256 of the payload of the segment receipt that the session goes on from; None for a
            run's first session.
        code: The code loaded so far.
        environment: As in `Run`.
        gpu: Confidential-computing state of each GPU; empty without GPUs.
        register: RTMR[3] when the session began, 48 bytes in hex; None where there is no such register, or
            the session may not extend it.
        boot_log: SHA-256 of the event log of the machine's boot; None where there is none.
        manifests: Manifests of the datasets that were open, by role.
        inputs: Inputs already named by the script.
        settings: Hyper-parameters of the optimizers that already existed.
        seeds: State of the random number generators.
    """

    type: str
    run_id: str
    operation: Operation
    request: Digest | None
    resumes: Digest | None
    code: Code
    environment: Value
    gpu: tuple[dict[str, Any], ...]
    register: str | None
    boot_log: Digest | None
    manifests: dict[str, Digest]
    inputs: dict[str, Artifact]
    settings: Value
    seeds: Value

    def __post_init__(self) -> None:
        """Refuses another type of document."""
        if self.type != BEGIN_TYPE:
            raise EncodingError(f"expected type {BEGIN_TYPE!r}, got {self.type[:80]!r}")
        if self.register is not None:
            decode_hex(self.register, what="register", length_bytes=48)

    def encode(self) -> bytes:
        """Returns the canonical JSON bytes."""
        return encode_json(codec.to_json(self))


def decode_begin(data: bytes) -> Begin:
    """Decodes a begin statement.

    Raises:
        EvidenceError: If the bytes are not a canonical begin statement.
    """
    return codec.from_json(Begin, _document(data, "begin statement"), what="begin", error=EvidenceError)


def _document(data: bytes, what: str) -> dict[str, Json]:
    document = codec.parse(data, what=what, max_bytes=MAX_STATEMENT_BYTES, error=EvidenceError)
    if not isinstance(document, dict):
        raise EvidenceError(f"{what}: expected an object")
    return document
