"""One good piece of evidence, made without torch, and everything needed to make bad ones of it.

`GoodRun` owns a simulated machine. `resealed` signs whatever it is given, as the trusted domain itself would,
so that a test can ask what a verifier does with *validly sealed* evidence; without it a change is a forgery.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import records_at_hand as at_hand
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from palm_torch import evidence, request, statement
from palm_torch.appraisal import verifier
from palm_torch.attesting.sealing import Sealer
from palm_torch.commit import history
from palm_torch.cvm import binding, eventlog, pck, quote, simulated, simulated_authority, simulated_quote
from palm_torch.digest import SHA256, Digest, sha256_digest
from palm_torch.evidence import Bundle
from palm_torch.policies import policy
from palm_torch.roles import Artifact, Source, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from palm_torch.evidence import Phase
    from palm_torch.policies.policy import Policy
    from palm_torch.result import AttestationResult
    from palm_torch.statement import Begin, Statement

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
NEVER = object()
"""In `GoodRun.verify`: no request at hand."""

FILES = (
    statement.SourceFile(module="__main__", digest=sha256_digest(b"import palm_torch"), reason=None),
    statement.SourceFile(
        module="helper",
        digest=sha256_digest(b"helper"),
        reason="installed file differs from the RECORD of helper 1",
    ),
)
PACKAGES = [["torch", "2.13.0"]]
EARLIER = (hashlib.sha384(b"an earlier session of this machine").digest(),)
"""What extended RTMR[3] before the run began."""

EVENTS = (("initial weights", {"root": "…"}), ("epoch", {"number": 1}), ("epoch", {"number": 2}))


def machine(folder: Path, at: datetime = NOW) -> simulated.SimulatedTdx:
    """Returns a simulated trust domain with a root of its own, kept in `folder`."""
    return simulated.SimulatedTdx(directory=folder, clock=lambda: at)


@dataclass(frozen=True, eq=False)
class Neighbour:
    """Another platform of a machine's vendor: a PCK of its own, under the same root."""

    machine: simulated.SimulatedTdx

    @functools.cached_property
    def _authority(self) -> Any:
        authority = self.machine._authority
        extension = x509.UnrecognizedExtension(
            x509.ObjectIdentifier(pck.SGX_EXTENSION), simulated_authority._sgx_extension()
        )
        identity = simulated_authority._identity(
            "Simulated SGX PCK Certificate", authority.pck_ca, NOW, extra=extension
        )
        return dataclasses.replace(authority, pck=identity)

    def collateral(self) -> Any:
        return self.machine.collateral()


def pem(root: bytes) -> str:
    return x509.load_der_x509_certificate(root).public_bytes(Encoding.PEM).decode("ascii")


def make_request(**changes: Any) -> bytes:
    fields = {
        "type": request.TYPE,
        "nonce": "5a" * 32,
        "operation": "train",
        "roles": ("data", "model"),
        "expires": "2026-11-22T00:00:00Z",
    }
    return request.Request(**(fields | changes)).encode()


def measured(**value: Any) -> Value:
    return Value(source=Source.MEASURED, value=value)


def make_code() -> statement.Code:
    return statement.Code(
        source=statement.CodeSource.IMPORTED, digest=statement.code_digest(FILES), files=FILES
    )


def make_begin(run_id: str, register: str, nonce: bytes | None) -> Begin:
    return statement.Begin(
        type=statement.BEGIN_TYPE,
        run_id=run_id,
        operation="train",
        request=None if nonce is None else Digest(SHA256, nonce),
        resumes=None,
        code=make_code(),
        environment=measured(packages=PACKAGES, python="3.11"),
        gpu=(),
        register=register,
        boot_log=None,
        manifests={"dataset1": at_hand.MANIFEST.digest},
        inputs={"recipe": Artifact(source=Source.MEASURED, kind="bytes", digest=sha256_digest(b"recipe"))},
        settings=measured(optimizers=[]),
        seeds=measured(torch="ab" * 32),
    )


