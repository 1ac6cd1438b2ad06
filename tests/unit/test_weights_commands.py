"""`palm-torch commit`, `open` and `check`: what they say, what they write, and their exit codes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import records_at_hand
import weights_at_hand as at_hand
from workshop import put

from palm_torch import cli
from palm_torch.commit import opening_file, safetensors_file

if TYPE_CHECKING:
    from workshop import GoodRun

AT = "2026-11-21T12:00:00Z"
APPRAISED = ("--policy", "policy.yaml", "--request", "request.json", "--at", AT)


def stored(tensors: dict[str, bytes]) -> dict[str, at_hand.Stored]:
    shapes = records_at_hand.SHAPES
    return {name: ("F32", list(shapes[name]), data) for name, data in tensors.items()}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good: GoodRun) -> Path:
    """The good run's evidence; the model that came out, under its tied name; the one it began with."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.palm.json").write_bytes(good.data)
    (tmp_path / "request.json").write_bytes(good.request)
    (tmp_path / "policy.yaml").write_bytes(good.policy_text())
    (tmp_path / "hardware.yaml").write_bytes(good.policy_text(hardware=True))
    after = stored(records_at_hand.AFTER)
    after["tied.weight"] = after.pop("head.weight")
    at_hand.write(tmp_path / "model.safetensors", after)
    at_hand.write(tmp_path / "initial.safetensors", stored(records_at_hand.BEFORE))
    at_hand.write(tmp_path / "large.safetensors")
    return tmp_path


