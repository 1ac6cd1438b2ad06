"""The ``with`` block of a session: what happens when it begins, while it runs, and when it ends.

Entering seals what is known before the loop; leaving measures what it produced and seals that. An exception
inside the block means no evidence. A session lives in the main thread of the process that opened it.
"""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, ClassVar, Final, Self

from palm_torch import evidence, recorder
from palm_torch.attesting import checkpoint, operations, sealing, surroundings
from palm_torch.attesting.measured import Said
from palm_torch.attesting.own_segment import OwnSegment
from palm_torch.attesting.preprocess import Preprocessing
from palm_torch.attesting.script_record import ScriptRecord
from palm_torch.data import adopted
from palm_torch.errors import AttesterError, PalmTorchError, SealError, SessionError
from palm_torch.hooks import importing
from palm_torch.statement import Statement

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from palm_torch.attesting.gpus import SessionGpus
    from palm_torch.attesting.measured import Finished
    from palm_torch.collateral_file import CollateralFile
    from palm_torch.cvm.attester import Attester
    from palm_torch.evidence import Evidence
    from palm_torch.properties import Operation
    from palm_torch.recorder import Reads
    from palm_torch.roles import Artifact, Written


class Block:
    """The life of a session: new, open, measured, sealed.

    Args:
        operation: What the block does.
        attester: The platform that vouches.
        nonce: SHA-256 of the verifier's request file; None makes the run unchallenged.
        collateral: What the platform's vendor says of it, where the platform itself does not know.
        gpus: The machine's GPUs; None asks none for evidence.
        resume: What `Session.state_dict` returned in an earlier session; None begins a run.
        opened: Returns the files that the script has opened by itself.
        command: The script and its words, if they are known.
        counts_data: As in `palm_torch.attesting.training.Training`.

    Attributes:
        run_id: Random name of the run, in hex.

    Raises:
        EvidenceError: If `resume` is something else, or `collateral` is about another kind of platform.
    """

    AGAIN: ClassVar[str] = "run.seal() tries again"
    """What to do when sealing has failed."""

    def __init__(  # noqa: PLR0913 (each is another part of what surrounds a run)
        self,
        operation: Operation,
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
        self._sealer = self._sealer_of(attester, nonce=nonce, collateral=collateral, gpus=gpus)
        self.run_id: Final = self._sealer.run_id
        self._measured = operations.MAKERS[operation](self._sealer, counts_data)
        self._segment = OwnSegment(
            None if resume is None else checkpoint.from_tensors(resume), operation=operation
        )
        self._script = ScriptRecord(self._measured)
        if command is not None:
            self._script.inputs.update(surroundings.command(command, session=self._segment.number))
        self._opened = opened
        self._process = os.getpid()
        self._hooks = ExitStack()
        self._state = "new"
        self._failures: list[BaseException] = []
        self._statement: bytes | None = None
        self._unlogged: Finished | None = None
        self._evidence: Evidence | None = None

    @property
    def operation(self) -> Operation:
        """What the session is about, such as ``train``."""
        return self._operation

    @property
    def state(self) -> str:
        """Where the session stands: ``new``, ``open``, ``sealed``, or what ended it."""
        return self._state

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
                self._sealer.record(self._unlogged.kind, self._unlogged.event)
            except AttesterError as error:
                raise SealError(f"the run was measured but could not be logged: {error}") from error
            self._unlogged = None
        bundle = self._sealer.end(self._statement)
        self._evidence = evidence.Evidence(
            bundle=bundle,
            simulated=self._sealer.simulated,
            sidecars=self._sidecars(),
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
            self._measured.deliver(reads, grad_enabled=grad_enabled)
        except BaseException as error:  # Ctrl-C too: the batch may be half counted
            recorder.failed(error)
            raise

    def begin_output(self, name: str) -> None:
        """Takes notice that a dataset is being written; called by `palm_torch.ShardWriter`.

        Raises:
            SessionError: If the operation writes none, or one of that name was begun.
        """
        if not isinstance(self._measured, Preprocessing):
            raise SessionError(
                f"ShardWriter: a session of {self._operation!r} has no place for a dataset written in "
                "it: write it before, in attested('preprocess'), and the evidence will form a chain"
            )
        self._measured.begin_output(name)

    def end_output(self, name: str, written: Written) -> None:
        """Takes what was written."""
        if isinstance(self._measured, Preprocessing):
            self._measured.end_output(name, written)

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
            hooks.enter_context(adopted.adopting())
            self._segment.begin(self._sealer, self._measured, self._script)
            hooks.enter_context(self._measured)
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
            self._conclude()
        except SealError as failure:
            told = sealing.diagnose(failure, run_id=self.run_id, operation=self._operation)
            raise SealError(f"{failure}; {self.AGAIN}; {told}") from failure

    # ------------------------------------------------------------------------------------------------------

    def _sealer_of(
        self,
        attester: Attester,
        *,
        nonce: bytes | None,
        collateral: CollateralFile | None,
        gpus: SessionGpus | None,
    ) -> sealing.Sealer:
        """Returns what seals the run; the ranks of a machine share one."""
        return sealing.Sealer(attester, nonce=nonce, collateral=collateral, gpus=gpus)

    def _conclude(self) -> None:
        """Seals what was measured; a rank that follows another tells that one."""
        self.seal()

    def _sidecars(self) -> dict[str, Callable[[Path], None]]:
        """Returns the files beside the evidence."""
        return self._measured.sidecars()

    def _end_statement(self) -> Statement:
        inputs = {
            role: item for role in self._measured.NAMED if (item := self._script.inputs.pop(role, None))
        }
        finished = self._unlogged = self._measured.finish(
            Said(inputs=inputs, configuration=self._script.settings, seeds=self._segment.seeds())
        )
        run = self._segment.run(self._sealer, self._measured, self._script, dict(self._opened()))
        return Statement(run=run, claims=finished.claims)

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
