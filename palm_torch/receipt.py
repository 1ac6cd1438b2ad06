"""Receipts: attest once, sign many.

A receipt is an in-toto Statement v1 in a DSSE envelope, signed by a session's key, which the session's
begin quote vouches for. It is worth what that session was worth: one that never closed is *unclosed*, a
state of its own, and no end quote says what else happened in it.

The file is the envelope's JSON object with one more member, ``session``: what opened the session, so that a
receipt can be checked alone. Readers of DSSE ignore the member.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Literal, NamedTuple, TypeAlias

from palm_torch import codec, dsse
from palm_torch.digest import Digest, sha256_digest
from palm_torch.dsse import Envelope
from palm_torch.encoding import encode_json
from palm_torch.errors import EncodingError, EvidenceError
from palm_torch.evidence import MAX_BUNDLE_BYTES, RECEIPT_START, Opening
from palm_torch.roles import Artifact, Multiset, Steps, Value
from palm_torch.statement import (
    STATEMENT_TYPE,
    Code,
    CodeSource,
    Device,
    SourceFile,
    code_digest,
    require_one_source,
)

if TYPE_CHECKING:
    from palm_torch.encoding import Json

PREDICATE_TYPE: Final = "https://palm-torch/predicate/{kind}/v1"
SUFFIX: Final = ".palm-receipt.json"
MAX_SEQUENCE: Final = 1 << 32


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeSoFar:
    """The code loaded until a receipt was issued; what the session's begin statement lists is not repeated.

    Attributes:
        source: How it became known.
        digest: `palm_torch.statement.code_digest` of all files.
        since: Those that the begin statement does not list, in order of module name.
    """

    source: CodeSource
    digest: Digest
    since: tuple[SourceFile, ...]

    @classmethod
    def of(cls, code: Code, begin: Code) -> CodeSoFar:
        """Returns how a session's receipts name code.

        Args:
            code: The code loaded so far.
            begin: That of the session's begin statement, all of it among `code`.
        """
        listed = frozenset(begin.files)
        since = tuple(file for file in code.files if file not in listed)
        return cls(source=code.source, digest=code.digest, since=since)

    def whole(self, begin: Code) -> Code:
        """Returns the code with all its files.

        Args:
            begin: That of the session's begin statement.

        Raises:
            EvidenceError: If it is not the code that the digest names.
            CodeError: If the begin statement says that it became known in another way.
        """
        files = tuple(sorted((*begin.files, *self.since), key=lambda file: file.module))
        twice = len({file.module for file in files}) < len(files)
        if twice or self.digest != code_digest(files):
            raise EvidenceError(
                "receipt: the code's digest is not that of the files which the begin statement lists and of "
                "those since, each once"
            )
        code = Code(source=self.source, digest=self.digest, files=files)
        require_one_source(begin, code)
        return code


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """Where in its session a receipt was issued.

    Attributes:
        run_id: Name of the run.
        begin: SHA-256 of the session's begin quote.
        sequence: Number of the receipt in its session, from 0.
        log_root: Root of the event log as it stood.
        log_size: Number of its entries.
        code: The code loaded so far.
    """

    run_id: str
    begin: Digest
    sequence: int
    log_root: Digest
    log_size: int
    code: CodeSoFar

    def __post_init__(self) -> None:
        """Refuses numbers that cannot be."""
        for name in ("sequence", "log_size"):
            if not 0 <= getattr(self, name) < MAX_SEQUENCE:
                raise EncodingError(f"{name}: expected 0 to {MAX_SEQUENCE - 1}, got {getattr(self, name)}")


class Place(NamedTuple):
    """Where in its session a receipt is issued; as `Issued`, without the code."""

    run_id: str
    begin: Digest
    sequence: int
    log_root: Digest
    log_size: int

    def with_code(self, code: CodeSoFar) -> Issued:
        """Returns the place as a receipt names it.

        Args:
            code: The code loaded so far.
        """
        return Issued(**self._asdict(), code=code)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactsReceipt:
    """What a receipt of files or values speaks of, by role."""

    KIND: ClassVar = "receipt"
    issued: Issued
    artifacts: dict[str, Artifact]

    def __post_init__(self) -> None:
        """Refuses to speak of nothing: an in-toto Statement has a subject."""
        if not self.subjects():
            raise EncodingError("artifacts: expected at least one with a digest")

    def subjects(self) -> dict[str, Digest]:
        """Returns role → digest."""
        return {role: item.digest for role, item in self.artifacts.items() if item.digest is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveredSoFar:
    """What was delivered of one dataset for one use until now.

    Attributes:
        delivered: Records, with multiplicity.
        order: Hash chain over the record digests in the order delivered.
        coverage: Root of the map of multiplicities by index; None for a stream, whose records have none.
        exact: As in `palm_torch.roles.Delivered`.
        product: Multiset hash; None where a manifest makes it follow from the multiplicities.
        padded: As in `palm_torch.roles.Delivered`.
    """

    delivered: int
    order: Digest
    coverage: Digest | None
    exact: bool
    product: Multiset | None
    padded: int | None = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetAccount:
    """A dataset and what was delivered of it by use; the first fields as in `palm_torch.roles.Dataset`."""

    format: str
    manifest: Digest | None
    records: int | None
    record_bytes: int | None
    layout: str
    uses: dict[str, DeliveredSoFar]

    def __post_init__(self) -> None:
        """Refuses a stream with a manifest or multiplicities, and a dataset of known size without them."""
        stream = self.records is None
        if stream and self.manifest is not None:
            raise EncodingError("records, manifest: a stream has no manifest")
        for use, account in self.uses.items():
            if (account.coverage is None) != stream:
                raise EncodingError(f"records, uses.{use}.coverage: expected both or none")


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentReceipt:
    """The state of a training run at a checkpoint: what the session that resumes it has to begin with.

    Attributes:
        issued: Where in its session.
        resumes: SHA-256 of the payload of the segment receipt that this session itself resumed from.
        environment: Packages, interpreter, torch settings.
        devices: Every device on which measured tensors have lived until now.
        architecture: Digest of the architecture.
        initial: Weights root before the first step of the whole run.
        model: Weights root now.
        optimizers: Digest of each optimizer's state, in the order of their first step.
        steps: Steps of the whole run until now.
        data: Datasets by name (``dataset1`` …), in the order of first use.
        seeds: State of the random number generators now.
        state: SHA-256 of everything else that is needed to go on.
    """

    KIND: ClassVar = "segment"
    issued: Issued
    resumes: Digest | None
    environment: Value
    devices: tuple[Device, ...]
    architecture: Digest
    initial: Digest
    model: Digest
    optimizers: tuple[Digest, ...]
    steps: Steps
    data: dict[str, DatasetAccount]
    seeds: Value
    state: Digest

    def subjects(self) -> dict[str, Digest]:
        """Returns role → digest."""
        return {"model": self.model}


@dataclass(frozen=True, slots=True, kw_only=True)
class RestsOn:
    """The last whole measurement of the weights before an answer.

    Attributes:
        answers: Answers that had been given when it began; 0 for that with which the weights were taken up.
        age_s: Whole seconds since it began, by the machine's own clock.
    """

    answers: int
    age_s: int

    def __post_init__(self) -> None:
        """Refuses numbers that cannot be."""
        for name in ("answers", "age_s"):
            if not 0 <= getattr(self, name) < MAX_SEQUENCE:
                raise EncodingError(f"{name}: expected 0 to {MAX_SEQUENCE - 1}, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Generators:
    """The states of all random number generators around an answer, as digests.

    Attributes:
        since: When `before` was read: when the script said that it begins an answer (``begin``), or, if it
            does not say, when the answer before was received or the model was named (``last``).
        before: Their states then.
        after: Their states when the answer was received.
    """

    since: Literal["begin", "last"]
    before: Digest
    after: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerReceipt:
    """One answer of a model.

    Attributes:
        issued: Where in its session; the log has the answer itself as its last entry.
        answer: Number of the answer in its session, from 0.
        model: Weights root of the model.
        rests_on: When its weights were last measured as a whole.
        tokenizer: The tokenizer; of kind `palm_torch.roles.EMPTY` if the script named none.
        query: Salted commitment to what was asked.
        response: Salted commitment to what was answered.
        decoding: Parameters of decoding, as the script said them.
        generators: States of the random number generators.
        trace: Root of the trace of what the model computed; None if none was made.
        history_before: Root of the history of the answers before this one.
        history: Root of the history with this one.
    """

    KIND: ClassVar = "answer"
    issued: Issued
    answer: int
    model: Digest
    rests_on: RestsOn
    tokenizer: Artifact
    query: Artifact
    response: Artifact
    decoding: Value
    generators: Generators
    trace: Digest | None
    history_before: Digest
    history: Digest

    def __post_init__(self) -> None:
        """Refuses an answer that rests on a measurement after it, or has no question or no answer."""
        if not self.rests_on.answers <= self.answer < MAX_SEQUENCE:
            raise EncodingError(
                f"answer: expected a number from {self.rests_on.answers} on, got {self.answer}"
            )
        if self.query.digest is None or self.response.digest is None:
            raise EncodingError("query, response: expected a digest of each")

    def subjects(self) -> dict[str, Digest]:
        """Returns role → digest."""
        found = {"response": self.response.digest, "history": self.history}
        return {role: digest for role, digest in found.items() if digest is not None}


Content: TypeAlias = ArtifactsReceipt | SegmentReceipt | AnswerReceipt
CONTENTS: Final[tuple[type[Content], ...]] = (ArtifactsReceipt, SegmentReceipt, AnswerReceipt)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A receipt as a file: the signed statement, and what opened the session that signed it."""

    envelope: Envelope
    session: Opening

    def encode(self) -> bytes:
        """Returns the file's bytes, canonical JSON."""
        members = {field.name: getattr(self.envelope, field.name) for field in dataclasses.fields(Envelope)}
        return encode_json(codec.to_json({**members, "session": self.session}))

    @property
    def digest(self) -> Digest:
        """SHA-256 of the payload: the receipt's identity, whatever its signature."""
        return sha256_digest(self.envelope.payload)