def palm(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = cli.main(words)
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return code, said.out + said.err


def last(said: str) -> str:
    return said.strip().splitlines()[-1]


def field(said: str, name: str) -> str:
    return next(line for line in said.splitlines() if line.startswith(name + " ")).removeprefix(name).strip()


@pytest.mark.usefixtures("folder")
def test_a_tied_tensor_of_the_model_that_came_out(capsys: Any) -> None:
    code, said = palm(capsys, "commit", "model.safetensors", "--like", "train.palm.json")
    assert code == cli.ACCEPTED, said
    assert field(said, "root").startswith(str(records_at_hand.MODEL.digest))
    assert field(said, "listed").startswith(
        "it is the model of train.palm.json; whether that is to be believed"
    )
    code, said = palm(
        capsys,
        *("open", "model.safetensors", "--tensor", "head.weight", "--cols", "0:2"),
        *("--like", "train.palm.json", "-o", "o.palm-opening.json"),
    )
    assert code == cli.ACCEPTED, said
    assert field(said, "tensor") == "'head.weight' (also 'tied.weight'), float32 [3]"
    assert field(said, "discloses") == "rows 0:1, columns 0:3: 12 bytes, since tiles are opened whole"
    assert "the model of train.palm.json" in field(said, "listed")
    code, said = palm(
        capsys,
        *("check", "o.palm-opening.json", "--evidence", "train.palm.json", *APPRAISED),
        *("--tensor", "tied.weight", "--rows", "0", "--cols", "0:2", "--values", "v.safetensors"),
    )
    assert code == cli.ACCEPTED, said
    assert field(said, "evidence").startswith("train.palm.json: ACCEPTED (warning): simulated TEE")
    assert field(said, "role") == "model, the model that came out"
    assert "NOT SHOWN: anything of it elsewhere" in said
    assert last(said) == (
        "PROVEN: these are rows 0:1, columns 0:2 of 'head.weight' in the model that came out, as "
        "train.palm.json says (warning, strength simulated)"
    )
    values = safetensors_file.stored_tensors(Path("v.safetensors"))
    assert values["head.weight"].spec.shape == (2,)
    assert values["head.weight"].path.read_bytes().endswith(records_at_hand.AFTER["head.weight"][:8])


@pytest.mark.usefixtures("folder")
def test_the_model_it_began_with(capsys: Any) -> None:
    words = ("open", "initial.safetensors", "--tensor", "body.weight", "--like", "train.palm.json")
    code, said = palm(capsys, *words, "-o", "o.json")
    assert code == cli.ACCEPTED, said
    assert "it is the initial of train.palm.json" in field(said, "listed")
    check = ("check", "o.json", "--evidence", "train.palm.json", *APPRAISED)
    code, said = palm(capsys, *check, "--role", "initial")
    assert code == cli.ACCEPTED, said
    assert "in the model it began with, as train.palm.json says" in last(said)
    for role in ((), ("--role", "model")):
        code, said = palm(capsys, *check, *role)
        assert code == cli.REJECTED
        assert last(said) == (
            "REJECTED BindingError: o.json: expected it under the root of model, "
            f"{records_at_hand.MODEL.digest}, it is under the root of initial, the model it began with: "
            "--role initial asks for that"
        )
    code, said = palm(capsys, *check, "--role", "base")
    assert code == cli.REJECTED
    assert "expected the role 'base', it names weights as model, initial: --role says" in last(said)
    code, said = palm(capsys, *words, "--role", "model")
    assert code == cli.REJECTED
    assert "'body.weight' is not as listed: the model of train.palm.json: expected the root" in said
    code, said = palm(capsys, *words, "--role", "base")
    assert code == cli.REJECTED
    assert "expected a role with weights, model, initial, got 'base'" in said


def test_a_run_that_changed_nothing(capsys: Any, folder: Path, good: GoodRun) -> None:
    same = put(records_at_hand.INITIAL, "taken", "end")
    (folder / "same.palm.json").write_bytes(good.sealed_end("claims.model", same).encode())
    palm(
        capsys,
        "open",
        "initial.safetensors",
        "--tensor",
        "body.weight",
        "--like",
        "same.palm.json",
        "-o",
        "o",
    )
    code, said = palm(capsys, "check", "o", "--evidence", "same.palm.json", *APPRAISED)
    assert code == cli.ACCEPTED, said
    assert field(said, "role") == "model, the model that came out; initial, the model it began with"
    code, said = palm(capsys, "check", "o", "--evidence", "same.palm.json", *APPRAISED, "--json")
    shown = json.loads(said)
    assert (shown["roles"], shown["strength"], shown["rows"]) == (["model", "initial"], "simulated", [0, 2])
    assert shown["evidence"]["tier"] == "warning"
    assert (shown["role"], shown["index"], shown["count"]) == ("model", 0, 2)
    assert shown["only_one_of_its_name"] is True
    words = ("--evidence", "same.palm.json", *APPRAISED, "--role", "initial")
    code, said = palm(capsys, "check", "o", *words)
    assert field(said, "role") == "initial, the model it began with; model, the model that came out"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("scheme", ["hash", "kzg"])
def test_by_a_root_alone(capsys: Any, scheme: str) -> None:
    words = ("large.safetensors", "--scheme", scheme)
    code, said = palm(capsys, "commit", *words, "--out", "list.json")
    assert code == cli.ACCEPTED, said
    assert field(said, "weights") == "6 tensors of 3220124 bytes in large.safetensors"
    root = field(said, "root").split(",")[0]
    code, said = palm(capsys, "commit", *words, "--json", "--like", "list.json")
    assert json.loads(said)["root"] == root
    assert json.loads(said)["equal"] == ["list.json"]
    code, said = palm(
        capsys,
        "open",
        *words,
        "--tensor",
        "body.weight",
        "--rows",
        "0:8",
        "--like",
        "list.json",
        "-o",
        "o.json",
    )
    assert code == cli.ACCEPTED, said
    for given in (root, root.partition(":")[2]):
        code, said = palm(capsys, "check", "o.json", "--root", given)
        assert code == cli.ACCEPTED, said
        assert (
            last(said)
            == "PROVEN: these are rows 0:8, columns 0:1024 of 'body.weight' in weights with this root"
        )
    assert "whose weights they are, which rests on where you have the root from" in said
    code, said = palm(capsys, "check", "o.json", "--root", root, "--json")
    shown = json.loads(said)
    assert (shown["evidence"], shown["role"], shown["roles"]) == (None, None, None)
    assert (shown["index"], shown["count"], shown["only_one_of_its_name"]) == (2, 6, False)
    only_one = "that the root has no other tensor of this name"
    assert only_one in palm(capsys, "check", "o.json", "--root", root)[1]
    for words in (("--root", root, "--like", "list.json"), ("--like", "list.json")):
        code, said = palm(capsys, "check", "o.json", *words)
        assert code == cli.ACCEPTED, said
        assert only_one not in said
        assert json.loads(palm(capsys, "check", "o.json", *words, "--json")[1])["only_one_of_its_name"]
    code, said = palm(capsys, "check", "o.json", "--root", "00" * 32, "--like", "list.json")
    assert code == cli.REJECTED
    assert "expected it under the root palm-sha256:00" in last(said)


@pytest.mark.usefixtures("folder")
def test_what_a_list_is_compared_with(capsys: Any) -> None:
    code, said = palm(capsys, "commit", "initial.safetensors", "--like", "train.palm.json", "-o", "kept.json")
    assert "it is the initial of train.palm.json" in field(said, "listed")
    tensors = stored({**records_at_hand.BEFORE, "body.weight": b"\1" * 24})
    at_hand.write(Path("third.safetensors"), tensors)
    code, said = palm(capsys, "commit", "third.safetensors", "--like", "train.palm.json")
    assert code == cli.ACCEPTED
    assert "it is NOT the model of train.palm.json nor the initial of train.palm.json" in field(
        said, "listed"
    )
    code, said = palm(capsys, "commit", "third.safetensors", "--like", "train.palm.json", "--scheme", "kzg")
    assert "names and aliases are as in the model of train.palm.json; a kzg root cannot" in field(
        said, "listed"
    )
    code, said = palm(
        capsys,
        *("open", "model.safetensors", "--tensor", "head.weight", "--scheme", "kzg"),
        *("--like", "train.palm.json"),
    )
    assert code == cli.ACCEPTED, said
    assert "only names and aliases are of train.palm.json" in field(said, "listed")
    assert field(said, "opening") == "not written; -o NAME.palm-opening.json writes it"


@pytest.mark.usefixtures("folder")
def test_inputs_of_the_precompile(capsys: Any) -> None:
    words = ("open", "large.safetensors", "--tensor", "body.weight", "--rows", "3", "--evm")
    code, said = palm(capsys, *words, "--scheme", "kzg")
    assert code == cli.ACCEPTED, said
    inputs = [line.split()[1] for line in said.splitlines() if line.startswith("evm ")]
    assert [len(bytes.fromhex(line)) for line in inputs] == [192, 192]
    code, said = palm(capsys, *words)
    assert code == cli.USAGE
    assert "--evm goes with --scheme kzg" in said


@pytest.fixture
def opening(folder: Path, capsys: Any) -> Path:
    words = (
        "open",
        "model.safetensors",
        "--tensor",
        "body.weight",
        "--rows",
        "0:1",
        "--like",
        "train.palm.json",
    )
    assert palm(capsys, *words, "-o", "o.json")[0] == cli.ACCEPTED
    return folder / "o.json"


@pytest.mark.usefixtures("opening")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--tensor", "head.weight"), "expected the tensor 'head.weight', it is of 'body.weight'"),
        (("--rows", "1:2"), "expected rows 1:2, it has 0:1"),
        (("--rows", "0:2"), "expected rows 0:2, it has 0:1"),
        (("--cols", "0:2"), "expected columns 0:2, it has 0:3"),
    ],
)
def test_anything_else_than_expected_is_rejected(capsys: Any, words: Any, says: str) -> None:
    evidence = ("--evidence", "train.palm.json", *APPRAISED)
    code, said = palm(capsys, "check", "o.json", *evidence, *words, "--values", "v.safetensors")
    assert code == cli.REJECTED
    assert last(said) == f"REJECTED ArtifactError: o.json: {says}"
    assert not Path("v.safetensors").exists()