def make_statement(run_id: str) -> Statement:
    return statement.Statement(
        run=statement.Run(
            run_id=run_id,
            code=make_code(),
            environment=measured(packages=PACKAGES, python="3.11"),
            devices=(statement.Device(type="cpu", name=None, uuid=None),),
            inputs={
                "recipe": Artifact(source=Source.MEASURED, kind="bytes", digest=sha256_digest(b"recipe"))
            },
            outputs={"log": Artifact(source=Source.MEASURED, kind="bytes", digest=sha256_digest(b"log"))},
            reported={
                "loss": statement.Series(
                    source=Source.REPORTED,
                    count=4,
                    first=2.5,
                    last=0.5,
                    least=0.25,
                    greatest=2.5,
                    chain=sha256_digest(b"chain"),
                )
            },
            gpu=(),
        ),
        claims=at_hand.make_train(),
    )


def make_policy(root_pem: str | None) -> dict[str, Any]:
    """Returns the policy the good run satisfies in every rule, as plain YAML values."""
    document: dict[str, Any] = {
        "version": 1,
        "platform": {
            "tdx": {
                name: [getattr(simulated_quote, name.upper()).hex()]
                for name in ("mr_td", "rtmr0", "rtmr1", "rtmr2")
            },
        },
        "code": {"digests": [str(make_code().digest)], "packages": [str(statement.value_digest(PACKAGES))]},
        "claims": {
            "property": "train",
            "data": [str(at_hand.MANIFEST.digest)],
            "initial": [str(at_hand.INITIAL.digest)],
            "tokenizer": ["none"],
            "architecture": [str(sha256_digest(b"architecture"))],
            "records": {"least": 2 * at_hand.RECORDS, "greatest": 2 * at_hand.RECORDS},
            "epochs": {"least": 2},
            "steps": {"least": 1, "greatest": 4},
            "arguments": {"lr": {"least": 0.0001, "greatest": 0.001}},
            "reported": {"loss": {"greatest": 1}},
        },
    }
    if root_pem is not None:
        document["platform"]["simulated_root"] = root_pem
    return document


def put(value: Any, path: str, new: Any) -> Any:
    """Returns a copy of nested frozen dataclasses, dicts and tuples with the part at a dotted path changed.

    `new` is the part, or a function of the old part.
    """
    if not path:
        return new(value) if callable(new) else new
    head, _, rest = path.partition(".")
    if isinstance(value, dict):
        return {**value, head: put(value.get(head), rest, new)}
    if isinstance(value, (tuple, list)):
        items = list(value)
        items[int(head)] = put(items[int(head)], rest, new)
        return type(value)(items)
    return dataclasses.replace(value, **{head: put(getattr(value, head), rest, new)})


