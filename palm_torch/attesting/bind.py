"""Measuring a binding: one reading of a dataset gives its manifest, multiset hash and record digests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from palm_torch.attesting import reading, sealing
from palm_torch.attesting.measured import Finished
from palm_torch.data import described, measure
from palm_torch.errors import CoverageError, SessionError
from palm_torch.properties import Bind
from palm_torch.roles import Source, Value

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from palm_torch.attesting.measured import Said
    from palm_torch.commit.manifest import Manifest
    from palm_torch.properties import Property
    from palm_torch.recorder import Reads
    from palm_torch.statement import Device

_HERE: Final = {
    "processes": (1, "other processes run code that is not this session's, and what they answer is believed"),
    "ranks": (None, "other ranks run code that is not this session's, and what they answer is believed"),
    "incremental": (False, "products of earlier measurements lie where the host can write, and are believed"),
}
"""Options of `measure` → what they must be in a session, and why."""


class Binding:
    """Binds one dataset."""

    PROPERTY: ClassVar[type[Property]] = Bind
    NAMED: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self._manifest: Manifest | None = None

    def __enter__(self) -> Self:
        """Nothing has to be hooked."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing was hooked."""

    def bind(self, path: str | os.PathLike[str], **options: Any) -> Manifest:  # noqa: ANN401 (as `measure` takes them)
        """Reads a dataset once, in this process, and writes its manifest; see `palm_torch.data.measure`.

        Raises:
            SessionError: If the session has bound a dataset already, or the options would have others do the
                work: processes whose code the session does not see, or products that lie on the disk.
            DataError: As `palm_torch.data.measure.measure`.
        """
        if self._manifest is not None:
            raise SessionError("run.bind: a session binds one dataset, and it has; open another session")
        for name, (alone, why) in _HERE.items():
            if name in options and options[name] is not alone:
                raise SessionError(
                    f"run.bind({name}={options[name]!r:.60}): expected {name}={alone}: {why}; leave it out "
                    "here, or use it with `palm-torch measure`, which attests nothing"
                )
        self._manifest = measure.measure(path, **options)
        return self._manifest

    def deliver(self, reads: Sequence[Reads], *, grad_enabled: bool) -> None:
        """Refuses a batch: what is read here beside the binding would be in no claim.

        Raises:
            SessionError: Always.
        """
        del reads, grad_enabled
        raise SessionError("a session of 'bind' binds data with run.bind(path) and delivers no records")

    def finish(self, said: Said) -> Finished:
        """Returns the property.

        Raises:
            CoverageError: If nothing was bound.
        """
        del said
        manifest = self._manifest
        if manifest is None:
            raise CoverageError("nothing was bound: call run.bind(path) inside the session")
        claims = Bind(
            files=described.files(manifest) if described.in_a_row(manifest) else {},
            manifest=described.manifest_artifact(manifest),
            multiset=manifest.multiset,
            records_root=manifest.digests_root,
            records=manifest.records,
            framing=Value(source=Source.MEASURED, value=described.framing(manifest)),
        )
        return Finished(claims=claims, kind=sealing.RESULT, event={"manifest": str(manifest.digest)})

    def devices(self) -> tuple[Device, ...]:
        """Returns the devices that the records may have been on."""
        return reading.in_use()

    def sidecars(self) -> dict[str, Callable[[Path], None]]:
        """Returns none: the manifest lies beside the data."""
        return {}