@pytest.mark.usefixtures("opening")
def test_evidence_is_appraised_first(capsys: Any, folder: Path, good: GoodRun) -> None:
    code, said = palm(capsys, "check", "o.json", "--evidence", "train.palm.json", "--policy", "hardware.yaml")
    assert (code, last(said).split(":")[0]) == (cli.REJECTED, "REJECTED FreshnessError")
    code, said = palm(
        capsys,
        *("check", "o.json", "--evidence", "train.palm.json", "--policy", "hardware.yaml", "--at", AT),
        *("--freshness", "not_checked", "--json"),
    )
    assert (code, json.loads(said)["error"]) == (cli.REJECTED, "TrustAnchorError")
    forged = put(good.end, "claims.model", put(records_at_hand.INITIAL, "taken", "end"))
    (folder / "forged.palm.json").write_bytes(good.with_end(forged.encode()).encode())
    code, said = palm(capsys, "check", "o.json", "--evidence", "forged.palm.json", *APPRAISED)
    assert (code, last(said).split(":")[0]) == (cli.REJECTED, "REJECTED BindingError")
    other = good.sealed_end("claims.model", put(records_at_hand.INITIAL, "taken", "end"))
    (folder / "other.palm.json").write_bytes(other.encode())
    code, said = palm(capsys, "check", "o.json", "--evidence", "other.palm.json", *APPRAISED)
    assert code == cli.REJECTED
    found = opening_file.read(Path("o.json")).root
    assert f"the root of model, {records_at_hand.INITIAL.digest}, it is under {found}" in last(said)


