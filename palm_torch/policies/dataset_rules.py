"""What a policy demands of the properties of datasets: binding, preprocessing, distributions.

What is unset is demanded in its strictest form: every record of the source was read exactly once, no code in
between could drop one, and nothing is merely declared. The lists of digests are mandatory; ``[any]`` waves
one through and says so.

    claims:
      property: bind
      manifest: ["sha256:<digest of the manifest>"]

    claims:
      property: preprocess
      data: ["sha256:<digest of the source's manifest>"]
      layout: ["uint16[1024]"]
      function: ["palm-sha256:<digest of the function>"]
      arguments: [none]
      produced: [any]
      records: {least: 1000}

    claims:
      property: distribute
      data: ["sha256:<digest of the manifest>"]
      function: ["palm-sha256:<digest of the function>"]
      arguments: [any]
      distribution: [any]
      bounds: {"records": {least: 1000}, "shares.en": {least: 0.9}}
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

from palm_torch.errors import PolicyError
from palm_torch.policies.bounds import Range, References, check_layouts

ONCE = Range(least=1, greatest=1)
"""Every record read, and none twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BindRules:
    """Which dataset must have been bound.

    Attributes:
        property: Always ``bind``.
        manifest: Identities of manifests.
        records: Number of records.
        declared: Most values that may be merely declared by the operator.
    """

    ROLES: ClassVar = ("manifest",)

    property: Literal["bind"]
    manifest: tuple[str, ...]
    records: Range | None = None
    declared: int = 0

    def __post_init__(self) -> None:
        """Refuses reference lists that do not parse, and a negative number of declared values."""
        _check(self)

    def references(self, role: str) -> References:
        """Returns the reference digests of ``manifest``."""
        return References.parse(getattr(self, role), what=role)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreprocessRules:
    """Which dataset must have been made of which, and by what.

    Attributes:
        property: Always ``preprocess``.
        data: Manifests of the sources, ``[any]`` or ``[none]`` (a source without a manifest).
        layout: Kinds of records that the data may be of, as evidence says them: ``uint16[1024]``, the columns
            of rows as canonical JSON, or a format such as ``jsonl``. Unset, a pinned manifest decides.
        function: Digests of the function.
        arguments: Digests of the arguments as a value; ``[none]`` where there must be none.
        produced: Manifests of what was written.
        multiplicity: How often each record of each source was read; unset demands exactly once.
        exact: Whether what was handed on must have been the records that are counted; False accepts code in
            between that may have dropped some.
        streams: Whether sources will do whose records have no index; unset demands an index.
        records: Records written, over all that was produced.
        ranges: Ranges of arguments by name.
        declared: Most values that may be merely declared by the operator.
    """

    ROLES: ClassVar = ("data", "function", "arguments", "produced")

    property: Literal["preprocess"]
    data: tuple[str, ...]
    function: tuple[str, ...]
    arguments: tuple[str, ...]
    produced: tuple[str, ...]
    layout: tuple[str, ...] | None = None
    multiplicity: Range = ONCE
    exact: bool = True
    streams: bool = False
    records: Range | None = None
    ranges: dict[str, Range] = field(default_factory=dict)
    declared: int = 0

    def __post_init__(self) -> None:
        """Refuses lists that do not parse, and a negative number of declared values."""
        _check(self)
        check_layouts(self.layout)

    def references(self, role: str) -> References:
        """Returns the reference digests of ``data``, ``function``, ``arguments`` or ``produced``."""
        return References.parse(getattr(self, role), what=role)


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributeRules:
    """Which distribution must have been found in which data, and by what.

    Attributes:
        property: Always ``distribute``.
        data: Manifests of the data, ``[any]`` or ``[none]`` (data without a manifest).
        layout: Kinds of records that the data may be of, as evidence says them: ``uint16[1024]``, the columns
            of rows as canonical JSON, or a format such as ``jsonl``. Unset, a pinned manifest decides.
        function: Digests of the function.
        arguments: Digests of the arguments as a value; ``[none]`` where there must be none.
        distribution: Digests of the distribution as a value.
        multiplicity: How often each record was read; unset demands exactly once.
        exact: Whether what was handed on must have been the records that are counted; False accepts code in
            between that may have dropped some.
        streams: Whether data will do whose records have no index; unset demands an index.
        ranges: Ranges of arguments by name.
        bounds: Ranges of numbers in the distribution by path, such as ``shares.en``.
        computed_by_script: Whether a distribution that the script computed by itself will do; unset
            demands one that palm-torch computed from the records it delivered.
        declared: Most values that may be merely declared by the operator.
    """

    ROLES: ClassVar = ("data", "function", "arguments", "distribution")

    property: Literal["distribute"]
    data: tuple[str, ...]
    function: tuple[str, ...]
    arguments: tuple[str, ...]
    distribution: tuple[str, ...]
    layout: tuple[str, ...] | None = None
    multiplicity: Range = ONCE
    exact: bool = True
    streams: bool = False
    ranges: dict[str, Range] = field(default_factory=dict)
    bounds: dict[str, Range] = field(default_factory=dict)
    computed_by_script: bool = False
    declared: int = 0

    def __post_init__(self) -> None:
        """Refuses lists that do not parse, and a negative number of declared values."""
        _check(self)
        check_layouts(self.layout)

    def references(self, role: str) -> References:
        """Returns the reference digests of ``data``, ``function``, ``arguments`` or ``distribution``."""
        return References.parse(getattr(self, role), what=role)


DatasetRules: TypeAlias = BindRules | PreprocessRules | DistributeRules


def _check(rules: DatasetRules) -> None:
    if rules.declared < 0:
        raise PolicyError(f"declared: expected 0 or more, got {rules.declared}")
    for role in rules.ROLES:
        rules.references(role)
