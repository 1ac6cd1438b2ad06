"""The appraisal policy: what a verifier demands of platform, code and claims.

A policy is a YAML file with three mandatory parts. It only says what is required; the checks stand beside
the evidence they judge. What a policy leaves unset is rejected, and what it waves through it has to say
in so many words: ``[any]`` for a reference value, ``unreviewed: true`` for code. A list that is exactly
``[authority]`` stands for the list of that name in a trusted authority's reference values.

    version: 1
    platform:
      tdx: {mr_td: [<96 hex digits>], rtmr0: [...], rtmr1: [...], rtmr2: [...]}
      snp: {measurement: [<96 hex digits>]}
      gpu: {count: 1, min_driver_version: "550.90.07", min_vbios_version: "96.00.9F.00.01"}
    code:
      digests: ["palm-sha256:<64 hex digits>"]
    claims:
      property: train
      data: ["sha256:<digest of the manifest>"]
      initial: [any]
      tokenizer: [none]
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from palm_torch import codec, files
from palm_torch.cvm import certificate_bytes, certificates, platforms
from palm_torch.cvm.appraisal import TdxRules
from palm_torch.cvm.gpu_rules import GpuRules
from palm_torch.cvm.snp_rules import SnpRules
from palm_torch.digest import Digest
from palm_torch.errors import EncodingError, PolicyError, TrustAnchorError
from palm_torch.policies import authority, strict_yaml
from palm_torch.policies.bounds import ANY, NONE, Range, References, check_layouts
from palm_torch.policies.dataset_rules import BindRules, DistributeRules, PreprocessRules
from palm_torch.properties import Operation

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.policies.reference_values import VerifiedValues

__all__ = [
    "ANY",
    "NONE",
    "ClaimRules",
    "CodeRules",
    "Platform",
    "Policy",
    "Range",
    "References",
    "load",
    "parse",
]

VERSION: Final = 1
MAX_POLICY_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """Which machines may speak.

    Attributes:
        tdx: Rules for an Intel TDX trust domain; None accepts none.
        snp: Rules for an AMD SEV-SNP guest; None accepts none.
        gpu: Rules for the NVIDIA GPUs of such a machine; None accepts no evidence of any.
        simulated_root: Root certificate (PEM) of a simulated TEE to accept *instead of* the vendors';
            results under it are marked simulated and never affirming.
        simulated_gpu_root: Likewise that of simulated GPUs, instead of NVIDIA's.
        simulated_rim_root: Likewise that of who signs simulated GPUs' reference manifests.
    """

    tdx: TdxRules | None = None
    snp: SnpRules | None = None
    gpu: GpuRules | None = None
    simulated_root: str | None = None
    simulated_gpu_root: str | None = None
    simulated_rim_root: str | None = None

    def __post_init__(self) -> None:
        """Refuses a platform part that accepts no kind of machine."""
        if self.tdx is None and self.snp is None:
            raise PolicyError("names no kind of machine: it needs 'tdx', 'snp', or both")
        for name in ("simulated_gpu_root", "simulated_rim_root"):
            if self.gpu is None and getattr(self, name) is not None:
                raise PolicyError(f"{name}: a root for GPUs, and no rules for any: it needs 'gpu'")

    def requirements(self) -> platforms.Requirements:
        """Returns the rules, and the roots that evidence of machines and GPUs must lead to.

        Raises:
            PolicyError: If a simulated root is not a certificate.
        """
        return platforms.Requirements(
            tdx=self.tdx,
            snp=self.snp,
            gpu=self.gpu,
            simulated_root=self._root("simulated_root", "simulated TEE"),
            simulated_gpu_root=self._root("simulated_gpu_root", "simulated GPUs"),
            simulated_rim_root=self._root("simulated_rim_root", "simulated reference manifests"),
        )

    def _root(self, field_name: str, anchor_name: str) -> certificates.TrustAnchor | None:
        pem: str | None = getattr(self, field_name)
        if pem is None:
            return None
        try:
            (root,) = x509.load_pem_x509_certificates(pem.encode("utf-8"))
            return certificates.TrustAnchor.from_certificate(
                root.public_bytes(Encoding.DER), name=anchor_name, simulated=True
            )
        except (*certificate_bytes.FOREIGN_ERRORS, EncodingError, TrustAnchorError) as error:
            raise PolicyError(f"platform.{field_name}: expected one PEM certificate: {error}") from error


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
class ClaimRules:
    """What must have happened.

    Attributes:
        property: The property the evidence must be of.
        data: Manifests of the data, ``[any]`` or ``[none]`` (data without a manifest).
        initial: Weights roots to have started from.
        tokenizer: Digests of the tokenizer; ``[none]`` where records are already tokens.
        layout: Kinds of records that the data may be of, as evidence says them: ``uint16[1024]``, the columns
            of rows as canonical JSON, or a format such as ``jsonl``. Unset, a pinned manifest decides.
        initial_taken: When the initial weights must have been read, as `palm_torch.roles.Weights.taken`
            says it: ``first_delivery``, or ``first_step``, before which a forward pass may have moved
            buffers; unset accepts both.
        architecture: Digests of the architecture; unset means that the initial weights decide.
        records: Records delivered for training, over all datasets.
        epochs: How often each record was delivered for training (the least multiplicity).
        multiplicity: How often any record was delivered for training: the least and the greatest multiplicity
            of each dataset lie in it. Streams, whose records have no index, satisfy no such range.
        exact: Whether every use must have been counted exactly: the batches were the records themselves.
        padded: Most records, over all datasets and uses, that a sampler repeated to make ranks equal.
        unknown_padding: Whether that number may be unknown: samplers that are not torch's own do not tell it.
        streams: Whether data may come as streams, of which nobody can tell which records they were.
        ranks: How many ranks received each use (its order chains).
        interconnect: ``unprotected`` accepts knowingly that gradients went from machine to machine over a
            network that no evidence speaks of; unset makes it a reservation.
        steps: Optimizer steps taken.
        arguments: Ranges of optimizer hyper-parameters by name, over all groups and all steps.
        reported: Ranges for the last value of what the script logged.
        declared: Most values that may be merely declared by the operator.
    """

    property: Operation
    data: tuple[str, ...]
    initial: tuple[str, ...]
    tokenizer: tuple[str, ...]
    layout: tuple[str, ...] | None = None
    initial_taken: Literal["first_delivery", "first_step"] | None = None
    architecture: tuple[str, ...] = (ANY,)
    records: Range | None = None
    epochs: Range | None = None
    multiplicity: Range | None = None
    exact: bool = False
    padded: int = 0
    unknown_padding: bool = False
    streams: bool = False
    ranks: Range | None = None
    interconnect: Literal["unprotected"] | None = None
    steps: Range | None = None
    arguments: dict[str, Range] = field(default_factory=dict)
    reported: dict[str, Range] = field(default_factory=dict)
    declared: int = 0

    def __post_init__(self) -> None:
        """Refuses lists that do not parse, and negative numbers of what is at most allowed."""
        for name in ("declared", "padded"):
            if (value := getattr(self, name)) < 0:
                raise PolicyError(f"{name}: expected 0 or more, got {value}")
        for role in ("data", "initial", "tokenizer", "architecture"):
            self.references(role)
        check_layouts(self.layout)

    def references(self, role: str) -> References:
        """Returns the reference digests of ``data``, ``initial``, ``tokenizer`` or ``architecture``."""
        return References.parse(getattr(self, role), what=role)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A whole policy; see the module for its YAML form."""

    version: int
    platform: Platform
    code: CodeRules
    claims: BindRules | PreprocessRules | DistributeRules | ClaimRules

    def __post_init__(self) -> None:
        """Refuses unknown versions."""
        if self.version != VERSION:
            raise PolicyError(f"version: this verifier reads policy version {VERSION}, got {self.version}")


