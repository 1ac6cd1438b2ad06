"""The session around a loop: what a script can call in it.

Its life is that of `palm_torch.attesting.block`; what it measures is a strategy by operation
(`palm_torch.attesting.measured`). What belongs to answers alone is in `palm_torch.attesting.answering`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from palm_torch.attesting import surroundings
from palm_torch.attesting.answering import Answering
from palm_torch.attesting.bind import Binding
from palm_torch.attesting.distribute import Distribution
from palm_torch.attesting.inference import Inference
from palm_torch.attesting.measured import HasModel, Resumable
from palm_torch.attesting.preprocess import Preprocessing
from palm_torch.attesting.signed_receipt import SignedReceipt
from palm_torch.errors import MeasurementError, SessionError
from palm_torch.receipt import ArtifactsReceipt, Receipt

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from palm_torch.attesting import checkpoint
    from palm_torch.attesting.owned_model import Model
    from palm_torch.commit.manifest import Manifest


class Session(Answering):
    """A run being measured; made by `palm_torch.attested`, with the arguments of `Block`."""

    @property
    def leads(self) -> bool:
        """Whether the evidence will be here: in every session, but those of ranks that follow another."""
        return True

    def wait_for(self, deadline_s: float) -> None:
        """Sets how many seconds ranks wait for each other; a session of one process waits for nobody."""

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
            SessionError: In a session of inference, whose answers have parameters each.
        """
        self._require_open("run.config")
        if isinstance(self._measured, Inference):
            raise SessionError(
                "run.config: evidence of inference has no settings of a whole run: say them with each "
                "answer, run.answer(decoding={...})"
            )
        self._script.config(values)

    def input(self, /, **roles: str | Path | bytes) -> dict[str, bytes]:
        """Names further inputs by role: a file's path, or bytes; they are hashed now.

        A file is read once, and what was hashed is handed back, so that what is used is what was measured:
        ``config = json.loads(run.input(config="config.json")["config"])``. Files of more than
        `surroundings.MAX_INPUT_BYTES` are hashed in a stream and not handed back.

        The role ``tokenizer`` fills the tokenizer of a training run, and of answers that come after it.

        Returns:
            Role → the bytes that were hashed.

        Raises:
            MeasurementError: If a file cannot be read.
            SessionError: If answers were given that named no tokenizer, and this names one.
        """
        self._require_open("run.input")
        if "tokenizer" in roles:
            self._require_in_time("run.input(tokenizer=...)")
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
            SessionError: If no model comes of the operation.
        """
        self._require_open("run.output")
        if model is not None:
            if not isinstance(self._measured, HasModel):
                raise SessionError(f"run.output(model=...): no model comes of {self.operation!r}")
            self._measured.declare_model(model)
        self._script.output(roles)

    def function(self, function: Callable[..., Any], /, **arguments: Any) -> Callable[..., Any]:  # noqa: ANN401 (any JSON value)
        """Names the function that is applied to the data: by the files that define it, and its arguments.

        To be called in ``attested("preprocess")`` and ``attested("distribute")``, once:
        ``encode = run.function(encode, vocabulary=50257)``; what is returned has the arguments bound.

        Raises:
            EncodingError: If an argument is no JSON value.
            MeasurementError: If one was named before, it does not take the arguments, or no file says what
                it is.
            SessionError: If the operation applies none.
        """
        self._require_open("run.function")
        measured = self._measured
        if not isinstance(measured, (Preprocessing, Distribution)):
            raise self._no_place("run.function")
        return measured.name_function(function, arguments)

    def records(self, dataset: Any, /) -> Iterator[Any]:  # noqa: ANN401 (any attested dataset)
        """Yields every record of an attested dataset once, in order; for preprocess and distribute sessions.

        Nothing stands between the dataset and the loop, and the evidence says so. What is read by index, or
        by a loader with a collate function of its own, may have been dropped on the way.

        Raises:
            MeasurementError: If it is no attested dataset itself, but a subclass, a subset or a loader.
            SessionError: If the operation reads no data so.
        """
        self._require_open("run.records")
        if not isinstance(self._measured, (Preprocessing, Distribution)):
            raise self._no_place("run.records")
        return self._measured.each(dataset)

    def bind(self, path: str | os.PathLike[str], **options: Any) -> Manifest:  # noqa: ANN401 (as `measure` takes them)
        """Reads a dataset once and writes its manifest; to be called in ``attested("bind")``, once.

        Args:
            path: A file, or a folder of files of one format.
            **options: As `palm_torch.data.measure.measure` takes them, such as ``record_length=512``.

        Raises:
            DataError: If the data cannot be measured, or the manifest not be written.
            SessionError: If the operation binds no data, or the session has bound some.
        """
        self._require_open("run.bind")
        if not isinstance(self._measured, Binding):
            raise self._no_place("run.bind")
        return self._measured.bind(path, **options)

    def statistic(self, dataset: Any, name: str, /, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 (any attested dataset)
        """Computes one of palm-torch's own statistics over every record; for ``attested("distribute")``.

        Args:
            dataset: Any attested dataset; each record is read once, in order.
            name: ``record-length``, ``token-frequency`` or ``histogram``.
            **arguments: Those of the statistic (`palm_torch.data.statistics`), such as ``field="lang"``.

        Returns:
            The distribution; it is the session's result, and *measured*.

        Raises:
            DataError: If the records are not of the kind that the statistic is of.
            MeasurementError: If there is no such statistic, or a function or a result already.
            SessionError: If the operation computes no distribution.
        """
        self._require_open("run.statistic")
        if not isinstance(self._measured, Distribution):
            raise self._no_place("run.statistic")
        return self._measured.compute(dataset, name, arguments)

    def result(self, result: Mapping[str, Any], /) -> None:
        """Hands over the distribution that the script computed; the evidence labels it *reported by code*.

        Raises:
            EncodingError: If it has no JSON form.
            MeasurementError: If there is one already, or it is more than evidence has room for.
            SessionError: If the operation computes no distribution.
        """
        self._require_open("run.result")
        if not isinstance(self._measured, Distribution):
            raise self._no_place("run.result")
        self._measured.take_result(result)

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
            SessionError: If a step is under way, or the block is not, or the operation cannot be resumed.
            SealError: If the receipt cannot be signed or logged.
        """
        self._require_open("run.state_dict")
        if not isinstance(self._measured, Resumable):
            raise SessionError(
                f"run.state_dict(): {self.operation!r} cannot be resumed; run it again, in smaller parts"
            )
        if self._failures:
            raise self._no_evidence()
        return self._segment.checkpoint(self._sealer, self._measured, self._script, dict(self._opened()))

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
        with self._sealer.lock:
            envelope = self._sealer.issue(
                lambda issued: ArtifactsReceipt(issued=issued, artifacts=artifacts), code
            )
        return SignedReceipt(
            receipt=Receipt(envelope=envelope, session=self._sealer.opening()),
            simulated=self._sealer.simulated,
        )
