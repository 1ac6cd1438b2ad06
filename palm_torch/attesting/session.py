"""The session around a loop: what a script can call in it, and what happens when it begins and ends.

Entering seals what is known before the loop; leaving measures what it produced and seals that. An exception
inside the block means no evidence. A session lives in the main thread of the process that opened it.
"""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, Self

from palm_torch import evidence, recorder
from palm_torch.attesting import checkpoint, sealing, surroundings
from palm_torch.attesting.own_segment import OwnSegment
from palm_torch.attesting.script_record import ScriptRecord
from palm_torch.attesting.signed_receipt import SignedReceipt
from palm_torch.attesting.training import Training
from palm_torch.errors import AttesterError, MeasurementError, PalmTorchError, SealError, SessionError
from palm_torch.hooks import importing
from palm_torch.receipt import ArtifactsReceipt, Receipt
from palm_torch.roles import EMPTY, Artifact, Source
from palm_torch.statement import Statement

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from palm_torch.attesting.gpus import SessionGpus
    from palm_torch.attesting.owned_model import Model
    from palm_torch.collateral_file import CollateralFile
    from palm_torch.cvm.attester import Attester
    from palm_torch.encoding import Json
    from palm_torch.evidence import Evidence
    from palm_torch.recorder import Reads

ABSENT: Final = Artifact(source=Source.DECLARED, kind=EMPTY, digest=None)


