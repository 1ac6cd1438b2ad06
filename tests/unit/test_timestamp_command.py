"""`palm-torch timestamp`: a query goes out, a token that was checked comes in."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest
import stamping
from asn1crypto import tsp

from palm_torch import cli, evidence
from palm_torch.cvm import timestamp
from palm_torch.digest import sha256_digest

if TYPE_CHECKING:
    from pathlib import Path

    from stamping import Authority
    from workshop import GoodRun


@pytest.fixture(scope="module")
def authority() -> Authority:
    return stamping.make_authority()


@pytest.fixture
def folder(good: GoodRun, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "good.palm.json").write_bytes(good.data)
    (tmp_path / "good.palm.json").chmod(0o640)
    (tmp_path / "root.pem").write_bytes(authority.root.pem)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stamp(*words: str) -> int:
    return cli.main(["timestamp", "good.palm.json", *words])


def answer(folder: Path, authority: Authority) -> None:
    assert stamp("--query", "q.tsq") == cli.ACCEPTED
    (folder / "q.tsr").write_bytes(authority.respond((folder / "q.tsq").read_bytes()))


def test_there_and_back(
    folder: Path, authority: Authority, good: GoodRun, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(folder, authority)
    said = capsys.readouterr().out
    assert "application/timestamp-query" in said
    assert str(good.bundle.digest_to_stamp()) in said
    assert "'@q.tsq' -o 'q.tsr'" in said
    assert stamp("--response", "q.tsr", "--root", "root.pem") == cli.ACCEPTED
    said = capsys.readouterr().out
    assert "2026-11-21T12:30:00+00:00, accurate to 1.5 s" in said
    assert "CN=TSA" in said
    stamped = evidence.decode((folder / "good.palm.json").read_bytes())
    assert stamped.digest_to_stamp() == good.bundle.digest_to_stamp()
    assert stat.S_IMODE((folder / "good.palm.json").stat().st_mode) == 0o640
    found = timestamp.verify_token(
        stamped.timestamp or b"", digest=stamped.digest_to_stamp(), root=authority.root.pem
    )
    assert found.time == stamping.STAMPED


def test_a_query_has_a_nonce_of_its_own(folder: Path) -> None:
    queries = set()
    for name in ("a", "b"):
        assert stamp("--query", name) == cli.ACCEPTED
        queries.add(tsp.TimeStampReq.load((folder / name).read_bytes())["nonce"].native)
    assert len(queries) == 2


def test_nothing_is_replaced_unasked(
    folder: Path, authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(folder, authority)
    assert stamp("--query", "q.tsq") == cli.REJECTED
    assert stamp("--query", "q.tsq", "--force") == cli.ACCEPTED
    assert stamp("--response", "q.tsr", "--root", "root.pem") == cli.ACCEPTED
    capsys.readouterr()
    before = (folder / "good.palm.json").read_bytes()
    assert stamp("--response", "q.tsr", "--root", "root.pem") == cli.MALFORMED
    assert "there is a time-stamp token already; --force" in capsys.readouterr().err
    assert (folder / "good.palm.json").read_bytes() == before
    assert stamp("--response", "q.tsr", "--root", "root.pem", "--force") == cli.ACCEPTED
    assert (folder / "good.palm.json").read_bytes() == before


def test_what_does_not_verify_is_not_attached(
    folder: Path, authority: Authority, good: GoodRun, capsys: pytest.CaptureFixture[str]
) -> None:
    other = timestamp.make_query(sha256_digest(b"another"), b"n")
    (folder / "other.tsr").write_bytes(authority.respond(other))
    (folder / "stranger.tsr").write_bytes(
        stamping.make_authority().respond(timestamp.make_query(good.bundle.digest_to_stamp(), b"n"))
    )
    (folder / "none.tsr").write_bytes(b"")
    for name, code, word in (
        ("other.tsr", cli.REJECTED, "BindingError"),
        ("stranger.tsr", cli.REJECTED, "TrustAnchorError"),
        ("none.tsr", cli.MALFORMED, "EvidenceError"),
        ("missing.tsr", cli.MALFORMED, "EvidenceError"),
    ):
        assert stamp("--response", name, "--root", "root.pem") == code
        assert word in capsys.readouterr().err
        assert (folder / "good.palm.json").read_bytes() == good.data


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--query", "q", "--response", "r", "--root", "root.pem"),
        ("--response", "r"),
        ("--query", "q", "--root", "root.pem"),
    ],
)
def test_words_that_make_no_sense(folder: Path, words: tuple[str, ...]) -> None:
    assert stamp(*words) == cli.USAGE
    assert not (folder / "q").exists()


def test_a_token_without_accuracy(
    folder: Path, authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stamp("--query", "q.tsq") == cli.ACCEPTED
    query = (folder / "q.tsq").read_bytes()
    (folder / "q.tsr").write_bytes(authority.respond(query, info={"accuracy": None}))
    capsys.readouterr()
    assert stamp("--response", "q.tsr", "--root", "root.pem") == cli.ACCEPTED
    assert "accurate" not in capsys.readouterr().out
