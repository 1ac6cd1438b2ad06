"""A request is used for one answer."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import audited
import pytest

from palm_torch.challenge import request, used
from palm_torch.committing import answering
from palm_torch.errors import FreshnessError, RequestError

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.challenge.answer import AuditAnswer


@pytest.fixture(scope="module")
def answers() -> list[AuditAnswer]:
    made = audited.Audited(audited.llama())
    drawn = request.draw(made.encoded, made.geometry, claims=None, queries=1)
    return [answering.answer(drawn, made.kept(), decoding={"number": number}) for number in range(2)]


def test_the_same_answer_again_and_no_other(tmp_path: Path, answers: list[AuditAnswer]) -> None:
    path = tmp_path / "r.json"
    used.use(path, answers[0].digest)
    note = tmp_path / "r.json.used"
    assert note.read_text() == f"{answers[0].digest}\n"
    used.use(path, answers[0].digest)
    with pytest.raises(
        FreshnessError, match=f"used for the answer {answers[0].digest}; another answer needs"
    ):
        used.use(path, answers[1].digest)
    assert note.read_text() == f"{answers[0].digest}\n"
    used.use(tmp_path / "other.json", answers[1].digest)


@pytest.mark.parametrize("content", [b"", b"\xff\n", b"sha256:00\n"])
def test_a_note_that_nobody_can_read_counts_as_use(
    tmp_path: Path, answers: list[AuditAnswer], content: bytes
) -> None:
    (tmp_path / "r.json.used").write_bytes(content)
    with pytest.raises(RequestError, match="the request counts as used"):
        used.use(tmp_path / "r.json", answers[0].digest)


def test_a_note_without_its_last_byte(tmp_path: Path, answers: list[AuditAnswer]) -> None:
    (tmp_path / "r.json.used").write_text(str(answers[0].digest))
    with pytest.raises(FreshnessError):
        used.use(tmp_path / "r.json", answers[0].digest)


def test_a_note_that_cannot_be_written(tmp_path: Path, answers: list[AuditAnswer]) -> None:
    with pytest.raises(RequestError, match="cannot note that the request is used: No such file"):
        used.use(tmp_path / "none" / "r.json", answers[0].digest)
    with pytest.raises(RequestError, match=r"cannot note that the request is used: .*null"):
        used.use(tmp_path / "a\0b", answers[0].digest)
    (tmp_path / "r.json.used").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RequestError):
        used.use(tmp_path / "r.json", answers[0].digest)
    assert not (tmp_path / "elsewhere").exists()


def test_a_disk_that_is_full(
    tmp_path: Path, answers: list[AuditAnswer], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RequestError, match="cannot note that the request is used: No space left"):
        used.use(tmp_path / "r.json", answers[0].digest)


def test_a_request_that_replaces_another_is_not_used(tmp_path: Path, answers: list[AuditAnswer]) -> None:
    path = tmp_path / "r.json"
    used.renew(path)
    used.use(path, answers[0].digest)
    used.renew(path)
    used.use(path, answers[1].digest)
    note = tmp_path / "d.json.used"
    note.mkdir()
    with pytest.raises(RequestError, match="cannot remove the note"):
        used.renew(tmp_path / "d.json")
