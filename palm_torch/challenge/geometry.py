"""From a model's ``config.json`` to its geometry; what is not covered is refused by the name of its field."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn

from palm_torch.challenge.sizes import ACTIVATIONS, PREFIXES, Family, Geometry
from palm_torch.encoding import Json
from palm_torch.errors import DataError, prefixed

if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["ACTIVATIONS", "Family", "Geometry", "from_config"]

_INSTEAD: Final = "no rounding bounds are derived for it: replay its blocks in torch instead"

_NOT_COVERED: Final = (
    "quantization_config",
    "final_logit_softcapping",
    "attn_logit_softcapping",
    "logit_scale",
    "residual_multiplier",
    "embedding_multiplier",
    "attention_multiplier",
)
"""Fields that change what is computed, whatever they say."""

_GPT2_SWITCHES: Final = {
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "reorder_and_upcast_attn": False,
    "add_cross_attention": False,
}


def from_config(config: Mapping[str, Json], *, what: str) -> Geometry:
    """Returns what a model's ``config.json`` says of it.

    Args:
        config: The file's content, with the names of Hugging Face; ``rope_parameters``, or ``rope_theta`` and
            ``rope_scaling`` as older files have it.
        what: Name of the file, for messages.

    Raises:
        DataError: Naming the field that is missing, malformed, or says what is not covered.
    """
    fields = _Fields(config, what)
    kind = fields.text("model_type")
    if kind not in _READERS:
        fields.refuse("model_type", f"one of {', '.join(sorted(_READERS))}", kind)
    for name in _NOT_COVERED:
        if config.get(name) is not None:
            fields.refuse(name, "nothing", config[name])
    with prefixed(what):
        return _READERS[kind](fields)


@dataclass(frozen=True, slots=True)
class _Fields:
    """Fields of a config by type; absent and null are the same."""

    config: Mapping[str, Json]
    what: str

    def refuse(self, name: str, expected: str, got: object) -> NoReturn:
        raise DataError(f"{self.what}: {name}: expected {expected}, got {got!r:.80}; {_INSTEAD}")

    def malformed(self, name: str, expected: str, got: object) -> NoReturn:
        raise DataError(f"{self.what}: {name}: expected {expected}, got {got!r:.80}")

    def text(self, name: str) -> str:
        value = self.config.get(name)
        if not isinstance(value, str):
            self.malformed(name, "text", value)
        return value

    def whole(self, name: str, default: int | None = None) -> int:
        value = self.config.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or isinstance(value, bool):
            self.malformed(name, "a whole number", value)
        return value

    def number(self, name: str, default: float | None = None) -> float:
        value = self.config.get(name)
        if value is None and default is not None:
            return default
        return self.as_number(name, value)

    def as_number(self, name: str, value: Json) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.malformed(name, "a number", value)
        try:
            number = float(value)
        except OverflowError:  # a whole number of hundreds of digits
            number = math.inf
        if not math.isfinite(number):
            self.malformed(name, "a number", value)
        return number

    def switch(self, name: str, *, default: bool) -> bool:
        value = self.config.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.malformed(name, "true or false", value)
        return value

    def activation(self, name: str) -> str:
        value = self.text(name)
        if value not in ACTIVATIONS:
            self.refuse(name, f"one of {', '.join(ACTIVATIONS)}", value)
        return value


def _llama(fields: _Fields) -> Geometry:
    biased = fields.switch("attention_bias", default=False)
    return _rotary(
        fields, query_bias=biased, output_bias=biased, mlp_bias=fields.switch("mlp_bias", default=False)
    )


def _mistral(fields: _Fields) -> Geometry:
    window = fields.config.get("sliding_window")
    if window is not None and fields.whole("sliding_window") < fields.whole("max_position_embeddings"):
        fields.refuse("sliding_window", "null, or no less than max_position_embeddings", window)
    return _rotary(fields)


def _qwen2(fields: _Fields) -> Geometry:
    _check_window(fields)
    return _rotary(fields, query_bias=True)


def _qwen3(fields: _Fields) -> Geometry:
    _check_window(fields)
    biased = fields.switch("attention_bias", default=False)
    return _rotary(fields, query_bias=biased, output_bias=biased, head_norms=True)


def _check_window(fields: _Fields) -> None:
    """Refuses a sliding window that is in use; Qwen's files name one that is not."""
    if fields.switch("use_sliding_window", default=False):
        fields.refuse("use_sliding_window", "false", True)


