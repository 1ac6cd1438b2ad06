"""Tokenizers as scripts have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from palm_torch.attesting import tokenizers
from palm_torch.commit import file_list
from palm_torch.errors import MeasurementError

UNKNOWN = "[UNK]"


class Saved:
    """A tokenizer that saves itself."""

    def save_pretrained(self, folder: str) -> None:
        Path(folder, "tokenizer.json").write_bytes(b"{}")


class Empty:
    """Saves nothing."""

    def save_pretrained(self, folder: str) -> None:
        pass


class Broken:
    """Cannot be saved."""

    def save_pretrained(self, folder: str) -> None:
        raise NotImplementedError("no vocabulary")


def test_an_object_is_the_folder_that_it_writes(tmp_path: Path) -> None:
    Saved().save_pretrained(str(tmp_path))
    listed = file_list.read(tmp_path, error=MeasurementError)
    assert tokenizers.spelled(Saved()) == tokenizers.spelled(tmp_path) == listed
    assert tokenizers.spelled(str(tmp_path)) == listed
    assert tokenizers.spelled(tmp_path / "tokenizer.json") == tmp_path / "tokenizer.json"
    assert tokenizers.spelled(b"{}") == b"{}"


@pytest.mark.parametrize(
    ("what", "says"),
    [(7, "expected a file, a folder"), (Empty(), "expected 1 to"), (Broken(), "failed: no vocabulary")],
)
def test_what_is_no_tokenizer_is_refused(what: object, says: str) -> None:
    with pytest.raises(MeasurementError, match=says):
        tokenizers.spelled(what)


def test_what_was_named_before_is_not_measured_again() -> None:
    saved = Saved()
    assert tokenizers.is_same(saved, saved)
    assert not tokenizers.is_same(saved, Saved())
    assert tokenizers.is_same(Path("a"), Path("a"))
    assert not tokenizers.is_same("a", Path("a"))
    assert not tokenizers.is_same(b"a", None)


def test_a_tokenizer_of_transformers_has_the_digest_of_what_it_saves(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    models = pytest.importorskip("tokenizers.models")
    library = pytest.importorskip("tokenizers")
    inner = library.Tokenizer(models.WordLevel({"a": 0, "b": 1, UNKNOWN: 2}, unk_token=UNKNOWN))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token=UNKNOWN)
    before = tokenizers.spelled(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    assert before == tokenizers.spelled(tmp_path) == tokenizers.spelled(tokenizer)
    tokenizer.add_tokens(["c"])
    assert tokenizers.spelled(tokenizer) != before
