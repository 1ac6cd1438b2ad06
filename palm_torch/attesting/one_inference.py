"""Measuring one answer of one model: a session of inference that ends after the first."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from palm_torch.attesting import inference, training_claims
from palm_torch.attesting.inference import Inference
from palm_torch.properties import Infer

if TYPE_CHECKING:
    from palm_torch.attesting.measured import Said
    from palm_torch.attesting.watched_weights import WatchedWeights
    from palm_torch.commit.answers import Turn
    from palm_torch.digest import Digest
    from palm_torch.properties import Property
    from palm_torch.roles import Artifact, Value


class OneInference(Inference):
    """Measures one answer of one model."""

    PROPERTY: ClassVar[type[Property]] = Infer
    MOST: ClassVar[int | None] = 1

    def _claims(
        self,
        weights: WatchedWeights,
        turn: Turn,
        root: Digest,
        tokenizer: Artifact,
        decoding: Value,
        said: Said,
    ) -> Property:
        del root
        return Infer(
            model=training_claims.weights(training_claims.tensors_of(weights.tensors), taken="end"),
            tokenizer=tokenizer,
            query=inference.salted_artifact(turn.query),
            response=inference.salted_artifact(turn.response),
            decoding=decoding,
            seeds=said.seeds,
        )
