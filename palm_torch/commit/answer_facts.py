"""The facts that bind a trace to the answer it was made for.

A trace says what a model computed. Which question that was for, what came of it and how it was decoded are
facts of its context: digests by name, under the same root. The commitments to question and answer among
them are salted, so a trace root tells nothing to whoever guesses a question and computes the trace again.
Specification: docs/spec/55-inference.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from palm_torch.commit import history
from palm_torch.digest import SHA256, Digest, tagged_digest
from palm_torch.encoding import encode_json

if TYPE_CHECKING:
    from collections.abc import Sequence

QUERY: Final = "query"
RESPONSE: Final = "response"
TOKENIZER: Final = "tokenizer"
DECODING: Final = "decoding"
BEFORE: Final = "generators.before"
AFTER: Final = "generators.after"
LOGITS: Final = "logits"
FINGERPRINT: Final = "fingerprint"

_DECODING_TAG: Final = "palm-torch/decoding/v1"
_LOGITS_TAG: Final = "palm-torch/logits/v1"


def facts(
    *,
    query: Digest | None,
    response: Digest | None,
    tokenizer: Digest | None,
    decoding: dict[str, Any],
    before: Digest,
    after: Digest,
) -> dict[str, Digest]:
    """Returns the facts that follow from an answer's receipt: name → digest; what is None is no fact.

    Args:
        query: The salted commitment to what was asked.
        response: The salted commitment to what was answered.
        tokenizer: Digest of the tokenizer.
        decoding: Parameters of decoding, JSON.
        before: States of the random number generators before it.
        after: Their states when the answer was received.

    Raises:
        EncodingError: If a parameter has no JSON form.
    """
    named = {
        QUERY: query,
        RESPONSE: response,
        DECODING: decoding_digest(decoding),
        BEFORE: before,
        AFTER: after,
        TOKENIZER: tokenizer,
    }
    return {name: digest for name, digest in named.items() if digest is not None}


def decoding_digest(parameters: dict[str, Any]) -> Digest:
    """Returns the digest of parameters of decoding.

    Raises:
        EncodingError: If one has no JSON form.
    """
    return tagged_digest(_DECODING_TAG, encode_json(parameters))


def token_logits(form: str, content_hash: bytes) -> Digest:
    """Returns the digest of the logits of one generated token.

    Args:
        form: Element type and shape, such as ``float32[1,151936]``.
        content_hash: BLAKE3 of their bytes, row-major and little endian.
    """
    return tagged_digest(_LOGITS_TAG, form.encode("ascii"), content_hash)


def logits(tokens: Sequence[Digest]) -> Digest:
    """Returns the digest of the logits of all generated tokens: root of a history of `token_logits`."""
    return Digest(SHA256, history.root_of([token.value for token in tokens]))