@dataclass(frozen=True)
class GoodRun:
    """A run that was sealed well, with the folder of the machine that sealed it, and its request."""

    folder: Path
    machine: simulated.SimulatedTdx
    request: bytes
    bundle: Bundle

    @functools.cached_property
    def data(self) -> bytes:
        return self.bundle.encode()

    @functools.cached_property
    def begin(self) -> Begin:
        return statement.decode_begin(self.bundle.begin.statement)

    @functools.cached_property
    def end(self) -> Statement:
        return statement.decode(self.bundle.end.statement)

    def policy_text(self, changes: dict[str, Any] | None = None, *, hardware: bool = False) -> bytes:
        """Returns the policy as YAML, with parts changed by dotted path; None takes a part out."""
        document = copy.deepcopy(make_policy(None if hardware else pem(self.machine.root_certificate())))
        for path, new in (changes or {}).items():
            *parents, last = path.split(".")
            part = document
            for name in parents:
                part = part[name]
            if new is None:
                del part[last]
            else:
                part[last] = new
        return yaml.safe_dump(document).encode("utf-8")

    def policy(self, changes: dict[str, Any] | None = None, *, hardware: bool = False) -> Policy:
        return policy.parse(self.policy_text(changes, hardware=hardware))

    @functools.cached_property
    def _policy(self) -> Policy:
        return self.policy()

    def verify(
        self, what: bytes | Bundle | None = None, *, challenge: Any = None, **options: Any
    ) -> AttestationResult:
        """Verifies evidence (the good one by default) under the good run's policy and request."""
        data = self.data if what is None else what if isinstance(what, bytes) else what.encode()
        if challenge is None:
            options["challenge"] = self.request
        elif challenge is not NEVER:
            options["challenge"] = challenge
        return verifier.verify(data, **({"policy": self._policy, "at": NOW} | options))

    def sealed_end(self, path: str, new: Any, **options: Any) -> Bundle:
        """Returns validly sealed evidence whose end statement has one part changed."""
        return self.resealed(self.with_end(put(self.end, path, new).encode()), **options)

    def sealed_begin(self, path: str, new: Any, **options: Any) -> Bundle:
        """Returns validly sealed evidence whose begin statement has one part changed."""
        return self.resealed(self.with_begin(put(self.begin, path, new).encode()), **options)

    def with_end(self, data: bytes) -> Bundle:
        return put(self.bundle, "end.statement", data)

    def with_begin(self, data: bytes) -> Bundle:
        return put(self.bundle, "begin.statement", data)

    def resealed(
        self,
        bundle: Bundle,
        *,
        machine: simulated.SimulatedTdx | None = None,
        phases: Sequence[binding.Phase] = ("begin", "end"),
        register_of: Bundle | None = None,
        report: Callable[[quote.TdReport], quote.TdReport] = lambda report: report,
    ) -> Bundle:
        """Signs a bundle as it stands: as a whole, or the given phases, on this machine or another.

        The register at end is what the bundle's log makes of it, or that of `register_of`; `report` bends
        everything else.
        """
        signer = machine or self.machine
        first = register_before(bundle.register_log)
        registers = {"begin": first, "end": functools.reduce(extended, (register_of or bundle).log, first)}
        for name in phases:
            data = report(simulated_quote.make_td_report(report_data(bundle, name), rtmr3=registers[name]))
            bundle = put(bundle, f"{name}.quote", simulated_quote.sign_quote(signer._authority, data))
        return bundle


def register_before(log: Sequence[bytes]) -> bytes:
    """Returns RTMR[3] at begin, from what extended it before."""
    return functools.reduce(eventlog.extended, log, simulated_quote.RTMR_ZERO)


def extended(register: bytes, entry: bytes) -> bytes:
    return hashlib.sha384(register + hashlib.sha384(entry).digest()).digest()


def report_data(bundle: Bundle, phase: binding.Phase) -> bytes:
    part: Phase = getattr(bundle, phase)
    if phase == "begin":
        root = binding.begin_claims_root(part.statement, bundle.session_key)
    else:
        root = binding.end_claims_root(
            part.statement,
            history.root_of(bundle.log),
            len(bundle.log),
            bundle.session_key,
            bundle.begin.quote,
        )
    ctx = binding.context(
        nonce=bundle.challenge.nonce,
        challenged=bundle.challenge.kind == "challenged",
        run_id=bundle.run_id,
        phase=phase,
        claims_root=root,
    )
    return binding.report_data(ctx, binding.gpu_hash([(gpu.evidence, gpu.chain) for gpu in part.gpus]))


def make_good_run(folder: Path, *, challenge: bytes | None = b"") -> GoodRun:
    """Seals a good run with the production `Sealer`.

    Args:
        folder: Where the simulated machine keeps its keys.
        challenge: The request to answer; empty for the usual one, None for an unchallenged run.
    """
    return sealed_on(machine(folder), folder, make_request() if challenge == b"" else challenge)


def sealed_on(attester: simulated.SimulatedTdx, folder: Path, asked: bytes | None) -> GoodRun:
    """Seals a good run on a machine, after an earlier session there."""
    for digest in EARLIER:
        attester.extend(digest)
    nonce = None if asked is None else request.nonce_of(asked)
    sealer = Sealer(attester, nonce=nonce)
    begin = make_begin(sealer.run_id, attester.register().hex(), nonce)
    sealer.begin(dataclasses.replace(begin, boot_log=sealer.boot_log()).encode())
    for kind, payload in EVENTS:
        sealer.record(kind, payload)
    bundle = sealer.end(make_statement(sealer.run_id).encode())
    return GoodRun(
        folder=folder, machine=attester, request=asked or b"", bundle=evidence.decode(bundle.encode())
    )
