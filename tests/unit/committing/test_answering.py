"""Answering audits out of what was kept, in this process or another."""

from __future__ import annotations

import dataclasses
import errno
import os
from typing import TYPE_CHECKING, Any

import audited
import pytest
import weights_at_hand

from palm_torch.challenge import answer as audit_answer
from palm_torch.challenge import challenge, questions, request, weights_asked
from palm_torch.challenge import tokens as audit_tokens
from palm_torch.challenge.tokens import Tokens
from palm_torch.commit import trace_opening, weights_commitment, weights_opening
from palm_torch.committing import answering, saved_trace
from palm_torch.digest import tagged_digest
from palm_torch.errors import ArtifactError, BindingError, DataError, EvidenceError

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.challenge.request import AuditRequest


def drawn(made: audited.Audited, **options: Any) -> AuditRequest:
    return request.draw(made.encoded, made.geometry, claims=None, nonce=audited.NONCE, **options)


def check(made: audited.Audited, asked: AuditRequest, found: audit_answer.AuditAnswer) -> None:
    """Looks at an answer as a verifier does, all but the arithmetic."""
    read = audit_answer.decode(found.encode(), what="the answer")
    wanted = questions.questions(asked, made.context, challenge.asked(asked, made.context))
    audit_answer.check_asked(read, asked, wanted, made.context)
    for opening, question in zip(read.openings, wanted, strict=True):
        shown = trace_opening.verify(made.root, made.encoded, question, opening)
        group = next(one for one in made.context.groups if question.site in one.sites)
        data = made.trace.data[question.site, group.dtype, group.channels]
        assert shown.values[: 4 * group.channels] in data
    if read.tokens is not None:
        audit_tokens.verify(read.tokens, made.context.facts[audit_tokens.FACT])


@pytest.mark.parametrize("model", [audited.llama(), audited.gpt2()], ids=["llama", "gpt2"])
def test_everything_that_was_asked_for(model: Any) -> None:
    made = audited.Audited(model)
    asked = drawn(made, queries=6, whole=1)
    check(made, asked, answering.answer(asked, made.kept()))


def test_no_ids_were_bound() -> None:
    made = audited.Audited(audited.llama(), tokens=None)
    found = answering.answer(drawn(made), made.kept())
    assert found.tokens is None
    check(made, drawn(made), found)


def test_a_request_about_another_trace() -> None:
    made = audited.Audited(audited.llama())
    other = dataclasses.replace(drawn(made), trace=tagged_digest("palm-torch/example/v1", b""))
    with pytest.raises(BindingError, match=f"request: expected one about the trace {made.root}"):
        answering.answer(other, made.kept())


def test_ids_of_another_run() -> None:
    made = audited.Audited(audited.llama(), tokens=Tokens(((1, 2),)))
    with pytest.raises(DataError, match="tokens: expected 2 sequences of 8 ids, or 9 with"):
        answering.answer(drawn(made), made.kept())


def with_weights(folder: Path) -> tuple[audited.Audited, Path]:
    linear = weights_asked.linear_widths(audited.llama())
    stored: dict[str, weights_at_hand.Stored] = {}
    for part in challenge.parts.parts(audited.llama()):
        for role, name in part.weights.items():
            shape = list(linear[role]) if role in linear else [32]
            shape = [64, 32] if role == "token embedding" else shape
            size = 4 * shape[0] * (shape[1] if len(shape) > 1 else 1)
            stored[name] = ("F32", shape, weights_at_hand.some_bytes(size, len(stored)))
    path = weights_at_hand.write(folder / "m.safetensors", stored)
    return audited.Audited(audited.llama(), weights=weights_commitment.commit(path).root), path


def test_weights_that_the_verifier_lacks(tmp_path: Path) -> None:
    made, path = with_weights(tmp_path)
    asked = drawn(made, coordinates=2, whole=1)
    found = answering.answer(asked, made.kept(), weights=path)
    check(made, asked, found)
    known = challenge.asked(asked, made.context)
    wanted = weights_asked.weights_questions(asked, known, audited.TOKENS)
    assert made.context.model is not None
    weights_asked.check(found.weights, wanted, made.context.model)
    for opening in found.weights:
        weights_opening.verify(opening, made.context.model)
    assert answering.answer(drawn(made), made.kept(), weights=path).weights == ()


def test_weights_that_are_not_given_or_not_named(tmp_path: Path) -> None:
    made, path = with_weights(tmp_path)
    with pytest.raises(DataError, match="it asks for 1 coordinates of weights at each place: pass weights="):
        answering.answer(drawn(made, coordinates=1), made.kept())
    nameless = audited.Audited(audited.llama())
    with pytest.raises(DataError, match="the trace names no weights of a model"):
        answering.answer(drawn(nameless, coordinates=1), nameless.kept(), weights=path)
    other = weights_at_hand.write(tmp_path / "other.safetensors", weights_at_hand.SMALL)
    with pytest.raises(ArtifactError, match="other weights"):
        answering.answer(drawn(made, coordinates=1), made.kept(), weights=other)


