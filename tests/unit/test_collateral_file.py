"""The collateral file: one spelling, and nothing in it that does not parse."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest

from palm_torch import codec, collateral_file
from palm_torch.cvm import simulated, simulated_snp
from palm_torch.encoding import encode_json
from palm_torch.errors import EvidenceError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module", params=["tdx", "snp"])
def content(request: pytest.FixtureRequest) -> collateral_file.CollateralFile:
    machine = simulated.SimulatedTdx() if request.param == "tdx" else simulated_snp.SimulatedSnp()
    texts: Any = codec.to_json(machine.collateral())
    return collateral_file.CollateralFile(type=collateral_file.TYPE, attester=request.param, collateral=texts)


def test_there_and_back(content: collateral_file.CollateralFile, tmp_path: Path) -> None:
    collateral_file.write(tmp_path / "c.json", content)
    assert collateral_file.read(tmp_path / "c.json") == content
    data = (tmp_path / "c.json").read_bytes()
    assert collateral_file.decode(data).encode() == data
    assert data.startswith(b'{"attester":"')


def test_every_text_is_needed_and_no_other_is_known(content: collateral_file.CollateralFile) -> None:
    document: Any = codec.to_json(content)
    for name in list(document["collateral"]):
        less = {key: text for key, text in document["collateral"].items() if key != name}
        with pytest.raises(EvidenceError, match=name):
            collateral_file.decode(encode_json({**document, "collateral": less}))
    more = {**document["collateral"], "more": ""}
    with pytest.raises(EvidenceError, match="unknown key 'more'"):
        collateral_file.decode(encode_json({**document, "collateral": more}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"type": "palm-torch/collateral/v2"}, "collateral file.*expected type"),
        ({"attester": "sgx"}, "attester: expected one of 'tdx', 'snp'"),
        ({"collateral": None}, "expected an object"),
        ({"collateral": {"tcb_info": 1}}, "tcb_info: expected str"),
        ({"more": 1}, "unknown key 'more'"),
    ],
)
def test_other_files_are_refused(
    changes: dict[str, Any], said: str, content: collateral_file.CollateralFile
) -> None:
    document: Any = codec.to_json(content)
    with pytest.raises(EvidenceError, match=said):
        collateral_file.decode(encode_json({**document, **changes}))


def test_collateral_of_the_other_kind_is_refused(content: collateral_file.CollateralFile) -> None:
    other = "snp" if content.attester == "tdx" else "tdx"
    with pytest.raises(EvidenceError):
        dataclasses.replace(content, attester=other)


def test_another_spelling_is_refused(content: collateral_file.CollateralFile) -> None:
    with pytest.raises(EvidenceError, match="not in canonical form"):
        collateral_file.decode(json.dumps(codec.to_json(content), indent=1).encode())
    for data in (b"", b"[]", b"{}", b"\xff", content.encode() + b"\n"):
        with pytest.raises(EvidenceError):
            collateral_file.decode(data)


def test_a_text_that_is_not_canonical_is_refused(content: collateral_file.CollateralFile) -> None:
    name = "root_ca_crl" if content.attester == "tdx" else "crl"
    bent = {**content.collateral, name: content.collateral[name].upper()}
    with pytest.raises(EvidenceError, match="lower-case"):
        dataclasses.replace(content, collateral=bent)


def test_what_cannot_be_read_or_written_is_named(
    content: collateral_file.CollateralFile, tmp_path: Path
) -> None:
    with pytest.raises(EvidenceError, match="cannot read the collateral: No such file"):
        collateral_file.read(tmp_path / "none")
    with pytest.raises(EvidenceError, match="cannot write here"):
        collateral_file.write(tmp_path / "none" / "c.json", content)
    (tmp_path / "large").write_bytes(bytes(collateral_file.MAX_BYTES + 1))
    with pytest.raises(EvidenceError, match="expected at most"):
        collateral_file.read(tmp_path / "large")


def test_the_texts_are_for_evidence_of_their_kind(content: collateral_file.CollateralFile) -> None:
    other = "snp" if content.attester == "tdx" else "tdx"
    assert content.fields_for(content.attester) == content.collateral
    with pytest.raises(EvidenceError, match=f"about '{content.attester}', the evidence is of '{other}'"):
        content.fields_for(other)
