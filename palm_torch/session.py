"""`attested`: the session around a loop.

Entering seals what is known before the loop; leaving measures what it produced and seals that. An exception
inside the block means no evidence. A session lives in the main thread of the process that opened it.
"""

from __future__ import annotations

import json
import os
import threading
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from palm_torch import codec, evidence, recorder, reported, request, sealing, statement, surroundings
from palm_torch.cvm import attester as attesters
from palm_torch.data import dataset
from palm_torch.encoding import encode_json
from palm_torch.errors import (
    AttesterError,
    MeasurementError,
    PalmTorchError,
    RequestError,
    SealError,
    SessionError,
)
from palm_torch.hooks import environment, live, settings
from palm_torch.roles import Artifact, Source, Value
from palm_torch.statement import Begin, Run, Statement
from palm_torch.training import Training

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from palm_torch.encoding import Json
    from palm_torch.evidence import Evidence
    from palm_torch.recorder import Reads
    from palm_torch.training import Model

AVAILABLE: Final = ("train",)
"""Operations that this version can attest; the statements of all eight are defined."""

MAX_CONFIG_BYTES: Final = 1 << 20

ABSENT: Final = Artifact(source=Source.DECLARED, kind="none", digest=None)


def attested(operation: str, *, request: str | Path | None = None, attester: str = "auto") -> Session:
    """Opens a session: use it in a ``with`` statement around the loop you already have.

    Args:
        operation: What the block does; this version attests ``train``.
        request: A verifier's request file to answer; without one the evidence is *unchallenged*.
        attester: ``auto`` takes the machine's TEE, and the simulated one (announced on stderr) if it has
            none; ``simulated`` or a TEE's name asks for that one.

    Returns:
        The session; ``with`` binds it, so that ``run.log`` and ``run.evidence`` are at hand.

    Raises:
        SessionError: If the operation is unknown or not available.
        RequestError: If the request is malformed, expired or for another operation.
        AttesterError: If the attester asked for is not there or does not attest.
    """
    if operation not in AVAILABLE:
        raise SessionError(f"attested({operation!r}): this version attests {', '.join(map(repr, AVAILABLE))}")
    return Session(operation, None if request is None else Path(request), attester)