def statement_of(content: Content) -> dict[str, Json]:
    """Returns the in-toto Statement of a receipt's content."""
    return {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": name, "digest": {digest.algorithm: digest.value.hex()}}
            for name, digest in sorted(content.subjects().items())
        ],
        "predicateType": PREDICATE_TYPE.format(kind=content.KIND),
        "predicate": codec.to_json(content),
    }


def encode_content(content: Content) -> bytes:
    """Returns the in-toto Statement of a receipt's content, canonical JSON: what is signed."""
    return encode_json(statement_of(content))


def decode_content(payload: bytes, *, what: str = "receipt") -> Content:
    """Decodes a receipt's payload, accepting exactly what `encode_content` makes.

    Raises:
        EvidenceError: If it is anything else.
    """
    document = codec.parse(payload, what=what, max_bytes=dsse.MAX_PAYLOAD_BYTES, error=EvidenceError)
    if not isinstance(document, dict):
        raise EvidenceError(f"{what}: expected an object")
    named = {PREDICATE_TYPE.format(kind=kind.KIND): kind for kind in CONTENTS}
    kind = named.get(str(document.get("predicateType")))
    if kind is None:
        raise EvidenceError(f"{what}: unknown predicateType {str(document.get('predicateType'))[:80]!r}")
    content = codec.from_json(kind, document.get("predicate"), what=f"{what}.predicate", error=EvidenceError)
    modules = [file.module for file in content.issued.code.since]
    if modules != sorted(set(modules)):
        raise EvidenceError(f"{what}: expected the files of the code in order of module name, each once")
    if encode_content(content) != payload:
        raise EvidenceError(f"{what}: _type, subject or a number is not as its predicate says")
    return content


def is_receipt(data: bytes) -> bool:
    """Says whether a file claims to be a receipt; in canonical JSON it begins with the envelope's payload."""
    return data.startswith(RECEIPT_START)


def decode(data: bytes, *, what: str = "receipt") -> Receipt:
    """Decodes a receipt file, accepting exactly what `Receipt.encode` makes; nothing is verified.

    Raises:
        EvidenceError: If the bytes are too many, not canonical, or not a receipt.
    """
    document = codec.parse(data, what=what, max_bytes=MAX_BUNDLE_BYTES, error=EvidenceError)
    if not isinstance(document, dict) or "session" not in document:
        raise EvidenceError(f"{what}: expected an object with 'session'")
    session = document.pop("session")
    return Receipt(
        envelope=dsse.from_json(document, what=what, error=EvidenceError),
        session=codec.from_json(Opening, session, what=f"{what}.session", error=EvidenceError),
    )
