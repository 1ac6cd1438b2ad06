"""`palm-torch verify --dataset` and `coverage`: what a reader of evidence asks about its data."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import records_at_hand as at_hand
import workshop

from palm_torch import cli, verification
from palm_torch.commit import coverage
from palm_torch.errors import DataError, InputError

if TYPE_CHECKING:
    from pathlib import Path

    from workshop import GoodRun

AT = "2026-11-21T12:00:00Z"
PART = bytes([1, 0, 3]) + bytes(at_hand.RECORDS - 3)
WORDS = ("good.palm.json", "--policy", "policy.yaml", "--request", "request.json", "--at", AT)


@pytest.fixture
def folder(good: GoodRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "good.palm.json").write_bytes(good.data)
    (tmp_path / "request.json").write_bytes(good.request)
    (tmp_path / "policy.yaml").write_bytes(good.policy_text())
    coverage.write_sidecar(tmp_path / "good.dataset1.eval.coverage", PART, 1)
    at_hand.write_manifest(tmp_path / "a.bin.palm-manifest")
    (tmp_path / "a.bin").write_bytes(at_hand.CONTENT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def palm(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = cli.main(words)
    said = capsys.readouterr()
    return code, said.out + said.err


def checks(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[dict[str, str], list[str]]:
    code, said = palm(capsys, "verify", *WORDS, *words, "--json")
    assert code == cli.ACCEPTED, said
    result = json.loads(said)
    return {item["name"]: item["detail"] for item in result["checks"]}, result["not_checked"]


def last(said: str) -> str:
    return said.strip().splitlines()[-1]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("role", ["", "data=", "data.dataset1="])
def test_a_dataset_by_its_manifest_and_the_map_beside(capsys: Any, role: str) -> None:
    found, _ = checks(capsys, "--dataset", f"{role}a.bin.palm-manifest")
    assert found["dataset"] == (
        "a.bin.palm-manifest is the manifest of data.dataset1; eval: 4 deliveries of 2 records, each as "
        "often as good.dataset1.eval.coverage says, are those of the sealed multiset hash; "
        "train: 2 whole epochs"
    )
    by_artifact, _ = checks(capsys, "--artifact", "data=a.bin.palm-manifest")
    assert by_artifact["artifact"] == found["dataset"].replace("of data.dataset1;", "of data;")


def test_without_the_map_it_says_so(folder: Path, capsys: Any) -> None:
    (folder / "good.dataset1.eval.coverage").rename(folder / "elsewhere")
    found, left_open = checks(capsys, "--dataset", "a.bin.palm-manifest")
    assert "eval" not in found["dataset"]
    assert any(
        line.startswith("which records of data.dataset1 were delivered for eval") for line in left_open
    )
    found, left_open = checks(capsys, "--dataset", "a.bin.palm-manifest", "--coverage", "elsewhere")
    assert "as elsewhere says" in found["dataset"]
    assert not any("which records" in line for line in left_open)


def test_the_data_at_hand_is_hashed_again(folder: Path, capsys: Any) -> None:
    words = ("--dataset", "a.bin.palm-manifest", "--recompute", "a.bin")
    found, left_open = checks(capsys, *words)
    assert found["dataset"].endswith("; 10 records were read and hashed again")
    assert not any("multiset hash" in line for line in left_open)
    (folder / "a.bin").write_bytes(at_hand.CONTENT[:40] + b"x" + at_hand.CONTENT[41:])
    code, said = palm(capsys, "verify", *WORDS, *words)
    assert code == cli.REJECTED
    assert last(said).startswith("REJECTED ArtifactError: record 2 (a.bin, bytes 32 to 47) is not the one")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--recompute", "a.bin"), "go with --dataset"),
        (("--coverage", "good.dataset1.eval.coverage"), "go with --dataset"),
        (("--dataset", "a.bin.palm-manifest", "--salt-file", "a.bin"), "goes with --recompute"),
        (("--dataset", "missing"), "cannot be read as a manifest"),
        (("--dataset", "a.bin.palm-manifest", "--recompute", "missing"), "no such file"),
        (
            ("--dataset", "a.bin.palm-manifest", "--recompute", "a.bin", "--recompute", "a.bin"),
            "2 paths for one dataset",
        ),
        (
            (
                *("--dataset", "data=a.bin.palm-manifest", "--dataset", "a.bin.palm-manifest"),
                *("--recompute", "data.x=a.bin"),
            ),
            "expected ROLE=PATH with a role that a --dataset was given for, got data.x",
        ),
        (("--inclusion", "a.bin"), "a.bin"),
    ],
)
def test_words_that_do_not_go_together(capsys: Any, words: Any, message: str) -> None:
    code, said = palm(capsys, "verify", *WORDS, *words)
    assert code == cli.MALFORMED
    assert last(said).startswith("MALFORMED ")
    assert message in last(said)


@pytest.mark.usefixtures("folder")
def test_a_chain_takes_no_dataset(capsys: Any) -> None:
    code, said = palm(capsys, "verify", "good.palm.json", *WORDS, "--dataset", "a.bin.palm-manifest")
    assert code == cli.USAGE
    assert "go with a single piece of evidence" in said.replace("\n", " ")


def test_the_same_from_python(folder: Path) -> None:
    def details(**words: Any) -> list[str]:
        result = verification.verify(
            "good.palm.json", policy="policy.yaml", request="request.json", at=workshop.NOW, **words
        )
        return [check.detail for check in result.checks if check.name == "dataset"]

    said = details(datasets="a.bin.palm-manifest")
    assert said == details(datasets={"data": "a.bin.palm-manifest"})
    assert "hashed again" in details(datasets=folder / "a.bin.palm-manifest", recompute="a.bin")[0]
    with pytest.raises(DataError, match="go with --dataset"):
        details(recompute="a.bin")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("words", [{"coverage": ["m"]}, {"inclusions": ["p.json"]}])
def test_of_parts_the_maps_lie_beside_each(words: Any) -> None:
    with pytest.raises(InputError, match="leave out --coverage and --inclusion"):
        verification.verify(
            "good.palm.json",
            policy="policy.yaml",
            parts=["good.palm.json"],
            datasets="a.bin.palm-manifest",
            at=workshop.NOW,
            **words,
        )


def test_a_receipt_takes_no_dataset(folder: Path, resumed: Any) -> None:
    (folder / "r.palm-receipt.json").write_bytes(resumed.sessions[0].file.encode())
    with pytest.raises(InputError, match="are for sealed evidence"):
        verification.verify(
            "r.palm-receipt.json", policy="policy.yaml", datasets="a.bin.palm-manifest", at=workshop.NOW
        )


@pytest.mark.parametrize(
    "words",
    [("verify", *WORDS, "--dataset", "a.bin.palm-manifest"), ("coverage", "good.palm.json", "--index=2")],
)
def test_neither_torch_nor_numpy_is_needed(folder: Path, words: Any) -> None:
    program = (
        "import sys\nfrom palm_torch import cli\ncode = cli.main(sys.argv[1:])\n"
        "print(code, *[name for name in ('torch', 'numpy', 'gmpy2') if name in sys.modules])"
    )
    use = ("--use", "eval") if words[0] == "coverage" else ()
    done = subprocess.run(
        [sys.executable, "-c", program, *words, *use], capture_output=True, text=True, check=False, cwd=folder
    )
    assert last(done.stdout) == "0", done.stderr


# The verb that asks about one record ----------------------------------------------------------------


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("index", "times"), [(0, "once"), (1, "0 times"), (2, "3 times")])
def test_how_often_a_record_was_used(capsys: Any, index: int, times: str) -> None:
    code, said = palm(
        capsys, "coverage", "good.palm.json", "--index", f"{index}", "--use", "eval", "-o", "p.json"
    )
    assert code == cli.ACCEPTED
    assert said.splitlines()[0] == f"record {index} of dataset1 was delivered {times} for eval"
    assert "The evidence itself was NOT verified" in last(said)
    numbered = f"{at_hand.MANIFEST.digest}, which numbers the records"
    assert said.splitlines()[1] == f"manifest  {numbered}"
    found, _ = checks(capsys, "--inclusion", "p.json")
    assert found["inclusion"] == f"{said.splitlines()[0]}; manifest: {numbered}"


@pytest.mark.usefixtures("folder")
def test_a_count_as_json_says_that_it_is_not_verified(capsys: Any) -> None:
    words = ("good.palm.json", "--index", "2", "--use", "eval", "--dataset", "dataset1", "--json")
    code, said = palm(capsys, "coverage", *words)
    assert code == cli.ACCEPTED
    assert json.loads(said) == {
        "verified": False,
        "dataset": "dataset1",
        "manifest": str(at_hand.MANIFEST.digest),
        "use": "eval",
        "index": 2,
        "records": 10,
        "root": str(coverage.coverage_root(PART, 1)),
        "delivered": 3,
    }


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--index", "10", "--use", "eval"), cli.MALFORMED, "record from 0 to 9, got 10"),
        (("--index", "0"), cli.MALFORMED, "expected the coverage map, which travels beside"),
        (("--index", "0", "--use", "eval", "--dataset", "x"), cli.REJECTED, "one of its datasets (dataset1)"),
        (("--index", "0", "--coverage", "good.dataset1.eval.coverage"), cli.REJECTED, "of another run"),
        (("--index", "0", "--coverage", "a.bin"), cli.MALFORMED, "expected a coverage file"),
        (("--index", "-1"), cli.USAGE, "--index"),
        ((), cli.USAGE, "--index"),
    ],
)
def test_questions_without_an_answer(capsys: Any, words: Any, code: int, message: str) -> None:
    found, said = palm(capsys, "coverage", "good.palm.json", *words)
    assert found == code
    assert message in said


def test_a_number_that_no_manifest_gives(folder: Path, good: GoodRun, capsys: Any) -> None:
    unnamed = good.sealed_end("claims.data.dataset1.manifest", None)
    (folder / "good.palm.json").write_bytes(unnamed.encode())
    words = ("coverage", "good.palm.json", "--index", "2", "--use", "eval")
    code, said = palm(capsys, *words, "-o", "p.json")
    assert code == cli.ACCEPTED
    assert said.splitlines()[1] == "manifest  none; the number is the one that the run read the record by"
    _, text = palm(capsys, *words, "--json")
    assert json.loads(text)["manifest"] is None
    (folder / "good.palm.json").write_bytes(good.data)
    code, said = palm(capsys, "verify", *WORDS, "--inclusion", "p.json")
    assert code == cli.REJECTED
    assert "expected the manifest sha256:" in said


def test_a_stream_and_a_use_that_was_not(folder: Path, good: GoodRun, capsys: Any) -> None:
    data = good.end.claims.data["dataset1"]
    uses = {"train": workshop.put(data.uses["train"], "counts", None)}
    path = "claims.data.dataset1"
    end = workshop.put(workshop.put(good.end, f"{path}.uses", uses), f"{path}.records", None)
    stream = good.with_end(workshop.put(end, f"{path}.manifest", None).encode())
    (folder / "stream.palm.json").write_bytes(stream.encode())
    assert "is a stream" in palm(capsys, "coverage", "stream.palm.json", "--index", "0")[1]
    only = good.with_end(workshop.put(good.end, f"{path}.uses", {"eval": data.uses["eval"]}).encode())
    (folder / "only.palm.json").write_bytes(only.encode())
    words = ("coverage", "only.palm.json", "--index=0")
    assert "was not used for train, but for eval" in palm(capsys, *words, "--use=train")[1]
    assert "was not used" not in palm(capsys, *words)[1]
