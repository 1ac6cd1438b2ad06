"""This session's own segment of a run: what is sealed when it begins, and what a checkpoint holds.

A run that is never interrupted has one session. One that goes on from a checkpoint names the checkpoint's
receipt in its begin statement, and what it says in the end is what the unbroken run would have said.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from palm_torch import codec, evidence, statement
from palm_torch.attesting import checkpoint, resuming, segment_state, surroundings
from palm_torch.attesting.measured import Resumable
from palm_torch.attesting.segment_state import SegmentState
from palm_torch.data import open_datasets
from palm_torch.digest import sha256_digest
from palm_torch.errors import InputError, MeasurementError, SealError, SessionError
from palm_torch.hooks import importing, live, settings, source
from palm_torch.receipt import CodeSoFar, Issued, SegmentReceipt
from palm_torch.roles import Source, Value
from palm_torch.statement import Begin, Run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from palm_torch.attesting.checkpoint import Checkpoint
    from palm_torch.attesting.measured import Measured
    from palm_torch.attesting.script_record import ScriptRecord
    from palm_torch.attesting.sealing import Sealer
    from palm_torch.properties import Operation
    from palm_torch.roles import Artifact
    from palm_torch.statement import Code, SourceFile


class OwnSegment:
    """The part of a run that one session measures.

    Args:
        found: The checkpoint that it goes on from; None if it begins anew.
        operation: What the run does.
    """

    def __init__(self, found: Checkpoint | None, *, operation: Operation = "train") -> None:
        self._operation: Final = operation
        self._checkpoint = found
        self._begin: Begin | None = None
        self._loaded: frozenset[str] = frozenset()
        self._seeds: dict[str, Any] = {}
        self._restored: tuple[dict[str, Any], ...] = ()
        self._awaits_batch = False
        self._code: tuple[tuple[object, ...], CodeSoFar] | None = None
        self._modules: tuple[object, ...] | None = None

    @property
    def number(self) -> int:
        """Which session of the run this is; the first is 1."""
        return 1 if self._checkpoint is None else len(self._checkpoint.state.segments) + 2

    def begin(self, sealer: Sealer, measured: Measured, script: ScriptRecord) -> None:
        """Seals the begin statement; then verifies the checkpoint, if there is one, and takes it up.

        Raises:
            AttesterError: If the platform does not attest.
            SealError: If the statement is larger than a bundle can hold.
            InputError: If the checkpoint does not parse.
            RejectedError: If it must not be believed.
            MeasurementError: If code changed since.
            SessionError: If the operation or the request is another one, or the run was resumed too often.
        """
        self._require_room()
        begin = self._begin = self._statement(sealer, script)
        sealer.begin(begin.encode())
        if self._checkpoint is None:
            self._seeds = begin.seeds.value
            return
        state, content = self._checkpoint.state, self._checkpoint.content
        own = sealer.opening(fresh=True)
        chain = resuming.chain_of(self._checkpoint, own)
        checked = resuming.check_chain(
            chain, own, attester=sealer.attester, gpus=sealer.gpus, at=datetime.now(UTC)
        )
        for segment in checked:
            resuming.check_challenge(segment.session.opening.challenge, sealer.challenge)
        if checked[-1].session.begin.operation != begin.operation:
            raise SessionError(
                f"resume: the checkpoint is of {checked[-1].session.begin.operation!r}, the session is "
                f"{begin.operation!r}"
            )
        if not isinstance(measured, Resumable):
            raise SessionError(f"resume: {begin.operation!r} cannot be resumed")
        sealer.segments = chain
        event = {"receipt": str(checked[-1].receipt), "model": str(content.model)}
        measured.resume(state.training, content.data, self._checkpoint.counts, dict(event))
        script.resume(state.inputs, state.outputs, state.config, state.reported)
        self._seeds = state.seeds
        now = {"receipt": content.seeds.value, "begin": begin.seeds.value, "first_batch": None}
        self._restored, self._awaits_batch = (*state.restored, now), True

    def delivered(self) -> None:
        """Takes the random number generators that the first batch after resuming finds."""
        if self._awaits_batch:
            self._awaits_batch = False
            *before, now = self._restored
            self._restored = (*before, {**now, "first_batch": surroundings.seeds_now().value})

    def seeds(self) -> Value:
        """Returns the generators at begin, now, and for each time the run was resumed.

        That is: in the receipt, when the session began, and when its first batch arrived; None if none did.
        """
        value: dict[str, Any] = {"begin": self._seeds, "end": surroundings.seeds_now().value}
        if self._restored:
            value["resumed"] = list(self._restored)
        return Value(source=Source.MEASURED, value=value)

    def code_of_receipts(self) -> CodeSoFar:
        """Returns the code loaded so far, looked at anew only when other code is.

        Raises:
            MeasurementError: As `code`.
        """
        now = source.fingerprint()
        if self._code is None or self._code[0] != now:
            self._code = (now, CodeSoFar.of(self.code(), self.opened.code))
        return self._code[1]

    def code_of_answers(self) -> CodeSoFar:
        """Returns the code loaded so far, in microseconds: looked at anew only when a module was loaded.

        Without an import hook, that is when there are more or fewer modules than before. What that does not
        show, such as a file that is edited or one module in the place of another, is seen by
        `code_of_receipts` and when the session ends.

        Raises:
            MeasurementError: As `code`.
        """
        now = (importing.generation(), len(sys.modules))
        if self._code is None or self._modules != now:
            found = self.code_of_receipts()
            self._modules = now
            return found
        return self._code[1]

    def code(self) -> Code:
        """Returns the code loaded so far.

        Raises:
            MeasurementError: If a source file is another than before the checkpoint.
        """
        loaded = source.loaded_sources()
        since = [file for file in loaded if file.module not in self._loaded]
        resuming.check_code(self._earlier(), since)
        return surroundings.code_now(loaded, before=self.opened.code.files)

    def run(
        self, sealer: Sealer, measured: Measured, script: ScriptRecord, opened: dict[str, Artifact]
    ) -> Run:
        """Returns what every property shares.

        Args:
            sealer: Seals the run.
            measured: What is measured.
            script: What the script said of it.
            opened: Files that the script opened.

        Raises:
            MeasurementError: As `code`.
            AttesterError: If the GPUs are not what they were when the session began.
        """
        return Run(
            run_id=sealer.run_id,
            code=self.code(),
            environment=self._environment(self.opened.environment),
            devices=measured.devices(),
            inputs=_beside(script.inputs, opened),
            outputs=dict(script.outputs),
            reported=script.series(),
            gpu=sealer.gpus.look_again(),
        )

    def checkpoint(
        self, sealer: Sealer, measured: Resumable, script: ScriptRecord, opened: dict[str, Artifact]
    ) -> checkpoint.State:
        """Measures the run as it is, signs a segment receipt over it, and returns both.

        Args:
            sealer: Signs.
            measured: What is measured.
            script: What the script said of it.
            opened: Files that the script opened.

        Raises:
            MeasurementError: If the run cannot be measured now; see `Training.snapshot`.
            SealError: If the receipt cannot be signed or logged, or the checkpoint could not be read again.
            AttesterError: If the runtime register cannot be extended, or the GPUs are in another state.
        """
        snapshot = measured.snapshot()
        sealer.gpus.look_again()
        state = SegmentState(
            type=segment_state.TYPE,
            session=sealer.opening(fresh=True),
            log=sealer.log,
            segments=sealer.segments,
            seeds=self._seeds,
            restored=self._restored,
            inputs=_beside(script.inputs, opened),
            outputs=script.outputs,
            config=script.settings,
            reported=script.series(),
            training=snapshot.state,
        ).encode()
        code = self.code_of_receipts()  # before the packages: what excuses a file now is among them
        environment = self._environment(self.opened.environment)
        seeds = surroundings.seeds_now()

        def content(issued: Issued) -> SegmentReceipt:
            return SegmentReceipt(
                issued=issued,
                resumes=self.opened.resumes,
                environment=environment,
                devices=snapshot.state.devices,
                architecture=snapshot.architecture,
                initial=snapshot.initial,
                model=snapshot.model,
                optimizers=tuple(held.state for held in snapshot.state.optimizers),
                steps=snapshot.steps,
                data=snapshot.data,
                seeds=seeds,
                state=sha256_digest(state),
            )

        envelope = sealer.issue(content, code)
        made = checkpoint.to_tensors(envelope, state, snapshot.counts)
        try:
            checkpoint.from_tensors(made)
        except InputError as error:
            raise SealError(f"run.state_dict(): nobody could go on from this checkpoint: {error}") from error
        return made

    @property
    def opened(self) -> Begin:
        """The begin statement.

        Raises:
            SessionError: If the run has not begun.
        """
        if self._begin is None:
            raise SessionError("the session has not begun")
        return self._begin

    # ------------------------------------------------------------------------------------------------------

    def _require_room(self) -> None:
        """Refuses what could not be sealed before a run of days, and not after it."""
        if self._checkpoint is None:
            return
        segments = len(self._checkpoint.state.segments) + 1
        if segments > evidence.MAX_SEGMENTS:
            raise SessionError(
                f"resume: the run has {segments} sessions already, and evidence holds at most "
                f"{evidence.MAX_SEGMENTS} before the last: begin a new run from its weights"
            )

    def _earlier(self) -> tuple[SourceFile, ...]:
        return () if self._checkpoint is None else self._checkpoint.code.files

    def _environment(self, before: Value | None) -> Value:
        resumed = None if self._checkpoint is None else self._checkpoint.content.environment
        return surroundings.environment_now(before=before, resumed=resumed)

    def _statement(self, sealer: Sealer, script: ScriptRecord) -> Begin:
        found, loaded = self._checkpoint, source.loaded_sources()
        self._loaded = frozenset(file.module for file in loaded)
        resuming.check_code(self._earlier(), loaded)
        code = surroundings.code_now(loaded, before=self._earlier())
        if found is not None and code.source is not found.code.source:
            raise MeasurementError(
                f"resume: the code identity was {found.code.source.value} before the "
                f"checkpoint and would be {code.source.value} now: start the script as it was started then"
            )
        return Begin(
            type=statement.BEGIN_TYPE,
            run_id=sealer.run_id,
            operation=self._operation,
            request=sealer.request,
            resumes=None if found is None else resuming.receipt_of(found),
            code=code,
            environment=self._environment(None if found is None else found.content.environment),
            gpu=sealer.gpus.at_begin(),
            register=sealer.register(),
            boot_log=sealer.boot_log(),
            manifests={
                f"dataset{number}": item.info.manifest.digest
                for number, item in enumerate(open_datasets.opened(), 1)
                if item.info.manifest is not None
            },
            inputs=dict(script.inputs),
            settings=Value(
                source=Source.MEASURED,
                value={"optimizers": codec.to_json([settings.now(item) for item in live.optimizers()])},
            ),
            seeds=surroundings.seeds_now(),
        )


def _beside(inputs: Mapping[str, Artifact], opened: Mapping[str, Artifact]) -> dict[str, Artifact]:
    """Returns inputs by role and, beside those of earlier sessions, the files that this session opened.

    A file that was another one in an earlier session is listed twice, as ``role`` and ``role#2``.
    """
    listed = dict(inputs)
    for role, artifact in opened.items():
        base, _, number = role.rpartition("#")
        base = base if number.isdecimal() and base in listed else role
        name, count = base, 1
        while listed.setdefault(name, artifact) != artifact:
            count += 1
            name = f"{base}#{count}"
    return listed
