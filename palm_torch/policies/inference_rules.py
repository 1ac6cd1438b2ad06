"""What a policy demands of answers: which model gave them, how they were decoded, and that none is revoked.

claims:
  property: session
  model: ["palm-sha256:<weights root>"]
  tokenizer: ["sha256:<digest of the tokenizer's file>"]
  decoding: {temperature: {least: 0, greatest: 1}}
  choices: {do_sample: [true]}
  answers: {least: 1}
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from palm_torch.encoding import encode_json
from palm_torch.errors import EncodingError, PolicyError
from palm_torch.policies.bounds import Range, References


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceRules:
    """Which answers are accepted, of a session or of one receipt.

    Attributes:
        property: ``infer`` or ``session``.
        model: Weights roots of the model; mandatory, as is the next.
        tokenizer: Digests of the tokenizer; ``[none]`` where the script named none.
        decoding: Ranges of parameters by name: each answer said such a number and nothing else.
        choices: Accepted values of parameters by name, for what is no number: each answer said one of them.
        answers: How many answers the session gave; unset accepts any number.
        revoked: Most answers that may be revoked; a receipt of a revoked one is never accepted.
        traced: Whether the receipt of every answer must name a trace of what the model computed.
        declared: Most values that may be merely declared by the operator.
    """

    ROLES: ClassVar = ("model", "tokenizer")

    property: Literal["infer", "session"]
    model: tuple[str, ...]
    tokenizer: tuple[str, ...]
    decoding: dict[str, Range] = field(default_factory=dict)
    choices: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    answers: Range | None = None
    revoked: int = 0
    traced: bool = False
    declared: int = 0

    def __post_init__(self) -> None:
        """Refuses lists that do not parse or accept nothing, and negative numbers."""
        for name in ("revoked", "declared"):
            if (value := getattr(self, name)) < 0:
                raise PolicyError(f"{name}: expected 0 or more, got {value}")
        for role in self.ROLES:
            self.references(role)
        for name, values in self.choices.items():
            self._check_choices(name, values)

    def references(self, role: str) -> References:
        """Returns the reference digests of ``model`` or ``tokenizer``."""
        return References.parse(getattr(self, role), what=role)

    def _check_choices(self, name: str, values: tuple[Any, ...]) -> None:
        if not values or name in self.decoding:
            raise PolicyError(
                f"choices.{name}: expected one or more values, of a parameter that has no range in 'decoding'"
            )
        for value in values:
            try:
                encode_json(value)
            except EncodingError as error:
                raise PolicyError(f"choices.{name}: {error}") from error