def test_values_are_written_of_what_was_proven_alone(capsys: Any, opening: Path) -> None:
    made = opening_file.read(opening)
    (opening.parent / "bent.json").write_bytes(put(made, "tiles", b"\7" * 24).encode())
    for name, root in (("o.json", "00" * 32), ("bent.json", made.root.value.hex())):
        code, said = palm(capsys, "check", name, "--root", root, "--values", "v.safetensors")
        assert (code, last(said).split(":")[0]) == (cli.REJECTED, "REJECTED BindingError")
        assert not (opening.parent / "v.safetensors").exists()
    code, said = palm(
        capsys, "check", "o.json", "--root", made.root.value.hex(), "--values", "no/folder/v.safetensors"
    )
    assert code == cli.REJECTED
    assert "cannot write here" in said


def test_a_kzg_root_is_in_no_evidence(capsys: Any, opening: Path) -> None:
    words = ("open", "model.safetensors", "--tensor", "body.weight", "--scheme", "kzg", "-o", "k.json")
    assert palm(capsys, *words)[0] == cli.ACCEPTED
    code, said = palm(capsys, "check", "k.json", "--evidence", "train.palm.json", *APPRAISED)
    assert code == cli.MALFORMED
    assert "evidence names roots of scheme hash: open under that, or check this one with --root" in last(said)
    assert opening.exists()


