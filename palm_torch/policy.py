"""The appraisal policy: what a verifier demands of platform, code and claims.

A policy is a YAML file with three mandatory parts. It only says what is required; the checks stand beside
the evidence they judge. What a policy leaves unset is rejected, and what it waves through it has to say
in so many words: ``[any]`` for a reference value, ``unreviewed: true`` for code.

    version: 1
    platform:
      tdx: {mr_td: [<96 hex digits>], rtmr0: [...], rtmr1: [...], rtmr2: [...]}
    code:
      digests: ["palm-sha256:<64 hex digits>"]
    claims:
      property: train
      data: ["sha256:<digest of the manifest>"]
      initial: [any]
      tokenizer: [none]
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from palm_torch import codec
from palm_torch.cvm import certificate_bytes, certificates
from palm_torch.cvm.appraisal import TdxRules
from palm_torch.digest import Digest
from palm_torch.errors import EncodingError, PolicyError, TrustAnchorError
from palm_torch.properties import Operation

if TYPE_CHECKING:
    from pathlib import Path

VERSION: Final = 1
MAX_POLICY_BYTES: Final = 1 << 20
ANY: Final = "any"
NONE: Final = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A closed range of numbers; at least one end is set."""

    least: float | None = None
    greatest: float | None = None

    def __post_init__(self) -> None:
        """Refuses a range that allows everything or nothing."""
        if self.least is None and self.greatest is None:
            raise PolicyError("a range needs 'least' or 'greatest'")
        for bound in (self.least, self.greatest):
            if bound is not None and not abs(bound) <= sys.float_info.max:  # NaN is no bound either
                raise PolicyError("a range needs finite numbers")
        if self.least is not None and self.greatest is not None and self.least > self.greatest:
            raise PolicyError(f"an empty range: least {self.least} > greatest {self.greatest}")

    def holds(self, value: float) -> bool:
        """Returns whether the value lies inside; NaN never does."""
        above = self.least is None or value >= self.least
        return above and (self.greatest is None or value <= self.greatest)

    def __str__(self) -> str:
        """Returns the range in words."""
        low = "" if self.least is None else f">= {self.least}"
        high = "" if self.greatest is None else f"<= {self.greatest}"
        return " and ".join(filter(None, (low, high)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """Which machines may speak.

    Attributes:
        tdx: Rules for an Intel TDX trust domain.
        simulated_root: Root certificate (PEM) of a simulated TEE to accept *instead of* Intel's; results
            under it are marked simulated and never affirming.
    """

    tdx: TdxRules
    simulated_root: str | None = None

    def anchor(self) -> certificates.TrustAnchor:
        """Returns the one root that quotes must lead to.

        Raises:
            PolicyError: If `simulated_root` is not a certificate.
        """
        if self.simulated_root is None:
            return certificates.INTEL_SGX_ROOT
        try:
            root = x509.load_pem_x509_certificate(self.simulated_root.encode("utf-8"))
            return certificates.TrustAnchor.from_certificate(
                root.public_bytes(Encoding.DER), name="simulated TEE", simulated=True
            )
        except (*certificate_bytes.FOREIGN_ERRORS, EncodingError, TrustAnchorError) as error:
            raise PolicyError(f"policy.platform.simulated_root: not a PEM certificate: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeRules:
    """Which code may have run; exactly one of the three is set.

    Attributes:
        digests: Code digests that somebody reviewed.
        covered_by_image: The registers of `Platform` pin an image whose measured root file system holds
            all code.
        unreviewed: Nobody reviewed the code; the result is at most a warning.
        packages: Digests of the list of installed packages; unset means that any will do, which the
            result says.
    """

    digests: tuple[Digest, ...] = ()
    covered_by_image: bool = False
    unreviewed: bool = False
    packages: tuple[Digest, ...] = ()

    def __post_init__(self) -> None:
        """Refuses none and several."""
        if [bool(self.digests), self.covered_by_image, self.unreviewed].count(True) != 1:
            raise PolicyError("set exactly one of 'digests', 'covered_by_image: true', 'unreviewed: true'")


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """Reference digests of one role: some digests, or one of the words ``any`` and ``none``."""

    digests: frozenset[Digest]
    word: str | None

    @classmethod
    def parse(cls, items: tuple[str, ...], *, what: str) -> References:
        """Parses the list a policy gives for a role.

        Raises:
            PolicyError: If the list is empty, or mixes a word with anything else.
        """
        if not items:
            raise PolicyError(f"{what}: an empty list; name digests, or write [{ANY}] or [{NONE}]")
        if len(items) == 1 and items[0] in (ANY, NONE):
            return cls(digests=frozenset(), word=items[0])
        try:
            return cls(digests=frozenset(Digest.parse(item, what=what) for item in items), word=None)
        except EncodingError as error:
            raise PolicyError(f"{error} (or write [{ANY}] or [{NONE}] alone)") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRules:
    """What must have happened.

    Attributes:
        property: The property the evidence must be of.
        data: Manifests of the data, ``[any]`` or ``[none]`` (data without a manifest).
        initial: Weights roots to have started from.
        tokenizer: Digests of the tokenizer; ``[none]`` where records are already tokens.
        architecture: Digests of the architecture; unset means that the initial weights decide.
        records: Records delivered for training, over all datasets.
        epochs: How often each record was delivered for training (the least multiplicity).
        steps: Optimizer steps taken.
        arguments: Ranges of optimizer hyper-parameters by name, over all groups and all steps.
        reported: Ranges for the last value of what the script logged.
        declared: Most values that may be merely declared by the operator.
    """

    property: Operation
    data: tuple[str, ...]
    initial: tuple[str, ...]
    tokenizer: tuple[str, ...]
    architecture: tuple[str, ...] = (ANY,)
    records: Range | None = None
    epochs: Range | None = None
    steps: Range | None = None
    arguments: dict[str, Range] = field(default_factory=dict)
    reported: dict[str, Range] = field(default_factory=dict)
    declared: int = 0

    def __post_init__(self) -> None:
        """Refuses reference lists that do not parse, and a negative number of declared values."""
        if self.declared < 0:
            raise PolicyError(f"claims.declared: expected 0 or more, got {self.declared}")
        for role in ("data", "initial", "tokenizer", "architecture"):
            self.references(role)

    def references(self, role: str) -> References:
        """Returns the reference digests of ``data``, ``initial``, ``tokenizer`` or ``architecture``."""
        return References.parse(getattr(self, role), what=f"claims.{role}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A whole policy; see the module for its YAML form."""

    version: int
    platform: Platform
    code: CodeRules
    claims: ClaimRules

    def __post_init__(self) -> None:
        """Refuses unknown versions."""
        if self.version != VERSION:
            raise PolicyError(f"this version reads policy version {VERSION}, got {self.version}")


class _StrictLoader(yaml.SafeLoader):
    """YAML without duplicate keys, aliases and tags."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuses aliases and tags: a policy says each thing where it stands, as what it looks like."""
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]  # types-PyYAML leaves it out
        where = f"policy: line {event.start_mark.line + 1 if event.start_mark else 0}"
        if isinstance(event, yaml.AliasEvent):
            raise PolicyError(f"{where}: YAML aliases are not read; write the value out")
        if getattr(event, "tag", None) is not None:
            raise PolicyError(f"{where}: YAML tags are not read; write the value plainly")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 (the signature is PyYAML's)
        """Refuses duplicate keys, of which PyYAML would keep the last."""
        mapping: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise PolicyError(f"policy: line {key_node.start_mark.line + 1}: keys are text, got {key!r}")
            if key in mapping:
                raise PolicyError(f"policy: line {key_node.start_mark.line + 1}: {key!r} appears twice")
            mapping[key] = self.construct_object(value_node, deep=deep)
        return mapping


def _number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    """Reads a decimal number; YAML 1.1 would take 010 for eight and 1:30 for ninety."""
    if not _DECIMAL.fullmatch(node.value):
        raise PolicyError(
            f"policy: line {node.start_mark.line + 1}: expected a decimal number, got {node.value[:40]!r}"
        )
    del loader
    return float(node.value) if set(node.value) & set(".eE") else int(node.value)


_DECIMAL: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?", re.ASCII)
for _tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float"):
    _StrictLoader.add_constructor(_tag, _number)
_StrictLoader.add_implicit_resolver(  # 1e-3, which YAML 1.1 takes for text
    "tag:yaml.org,2002:float",
    re.compile(r"-?[0-9]+(\.[0-9]+)?[eE][-+]?[0-9]+$", re.ASCII),
    list("-0123456789"),
)


def parse(text: bytes, *, what: str = "policy") -> Policy:
    """Parses a policy.

    Args:
        text: YAML, UTF-8, at most 1 MiB.
        what: Name of the file, for messages.

    Raises:
        PolicyError: If the text is not YAML, lacks a part, has unknown or duplicate keys, or a value of
            the wrong type.
    """
    if len(text) > MAX_POLICY_BYTES:
        raise PolicyError(f"{what}: expected at most {MAX_POLICY_BYTES} bytes, got {len(text)}")
    try:
        document = yaml.load(text.decode("utf-8"), Loader=_StrictLoader)  # noqa: S506 (a SafeLoader)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise PolicyError(f"{what}: not a YAML document: {error}") from error
    if not document:
        raise PolicyError(f"{what}: the policy is empty; it needs 'version', 'platform', 'code' and 'claims'")
    policy = codec.from_json(Policy, document, what=what, error=PolicyError, defaults=True)
    policy.platform.anchor()
    return policy


def load(path: Path) -> Policy:
    """Reads a policy file; see `parse`.

    Raises:
        PolicyError: If the file cannot be read or does not parse.
    """
    try:
        with path.open("rb") as stream:
            return parse(stream.read(MAX_POLICY_BYTES + 1), what=str(path))
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise PolicyError(f"{path}: cannot read the policy: {getattr(error, 'strerror', error)}") from error
