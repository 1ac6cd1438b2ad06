"""What a script says of its run: quantities it logs, settings, inputs and outputs by role."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from palm_torch import together
from palm_torch.attesting import reported, surroundings
from palm_torch.encoding import encode_json
from palm_torch.errors import MeasurementError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from palm_torch.attesting.measured import Measured
    from palm_torch.roles import Artifact
    from palm_torch.statement import Series

MAX_CONFIG_BYTES: Final = 1 << 20


class ScriptRecord:
    """The sayings of one run.

    Args:
        measured: What the run is measured by: its property says which roles are nobody's to name.

    Attributes:
        inputs: Inputs by role.
        outputs: Outputs by role.
        settings: What was said with ``run.config``.
    """

    def __init__(self, measured: Measured) -> None:
        self._measured = measured
        self.inputs: dict[str, Artifact] = {}
        self.outputs: dict[str, Artifact] = {}
        self.settings: dict[str, Any] = {}
        self._reported = reported.Reported()
        self._before: dict[str, Artifact] = {}

    def resume(
        self,
        inputs: Mapping[str, Artifact],
        outputs: Mapping[str, Artifact],
        settings: Mapping[str, Any],
        series: Mapping[str, Series],
    ) -> None:
        """Goes on from what was said until a checkpoint."""
        self.inputs, self.outputs = {**inputs, **self.inputs}, dict(outputs)
        self._before = dict(inputs)
        self.settings = dict(settings)
        self._reported.resume(series)

    def log(self, values: Mapping[str, object]) -> None:
        """Appends one value to each of several quantities.

        Raises:
            MeasurementError: If a value is not one number.
        """
        _require_own("run.log", values)
        for name, value in values.items():
            self._reported.log(name, value)

    def series(self) -> dict[str, Series]:
        """Returns all quantities logged."""
        return self._reported.result()

    def config(self, values: Mapping[str, Any]) -> None:
        """Adds settings.

        Raises:
            EncodingError: If a value has no JSON form.
            MeasurementError: If it is more than evidence has room for.
        """
        _require_own("run.config", values)
        surroundings.require_json(values, what="run.config")
        encoded = encode_json({**self.settings, **values})
        if len(encoded) > MAX_CONFIG_BYTES:
            raise MeasurementError(
                f"run.config: expected at most {MAX_CONFIG_BYTES} bytes of settings in all, got "
                f"{len(encoded)}; give what is large as a file: run.input(settings=path)"
            )
        self.settings = json.loads(encoded)  # a copy: what the script changes later was not said

    def input(self, roles: Mapping[str, str | Path | bytes]) -> dict[str, bytes]:
        """Hashes further inputs and hands back what was hashed, but for large files.

        Raises:
            MeasurementError: If a file cannot be read, or its role was given something else before.
        """
        _require_own("run.input", roles)
        taken, contents = surroundings.take(roles, of=self._measured.PROPERTY, but=self._measured.NAMED)
        for role, artifact in taken.items():
            before = self._before.get(role, artifact)
            if before.digest != artifact.digest:
                raise MeasurementError(
                    f"run.input({role}=...): expected {before.digest}, as before the checkpoint, got "
                    f"{artifact.digest}: go on with the file that the run began with"
                )
        _require_once("run.input", self.inputs, taken)
        self.inputs.update(taken)
        return contents

    def output(self, roles: Mapping[str, str | Path | bytes]) -> None:
        """Hashes further outputs.

        Raises:
            MeasurementError: If a file cannot be read, or its role was given something else before.
        """
        _require_own("run.output", roles)
        made = surroundings.artifacts(roles, of=self._measured.PROPERTY)
        _require_once("run.output", self.outputs, made)
        self.outputs.update(made)


def _require_own(what: str, names: Iterable[str]) -> None:
    """Checks that no name looks like one that the evidence of several ranks gives to what a rank says.

    Raises:
        MeasurementError: Naming it.
    """
    for name in names:
        if together.MARK in name:
            raise MeasurementError(
                f"{what}: {name!r}: {together.MARK!r} stands before the number of the rank that said a "
                "thing, where ranks say different ones: expected a name without it"
            )


def _require_once(what: str, before: Mapping[str, Artifact], now: Mapping[str, Artifact]) -> None:
    """Checks that no role is given a second thing: the first, which was used, would not be in the evidence.

    Raises:
        MeasurementError: Naming the role.
    """
    for role, artifact in now.items():
        earlier = before.get(role, artifact)
        if earlier.digest != artifact.digest:
            raise MeasurementError(
                f"{what}({role}=...): given before as {earlier.digest}, now as {artifact.digest}: expected "
                f"one thing a role; give this one a role of its own, such as {role}_2"
            )
