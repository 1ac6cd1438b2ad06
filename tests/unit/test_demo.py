"""The demo, small: it accepts the honest run, rejects six tamperings, and leaves its files behind."""

from __future__ import annotations

import contextlib
import inspect
import io
from typing import TYPE_CHECKING

import pytest

from palm_torch import cli, request, verification
from palm_torch.demo import corpus, loop, model, story, tampering
from palm_torch.errors import BindingError, DataError, RejectedError, SignatureError

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

TINY = story.Size(steps=20, batch=4, validation_records=32, shards=2, workers=0)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bool, str]:
    """Plays the tiny demo once; returns its folder, its verdict and what it printed."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        good = story.tell(folder, size=TINY)
    return folder, good, printed.getvalue()


def test_the_honest_run_is_accepted_and_every_tampering_rejected(played: tuple[Path, bool, str]) -> None:
    _, good, printed = played
    assert good
    assert "ACCEPTED (warning): simulated TEE" in printed
    assert printed.count("✓") >= 14 + 6
    assert "6 of 6 tamperings" in printed
    for item in tampering.TAMPERINGS:
        assert item.title in printed
        assert item.expected.__name__ in printed


def test_six_tamperings_have_six_errors() -> None:
    assert len(tampering.TAMPERINGS) == 6
    assert len({item.expected for item in tampering.TAMPERINGS}) == 6


def test_the_files_left_behind_verify(played: tuple[Path, bool, str]) -> None:
    folder, _, _ = played
    result = verification.verify(
        folder / "train.simulated.palm.json",
        policy=folder / "policy.yaml",
        request=folder / "request.json",
        artifacts={
            "model": folder / "model.safetensors",
            "data.dataset1": folder / "corpus" / "train" / "manifest.palm-manifest",
        },
    )
    assert result.simulated
    assert result.operation == "train"
    claims = {claim.name: claim.value for claim in result.claims}
    assert claims["data dataset1, train"].startswith("80 delivered, 80 different ones of 80, each once")
    assert claims["steps"].startswith("20 taken")
    assert request.decode((folder / "request.json").read_bytes()).operation == "train"


def test_twin_a_tampering_that_nobody_notices_fails_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unnoticed = tampering.Tampering("nothing is done", RejectedError, lambda _: None)
    monkeypatch.setattr(tampering, "TAMPERINGS", [unnoticed])
    assert not story.tell(tmp_path / "out", size=TINY)


def test_twin_a_relative_of_the_expected_error_is_not_good_enough() -> None:
    item = tampering.Tampering("", RejectedError, lambda _: None)
    assert not tampering.Outcome(item, None).as_expected
    assert not tampering.Outcome(item, BindingError("")).as_expected
    assert tampering.Outcome(item, RejectedError("")).as_expected


def test_errors_of_other_kinds_are_not_swallowed() -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        tampering.attempt(tampering.Tampering("", SignatureError, broken), None)  # type: ignore[arg-type]


def test_a_demo_is_replaced_and_other_folders_are_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("keep me", encoding="utf-8")
    assert cli.main(["demo", "--output", str(tmp_path)]) == cli.MALFORMED
    assert "choose another --output" in capsys.readouterr().err
    assert (tmp_path / "mine.txt").is_file()
    ours = tmp_path / "ours"
    story._clear(ours)
    (ours / "old").touch()
    story._clear(ours)
    assert not (ours / "old").exists()


def test_an_output_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be used"):
        story._clear(tmp_path / "file" / "below")
    with pytest.raises(DataError, match="cannot be made"):
        corpus.write(tmp_path / "file", train_records=1, validation_records=1, shards=1)


@pytest.mark.parametrize(("good", "code"), [(True, cli.ACCEPTED), (False, cli.REJECTED)])
def test_the_command_passes_the_verdict_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, good: bool, code: int
) -> None:
    asked: list[tuple[Path, story.Size]] = []

    def tell(output: Path, *, size: story.Size) -> bool:
        asked.append((output, size))
        return good

    monkeypatch.setattr(story, "tell", tell)
    assert cli.main(["demo", "--output", str(tmp_path)]) == code
    assert cli.main(["demo", "--output", str(tmp_path), "--steps", "30"]) == code
    assert asked == [(tmp_path, story.FULL), (tmp_path, story.Size(steps=30))]


def test_the_corpus_is_python_widened_to_tokens(tmp_path: Path) -> None:
    train, validation = corpus.write(tmp_path, train_records=10, validation_records=3, shards=4)
    shards = [path.read_bytes() for path in sorted(train.iterdir())]
    record_bytes = corpus.RECORD_TOKENS * corpus.TOKEN_BYTES
    assert [len(shard) // record_bytes for shard in shards] == [2, 3, 2, 3]
    assert (validation / "shard-0000.bin").stat().st_size == 3 * record_bytes
    tokens = b"".join(shards)
    assert not any(tokens[1::2])
    assert b"def " in tokens[::2] or b"import " in tokens[::2]


def test_the_full_demo_has_ten_megabytes() -> None:
    tokens = story.FULL.steps * story.FULL.batch * corpus.RECORD_TOKENS
    assert tokens * corpus.TOKEN_BYTES >= 10_000_000
    assert story.FULL.greatest_loss < 3 < TINY.greatest_loss


def test_a_python_without_sources_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus.sysconfig, "get_path", lambda _: str(tmp_path))
    (tmp_path / "a.py").write_bytes(b"x = 1\n")
    with pytest.raises(DataError, match="has 6"):
        corpus.write(tmp_path / "out", train_records=1, validation_records=1, shards=1)


@pytest.mark.parametrize("module", [loop, model])
def test_what_is_trained_knows_nothing_of_attestation(module: ModuleType) -> None:
    assert "palm" not in inspect.getsource(module)
