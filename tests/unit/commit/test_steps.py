"""The history of step roots: entries, inclusion, extension, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from palm_torch.commit import history, steps
from palm_torch.commit.steps import Step, Steps
from palm_torch.errors import BindingError, DataError, EvidenceError

CONTEXT, ROOT = b"\x01" * 32, b"\x02" * 32


def history_of(size: int) -> tuple[Steps, list[Step]]:
    made = Steps()
    return made, [made.append(CONTEXT, bytes((number,)) * 32) for number in range(size)]


def test_bytes_of_an_entry() -> None:
    step = Step(258, CONTEXT, ROOT)
    assert step.encode() == b"\0\0\0\x12palm-torch/step/v1" + bytes(6) + b"\x01\x02" + CONTEXT + ROOT
    assert len(step.encode()) == steps.ENTRY_BYTES == 94
    assert Step.decode(step.encode()) == step


@pytest.mark.parametrize("data", [b"", bytes(94), Step(0, CONTEXT, ROOT).encode()[:-1]])
def test_other_bytes_are_no_entry(data: bytes) -> None:
    with pytest.raises(EvidenceError, match="step: expected 94 bytes"):
        Step.decode(data)


def test_a_text_is_no_entry() -> None:
    with pytest.raises(EvidenceError, match="step: expected 94 bytes, got str"):
        Step.decode("0" * 94)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("number", "context", "root", "message"),
    [
        (-1, CONTEXT, ROOT, "expected a number"),
        (2**53 - 1, CONTEXT, ROOT, "expected a number"),
        (1.0, CONTEXT, ROOT, "expected a whole number, got 1.0"),
        (True, CONTEXT, ROOT, "expected a whole number, got True"),
        (0, "0" * 32, ROOT, "a context of bytes, got str"),
        (0, CONTEXT, bytearray(32), "a root of bytes, got bytearray"),
        (0, CONTEXT[1:], ROOT, "a context of 32 bytes, got 31"),
        (0, CONTEXT, ROOT + b"\0", "a root of 32 bytes, got 33"),
    ],
)
def test_malformed_steps(number: Any, context: Any, root: Any, message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        Step(number, context, root)


def test_the_history_is_an_rfc_9162_log_of_entries() -> None:
    made, entries = history_of(5)
    assert len(made) == 5
    assert [step.number for step in entries] == list(range(5))
    assert made.root() == history.root_of([step.encode() for step in entries])
    assert made.root(3) == history.root_of([step.encode() for step in entries[:3]])


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8, 9])
def test_steps_are_shown_and_histories_extended(size: int) -> None:
    made, entries = history_of(size)
    for step in entries:
        proof = made.inclusion_proof(step.number)
        steps.verify_inclusion(step, size, made.root(), proof)
        for other in (
            Step(step.number, ROOT, step.root),
            Step(step.number, CONTEXT, b"\xff" * 32),
        ):
            with pytest.raises(BindingError):
                steps.verify_inclusion(other, size, made.root(), proof)
    for old in range(size + 1):
        steps.verify_consistency(old, size, made.root(old), made.root(), made.consistency_proof(old))


def test_a_step_has_one_number() -> None:
    made, entries = history_of(4)
    moved = Step(2, entries[1].context, entries[1].root)
    with pytest.raises(BindingError):
        steps.verify_inclusion(moved, 4, made.root(), made.inclusion_proof(1))
    with pytest.raises(EvidenceError, match=r"expected an index in \[0, 4\), got 4"):
        steps.verify_inclusion(Step(4, CONTEXT, ROOT), 4, made.root(), made.inclusion_proof(1))


def test_a_rewritten_step_shows() -> None:
    made, _ = history_of(4)
    other = Steps()
    for number in range(6):
        other.append(CONTEXT, bytes((number if number != 2 else 9,)) * 32)
    with pytest.raises(BindingError):
        steps.verify_consistency(4, 6, made.root(), other.root(), other.consistency_proof(4))


def test_sizes_that_never_were() -> None:
    made, _ = history_of(2)
    with pytest.raises(DataError):
        made.root(3)
    with pytest.raises(DataError):
        made.consistency_proof(2, 3)
    with pytest.raises(DataError):
        made.inclusion_proof(2)