class Session:
    """A run being measured; made by `palm_torch.attested`.

    Args:
        operation: What the block does.
        attester: The platform that vouches.
        nonce: SHA-256 of the verifier's request file; None makes the run unchallenged.
        collateral: What the platform's vendor says of it, where the platform itself does not know.
        gpus: The machine's GPUs; None asks none for evidence.
        resume: What `state_dict` returned in an earlier session; None begins a run.
        opened: Returns the files that the script has opened by itself.
        command: The script and its words, if they are known.
        counts_data: As in `Training`.

    Attributes:
        run_id: Random name of the run, in hex.

    Raises:
        EvidenceError: If `resume` is something else, or `collateral` is about another kind of platform.
    """

    def __init__(  # noqa: PLR0913 (each is another part of what surrounds a run)
        self,
        operation: str,
        attester: Attester,
        *,
        nonce: bytes | None = None,
        collateral: CollateralFile | None = None,
        gpus: SessionGpus | None = None,
        resume: Mapping[str, object] | None = None,
        opened: Callable[[], Mapping[str, Artifact]] = dict,
        command: Sequence[str] | None = None,
        counts_data: bool = True,
    ) -> None:
        self._operation = operation
        self._sealer = sealing.Sealer(attester, nonce=nonce, collateral=collateral, gpus=gpus)
        self.run_id: Final = self._sealer.run_id
        self._training = Training(
            self._sealer.record, counts_data=counts_data, why_unattested=self._sealer.gpus.why_unattested
        )
        self._segment = OwnSegment(None if resume is None else checkpoint.from_tensors(resume))
        self._script = ScriptRecord()
        if command is not None:
            self._script.inputs.update(surroundings.command(command, session=self._segment.number))
        self._opened = opened
        self._process = os.getpid()
        self._hooks = ExitStack()
        self._state = "new"
        self._failures: list[BaseException] = []
        self._statement: bytes | None = None
        self._unlogged: dict[str, Json] | None = None
        self._evidence: Evidence | None = None

    @property
    def operation(self) -> str:
        """What the session is about, such as ``train``."""
        return self._operation

    @property
    def state(self) -> str:
        """Where the session stands: ``new``, ``open``, ``sealed``, or what ended it."""
        return self._state

    # What a script calls ----------------------------------------------------------------------------------

    def log(self, /, *unnamed: object, **values: object) -> None:
        """Reports quantities such as ``loss=…``; the evidence labels them *reported by code*.

        Raises:
            MeasurementError: If a value is not one number, or has no name.
        """
        self._require_open("run.log")
        if unnamed:
            raise MeasurementError("run.log: every value needs a name, as in run.log(loss=loss.item())")
        self._script.log(values)

    def config(self, /, **values: Any) -> None:  # noqa: ANN401 (any JSON value)
        """Adds settings of the run that torch does not know, labelled *reported by code*.

        Raises:
            EncodingError: If a value has no JSON form.
            MeasurementError: If it is more than evidence has room for.
        """
        self._require_open("run.config")
        self._script.config(values)

    def input(self, /, **roles: str | Path | bytes) -> dict[str, bytes]:
        """Names further inputs by role: a file's path, or bytes; they are hashed now.

        A file is read once, and what was hashed is handed back, so that what is used is what was measured:
        ``config = json.loads(run.input(config="config.json")["config"])``. Files of more than
        `surroundings.MAX_INPUT_BYTES` are hashed in a stream and not handed back.

        The role ``tokenizer`` fills the tokenizer of a training run.

        Returns:
            Role → the bytes that were hashed.

        Raises:
            MeasurementError: If a file cannot be read.
        """
        self._require_open("run.input")
        return self._script.input(roles)

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
        self._script.output(roles)

    def state_dict(self) -> checkpoint.State:
        """Returns what a checkpoint needs so that the run can go on from it in another process.

        To be called between two steps, and saved with model, optimizer and loader:
        ``torch.save({"model": model.state_dict(), ..., "palm": run.state_dict()}, path)``. Later
        ``attested("train", resume=torch.load(path)["palm"])`` goes on. Everything is measured as it is now;
        what must be believed later is signed with the session key, which stays in memory.

        Returns:
            Plain tensors (uint8) and numbers.

        Raises:
            CoverageError: If no optimizer has stepped yet, or something cannot be measured.
            SessionError: If a step is under way, or the block is not.
            SealError: If the receipt cannot be signed or logged.
        """
        self._require_open("run.state_dict")
        if self._failures:
            raise self._no_evidence()
        return self._segment.checkpoint(self._sealer, self._training, self._script, dict(self._opened()))

    def receipt(self, /, **roles: str | Path | bytes) -> SignedReceipt:
        """Signs a receipt for files or bytes by role: ``run.receipt(checkpoint="step100.pt").save(path)``.

        It says that this session, with the code loaded so far, vouches for them; how the session went on
        shows in the evidence alone.

        Raises:
            MeasurementError: If a file cannot be read.
            SessionError: If the block is not running.
            SealError: If the receipt cannot be signed or logged.
        """
        self._require_open("run.receipt")
        if self._failures:
            raise self._no_evidence()
        if not roles:
            raise MeasurementError(
                "run.receipt: expected files or bytes by role, as in checkpoint='step100.pt'"
            )
        artifacts = surroundings.artifacts(roles)
        code = self._segment.code_of_receipts()
        envelope = self._sealer.issue(
            lambda issued: ArtifactsReceipt(issued=issued, artifacts=artifacts), code
        )
        return SignedReceipt(
            receipt=Receipt(envelope=envelope, session=self._sealer.opening()),
            simulated=self._sealer.simulated,
        )

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
            SessionError: If there is nothing to seal, or it is sealed already, or this is another process.
            SealError: If sealing fails again.
        """
        if self._state != "measured" or self._statement is None:
            raise SessionError(f"run.seal(): nothing to seal: the session is {self._state}")
        if os.getpid() != self._process:
            raise SessionError("run.seal(): called in a process forked from the session's")
        if self._unlogged is not None:
            try:
                self._sealer.record(sealing.FINAL_WEIGHTS, self._unlogged)
            except AttesterError as error:
                raise SealError(f"the run was measured but could not be logged: {error}") from error
            self._unlogged = None
        bundle = self._sealer.end(self._statement)
        self._evidence = evidence.Evidence(
            bundle=bundle,
            simulated=self._sealer.simulated,
            sidecars=self._training.sidecars(),
        )
        self._state = "sealed"
        self._sealer.close()
        return self._evidence

    # The recorder -----------------------------------------------------------------------------------------

    def deliver(self, reads: Sequence[Reads], *, grad_enabled: bool) -> None:
        """Counts a delivered batch; called by datasets and loaders."""
        if self._failures:
            raise self._no_evidence()
        try:
            self._segment.delivered()
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
        with ExitStack() as abandoned, ExitStack() as hooks:
            abandoned.callback(self._sealer.close)
            self._failures = hooks.enter_context(
                recorder.install(self, self.run_id, forks=importing.saw_entry())
            )
            self._segment.begin(self._sealer, self._training, self._script)
            hooks.enter_context(self._training)
            self._hooks = hooks.pop_all()
            abandoned.pop_all()
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
        if self._state != "open":
            if error is None:
                raise SessionError(f"a session is left once; this one is {self._state}")
            return
        self._hooks.close()
        self._state = "abandoned"
        with ExitStack() as abandoned:
            abandoned.callback(self._sealer.close)
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
            abandoned.pop_all()
        self._state = "measured"
        try:
            self.seal()
        except SealError as failure:
            told = sealing.diagnose(failure, run_id=self.run_id, operation=self._operation)
            raise SealError(f"{failure}; run.seal() tries again; {told}") from failure

    # ------------------------------------------------------------------------------------------------------

    def _end_statement(self) -> Statement:
        tokenizer = self._script.inputs.pop("tokenizer", ABSENT)
        claims = self._training.finish(tokenizer, self._script.settings, self._segment.seeds())
        self._unlogged = {"root": str(claims.model.digest)}
        run = self._segment.run(self._sealer, self._training, self._script, dict(self._opened()))
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