def parse(text: bytes, *, what: str = "policy", references: VerifiedValues | None = None) -> Policy:
    """Parses a policy.

    Args:
        text: YAML, UTF-8, at most 1 MiB; see `palm_torch.policies.strict_yaml`.
        what: Name of the file, the beginning of every message.
        references: The values of a trusted authority, which take the place of every list that is exactly
            ``[authority]``; see `palm_torch.policies.reference_values`.

    Raises:
        PolicyError: If the text is not YAML, lacks a part, has unknown or duplicate keys, a value of the
            wrong type, or asks an authority for what it does not say (or for nothing at all).
    """
    document = strict_yaml.parse(text, what=what, max_bytes=MAX_POLICY_BYTES, error=PolicyError)
    if not document:
        raise PolicyError(f"{what}: the policy is empty; it needs 'version', 'platform', 'code' and 'claims'")
    document = authority.resolve(document, references, what=what)
    try:
        policy = codec.from_json(Policy, document, what="", error=PolicyError, defaults=True)
        policy.platform.requirements()
    except PolicyError as error:  # ".platform.tdx: ...", as the codec was told no name
        raise PolicyError(f"{what}: {str(error).lstrip('.: ')}") from error
    return policy


def load(path: Path, *, references: VerifiedValues | None = None) -> Policy:
    """Reads a policy file; see `parse`.

    Args:
        path: The file.
        references: As for `parse`.

    Raises:
        PolicyError: If the file cannot be read or does not parse.
    """
    text = files.read_bounded(path, what="the policy", max_bytes=MAX_POLICY_BYTES, error=PolicyError)
    return parse(text, what=str(path), references=references)