class Session:
    """A run being measured; made by `attested`.

    Attributes:
        run_id: Random name of the run, in hex.
    """

    def __init__(self, operation: str, request_path: Path | None, attester: str) -> None:
        nonce = None if request_path is None else _read_request(request_path, operation)
        self._operation = operation
        self._sealer = sealing.Sealer(attesters.select(attester), nonce=nonce)
        self.run_id: Final = self._sealer.run_id
        self._training = Training(self._sealer.record)
        self._reported = reported.Reported()
        self._inputs: dict[str, Artifact] = {}
        self._outputs: dict[str, Artifact] = {}
        self._config: dict[str, Any] = {}
        self._process = os.getpid()
        self._hooks = ExitStack()
        self._state = "new"
        self._failures: list[BaseException] = []
        self._begin: Begin | None = None
        self._statement: bytes | None = None
        self._unlogged: dict[str, Json] | None = None
        self._evidence: Evidence | None = None

    # What a script calls ----------------------------------------------------------------------------------

    def log(self, **values: object) -> None:
        """Reports quantities such as ``loss=…``; the evidence labels them *reported by code*.

        Raises:
            MeasurementError: If a value is not one number.
        """
        self._require_open("run.log")
        for name, value in values.items():
            self._reported.log(name, value)

    def config(self, **values: Any) -> None:  # noqa: ANN401 (any JSON value)
        """Adds settings of the run that torch does not know, labelled *reported by code*.

        Raises:
            EncodingError: If a value has no JSON form.
            MeasurementError: If it is more than evidence has room for.
        """
        self._require_open("run.config")
        encoded = encode_json({**self._config, **values})
        if len(encoded) > MAX_CONFIG_BYTES:
            raise MeasurementError(
                f"run.config: expected at most {MAX_CONFIG_BYTES} bytes of settings in all, got "
                f"{len(encoded)}; give what is large as a file: run.input(settings=path)"
            )
        self._config = json.loads(encoded)  # a copy: what the script changes later was not said

    def input(self, **roles: str | Path | bytes) -> None:
        """Names further inputs by role: a file's path, or bytes; they are hashed now.

        The role ``tokenizer`` fills the tokenizer of a training run.

        Raises:
            MeasurementError: If a file cannot be read.
        """
        self._require_open("run.input")
        self._inputs.update(surroundings.artifacts(roles, but="tokenizer"))

    def output(
        self,
        *,
        model: Model | None = None,
        **roles: str | Path | bytes,
    ) -> None:
        """Names further outputs by role, or the model, where it cannot be found by itself.

        Raises:
            CoverageError: If the model is named after the first optimizer step, or is something else than a
                module, modules by name or tensors by name.
            MeasurementError: If a file cannot be read.
        """
        self._require_open("run.output")
        if model is not None:
            self._training.declare_model(model)
        self._outputs.update(surroundings.artifacts(roles))

    @property
    def evidence(self) -> Evidence:
        """The sealed evidence, once the block has ended well.

        Raises:
            SessionError: If it has not ended yet, or ended with an exception.
        """
        if self._evidence is None:
            raise SessionError(f"run.evidence: there is none: the session is {self._state}")
        return self._evidence

    def seal(self) -> Evidence:
        """Seals again after sealing has failed; the measurements are kept while the process lives.

        Raises:
            SessionError: If there is nothing to seal.
            SealError: If sealing fails again.
        """
        if self._statement is None:
            raise SessionError(f"run.seal(): nothing to seal: the session is {self._state}")
        if self._unlogged is not None:
            try:
                self._sealer.record("final weights", self._unlogged)
            except AttesterError as error:
                raise SealError(f"the run was measured but could not be logged: {error}") from error
            self._unlogged = None
        bundle = self._sealer.end(self._statement)
        self._evidence = evidence.Evidence(
            bundle=bundle,
            simulated=self._sealer.attester.simulated,
            sidecars=self._training.sidecars(),
        )
        self._state = "sealed"
        return self._evidence

    # The recorder -----------------------------------------------------------------------------------------

    def deliver(self, reads: Sequence[Reads], *, grad_enabled: bool) -> None:
        """Counts a delivered batch; called by datasets and loaders."""
        if self._failures:
            raise self._no_evidence()
        try:
            self._training.deliver(reads, grad_enabled=grad_enabled)
        except BaseException as error:  # Ctrl-C too: the batch may be half counted
            recorder.failed(error)
            raise

    # The block --------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """Seals the begin statement and starts to measure."""
        if self._state != "new":
            raise SessionError(f"a session is entered once; this one is {self._state}")
        if threading.current_thread() is not threading.main_thread():
            raise SessionError(
                "attested(): open the session in the main thread; torch's step hooks and Ctrl-C belong to it"
            )
        with ExitStack() as hooks:
            self._failures = hooks.enter_context(recorder.install(self, self.run_id))
            self._begin = self._begin_statement()
            self._sealer.begin(self._begin.encode())
            hooks.enter_context(self._training)
            self._hooks = hooks.pop_all()
        self._state = "open"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Measures and seals, unless the block raised."""
        if os.getpid() != self._process:
            if error is None:
                raise SessionError(
                    f"process {os.getpid()} was forked inside a session of process {self._process}: only "
                    "that one can end it; leave the child with os._exit()"
                )
            return
        self._hooks.close()
        self._state = "abandoned"
        if error is not None:
            self._state = f"abandoned: the block raised {type(error).__name__}"
            return
        if self._failures:
            self._state = "abandoned: the measurement failed inside the block"
            raise self._no_evidence()
        try:
            self._statement = self._end_statement().encode()
        except PalmTorchError as failure:
            self._state = f"abandoned: the run could not be measured: {failure}"
            raise
        self._state = "measured"
        try:
            self.seal()
        except SealError as failure:
            told = sealing.diagnose(failure, run_id=self.run_id, operation=self._operation)
            raise SealError(f"{failure}; run.seal() tries again; {told}") from failure

    # ------------------------------------------------------------------------------------------------------

    def _begin_statement(self) -> Begin:
        return Begin(
            type=statement.BEGIN_TYPE,
            run_id=self.run_id,
            operation="train",
            request=self._sealer.request,
            code=surroundings.code_now(),
            environment=surroundings.environment_now(),
            gpu=(),
            register=self._sealer.register(),
            manifests={
                f"dataset{number}": item.manifest.digest
                for number, item in enumerate(dataset.opened(), 1)
                if item.manifest is not None
            },
            inputs=dict(self._inputs),
            settings=Value(
                source=Source.MEASURED,
                value={"optimizers": codec.to_json([settings.now(item) for item in live.optimizers()])},
            ),
            seeds=surroundings.seeds_now(),
        )

    def _end_statement(self) -> Statement:
        if self._begin is None:
            raise SessionError("the session has not begun")
        claims = self._training.finish(
            self._inputs.pop("tokenizer", ABSENT),
            self._config,
            Value(
                source=Source.MEASURED,
                value={"begin": self._begin.seeds.value, "end": surroundings.seeds_now().value},
            ),
        )
        self._unlogged = {"root": str(claims.model.digest)}
        run = Run(
            run_id=self.run_id,
            code=surroundings.code_now(before=self._begin.code.files),
            environment=surroundings.environment_now(before=self._begin.environment),
            devices=environment.devices(self._training.tensors()),
            inputs=dict(self._inputs),
            outputs=dict(self._outputs),
            reported=self._reported.result(),
        )
        return Statement(run=run, claims=claims)

    def _require_open(self, what: str) -> None:
        if self._state != "open":
            raise SessionError(f"{what}: the session is {self._state}; call it inside the with block")
        if os.getpid() != self._process:
            raise SessionError(f"{what}: called in a process forked from the session's")

    def _no_evidence(self) -> SessionError:
        first = self._failures[0]
        error = SessionError(
            "there will be no evidence: the block went on after an error of the measurement "
            f"({type(first).__name__}: {first})"
        )
        error.__cause__ = first
        return error


def _read_request(path: Path, operation: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RequestError(f"{path}: cannot read the request: {error.strerror}") from error
    asked = request.decode(data, what=str(path))
    if asked.operation != operation:
        raise RequestError(f"{path}: asks for {asked.operation!r}, the session is {operation!r}")
    if asked.expired(datetime.now(UTC)):
        raise RequestError(f"{path}: expired at {asked.expires}; ask the verifier for a new one")
    return request.nonce_of(data)