@pytest.mark.usefixtures("opening")
@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("check", "o.json"), cli.USAGE, "check needs either --evidence EVIDENCE or --root"),
        (("check", "o.json", "--root", "00" * 32, "--evidence", "e"), cli.USAGE, "check needs either"),
        (
            ("check", "o.json", "--root", "00" * 32, "--policy", "p"),
            cli.USAGE,
            "--policy goes with --evidence",
        ),
        (("check", "o.json", "--root", "00" * 32, "--at", AT), cli.USAGE, "--at goes with --evidence"),
        (("check", "o.json", "--root", "00" * 32, "--role", "a"), cli.USAGE, "--role goes with --evidence"),
        (("check", "o.json", "--root", "00" * 32, "--part", "a"), cli.USAGE, "--part goes with --evidence"),
        (("check", "o.json", "--like", "a", "--freshness", "required"), cli.USAGE, "--freshness goes with"),
        (("check", "o.json", "--like", "a", "--evidence", "b"), cli.USAGE, "check needs either"),
        (
            ("check", "o.json", "--evidence", "train.palm.json", *APPRAISED, "--jwks", "a"),
            cli.USAGE,
            "--nras and --jwks go together",
        ),
        (("check", "o.json", "--root", "", "--like", "none"), cli.MALFORMED, "cannot read the commitment"),
        (("check", "o.json", "--evidence", "train.palm.json"), cli.USAGE, "--evidence goes with --policy"),
        (("check", "o.json", "--root", "00"), cli.USAGE, "expected 32 bytes, got 1"),
        (("check", "o.json", "--root", "sha256:" + "00" * 32), cli.USAGE, "expected a palm-sha256 root"),
        (("check", "o.json", "--root", "00" * 32, "--rows", "a:b"), cli.USAGE, "expected A:B such as 0:8"),
        (
            ("check", "policy.yaml", "--root", "00" * 32),
            cli.MALFORMED,
            "MALFORMED EvidenceError: policy.yaml",
        ),
        (("check", "none.json", "--root", "00" * 32), cli.MALFORMED, "cannot read the opening"),
        (("check", "o.json", "--evidence", "none", "--policy", "policy.yaml"), cli.MALFORMED, "cannot read"),
        (("commit", "none.safetensors"), cli.MALFORMED, "none.safetensors: cannot be opened"),
        (("commit", "policy.yaml"), cli.MALFORMED, "not a safetensors file"),
        (("commit", "model.safetensors", "--like", "policy.yaml"), cli.MALFORMED, "policy.yaml: not a JSON"),
        (
            ("commit", "large.safetensors", "--like", "train.palm.json"),
            cli.REJECTED,
            "expected float32 [2, 3], got",
        ),
        (("open", "large.safetensors"), cli.USAGE, "Missing option '--tensor'"),
        (
            ("open", "model.safetensors", "--tensor", "a", "--role", "model"),
            cli.USAGE,
            "--role goes with --like",
        ),
        (("open", "model.safetensors", "--tensor", "a", "--rows", "8:"), cli.USAGE, "expected A:B"),
        (
            ("open", "model.safetensors", "--tensor", "body.weight", "--rows", "5:9"),
            cli.MALFORMED,
            "within 0:2",
        ),
    ],
)
def test_one_clear_line(capsys: Any, words: tuple[str, ...], code: int, says: str) -> None:
    found, said = palm(capsys, *words)
    assert found == code, said
    assert says in said


def test_receipts_and_lists_have_no_roles(capsys: Any, opening: Path) -> None:
    (opening.parent / "r.palm-receipt.json").write_bytes(b'{"payload":""}')
    for words, says in (
        (
            ("commit", "model.safetensors", "--like", "r.palm-receipt.json"),
            "a receipt: expected sealed evidence",
        ),
        (
            ("check", "o.json", "--evidence", "r.palm-receipt.json", "--policy", "policy.yaml"),
            "a receipt; expected sealed evidence",
        ),
    ):
        code, said = palm(capsys, *words)
        assert code == cli.MALFORMED
        assert says in said
    assert palm(capsys, "commit", "model.safetensors", "-o", "list.json")[0] == cli.ACCEPTED
    words = ("open", "model.safetensors", "--tensor", "body.weight", "--like", "list.json", "--role", "model")
    code, said = palm(capsys, *words)
    assert code == cli.MALFORMED
    assert "a commitment, which is of one model" in said


@pytest.mark.usefixtures("folder")
def test_the_extra_is_named(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("model.safetensors", "--scheme", "kzg")
    root = field(palm(capsys, "commit", *words)[1], "root").split(",")[0]
    assert palm(capsys, "open", *words, "--tensor", "body.weight", "-o", "k.json")[0] == cli.ACCEPTED
    monkeypatch.setitem(sys.modules, "py_arkworks_bls12381", None)
    code, said = palm(capsys, "check", "k.json", "--root", root)
    assert code == cli.REJECTED
    assert "error: MissingExtraError: " in said
    assert "pip install 'palm-torch[kzg]'" in said
