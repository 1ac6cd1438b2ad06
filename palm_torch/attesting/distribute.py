"""Measuring a distribution: what was read, what was computed of it, and by what.

A statistic of palm-torch's own is computed here from the records of one dataset, each as it was delivered,
and the result is *measured* if these are all the records that the session read. What a script computes by
itself and hands over is *reported by code*.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar, Final

from palm_torch.attesting import sealing
from palm_torch.attesting.applied_function import AppliedFunction
from palm_torch.attesting.measured import Finished
from palm_torch.attesting.reading import Reading
from palm_torch.data import item_digests, statistics
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.encoding import encode_json
from palm_torch.errors import CoverageError, MeasurementError
from palm_torch.properties import Distribute
from palm_torch.roles import Source, Value
from palm_torch.statement import value_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from palm_torch.attesting.measured import Said
    from palm_torch.properties import Property
    from palm_torch.roles import Dataset

MAX_RESULT_BYTES: Final = 4 << 20

_NOT_WHOLE: Final = frozenset({"chunks", item_digests.ENCODED.format})
"""Formats of data whose digests do not bind all of what is handed on, or bind more than that."""


class Distribution(Reading):
    """Measures one run that computes a distribution."""

    PROPERTY: ClassVar[type[Property]] = Distribute
    NAMED: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        super().__init__()
        self._function = AppliedFunction()
        self._result: Value | None = None
        self._taken: _Taken | None = None

    def name_function(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Callable[..., Any]:
        """Names what is computed; see `AppliedFunction.take`."""
        return self._function.take(function, arguments)

    def take_result(self, result: Mapping[str, Any]) -> None:
        """Takes what the script computed.

        Raises:
            MeasurementError: If there is a result already, or it is more than evidence has room for.
            EncodingError: If it has no JSON form.
        """
        self._keep(result, Source.REPORTED)

    def compute(self, dataset: Any, statistic: str, arguments: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ANN401 (any attested dataset)
        """Reads every record of a dataset once, in order, and computes one of palm-torch's own statistics.

        Raises:
            MeasurementError: As `take_result`, or if there is no such statistic, or the dataset is none whose
                records are hashed one by one.
            DataError: If the records are not of the kind that it is of.
        """
        function = self._function.take(statistics.named(statistic), arguments)
        records = self.each(dataset)
        if dataset.info.layout.format in _NOT_WHOLE:
            raise MeasurementError(
                "run.statistic: expected an attested dataset itself, without encode=: what that leaves out "
                "is not hashed; compute it in a function of your own, with run.function and run.result"
            )
        self._taken = _Taken()
        return self._keep(function(self._taken.count(dataset, records)), Source.MEASURED)

    def finish(self, said: Said) -> Finished:
        """Returns the property.

        Raises:
            CoverageError: If nothing was read, no function was named, or there is no result.
            MeasurementError: If the function is another than when it was named.
        """
        del said
        if self._result is None:
            raise CoverageError(
                "there is no distribution: call run.statistic(dataset, 'record-length'), or hand over what "
                "you computed with run.result({...})"
            )
        data = self.data()
        function, arguments = self._function.claim()
        source = self._result.source
        if self._taken is not None and not self._taken.is_all_of(data):
            source = Source.REPORTED
        claims = Distribute(
            data=data,
            distribution=Value(source=source, value=self._result.value),
            function=function,
            arguments=arguments,
        )
        event = {"distribution": str(value_digest(self._result.value))}
        return Finished(claims=claims, kind=sealing.RESULT, event=dict(event))

    def _keep(self, result: Mapping[str, Any], source: Source) -> dict[str, Any]:
        if self._result is not None:
            raise MeasurementError("run.result: the session has a result already; one session, one result")
        if not isinstance(result, dict) or not result:
            raise MeasurementError(
                f"run.result: expected values by name, as in run.result({{'en': 12}}), got "
                f"{type(result).__name__}"
            )
        encoded = encode_json(result)
        if len(encoded) > MAX_RESULT_BYTES:
            raise MeasurementError(
                f"run.result: expected at most {MAX_RESULT_BYTES} bytes as JSON, got {len(encoded)}: use "
                "fewer and wider bins"
            )
        kept: dict[str, Any] = json.loads(encoded)
        self._result = Value(source=source, value=kept)
        return kept


class _Taken:
    """How many records a statistic was given."""

    def __init__(self) -> None:
        self._records = 0

    def count(self, dataset: object, records: Iterator[Any]) -> Iterator[Any]:
        """Yields records, as they are in the dataset.

        Raises:
            MeasurementError: If the dataset makes pairs of its records.
        """
        for record in records:
            if type(dataset) is AttestedMmapDataset and type(record) is tuple:
                raise MeasurementError(
                    "run.statistic: expected records as they lie, got pairs: leave out targets=True"
                )
            self._records += 1
            yield record

    def is_all_of(self, data: Mapping[str, Dataset]) -> bool:
        """Returns whether the session read nothing else: one dataset, and so many records."""
        read = [delivered.delivered for one in data.values() for delivered in one.uses.values()]
        return read == [self._records] and all(one.format not in _NOT_WHOLE for one in data.values())
