"""Measuring preprocessing: what was read, by what it was transformed, what was written.

What was written is known from the bytes as they left (`palm_torch.data.shard_writer`); nothing is read back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from palm_torch.attesting import sealing
from palm_torch.attesting.applied_function import AppliedFunction
from palm_torch.attesting.measured import Finished
from palm_torch.attesting.reading import Reading
from palm_torch.errors import CoverageError, SessionError
from palm_torch.properties import Preprocess

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from palm_torch.attesting.measured import Said
    from palm_torch.properties import Property
    from palm_torch.roles import Written


class Preprocessing(Reading):
    """Measures one run of preprocessing."""

    PROPERTY: ClassVar[type[Property]] = Preprocess
    NAMED: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        super().__init__()
        self._function = AppliedFunction()
        self._written: dict[str, Written | None] = {}

    def name_function(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Callable[..., Any]:
        """Names what is applied; see `AppliedFunction.take`."""
        return self._function.take(function, arguments)

    def begin_output(self, name: str) -> None:
        """Takes notice that a dataset is being written.

        Raises:
            SessionError: If one of that name was begun before.
        """
        if name in self._written:
            raise SessionError(
                f"ShardWriter: {name!r} was written before in this session; pass another name="
            )
        self._written[name] = None

    def end_output(self, name: str, written: Written) -> None:
        """Takes what was written."""
        self._written[name] = written

    def finish(self, said: Said) -> Finished:
        """Returns the property.

        Raises:
            CoverageError: If nothing was read or written, a writer is unfinished, or no function was named
                and called.
            MeasurementError: If the function is another than when it was named.
        """
        del said
        produced = {name: written for name, written in self._written.items() if written is not None}
        open_ones = sorted(self._written.keys() - produced.keys())
        if open_ones:
            raise CoverageError(
                f"ShardWriter {open_ones[0]!r} was begun inside the session and not finished: leave its with "
                "block before the session's, without an error"
            )
        if not produced:
            raise CoverageError(
                "nothing was written inside the session: write what comes of the data with "
                "palm_torch.ShardWriter"
            )
        data = self.data()
        function, arguments = self._function.claim()
        claims = Preprocess(data=data, produced=produced, function=function, arguments=arguments)
        event = {f"produced.{name}": str(written.digest) for name, written in sorted(produced.items())}
        return Finished(claims=claims, kind=sealing.RESULT, event=dict(event))
