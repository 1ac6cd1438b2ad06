"""The golden files of Terkle trees: valid cases are computed again, and nothing else is accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import terkle_vectors

from palm_torch.commit import kzg_tree, layout, opening_file, steps, terkle, tree_leaves, weights_opening
from palm_torch.commit.terkle import Opening
from palm_torch.digest import Digest
from palm_torch.errors import BindingError, DataError, EvidenceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from terkle_vectors import Case

TREES = terkle_vectors.read("terkle.json")
PARTS = terkle_vectors.read("terkle_parts.json")
WEIGHTS = terkle_vectors.read("weights_openings.json")
ERRORS = {"invalid": BindingError, "malformed": (EvidenceError, DataError)}


def cases(group: list[Case], *results: str) -> Any:
    found = [
        pytest.param(case, id=f"{case['tcId']}-{case['comment'].replace(' ', '-')}")
        for case in group
        if not results or case["result"] in results
    ]
    assert found
    return pytest.mark.parametrize("case", found)


def expect(case: Case, check: Callable[[], Any]) -> Any:
    """Runs a check: a valid case passes, every other one meets the error of its result."""
    if case["result"] == "valid":
        return check()
    with pytest.raises(ERRORS[case["result"]]):
        check()
    return None


def hashes(proof: list[str]) -> list[bytes]:
    return [bytes.fromhex(one) for one in proof]


@cases(TREES["opening"])
def test_openings(case: Case) -> None:
    def check() -> terkle.Values:
        context, regions = (
            terkle_vectors.context_of(case["context"]),
            terkle_vectors.slices_of(case["regions"]),
        )
        opening = Opening.decode(bytes.fromhex(case["opening"]))
        return terkle.verify(bytes.fromhex(case["root"]), context, regions, opening)

    values = expect(case, check)
    if values is not None:
        assert [values.region(at).hex() for at in range(len(case["regions"]))] == case["values"]


@cases(TREES["opening"], "valid")
def test_openings_are_made_as_they_are_said(case: Case) -> None:
    context, regions = terkle_vectors.context_of(case["context"]), terkle_vectors.slices_of(case["regions"])
    tree = terkle_vectors.tree_of(context)
    assert tree.root().hex() == case["root"]
    opening = tree.open(regions, terkle_vectors.tiles_of(context).__getitem__)
    assert opening.encode().hex() == case["opening"]


@cases(TREES["point evaluation"])
def test_point_evaluation(case: Case) -> None:
    context = terkle_vectors.context_of(case["context"])
    tree = terkle_vectors.tree_of(context)
    inputs = tree.point_inputs(case["position"])
    assert [one.hex() for one in inputs] == case["inputs"]
    assert context.root(inputs[0][96:144]).hex() == case["root"]


@cases(PARTS["context"])
def test_contexts(case: Case) -> None:
    context = expect(case, lambda: terkle_vectors.context_of(case["context"]))
    if context is not None:
        assert context.encode().hex() == case["encoded"]
        assert (context.digest().hex(), context.stem().hex()) == (case["digest"], case["stem"])


@cases(PARTS["salt"])
def test_salts(case: Case) -> None:
    key, stem, position = bytes.fromhex(case["salt_key"]), bytes.fromhex(case["stem"]), case["position"]
    salts = tree_leaves.Salts(key, stem)
    for _ in range(case["again"]):
        salts.write_again([position])
    assert salts.salt(position).hex() == case["salt"]


@cases(PARTS["tree"])
def test_trees(case: Case) -> None:
    def check() -> terkle.Tree:
        context = terkle_vectors.context_of(case["context"])
        tree = terkle.Tree(context, salt_key=bytes.fromhex(case["salt_key"]) or None)
        tree.extend([bytes.fromhex(tile) for tile in case["tiles"]])
        tree.root()
        return tree

    tree = expect(case, check)
    if tree is not None:
        assert tree.root().hex() == case["root"]
        for change in case["changes"]:
            terkle_vectors.changed(tree, change)
            assert tree.root().hex() == change["root"]


@cases(PARTS["leaf"])
def test_leaves(case: Case) -> None:
    context = terkle_vectors.context_of(case["context"])
    tile, salt = bytes.fromhex(case["tile"]), bytes.fromhex(case["salt"])
    assert tree_leaves.leaf(context, case["position"], tile, salt).hex() == case["leaf"]


def test_no_two_leaves_are_equal() -> None:
    leaves = [case["leaf"] for case in PARTS["leaf"]]
    assert len(set(leaves)) == len(leaves)


@cases(PARTS["layout"])
def test_layouts(case: Case) -> None:
    levels = layout.levels(case["counts"])
    assert [{"digits": list(level.digits), "nodes": list(level.extents)} for level in levels] == case[
        "levels"
    ]
    for position, path in case["paths"].items():
        child = int(position)
        for level, (node, place) in zip(levels, path, strict=True):
            assert level.place(child) == (node, place)
            child = node


@cases(PARTS["child value"])
def test_child_values(case: Case) -> None:
    prefix = kzg_tree.child_prefix(bytes.fromhex(case["stem"]), case["level"], case["node"])
    value = kzg_tree.child_value(prefix, case["place"], bytes.fromhex(case["child"]))
    assert f"{value:064x}" == case["value"]


@cases(PARTS["opening as bytes"])
def test_openings_as_bytes(case: Case) -> None:
    data = bytes.fromhex(case["bytes"])
    opening = expect(case, lambda: Opening.decode(data))
    if opening is not None:
        assert opening.encode() == data


@cases(PARTS["step"])
def test_steps(case: Case) -> None:
    def check() -> None:
        proof = hashes(case["proof"])
        if "entry" in case:
            step = steps.Step.decode(bytes.fromhex(case["entry"]))
            steps.verify_inclusion(step, case["size"], bytes.fromhex(case["root"]), proof)
        else:
            roots = bytes.fromhex(case["old_root"]), bytes.fromhex(case["new_root"])
            steps.verify_consistency(case["old"], case["new"], *roots, proof)

    expect(case, check)


@cases([case for group in WEIGHTS.values() for case in group])
def test_openings_of_weights(case: Case) -> None:
    def check() -> weights_opening.Shown:
        opening = opening_file.decode(case["file"].encode(), what="the file")
        return weights_opening.verify(opening, Digest.parse(case["root"]))

    shown = expect(case, check)
    if shown is not None:
        assert shown.values.hex() == case["values"]


def test_every_result_occurs_under_each_scheme() -> None:
    for scheme in ("hash", "kzg"):
        cases_of = [case for case in TREES["opening"] if case["context"]["scheme"] == scheme]
        for group in (cases_of, WEIGHTS[scheme]):
            assert {case["result"] for case in group} == {"valid", "invalid", "malformed"}
