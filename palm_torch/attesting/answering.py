"""What a script can call in a session of inference: the model, its answers, what opens them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from palm_torch.attesting import given_answer, tokenizers
from palm_torch.attesting.block import Block
from palm_torch.attesting.inference import Inference
from palm_torch.attesting.signed_answer import SignedAnswer
from palm_torch.commit.salted import SaltsFile
from palm_torch.digest import sha256_digest
from palm_torch.errors import SessionError
from palm_torch.receipt import Receipt

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import nn

    from palm_torch.attesting.given_answer import Traced
    from palm_torch.digest import Digest


class Answering(Block):
    """The part of a session that is about answers; other operations refuse it."""

    _tokenizer: object = None

    def model(
        self,
        model: nn.Module | Mapping[str, torch.Tensor],
        /,
        *,
        every_answers: int = 256,
        every_s: float = 600.0,
    ) -> Digest:
        """Names the model whose answers the session is about; for ``attested("infer")`` and ``("session")``.

        Its weights are measured now; what `palm_torch.load_safetensors` loaded is not read again. A thread of
        low priority measures all of them again now and then, and so does the end of the block. What receipts
        say of the code and of the machine is collected now as well, so that the first answer takes no longer
        than any other.

        Args:
            model: The model, or tensors by name.
            every_answers: After how many answers all weights are measured again.
            every_s: After how many seconds, if there was an answer since.

        Returns:
            The weights root.

        Raises:
            CoverageError: If the model cannot be measured.
            SessionError: If one was named before, or the operation gives no answers.
            AttesterError: If the platform has no collateral at hand.
        """
        measured = self._inference("run.model")
        root = measured.name_model(model, every_answers=every_answers, every_s=every_s)
        measured.prepare(self._segment.code_of_answers())
        self._sealer.opening()
        return root

    def begin_answer(self) -> None:
        """Says that the model begins to answer: its receipt will name the random generators' states now.

        Without it the receipt names those that the answer before left.

        Raises:
            SessionError: If the operation gives no answers.
        """
        self._inference("run.begin_answer").begin_answer()

    def answer(
        self,
        *,
        query: object,
        response: object,
        decoding: Mapping[str, Any] | None = None,
        tokenizer: object = None,
        proof: Traced | None = None,
        logits: object = None,
    ) -> SignedAnswer:
        """Signs a receipt for one answer: ``run.answer(query=prompt_ids, response=new_ids)``.

        Question and answer are committed to under salts: the receipt shows them to nobody. Its `openings` do.
        Threads may answer at once; the session takes them one after the other.

        Args:
            query: What was asked: text, bytes, a tensor such as token ids, or whole numbers.
            response: What was answered, likewise.
            decoding: Parameters, such as ``{"temperature": 0.7, "do_sample": True}``; they are labelled
                *reported by code*.
            tokenizer: The tokenizer's file or its bytes, as ``run.input(tokenizer=...)``; a folder that holds
                nothing else; or an object with ``save_pretrained``, which is measured by what that writes.
            proof: What `palm_torch.commit` made of the computation, after its block and before anybody asks
                for its root: the model's weights and all that is given here are bound under it.
            logits: With `proof`: the logits of each generated token, a tensor (..., tokens, vocabulary) or
                one tensor for each, as ``generate(output_logits=True)`` returns them; bound likewise.

        Returns:
            The receipt, to be saved or sent.

        Raises:
            SessionError: If no model was named, it is not what it was, the session has its one answer, or
                the proof is of another model, of another answer, or its root was asked for already.
            MeasurementError: If a part has no bytes, or the tokenizer is another than before.
            EncodingError: If a parameter has no JSON form.
            SealError: If the receipt cannot be signed or logged.
        """
        with self._sealer.lock:
            return self._answer(
                query=query,
                response=response,
                decoding=decoding,
                tokenizer=tokenizer,
                proof=proof,
                logits=logits,
            )

    def measure_weights(self) -> None:
        """Measures all weights now, so that the answers until now stand whatever happens to the model next.

        Raises:
            SessionError: If no model was named, the model is not what it was, or the operation has none.
        """
        with self._sealer.lock:
            self._inference("run.measure_weights").remeasure()

    @property
    def openings(self) -> SaltsFile:
        """The salts of all answers so far, for their owner: ``run.openings.save(path)``.

        Raises:
            SessionError: If the operation gives no answers.
        """
        if not isinstance(self._measured, Inference):
            raise self._no_place("run.openings")
        return SaltsFile(run_id=self.run_id, salts=self._measured.salts)

    def _answer(self, *, tokenizer: object, proof: Traced | None, **said: Any) -> SignedAnswer:  # noqa: ANN401 (those of `answer`)
        measured = self._inference("run.answer")
        if self._failures:
            raise self._no_evidence()
        if tokenizer is not None and not tokenizers.is_same(tokenizer, self._tokenizer):
            self._take_tokenizer(measured, tokenizer)
        given = given_answer.take(tokenizer=self._script.inputs.get("tokenizer"), proof=proof, **said)
        envelope, salts = measured.answer(given, self._segment.code_of_answers())
        return SignedAnswer(
            receipt=Receipt(envelope=envelope, session=self._sealer.opening()),
            simulated=self._sealer.simulated,
            salts=salts,
            query=given.query,
            response=given.response,
            logits=given.logits,
        )

    def _take_tokenizer(self, measured: Inference, tokenizer: object) -> None:
        """Names the tokenizer, which is measured once; an object is measured again at the end."""
        self._require_in_time("run.answer(tokenizer=...)")
        self._script.input({"tokenizer": tokenizers.spelled(tokenizer)})
        changes = tokenizers.may_change(tokenizer)
        measured.watch_tokenizer((lambda: sha256_digest(tokenizers.written(tokenizer))) if changes else None)
        self._tokenizer = tokenizer

    def _require_in_time(self, what: str) -> None:
        """Refuses a tokenizer that is named after answers without one."""
        if "tokenizer" not in self._script.inputs and isinstance(self._measured, Inference):
            self._measured.require_no_answer(what)

    def _inference(self, what: str) -> Inference:
        self._require_open(what)
        if not isinstance(self._measured, Inference):
            raise self._no_place(what)
        return self._measured

    def _no_place(self, what: str) -> SessionError:
        return SessionError(f"{what}: nothing of that kind belongs to a session of {self.operation!r}")
