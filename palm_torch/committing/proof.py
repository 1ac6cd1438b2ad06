"""What users hold of a commitment: its root, and what can be shown of it.

Once the root is known, any piece of what was computed can be shown to whoever has it, and audits answered, if
the tensors were kept or are still at hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from palm_torch.challenge import request as audit_request
from palm_torch.challenge import tokens as audit_tokens
from palm_torch.challenge.request import AuditRequest
from palm_torch.commit import answer_facts, trace_opening, trace_question, trace_rows
from palm_torch.committing import answering, bound_tokens, fingerprints, saved_trace
from palm_torch.committing.answering import KeptTrace
from palm_torch.committing.commitment import Commitment
from palm_torch.committing.given import Given
from palm_torch.errors import DataError
from palm_torch.hooks import tensors as tensor_contents

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt
    import torch

    from palm_torch.audit.fingerprint_file import Fingerprint
    from palm_torch.challenge.answer import AuditAnswer
    from palm_torch.commit.trace import Group, Site
    from palm_torch.commit.trace_opening import TraceOpening
    from palm_torch.commit.trace_question import Range
    from palm_torch.committing.bound_tokens import BoundTokens


class Proof(Commitment):
    """A commitment to what a model computes in a block; `palm_torch.commit` makes it."""

    _tokens: BoundTokens | None = None

    def bind_tokens(self, tokens: torch.Tensor, attention_mask: torch.Tensor | None = None) -> None:
        """Binds the ids of the tokens, prompt and answer, as the salted fact ``tokens``: audits rest on it.

        Example: ``proof.bind_tokens(model.generate(**prompt), prompt["attention_mask"])``

        Args:
            tokens: int64 [sequences, tokens]: what `generate` returned, or what one forward pass was given.
            attention_mask: [sequences, tokens of the prompt], 0 where there is padding.

        Raises:
            DataError: If they are none of these, or as many as no captured tensor has.
            SessionError: If the root is known, the block failed, or other ids were bound before.
        """
        bound = bound_tokens.bind(tokens, attention_mask)
        bound.require_fit([group for group, _ in self._gathered])
        self.add_facts({audit_tokens.FACT: bound.digest})
        self._tokens = bound

    def open(
        self,
        site: str | Site,
        *,
        output: str | None = None,
        tokens: Range = None,
        batch: Range = None,
        channels: Range = None,
        call: int | None = None,
        tensors: Mapping[int, torch.Tensor] | None = None,
    ) -> TraceOpening:
        """Shows some of what a module computed, and with it the rest of the tiles that this lies in.

        A tile is one row, or of rows below 1 KiB as many as make that: of other tokens or sequences too.

        Example: ``proof.open("model.layers.3", tokens=slice(0, 4), channels=slice(0, 64)).save("row.json")``

        Args:
            site: Canonical path of the module.
            output: Path within what it returned, where it returned several tensors.
            tokens: Which tokens, counted through all calls, or within `call`; all if left out. Numbers
                below 0 count from the end, here and in all ranges.
            batch: Which sequences of the batch.
            channels: Which channels.
            call: One call of the module, from 0, for tokens of it alone.
            tensors: Number of a call → its tensor, where nothing was kept.

        Raises:
            SessionError: As in `root`.
            DataError: If the trace has nothing such, it is too much for one opening, nothing was kept and the
                tensors given are not those captured, or the disk lost what was kept.
        """
        context, _, root = self._result()
        if isinstance(site, str):
            site = trace_question.site_of(context, site, output)
        question = trace_question.ask(context, site, tokens=tokens, batch=batch, channels=channels, call=call)
        read = self._reader(site, call, tensors)
        return trace_opening.make(root, context, [tree for _, tree in self._gathered], question, read)

    def answer(
        self,
        request: AuditRequest | str | Path,
        *,
        weights: str | Path | None = None,
        decoding: dict[str, Any] | None = None,
    ) -> AuditAnswer:
        """Opens everything that an audit's request asks for.

        Args:
            request: The request, or its file.
            weights: The model's weights, a safetensors file, an index or a folder, for a request that asks
                for some of them.
            decoding: How tokens were chosen, in your words.

        Raises:
            SessionError: As in `root`.
            RequestError: If the file is no request.
            BindingError: If the request is about another trace.
            DataError: If nothing was kept, or as in `palm_torch.committing.answering.answer`.
            ArtifactError: If the weights are not those of the trace.
        """
        kept = self._kept_trace()
        asked = request if isinstance(request, AuditRequest) else audit_request.read(Path(request))
        path = None if weights is None else Path(weights)
        return answering.answer(asked, kept, weights=path, decoding=decoding)

    def fingerprint(
        self,
        sites: Sequence[Site | str] | None = None,
        *,
        seed: bytes = b"",
        top: int | None = None,
        counts: npt.NDArray[Any] | None = None,
    ) -> Fingerprint:
        """Makes a fingerprint of kept tensors, and binds one without a seed as the fact ``fingerprint``.

        Args:
            sites: Sites, or paths of modules; None for two blocks: the one in the middle and the last.
            seed: What a verifier drew after the seal, for other directions; nothing is bound then.
            top: How many of the largest channels; None for what it takes if nothing is said.
            counts: How many tokens each sequence has beside padding.

        Raises:
            SessionError: As in `root`, if nothing was kept, or if the root is known and there is no seed.
            DataError: If there is no such site, or its calls differ in element type or sequences.
            MissingExtraError: If the extra ``audit`` is not installed.
        """
        self._require_closed()
        groups = [group for group, _ in self._gathered]
        made = fingerprints.make(groups, self._streams, self._kept, sites, seed=seed, top=top, counts=counts)
        if not seed:
            self.add_facts({answer_facts.FINGERPRINT: made.digest})
        return made

    def save_trace(self, folder: str | Path) -> None:
        """Writes context, kept tensors and ids to a new folder that only its owner may read.

        ``palm-torch audit answer --trace FOLDER`` answers audits from it when this process has ended.

        Raises:
            DataError: If nothing was kept, something is there already, or it cannot be written.
            SessionError: As in `root`.
        """
        saved_trace.save(Path(folder), self._kept_trace())

    def forget(self) -> None:
        """Lets go of kept activations: of memory and disk. Openings need the tensors from then on."""
        self._kept = None

    def _reader(
        self, site: Site, call: int | None, tensors: Mapping[int, torch.Tensor] | None
    ) -> Callable[[int, int], bytes]:
        group, _ = trace_rows.find(self.trace, site, call)
        kept = self._kept
        if tensors is None and kept is not None:
            stream = self._streams[site, group.dtype, group.channels]
            return lambda start, stop: stream.read(kept, start, stop)

        def content(tensor: torch.Tensor) -> Callable[[], memoryview]:
            return lambda: tensor_contents.tensor_bytes(tensor, what=str(site))

        given = {number: content(tensor) for number, tensor in (tensors or {}).items()}
        return Given(site, group, given).read

    def _kept_trace(self) -> KeptTrace:
        context, _, root = self._result()
        kept = self._kept
        if kept is None:
            raise DataError("nothing was kept to open: commit(model, layers='audit', keep='memory')")

        def read(site: Site, group: Group) -> Callable[[int, int], bytes]:
            stream = self._streams[site, group.dtype, group.channels]
            return lambda start, stop: stream.read(kept, start, stop)

        shown = None if self._tokens is None else self._tokens.opening()
        trees = [tree for _, tree in self._gathered]
        return KeptTrace(root=root, context=context, trees=trees, read=read, tokens=shown)
