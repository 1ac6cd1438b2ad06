"""`palm-torch measure`: what it prints, and what it refuses."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import sequence_files
from recording import LENGTH

from palm_torch import cli
from palm_torch.commit import manifest_file
from palm_torch.data import measure
from palm_torch.data.measuring import products
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = "manifest.palm-manifest"
WORDS = ("--record-length", str(LENGTH))


class Palm:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: object) -> tuple[int, str, str]:
        code = cli.main(["measure", *map(str, words)])
        said = self._capsys.readouterr()
        return code, said.out, said.err


@pytest.fixture
def palm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Palm:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return Palm(capsys)


def digest(path: Path) -> str:
    return str(manifest_file.read(path).digest)


def test_several_datasets_and_patterns(palm: Palm, tokens: Path) -> None:
    code, out, err = palm(tokens / "part-[01].bin", tokens / "part-0.bin", tokens, *WORDS, "--processes", 2)
    assert (code, err) == (cli.ACCEPTED, "")
    targets = [tokens / "part-0.bin.palm-manifest", tokens / "part-1.bin.palm-manifest", tokens / MANIFEST]
    expected = [
        line
        for target, (count, files) in zip(targets, [(40, 1), (41, 1), (123, 3)], strict=True)
        for line in (
            f"manifest  {target}",
            f"digest    {digest(target)}",
            f"records   {count} of 32 bytes in {files} files",
        )
    ]
    assert out.splitlines() == expected
    code, out, _ = palm(str(tokens) + "/part-*", "--check")
    assert code == cli.MALFORMED  # part-2 was not measured
    code, _, err = palm(tokens / "nothing-*", *WORDS)
    assert (code, "nothing matches the pattern" in err) == (cli.MALFORMED, True)


def test_check_says_so(palm: Palm, tokens: Path) -> None:
    palm(tokens, *WORDS)
    code, out, _ = palm(tokens, "--check")
    assert code == cli.ACCEPTED
    assert out.splitlines() == [
        f"checked   {tokens / MANIFEST}",
        f"digest    {digest(tokens / MANIFEST)}",
        "records   123 of 32 bytes in 3 files",
        "          every record is as the manifest says",
    ]
    with (tokens / "part-1.bin").open("r+b") as stream:
        stream.seek(33)
        stream.write(b"xx")
    code, out, err = palm(tokens, "--check", "--processes", 2)
    assert (code, out) == (cli.REJECTED, "")
    assert f"error: RecordError: {tokens / 'part-1.bin'}: record 41 (bytes 32 to 63 of the file)" in err
    assert err.count("\n") == 1


def test_changed_data_replaces_the_manifest_and_says_which(palm: Palm, tokens: Path) -> None:
    palm(tokens, *WORDS)
    before = digest(tokens / MANIFEST)
    assert "replaced" not in palm(tokens, *WORDS)[1]
    (tokens / "part-0.bin").unlink()
    code, out, _ = palm(tokens, *WORDS)
    assert (code, f"replaced  {before}" in out) == (cli.ACCEPTED, True)


def test_salted_keeps_the_salt_away_from_the_data(palm: Palm, tokens: Path, tmp_path: Path) -> None:
    code, out, _ = palm(tokens, *WORDS, "--salted")
    assert code == cli.ACCEPTED
    (salt,) = (tmp_path / "state" / "palm-torch" / "salts").iterdir()
    assert salt.name.startswith(f"{tokens.name}-")
    assert out.splitlines()[3:] == [
        f"salt      {salt}",
        "          keep it, and keep it secret: nobody can read by this manifest without it",
    ]
    assert stat.S_IMODE(salt.stat().st_mode) == 0o600
    assert len(salt.read_bytes()) == 32
    assert salt.read_bytes() not in (tokens / MANIFEST).read_bytes()
    assert salt.read_bytes().hex().encode() not in (tokens / MANIFEST).read_bytes()
    assert palm(tokens, "--check")[0] == cli.MALFORMED
    assert palm(tokens, "--check", "--salt-file", salt)[0] == cli.ACCEPTED
    code, _, err = palm(tokens, *WORDS)
    assert (code, "made with a salt" in err) == (cli.MALFORMED, True)
    assert manifest_file.read(tokens / MANIFEST).salted
    assert palm(tokens, *WORDS, "--force")[0] == cli.ACCEPTED
    assert not manifest_file.read(tokens / MANIFEST).salted


def test_salt_of_a_measurement_that_failed_is_not_kept(palm: Palm, tokens: Path, tmp_path: Path) -> None:
    assert palm(tokens, "--salted")[0] == cli.MALFORMED
    assert list((tmp_path / "state" / "palm-torch" / "salts").iterdir()) == []


def test_another_layout_needs_force(palm: Palm, tokens: Path) -> None:
    palm(tokens, *WORDS)
    for words in (("--record-length", 8), (*WORDS, "--token-dtype", "int16")):
        code, _, err = palm(tokens, *words)
        assert (code, "--force replaces it" in err) == (cli.MALFORMED, True)
        assert palm(tokens, *words, "--force")[0] == cli.ACCEPTED
        palm(tokens, *WORDS, "--force")
    (tokens / MANIFEST).write_bytes(b"mine")
    assert palm(tokens, *WORDS)[0] == cli.MALFORMED
    assert (tokens / MANIFEST).read_bytes() == b"mine"
    assert palm(tokens, *WORDS, "--force")[0] == cli.ACCEPTED


def test_incremental_keeps_a_file_beside_the_manifest(palm: Palm, tokens: Path) -> None:
    palm(tokens, *WORDS)
    first = digest(tokens / MANIFEST)
    for _ in range(2):
        code, out, _ = palm(tokens, *WORDS, "--incremental")
        assert (code, "replaced" in out) == (cli.ACCEPTED, False)
    assert digest(tokens / MANIFEST) == first
    assert (tokens / "manifest.palm-products").stat().st_size == 24 + 6 * 448


@pytest.mark.parametrize(
    "words",
    [
        ("--salted", "--salt-file", "s"),
        ("--check", "--salted"),
        ("--check", "--record-length", "16"),
        ("--check", "--force"),
        ("--check", "--incremental"),
        ("--processes", "0"),
        ("--windows", "--format", "bin"),
    ],
)
def test_contradictions_are_usage(palm: Palm, tokens: Path, words: tuple[str, ...]) -> None:
    assert palm(tokens, *words)[0] == cli.USAGE
    assert palm()[0] == cli.USAGE


def test_windows_are_measured_by_chunks(palm: Palm, tokens: Path) -> None:
    path = tokens / "part-0.bin"
    path.write_bytes(bytes(range(256)) * 41)
    code, out, _ = palm(path, "--windows", "--processes", 2)
    target = tokens / "part-0.bin.chunks.palm-manifest"
    assert code == cli.ACCEPTED
    assert out.splitlines()[::2] == [f"manifest  {target}", "records   3 of any length in 1 files"]
    assert palm(path, "--windows", "--check")[0] == cli.ACCEPTED
    with path.open("r+b") as stream:
        stream.seek(5000)
        stream.write(b"xx")
    code, _, err = palm(path, "--windows", "--check")
    assert (code, "record 1 (bytes 4096 to 8191" in err) == (cli.REJECTED, True)


def test_torchrun_decides_how_many(palm: Palm, tokens: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    for words in (("--processes", 2), ("--salted",)):
        code, _, err = palm(tokens, *WORDS, *words)
        assert (code, "torchrun decides" in err) == (cli.USAGE, True)


def test_as_a_module_and_without_torch(tokens: Path) -> None:
    words = [sys.executable, "-X", "importtime", "-m", "palm_torch", "measure", str(tokens), *WORDS]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.startswith("manifest  ")
    assert "palm_torch.data.measure" in done.stderr
    assert "| torch\n" not in done.stderr


def test_a_pair_of_files_is_measured_once(palm: Palm, tmp_path: Path) -> None:
    folder = tmp_path / "pairs"
    folder.mkdir()
    sequence_files.write(folder / "m", [[1, 2], [3]])
    sequence_files.write(folder / "n", [[4]])
    for _ in range(2):  # the second time manifests match, too
        code, out, err = palm(folder / "*", folder / "m", folder / ".." / "pairs" / "m.idx")
        assert (code, err) == (cli.ACCEPTED, "")
        told = [line for line in out.splitlines() if line.startswith("manifest")]
        assert told == [f"manifest  {folder / name}.bin.palm-manifest" for name in "mn"]


def test_an_index_that_is_no_shards_is_nobodys(palm: Palm, tokens: Path) -> None:
    (tokens / "index.json").write_text('{"shards": oops')
    assert palm(tokens, *WORDS)[0] == cli.ACCEPTED
    (tokens / "index.json").write_text('{"shards": [], "version": 9}')
    code, _, err = palm(tokens, *WORDS)
    assert (code, "if this is no MDS folder, name its format (--format" in err) == (cli.MALFORMED, True)
    assert palm(tokens, *WORDS, "--format", "bin")[0] == cli.ACCEPTED


@pytest.mark.parametrize("at", ["before", "after"])
def test_salt_stays_if_the_manifest_made_with_it_does(
    palm: Palm, tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    finish = measure.ManifestWriter.finish

    def interrupted(writer: Any, **words: Any) -> Any:
        if at == "after":
            finish(writer, **words)
        raise DataError("Ctrl-C, say")

    monkeypatch.setattr(measure.ManifestWriter, "finish", interrupted)
    code, out, _ = palm(tokens, *WORDS, "--salted")
    assert code == cli.MALFORMED
    kept = list((tmp_path / "state" / "palm-torch" / "salts").iterdir())
    assert len(kept) == (at == "after")
    assert (tokens / MANIFEST).exists() == (at == "after")
    if kept:
        assert out == f"salt      {kept[0]}\n"
        assert palm(tokens, "--check", "--salt-file", kept[0])[0] == cli.ACCEPTED


def test_products_that_cannot_be_kept_leave_manifest_and_salt(
    palm: Palm, tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    palm(tokens, *WORDS)
    before = digest(tokens / MANIFEST)

    def full(_products: Any) -> None:
        raise DataError("No space left on device")

    monkeypatch.setattr(products.Products, "finish", full)
    assert palm(tokens, *WORDS, "--salted", "--incremental", "--force")[0] == cli.MALFORMED
    assert digest(tokens / MANIFEST) == before
    assert list((tmp_path / "state" / "palm-torch" / "salts").iterdir()) == []
