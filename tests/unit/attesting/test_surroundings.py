"""What a script names by role: read once, hashed, and handed on as it was hashed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from palm_torch.attesting import surroundings
from palm_torch.attesting.attested import attested
from palm_torch.digest import sha256_digest
from palm_torch.errors import CoverageError, EncodingError, MeasurementError
from palm_torch.hooks import opened, rng
from palm_torch.roles import Source

if TYPE_CHECKING:
    from pathlib import Path


def test_files_and_bytes_are_handed_on_as_they_were_hashed(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b'{"lr":1}')
    taken, contents = surroundings.take({"config": path, "same": str(path), "note": b"x"})
    path.write_bytes(b'{"lr":2}')
    assert json.loads(contents["config"]) == {"lr": 1}
    assert contents == {"config": b'{"lr":1}', "same": b'{"lr":1}', "note": b"x"}
    for role, data in contents.items():
        assert taken[role].digest == sha256_digest(data)
        assert (taken[role].kind, taken[role].source) == ("bytes", Source.MEASURED)


def test_large_files_are_hashed_and_not_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "MAX_INPUT_BYTES", 4)
    (tmp_path / "four").write_bytes(b"1234")
    (tmp_path / "five").write_bytes(b"12345")
    taken, contents = surroundings.take({"four": tmp_path / "four", "five": tmp_path / "five"})
    assert contents == {"four": b"1234"}
    assert (taken["five"].kind, taken["five"].digest) == ("file", sha256_digest(b"12345"))


def test_what_cannot_be_taken_is_named(tmp_path: Path) -> None:
    for role, item, says in (
        ("a", tmp_path / "missing", "a=.*missing': cannot be read: No such file"),
        ("b", tmp_path, "b=.*: cannot be read: Is a directory"),
        ("c", "zero\0byte", "c=.*cannot be read: embedded null byte"),
        ("d", object(), "d=...: expected a path or bytes, got object"),
        ("model", b"", "model=...: the role 'model' is not named by the script"),
        (f"{opened.PREFIX}x", b"", "is not named by the script"),
        ("line\nbreak", b"", "a role: expected a name of 1 to"),
    ):
        for named in (surroundings.take, surroundings.artifacts):
            with pytest.raises(MeasurementError, match=says):
                named({role: item})  # type: ignore[operator]


def test_the_session_hands_back_inputs_and_names_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b'{"lr": 0.1}')

    def script() -> None:
        with attested("train") as run:
            assert json.loads(run.input(config=tmp_path / "config.json")["config"]) == {"lr": 0.1}
            assert run.input(tokenizer=b"words") == {"tokenizer": b"words"}
            with pytest.raises(EncodingError, match=r"run.config\(b=...\): no JSON form for object"):
                run.config(a=1, b=object())
            with pytest.raises(MeasurementError, match=r"run\.log: every value needs a name"):
                run.log(1.5)

    with pytest.raises(CoverageError, match="no record was delivered"):
        script()


def test_surroundings_without_names_are_no_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rng, "rng_digests", lambda: "seed")
    with pytest.raises(MeasurementError, match="expected an object of values by name, got str"):
        surroundings.seeds_now()