@pytest.mark.parametrize("scheme", ["hash", "kzg"])
def test_another_process_answers_the_same(tmp_path: Path, scheme: Any) -> None:
    made = audited.Audited(audited.llama(), scheme=scheme)
    saved_trace.save(tmp_path / "trace", made.kept())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trace"]
    assert {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "trace").iterdir()} == {
        "trace.palm-trace.json": 0o600,
        "tensors.bin": 0o600,
        "tokens.palm-opening.json": 0o600,
    }
    assert (tmp_path / "trace").stat().st_mode & 0o777 == 0o700
    asked = drawn(made, queries=1, weights=(1, 1, 1, 1 << 32))  # a head, of three rows
    with saved_trace.opened(tmp_path / "trace") as kept:
        found = answering.answer(asked, kept)
    assert len(found.openings) == 3
    assert found == answering.answer(asked, made.kept())
    check(made, asked, found)


def test_a_trace_without_ids_and_long_sites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved_trace, "_PIECE_BYTES", 1000)
    made = audited.Audited(audited.llama(), tokens=None)
    saved_trace.save(tmp_path / "trace", made.kept())
    assert not (tmp_path / "trace" / saved_trace.TOKENS).exists()
    with saved_trace.opened(tmp_path / "trace") as kept:
        assert kept.tokens is None
        assert kept.root == made.root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    saved_trace.save(tmp_path / "trace", audited.Audited(audited.llama()).kept())
    return tmp_path / "trace"


def refused(folder: Path, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says), saved_trace.opened(folder):
        pass


def test_files_that_somebody_changed(folder: Path) -> None:
    tensors = folder / saved_trace.TENSORS
    data = tensors.read_bytes()
    for at in (0, len(data) // 2, len(data) - 1):
        tensors.write_bytes(data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :])
        refused(folder, DataError, "they are not those that were captured")
    tensors.write_bytes(data[:-1])
    refused(folder, DataError, rf"expected {len(data)} bytes, as the context says, got {len(data) - 1}")
    tensors.unlink()
    refused(folder, DataError, "cannot read the kept tensors: No such file")
    tensors.write_bytes(data)
    tokens = folder / saved_trace.TOKENS
    shown = audit_tokens.opening(Tokens(((1,) * 8,) * 2), audited.SALT)
    tokens.write_bytes(shown.encode())
    refused(folder, BindingError, "opening of the tokens")
    tokens.unlink()
    refused(folder, DataError, "cannot read the ids of the tokens")
    (folder / saved_trace.CONTEXT).write_bytes(b"{}")
    refused(folder, EvidenceError, "missing key")
    (folder / saved_trace.CONTEXT).unlink()
    refused(folder, DataError, "cannot read the trace's context")


def test_tensors_that_change_after_a_first_look(folder: Path) -> None:
    made = audited.Audited(audited.llama())
    tensors = folder / saved_trace.TENSORS
    with saved_trace.opened(folder) as kept:
        with tensors.open("r+b") as stream:
            stream.write(bytes(tensors.stat().st_size))
        with pytest.raises(DataError, match="the bytes at hand are not those that were captured"):
            answering.answer(drawn(made), kept)
        os.truncate(tensors, 0)
        with pytest.raises(DataError, match="got 0: somebody cut it"):
            answering.answer(drawn(made), kept)


def test_a_disk_that_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with saved_trace.opened(folder) as kept:
        monkeypatch.setattr(os, "pread", fails)
        with pytest.raises(DataError, match=r"tensors\.bin: cannot be read: Input/output error"):
            answering.answer(drawn(audited.Audited(audited.llama())), kept)


def test_nothing_half_written_stays(tmp_path: Path) -> None:
    made = audited.Audited(audited.llama())
    (tmp_path / "there").write_text("mine")
    with pytest.raises(DataError, match="expected a new folder, there is something already"):
        saved_trace.save(tmp_path / "there", made.kept())
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    with pytest.raises(DataError, match="there is something already"):
        saved_trace.save(tmp_path / "nowhere", made.kept())
    with pytest.raises(DataError, match="cannot be written: No such file"):
        saved_trace.save(tmp_path / "none" / "trace", made.kept())

    def lost(start: int, stop: int) -> bytes:
        raise DataError(f"lost {start} to {stop}")

    broken = dataclasses.replace(made.kept(), read=lambda _site, _group: lost)
    with pytest.raises(DataError, match="lost 0 to"):
        saved_trace.save(tmp_path / "trace", broken)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nowhere", "there"]


@pytest.mark.parametrize("room", [1.0, 0.5])
def test_a_request_for_more_than_fits_is_noticed_before_it_is_all_read(
    room: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = audited.Audited(audited.llama())
    asked = drawn(made, queries=0, whole=1)
    size = len(answering.answer(asked, made.kept()).encode())
    wanted = challenge.asked(asked, made.context)
    monkeypatch.setattr(audit_answer, "MAX_BYTES", int(size * room))
    if room == 1:
        assert len(answering.answer(asked, made.kept()).openings) > 1
        return
    read = []
    kept = made.kept()

    def counted(site: Any, group: Any) -> Any:
        read.append(site)
        return kept.read(site, group)

    some = dataclasses.replace(kept, read=counted)
    with pytest.raises(DataError, match=f"request: it asks for more than the {int(size * room)} bytes"):
        answering.opened(some, questions.questions(asked, made.context, wanted))
    assert len(read) < len(questions.questions(asked, made.context, wanted))
