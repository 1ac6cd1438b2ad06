"""What a run says in the end, compared with what it said when it began and at each checkpoint.

Steps and records are only ever added; what a run is made of (initial weights, architecture, datasets, code,
packages, devices, inputs, seeds) stays what it was. None of this needs a policy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_torch.appraisal import delivered
from palm_torch.errors import BindingError, ClaimError, CodeError, prefixed
from palm_torch.properties import Train
from palm_torch.statement import require_one_source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from palm_torch.receipt import DatasetAccount, DeliveredSoFar
    from palm_torch.roles import Artifact, Dataset, Delivered, Steps, Value
    from palm_torch.sessions.segments import CheckedSegment
    from palm_torch.statement import Begin, Code, Statement


def check_begun(begin: Begin, end: Statement) -> None:
    """Checks that an end statement continues the begin statement of its session.

    Raises:
        BindingError: If they name different runs or operations.
        ClaimError: If packages or inputs are others than before.
        CodeError: If code of the begin is missing or another in the end.
    """
    if begin.run_id != end.run.run_id:
        raise BindingError("begin statement and end statement name different runs")
    if begin.operation != end.operation:
        raise BindingError(f"begun as {begin.operation!r}, ended as {end.operation!r}")
    check_packages(begin.environment, end.run.environment)
    check_code(begin.code, end.run.code)
    check_inputs(begin.inputs, end.run.inputs, when=" at begin")


def check_resumed(checked: Sequence[CheckedSegment], end: Statement) -> None:
    """Checks that an end statement continues every segment of a resumed run, and they each other.

    Args:
        checked: The segments, oldest first; none for a run that was never resumed.
        end: The end statement.

    Raises:
        ClaimError: If a quantity shrank, or something is another than before; the message names the segment.
        CodeError: If code of a segment is missing or another in the end.
    """
    if not checked:
        return
    claims = end.claims
    if not isinstance(claims, Train):
        raise ClaimError(f"a run of {end.operation!r} in several segments: only training is resumed")
    for segment in checked:
        content, begin = segment.content, segment.session.begin
        with prefixed(f"segment {segment.number}"):
            check_code(begin.code, segment.code)
            check_code(segment.code, end.run.code)
            check_packages(begin.environment, content.environment)
            check_packages(content.environment, end.run.environment)
            for device in content.devices:
                if device not in end.run.devices:
                    raise ClaimError(f"device {device.type!r:.80} of the checkpoint is missing at end")
            check_inputs(begin.inputs, end.run.inputs)
            for role, found, at_end in (
                ("initial", content.initial, claims.initial.digest),
                ("architecture", content.architecture, claims.architecture.digest),
            ):
                if found != at_end:
                    raise ClaimError(f"{role}: {found} at the checkpoint, {at_end} at end")
            _check_accounts(content.data)
    for before, after in zip(checked, [*checked[1:], None], strict=True):
        with prefixed(f"after segment {before.number}"):
            _check_steps(before.content.steps, claims.steps if after is None else after.content.steps)
            _check_data(before.content.data, claims.data if after is None else after.content.data)
    seeds = checked[0].session.begin.seeds.value
    if claims.seeds.value.get("begin") != seeds:
        raise ClaimError("seeds: those at begin are not those with which the first segment began")


def check_code(before: Code, after: Code) -> None:
    """Checks that code known at one moment is still part of the code known later.

    Args:
        before: The code known first.
        after: The code known later, which may be more.

    Raises:
        CodeError: If it is not, or was identified in another way.
    """
    require_one_source(before, after)
    known = {file.module: file for file in after.files}
    for file in before.files:
        if known.get(file.module) != file:
            raise CodeError(f"source file of {file.module} is missing later, or another one")


def check_packages(before: Value, after: Value) -> None:
    """Checks that packages found at one moment are still listed later.

    Args:
        before: The environment as it was found first.
        after: The environment as it was found later, where packages may have been added.

    Raises:
        ClaimError: If one is not, or there is no list.
    """
    first, last = before.value.get("packages"), after.value.get("packages")
    if not isinstance(first, list) or not isinstance(last, list):
        raise ClaimError("the installed packages are not listed")
    for package in first:
        if package not in last:
            raise ClaimError(f"package {package!r:.80} is missing later, or another one")


def check_inputs(before: Mapping[str, Artifact], after: Mapping[str, Artifact], *, when: str = "") -> None:
    """Checks that inputs named at one moment are the same at end.

    Args:
        before: Inputs by name, as they were.
        after: Inputs by name, at end.
        when: Words that follow the input's name in the message, such as `` at begin``.

    Raises:
        ClaimError: If one is missing, or another one.
    """
    for name, artifact in before.items():
        if after.get(name) != artifact:
            raise ClaimError(f"input {name!r}{when} is missing or another one at end")


def _check_accounts(data: Mapping[str, DatasetAccount]) -> None:
    for name, held in data.items():
        for use, account in held.uses.items():
            _check_account(f"data.{name}.{use}", account, manifested=held.manifest is not None)


def _check_account(what: str, account: DeliveredSoFar, *, manifested: bool) -> None:
    product = account.product
    if product is None:
        if not manifested:
            raise ClaimError(f"{what}: neither a manifest nor a multiset hash says what was delivered")
        return
    delivered.check(what, product, account.delivered)


def _check_steps(before: Steps, after: Steps) -> None:
    for name, first, last in (
        ("taken", before.taken, after.taken),
        ("skipped", before.skipped, after.skipped),
    ):
        if first > last:
            raise ClaimError(f"steps {name}: {first} at the checkpoint, then {last}")


def _check_data(
    before: Mapping[str, DatasetAccount], after: Mapping[str, DatasetAccount] | Mapping[str, Dataset]
) -> None:
    for name, held in before.items():
        later = after.get(name)
        if later is None:
            raise ClaimError(f"data.{name}: in use at the checkpoint, then missing")
        for field in ("format", "manifest", "records", "record_bytes", "layout"):
            first, last = getattr(held, field), getattr(later, field)
            if first != last:
                raise ClaimError(f"data.{name}.{field}: {first} at the checkpoint, then {last}")
        for use, account in held.uses.items():
            _check_use(f"data.{name}.{use}", account, later.uses.get(use))


def _check_use(what: str, before: DeliveredSoFar, after: DeliveredSoFar | Delivered | None) -> None:
    if after is None:
        raise ClaimError(f"{what}: {before.delivered} records at the checkpoint, then none")
    if before.delivered > after.delivered:
        raise ClaimError(f"{what}: {before.delivered} records at the checkpoint, then {after.delivered}")
    if after.exact and not before.exact:
        raise ClaimError(f"{what}: not counted exactly at the checkpoint, then exactly")
    if after.padded is not None and (before.padded is None or before.padded > after.padded):
        was = "an unknown number" if before.padded is None else before.padded
        raise ClaimError(f"{what}: {was} of padded records at the checkpoint, then {after.padded}")
