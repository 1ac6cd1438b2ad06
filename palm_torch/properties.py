"""PAL*M's eight properties: each a dataclass whose fields are its roles.

What went in, what came out, and what relates the two; a statement with a role missing does not parse. The
roles are those of PAL*M (arXiv 2601.16199, section 4 and table 1) with its errata mended: function
identities and arguments for preprocessing and distribution, the tokenizer and initial weights for
training, the result of an optimisation, the metric of an evaluation, the response in place of the input
for inference (docs/spec/60-evidence.md lists them).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Literal, TypeAlias, get_args

from palm_torch.digest import Digest
from palm_torch.roles import Artifact, Dataset, Multiset, Steps, Value, Weights, Written

Operation: TypeAlias = Literal[
    "preprocess", "distribute", "bind", "train", "optimize", "evaluate", "infer", "session"
]
OPERATIONS: Final[tuple[str, ...]] = get_args(Operation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocess:
    """D_pre = PreProc(D): several sources and several results, such as splits, each by name."""

    OUTPUTS: ClassVar = ("produced",)
    data: dict[str, Dataset]
    produced: dict[str, Written]
    function: Artifact
    arguments: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribute:
    """A_dist = Dist(D)."""

    OUTPUTS: ClassVar = ("distribution",)
    data: dict[str, Dataset]
    distribution: Value
    function: Artifact
    arguments: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """h(D), MSH(D) and the Merkle root were all computed from one D; each is listed."""

    OUTPUTS: ClassVar = ("manifest",)
    files: dict[str, Artifact]
    manifest: Artifact
    multiset: Multiset
    records_root: Digest
    records: int
    framing: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Train:
    """M_tr = Train(D_tr, T, M_ar)."""

    OUTPUTS: ClassVar = ("model",)
    architecture: Artifact
    data: dict[str, Dataset]
    configuration: Value
    tokenizer: Artifact
    initial: Weights
    model: Weights
    steps: Steps
    seeds: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimize:
    """M_opt = F_opts[kind](M, M_tok, T, [M_adp, D_opt]): fine-tuning, quantisation, pruning."""

    OUTPUTS: ClassVar = ("model",)
    kind: Artifact
    base: Weights
    tokenizer: Artifact
    configuration: Value
    adapter: Artifact
    data: dict[str, Dataset]
    model: Weights
    steps: Steps
    seeds: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluate:
    """metric = Eval(M, M_tok, D_te)."""

    OUTPUTS: ClassVar = ("metric",)
    model: Weights
    tokenizer: Artifact
    data: dict[str, Dataset]
    metric: Value
    benchmark: Artifact
    configuration: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Infer:
    """r = M(M_tok(q))."""

    OUTPUTS: ClassVar = ("response",)
    model: Weights
    tokenizer: Artifact
    query: Artifact
    response: Artifact
    decoding: Value
    seeds: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """r = M(M_tok((H without [q, r]) ‖ q)), H an ordered list."""

    OUTPUTS: ClassVar = ("response", "history")
    model: Weights
    tokenizer: Artifact
    query: Artifact
    response: Artifact
    history: Artifact
    decoding: Value
    seeds: Value


Property: TypeAlias = Preprocess | Distribute | Bind | Train | Optimize | Evaluate | Infer | Session

PROPERTIES: Final[dict[str, type[Property]]] = dict(
    zip(
        OPERATIONS,
        (Preprocess, Distribute, Bind, Train, Optimize, Evaluate, Infer, Session),
        strict=True,
    )
)
