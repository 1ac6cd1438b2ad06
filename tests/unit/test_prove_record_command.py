"""`palm-torch prove-record` and `check-record`: a record is in a dataset, shown to somebody without it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import records_at_hand as at_hand

from palm_torch import cli
from palm_torch.commit import manifest_file
from palm_torch.data import measure

if TYPE_CHECKING:
    from pathlib import Path

LINES = ['{"text": "one"}', '{"text": "two"}', '{"text": "one"}', '{"text": "ünï"}']


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jsonl").write_text("\n".join(LINES) + "\n", encoding="utf-8")
    measure.measure(tmp_path / "a.jsonl")
    (tmp_path / "s.jsonl").write_text("\n".join(LINES), encoding="utf-8")
    (tmp_path / "salt").write_bytes(b"a secret of salt")
    (tmp_path / "other").write_bytes(b"some other salt!")
    (tmp_path / "empty").write_bytes(b"")
    measure.measure(tmp_path / "s.jsonl", salt=b"a secret of salt")
    (tmp_path / "a.bin").write_bytes(at_hand.CONTENT)
    measure.measure(tmp_path / "a.bin", record_length=8)
    (tmp_path / "record").write_bytes(at_hand.CONTENT[16:32])
    return tmp_path


def digest(name: str) -> str:
    from pathlib import Path

    return str(manifest_file.read_header(Path(f"{name}.palm-manifest")).digest)


def palm(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = cli.main(words)
    said = capsys.readouterr()
    return code, said.out + said.err


def last(said: str) -> str:
    return said.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "words", "index"),
    [
        ("a.jsonl", ("--text", LINES[1]), 1),
        ("a.jsonl", ("--text", LINES[3]), 3),
        ("a.jsonl", ("--index", "2", "--text", LINES[0]), 2),
        ("s.jsonl", ("--text", LINES[1], "--salt-file", "salt"), 1),
        ("a.bin", ("--file", "record"), 1),
        ("a.bin", ("--index", "9"), 9),
    ],
)
def test_a_record_is_found_and_proven(folder: Path, capsys: Any, name: str, words: Any, index: int) -> None:
    code, said = palm(capsys, "prove-record", f"{name}.palm-manifest", *words, "-o", "p.json")
    assert code == cli.ACCEPTED, said
    assert said.startswith(f"record    {index} of ")
    known = digest(name)
    assert f"manifest  {known}" in said
    (folder / f"{name}.palm-manifest").unlink()  # whoever checks has no dataset
    shown = [word for word in words if word not in ("--index", str(index))]
    code, said = palm(capsys, "check-record", "p.json", "--manifest-digest", known, *shown)
    assert code == cli.ACCEPTED, said
    what = "the record given" if shown else "a record with this digest (no record was compared)"
    assert last(said).startswith(f"PROVEN: {what} is number {index} of ")
    code, said = palm(capsys, "check-record", "p.json", "--manifest-digest", known, *shown, "--json")
    assert json.loads(said)["compared"] == bool(shown)


@pytest.mark.usefixtures("folder")
def test_all_places_of_a_record_are_told(capsys: Any) -> None:
    code, said = palm(capsys, "prove-record", "a.jsonl.palm-manifest", "--text", LINES[0])
    assert code == cli.ACCEPTED
    assert "places    2: 0, 2" in said
    assert "proof     not written" in said


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ("a.jsonl.palm-manifest", "--text", "three"),
            cli.REJECTED,
            "none of its 4 records is the one given",
        ),
        (("a.jsonl.palm-manifest", "--index", "4"), cli.MALFORMED, "record from 0 to 3, got 4"),
        (("a.jsonl.palm-manifest", "--index", "1", "--text", "x"), cli.REJECTED, "expected the record given"),
        (("a.jsonl.palm-manifest",), cli.USAGE, "needs --index N, --text TEXT or --file FILE"),
        (("a.jsonl.palm-manifest", "--text", "x", "--file", "record"), cli.USAGE, "either --text or --file"),
        (("a.jsonl.palm-manifest", "--index", "1", "--salt-file", "salt"), cli.USAGE, "goes with --text"),
        (("a.jsonl.palm-manifest", "--text", "x", "--salt-file", "salt"), cli.MALFORMED, "without a salt"),
        (("s.jsonl.palm-manifest", "--text", LINES[0]), cli.MALFORMED, "give its secret with --salt-file"),
        (
            ("s.jsonl.palm-manifest", "--text", LINES[0], "--salt-file", "empty"),
            cli.MALFORMED,
            "expected at least 16 bytes that nobody can guess, got 0",
        ),
        (
            ("s.jsonl.palm-manifest", "--text", LINES[0], "--salt-file", "other"),
            cli.REJECTED,
            "none of its 4 records",
        ),
        (("a.jsonl.palm-manifest", "--text", "\udcff"), cli.MALFORMED, "text that UTF-8 can spell"),
        (("a.jsonl.palm-manifest", "--file", "missing"), cli.MALFORMED, "cannot read the record"),
        (("missing", "--index", "0"), cli.MALFORMED, "cannot be read as a manifest"),
    ],
)
def test_what_cannot_be_proven(folder: Path, capsys: Any, words: Any, code: int, message: str) -> None:
    found, said = palm(capsys, "prove-record", *words, "-o", "p.json")
    assert found == code, said
    assert message in said
    assert not (folder / "p.json").exists()


def test_a_row_of_one_text_is_found_by_its_text(folder: Path, capsys: Any) -> None:
    arrow = pytest.importorskip("pyarrow")
    table = arrow.table({"text": ["one", "two"]})
    with arrow.OSFile("t.arrow", "wb") as sink, arrow.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    measure.measure(folder / "t.arrow")
    code, said = palm(capsys, "prove-record", "t.arrow.palm-manifest", "--text", "two")
    assert (code, said.splitlines()[0]) == (cli.ACCEPTED, "record    1 of 2 in t.arrow.palm-manifest")


def test_a_row_of_several_columns_is_no_text(folder: Path, capsys: Any) -> None:
    (folder / "files").mkdir()
    (folder / "files" / "a.txt").write_bytes(b"one")
    measure.measure(folder / "files", format="files")
    code, said = palm(capsys, "prove-record", "files/manifest.palm-manifest", "--text", "one")
    assert code == cli.MALFORMED
    assert "is no text alone" in said


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("words", "verdict", "message"),
    [
        (("--manifest-digest", "sha256:" + "00" * 32), "REJECTED", "it is of other data"),
        (("--manifest-digest", "nonsense"), "MALFORMED", "--manifest-digest"),
        (("--text", LINES[0]), "REJECTED", "expected the record given"),
        (("--text", LINES[1], "--salt-file", "salt"), "MALFORMED", "without a salt"),
    ],
)
def test_a_proof_that_does_not_hold(capsys: Any, words: Any, verdict: str, message: str) -> None:
    palm(capsys, "prove-record", "a.jsonl.palm-manifest", "--index", "1", "-o", "p.json")
    known = () if "--manifest-digest" in words else ("--manifest-digest", digest("a.jsonl"))
    code, said = palm(capsys, "check-record", "p.json", *known, *words)
    assert code == (cli.REJECTED if verdict == "REJECTED" else cli.MALFORMED)
    assert last(said).startswith(verdict)
    assert message in last(said)


@pytest.mark.usefixtures("folder")
def test_a_file_that_is_no_proof(capsys: Any) -> None:
    code, said = palm(capsys, "check-record", "record", "--manifest-digest", digest("a.bin"))
    assert code == cli.MALFORMED
    assert last(said).startswith("MALFORMED DataError: ")