def _rotary(
    fields: _Fields,
    *,
    query_bias: bool = False,
    output_bias: bool = False,
    mlp_bias: bool = False,
    head_norms: bool = False,
) -> Geometry:
    kinds = fields.config.get("layer_types")
    if kinds is not None and (not isinstance(kinds, list) or any(kind != "full_attention" for kind in kinds)):
        fields.refuse("layer_types", "full_attention alone", kinds)
    hidden, heads = fields.whole("hidden_size"), fields.whole("num_attention_heads")
    return Geometry(
        family="llama",
        blocks=fields.whole("num_hidden_layers"),
        hidden=hidden,
        intermediate=fields.whole("intermediate_size"),
        vocabulary=fields.whole("vocab_size"),
        heads=heads,
        key_value_heads=fields.whole("num_key_value_heads"),
        head_width=_head_width(fields, hidden, heads),
        norm_epsilon=fields.number("rms_norm_eps"),
        rope_theta=_theta(fields),
        activation=fields.activation("hidden_act"),
        query_bias=query_bias,
        output_bias=output_bias,
        mlp_bias=mlp_bias,
        head_norms=head_norms,
        tied=fields.switch("tie_word_embeddings", default=False),
        prefix=PREFIXES["llama"],
    )


def _head_width(fields: _Fields, hidden: int, heads: int) -> int:
    if fields.config.get("head_dim") is not None:
        return fields.whole("head_dim")
    if heads < 1 or hidden % heads:
        fields.malformed(
            "num_attention_heads", f"a divisor of the width {hidden}, or head_dim beside it", heads
        )
    return hidden // heads


def _theta(fields: _Fields) -> float:
    """Returns the base of the rotary positions, which newer and older files say at different places."""
    if fields.config.get("rope_scaling") is not None:
        fields.refuse("rope_scaling", "null", fields.config["rope_scaling"])
    given = fields.config.get("rope_parameters")
    if given is None:
        return fields.number("rope_theta")
    if not isinstance(given, dict):
        fields.malformed("rope_parameters", "an object", given)
    if unknown := sorted(given.keys() - {"rope_theta", "rope_type", "partial_rotary_factor"}):
        fields.refuse(f"rope_parameters.{unknown[0]:.40}", "nothing", given[unknown[0]])
    for name, expected in (("rope_type", "default"), ("partial_rotary_factor", 1.0)):
        if given.get(name, expected) != expected:
            fields.refuse(f"rope_parameters.{name}", repr(expected), given[name])
    theta = fields.as_number("rope_parameters.rope_theta", given.get("rope_theta"))
    if fields.number("rope_theta", theta) != theta:
        fields.malformed("rope_theta", f"{theta} as in rope_parameters", fields.config["rope_theta"])
    return theta


def _gpt2(fields: _Fields) -> Geometry:
    for name, expected in _GPT2_SWITCHES.items():
        if (found := fields.switch(name, default=expected)) is not expected:
            fields.refuse(name, str(expected).lower(), found)
    hidden, heads = fields.whole("n_embd"), fields.whole("n_head")
    if heads < 1 or hidden % heads:
        fields.malformed("n_head", f"a divisor of the width {hidden}", heads)
    return Geometry(
        family="gpt2",
        blocks=fields.whole("n_layer"),
        hidden=hidden,
        intermediate=fields.whole("n_inner", 4 * hidden),
        vocabulary=fields.whole("vocab_size"),
        heads=heads,
        key_value_heads=heads,
        head_width=hidden // heads,
        norm_epsilon=fields.number("layer_norm_epsilon"),
        rope_theta=None,
        activation=fields.activation("activation_function"),
        query_bias=True,
        output_bias=True,
        mlp_bias=True,
        head_norms=False,
        tied=fields.switch("tie_word_embeddings", default=True),
        prefix=PREFIXES["gpt2"],
    )


_READERS: Final[dict[str, Callable[[_Fields], Geometry]]] = {
    "llama": _llama,
    "mistral": _mistral,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "gpt2": _gpt2,
}
