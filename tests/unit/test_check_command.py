"""`palm-torch check` with lists, parts and files about GPUs; where the verbs about weights write, and not."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import records_at_hand
import weights_at_hand as at_hand
from workshop import put

from palm_torch import cli, part_files
from palm_torch.commands import weights
from palm_torch.commit import (
    opening_file,
    weights_commitment,
    weights_opening,
    weights_root,
    weights_schemes,
)
from palm_torch.commit.weights_block import Block
from palm_torch.digest import TAGGED_SHA256, Digest
from palm_torch.encoding import encode_json

if TYPE_CHECKING:
    from composite_run import CompositeRun
    from workshop import GoodRun

AT = "2026-11-21T12:00:00Z"
APPRAISED = ("--policy", "policy.yaml", "--request", "request.json", "--at", AT)


def palm(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = cli.main(words)
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return code, said.out + said.err


def last(said: str) -> str:
    return said.strip().splitlines()[-1]


def trained(folder: Path) -> None:
    """Writes the model that came out of the run that is at hand, and an opening of it."""
    shapes = records_at_hand.SHAPES
    stored: dict[str, at_hand.Stored] = {
        name: ("F32", list(shapes[name]), data) for name, data in records_at_hand.AFTER.items()
    }
    stored["tied.weight"] = stored.pop("head.weight")
    like = {"the model": weights_commitment.WeightsCommitment.of(records_at_hand.MODEL.tensors, "hash")}
    made = at_hand.opened(at_hand.write(folder / "model.safetensors", stored), like=like)
    (folder / "o.json").write_bytes(made.encode())


def test_files_about_gpus(
    capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, composite: CompositeRun
) -> None:
    monkeypatch.chdir(tmp_path)
    trained(tmp_path)
    Path("bare.palm.json").write_bytes(put(composite.bundle, "gpu_endorsements", None).encode())
    Path("policy.yaml").write_bytes(composite.policy_text())
    Path("request.json").write_bytes(composite.request)
    found = composite.bundle.gpu_endorsements
    assert found is not None
    for item in found.rims:
        Path(f"{item.id}.xml").write_bytes(item.xml)
    Path("ocsp0").write_bytes(found.ocsp[0])
    words = ("check", "o.json", "--evidence", "bare.palm.json", *APPRAISED)
    code, said = palm(capsys, *words)
    assert code == cli.REJECTED
    assert "PlatformError: GPU 0: the policy requires reference" in said
    rims = [word for item in found.rims for word in ("--rim", f"{item.id}={item.id}.xml")]
    code, said = palm(capsys, *words, *rims, "--ocsp", "ocsp0")
    assert code == cli.ACCEPTED, said
    code, said = palm(capsys, *words, *rims, "--gpu-crl", "ocsp0")
    assert code == cli.MALFORMED
    assert "revocation list 0" in said
    Path("keys.json").write_bytes(b"{}")
    code, said = palm(capsys, *words, *rims, "--nras", "ocsp0", "--jwks", "keys.json")
    assert code == cli.MALFORMED
    assert "key set: missing key 'keys'" in said
    for output in (f"{found.rims[0].id}.xml", "ocsp0", "policy.yaml", "o.json", "bare.palm.json"):
        code, said = palm(capsys, *words, *rims, "--ocsp", "ocsp0", "--values", output)
        assert code == cli.USAGE
        assert f"{output}: what is read from {output} would be replaced" in said


def test_parts_are_appraised_together(
    capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good: GoodRun
) -> None:
    monkeypatch.chdir(tmp_path)
    trained(tmp_path)
    Path("a.palm.json").write_bytes(good.data)
    Path("policy.yaml").write_bytes(good.policy_text())
    Path("request.json").write_bytes(good.request)
    words = ("check", "o.json", "--evidence", "a.palm.json", *APPRAISED, "--part", "b.palm.json")
    code, said = palm(capsys, *words)
    assert code == cli.MALFORMED
    assert "b.palm.json: cannot read" in said
    Path("b.palm.json").write_bytes(good.data)
    code, said = palm(capsys, *words)
    assert code == cli.REJECTED
    assert "a whole run, without other parts" in said

    def together(paths: Any, *, appraise: Any) -> Any:
        assert list(map(str, paths)) == ["a.palm.json", "b.palm.json"]
        result = appraise(good.data, "evidence", None)
        return result, [(good.bundle, result), (None, result)]

    monkeypatch.setattr(part_files, "verify", together)
    code, said = palm(capsys, *words, "--json")
    assert code == cli.ACCEPTED, said
    assert json.loads(said)["role"] == "model"


def made(name: str, dtype: str, shape: tuple[int, ...], data: bytes, path: Path) -> str:
    """Writes an honest opening of a whole tensor, the only one, and returns its root."""
    spec = weights_root.TensorSpec(name, dtype, shape)
    tree = weights_schemes.of("hash").tree(spec)
    tree.add(data)
    tensor = dataclasses.replace(
        records_at_hand.MODEL.tensors[0],
        name=name,
        aliases=(),
        dtype=dtype,
        shape=shape,
        root=Digest(TAGGED_SHA256, tree.root()),
    )
    listed = weights_commitment.WeightsCommitment.of([tensor], "hash")
    block = Block.of(spec)
    opening = weights_opening.ReadBlock(
        what="", listed=listed, index=0, block=block, tree=tree, tiles={0: data}
    ).opening()
    path.write_bytes(opening.encode())
    return str(listed.root)


@pytest.mark.parametrize(
    ("name", "dtype", "says"),
    [
        ("__metadata__", "uint8", "tensor '__metadata__': safetensors keeps this name for itself"),
        ("x", "complex128", "tensor 'x': safetensors has no element type 'complex128'"),
    ],
)
def test_what_safetensors_cannot_hold(
    capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, dtype: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    data = bytes(2 * weights_root.ITEM_BYTES[dtype])
    root = made(name, dtype, (2,), data, Path("o.json"))
    assert palm(capsys, "check", "o.json", "--root", root)[0] == cli.ACCEPTED
    code, said = palm(capsys, "check", "o.json", "--root", root, "--values", "v.safetensors")
    assert code == cli.USAGE
    assert f"--values: {says}: it is proven, check it without --values" in said
    assert not Path("v.safetensors").exists()


def test_an_output_that_is_read(capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = at_hand.write(Path("m.safetensors"), at_hand.SMALL)
    before = path.read_bytes()
    Path("folder").mkdir()
    at_hand.write(Path("folder/model.safetensors"), at_hand.SMALL)
    Path("hard").hardlink_to(path)
    Path("soft").symlink_to(path)
    Path("shard.index.json").write_text(
        json.dumps({"weight_map": dict.fromkeys(at_hand.SMALL, "m.safetensors")}), encoding="utf-8"
    )
    assert palm(capsys, "commit", "m.safetensors", "-o", "list.json")[0] == cli.ACCEPTED
    assert palm(capsys, "commit", "m.safetensors", "-o", "list.json")[0] == cli.ACCEPTED  # again
    kept = Path("list.json").read_bytes()
    for words, output in (
        (("commit", "m.safetensors"), "m.safetensors"),
        (("commit", "m.safetensors"), "hard"),
        (("commit", "m.safetensors"), "soft"),
        (("commit", "m.safetensors", "--like", "list.json"), "list.json"),
        (("commit", "shard.index.json"), "m.safetensors"),
        (("commit", "folder"), "folder/model.safetensors"),
        (("open", "m.safetensors", "--tensor", "a"), "m.safetensors"),
        (("open", "m.safetensors", "--tensor", "a", "--like", "list.json"), "list.json"),
        (("check", "list.json", "--root", "00" * 32, "--values"), "list.json"),
    ):
        option = () if words[-1] == "--values" else ("-o",)
        code, said = palm(capsys, *words, *option, output)
        assert code == cli.USAGE, said
        assert "would be replaced: write elsewhere" in said
    assert palm(capsys, "commit", "folder", "-o", "folder/list.json")[0] == cli.ACCEPTED
    assert palm(capsys, "commit", "folder", "-o", "folder/list.json")[0] == cli.ACCEPTED
    assert (path.read_bytes(), Path("list.json").read_bytes()) == (before, kept)


def test_an_output_that_is_no_file(capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    at_hand.write(Path("m.safetensors"), at_hand.SMALL)
    os.mkfifo("pipe")
    for words in (
        ("commit", "m.safetensors", "-o", "pipe"),
        ("open", "m.safetensors", "--tensor", "a", "-o", "pipe"),
        ("request", "--operation", "train", "--force", "-o", "pipe"),
    ):
        code, said = palm(capsys, *words)
        assert code != cli.ACCEPTED
        assert "pipe: cannot write here: expected a regular file, got a pipe, device or socket" in said
    assert Path("pipe").is_fifo()


def test_a_list_that_says_another_root(capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    at_hand.write(Path("m.safetensors"), at_hand.SMALL)
    kzg = ("--scheme", "kzg")
    assert palm(capsys, "commit", "m.safetensors", *kzg, "-o", "list.json")[0] == cli.ACCEPTED
    open_words = ("open", "m.safetensors", "--tensor", "a", *kzg)
    assert palm(capsys, *open_words, "--like", "list.json", "-o", "o.json")[0] == cli.ACCEPTED
    said_root = json.loads(Path("list.json").read_bytes())
    Path("false.json").write_bytes(encode_json({**said_root, "root": "palm-sha256:" + "00" * 32}))
    for words in (
        ("commit", "m.safetensors", *kzg, "--like", "false.json"),
        (*open_words, "--like", "false.json"),
    ):
        code, said = palm(capsys, *words)
        assert code == cli.MALFORMED
        assert f"false.json: root: expected {said_root['root']}, which the tensors give, got" in said
    code, said = palm(capsys, "commit", "m.safetensors", "--like", "false.json")
    assert code == cli.ACCEPTED  # of a list under the other scheme only names and aliases count
    assert "a hash root cannot be compared with it" in said
    opening = opening_file.read(Path("o.json"))
    code, said = palm(capsys, "check", "o.json", "--like", "false.json")
    assert code == cli.REJECTED  # the opening is of the root that is true
    bent = dataclasses.replace(opening, root=Digest(TAGGED_SHA256, bytes(32)))
    Path("bent.json").write_bytes(bent.encode())
    code, said = palm(capsys, "check", "bent.json", "--like", "false.json")
    assert code == cli.MALFORMED
    assert f"root: expected {opening.root}, which the tensors give" in last(said)
    code, said = palm(capsys, "check", "o.json", "--root", str(opening.root), "--like", "false.json")
    assert code == cli.REJECTED
    assert "list: expected it for the root" in said


def test_too_many_tensors_for_a_list(capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    at_hand.write(Path("m.safetensors"), at_hand.SMALL)
    monkeypatch.setattr(weights_commitment, "MAX_VALUES", 20)
    code, said = palm(capsys, "commit", "m.safetensors", "-o", "list.json")
    assert code == cli.MALFORMED
    assert "a list of 3 tensors has" in said
    assert "expected at most 67108864 and 20 in a file; the root needs none" in said
    assert not Path("list.json").exists()
    assert palm(capsys, "commit", "m.safetensors")[0] == cli.ACCEPTED


@pytest.mark.parametrize(
    "words",
    [
        ("policy", "init", "a", "--force", "-o", "a"),
        ("policy", "sign", "a", "--key", "b", "--force", "-o", "a"),
        ("policy", "sign", "b", "--key", "a", "--force", "-o", "a"),
        ("coverage", "a", "--index", "0", "-o", "a"),
        ("coverage", "b", "--index", "0", "--coverage", "a", "-o", "a"),
        ("prove-record", "a", "--index", "0", "-o", "a"),
        ("prove-record", "b", "--file", "a", "-o", "a"),
        ("timestamp", "a", "--force", "--query", "a"),
        ("collateral", "fetch", "a", "--force", "-o", "a"),
    ],
)
def test_other_verbs_spare_what_they_read(
    capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        Path(name).write_bytes(b"{}")
    code, said = palm(capsys, *words)
    assert code == cli.USAGE
    assert "a: what is read from a would be replaced: write elsewhere" in said
    assert Path("a").read_bytes() == b"{}"


def test_rows_that_are_numbers_already() -> None:
    assert weights.SPAN.convert((0, 8), None, None) == (0, 8)


def test_help_says_what_is_left_out(capsys: Any) -> None:
    for verb, rows in (("check", "whatever was opened"), ("open", "all")):
        said = " ".join(palm(capsys, verb, "--help")[1].split())
        assert f"Rows from A up to and without B, or one number. [default: {rows}]" in said
