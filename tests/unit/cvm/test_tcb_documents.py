"""TCB info and QE identity: every value that is used has one type and one range, and the rest is let be."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest

from palm_torch.cvm import simulated_collateral, tcb_documents
from palm_torch.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

UNUSED = {"tcbDate"}


def encoded(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode()


@pytest.fixture
def info(vendor: Any) -> dict[str, Any]:
    return simulated_collateral.make_tcb_info(vendor.now)


@pytest.fixture
def identity(vendor: Any) -> dict[str, Any]:
    return simulated_collateral.make_qe_identity(vendor.now)


def test_what_is_read(info: dict[str, Any], identity: dict[str, Any]) -> None:
    info["tcbLevels"][0]["advisoryIDs"] = ["INTEL-SA-00001"]
    info["tdxModuleIdentities"][0]["id"] = "tdx_0a"
    found = tcb_documents.read_tcb_info(encoded(info))
    assert (found.fmspc, found.pce_id, found.evaluation_data_number) == (b"SIMULA", bytes(2), 1)
    assert list(found.modules) == ["TDX_0A"]
    assert found.module.levels == ()
    assert found.levels[0].opinion.advisory_ids == ("INTEL-SA-00001",)
    assert found.levels[0].tdx_svns[:3] == (4, 1, 3)
    qe = tcb_documents.read_qe_identity(encoded(identity))
    assert qe.attributes_mask.hex() == "fbffffffffffffff0000000000000000"
    assert (qe.isv_prod_id, qe.levels[0].isv_svn) == (2, 4)
    assert qe.issued < qe.next_update


def test_what_may_be_missing_or_there_beside(info: dict[str, Any]) -> None:
    del info["tdxModuleIdentities"]
    info["new"] = info["tcbLevels"][0]["new"] = {"anything": [1.5, None]}
    assert tcb_documents.read_tcb_info(encoded(info)).modules == {}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if key not in UNUSED:
            yield (*path, key)
            yield from places(item, (*path, key))


def at(document: Any, path: tuple[Any, ...]) -> tuple[Any, Any]:
    for step in path[:-1]:
        document = document[step]
    return document, path[-1]


@pytest.mark.parametrize("name", ["info", "identity"])
def test_every_value_has_its_type(name: str, request: pytest.FixtureRequest) -> None:
    good: dict[str, Any] = request.getfixturevalue(name)
    read: Callable[[bytes], object] = getattr(
        tcb_documents, {"info": "read_tcb_info", "identity": "read_qe_identity"}[name]
    )
    read(encoded(good))
    paths = list(places(good))
    assert len(paths) > 15
    for path in paths:
        for wrong in (None, True, -1, 2**32, 0.5, "zz", "", [], {}, [None], {"": 0}):
            document = copy.deepcopy(good)
            parent, last = at(document, path)
            if isinstance(parent[last], list) and wrong == []:
                continue  # no levels, no identities: that is for the appraisal
            if path[-1] == "id" and len(path) > 1 and isinstance(wrong, str):
                continue  # a module of another name is another module
            parent[last] = wrong
            with pytest.raises(InputError):
                read(encoded(document))
        document = copy.deepcopy(good)
        parent, last = at(document, path)
        if path != ("tdxModuleIdentities",) and isinstance(parent, dict):
            del parent[last]
            with pytest.raises(InputError, match="missing key"):
                read(encoded(document))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda info: info["tcbLevels"][0]["tcb"]["sgxtcbcomponents"].pop(), "16 components, got 15"),
        (lambda info: info["tcbLevels"][0]["tcb"]["tdxtcbcomponents"].append({"svn": 0}), "16 components"),
        (lambda info: info["tcbLevels"][0]["tcb"].update(pcesvn=65536), "a number from 0 to 65535"),
        (lambda info: info["tcbLevels"][0].update(tcbStatus="Fine"), "expected one of UpToDate, SWHard"),
        (
            lambda info: info["tdxModuleIdentities"][0]["tcbLevels"][0].update(tcbStatus="SWHardeningNeeded"),
            "expected one of UpToDate, OutOfDate, Revoked, got 'SWHardeningNeeded'",
        ),
        (lambda info: info["tdxModuleIdentities"].append(info["tdxModuleIdentities"][0]), "there twice"),
        (lambda info: info["tdxModule"].update(mrsigner="zz" * 48), "not hexadecimal"),
        (lambda info: info.update(issueDate="0000-01-01T00:00:00Z"), "issueDate"),
        (lambda info: info.update(issueDate="２026-01-01T00:00:00Z"), "expected YYYY-MM-DD"),
    ],
)
def test_values_out_of_range(info: dict[str, Any], change: Callable[[Any], object], message: str) -> None:
    change(info)
    with pytest.raises(InputError, match=message):
        tcb_documents.read_tcb_info(encoded(info))


@pytest.mark.parametrize(
    "text", [b"", b"null", b"[]", b'"TDX"', b"\xff", b'{"id":"TDX","id":"TDX"}', b'{"a":NaN}', b"[" * 100_000]
)
def test_other_texts(text: bytes) -> None:
    for read in (tcb_documents.read_tcb_info, tcb_documents.read_qe_identity):
        with pytest.raises(InputError):
            read(text)
