"""Which weights evidence lists, and what its roles say of them to people."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
import records_at_hand as at_hand
from workshop import put

from palm_torch import properties
from palm_torch.commit import weights_lists
from palm_torch.digest import sha256_digest
from palm_torch.errors import ArtifactError, DataError, EvidenceError
from palm_torch.roles import Artifact, Source, Value

if TYPE_CHECKING:
    from pathlib import Path

    from workshop import GoodRun

THING = Artifact(source=Source.MEASURED, kind="file", digest=sha256_digest(b"thing"))
SAID = Value(source=Source.MEASURED, value={})


def optimized() -> Any:
    train = at_hand.make_train()
    kept = ("tokenizer", "configuration", "model", "steps", "seeds", "data")
    return properties.Optimize(
        kind=THING, base=at_hand.INITIAL, adapter=THING, **{name: getattr(train, name) for name in kept}
    )


def evaluated() -> Any:
    return properties.Evaluate(
        model=at_hand.MODEL, tokenizer=THING, data={}, metric=SAID, benchmark=THING, configuration=SAID
    )


def bound() -> Any:
    return properties.Bind(
        files={"a": THING},
        manifest=THING,
        multiset=at_hand.MANIFEST.multiset,
        records_root=sha256_digest(b"root"),
        records=at_hand.RECORDS,
        framing=SAID,
    )


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        (
            at_hand.make_train(),
            {"model": "the model that came out", "initial": "the model it began with"},
        ),
        (optimized(), {"model": "the model that came out", "base": "the model it began with"}),
        (evaluated(), {"model": "the model it speaks of"}),
        (bound(), {}),
    ],
)
def test_roles_and_what_they_say(good: GoodRun, tmp_path: Path, claims: Any, said: dict[str, str]) -> None:
    end = dataclasses.replace(good.end, claims=claims)
    found = weights_lists.of_statement(end)
    assert {role: weights_lists.meaning(end, role) for role in found} == said
    assert list(found) == list(said)
    result = next((role for role, words in said.items() if words == "the model that came out"), None)
    assert weights_lists.result_role(end) == result
    path = tmp_path / "e.palm.json"
    path.write_bytes(good.with_end(end.encode()).encode())
    if not said:
        with pytest.raises(DataError, match="evidence of 'bind', which names no weights"):
            weights_lists.read(path)
        with pytest.raises(ArtifactError, match="expected a role with weights, none, got 'model'"):
            weights_lists.read(path, role="model")
        return
    lists = weights_lists.read(path)
    assert list(lists) == [f"the {role} of {path}" for role in said]
    (one,) = weights_lists.read(path, role="model").values()
    assert (one.scheme, one.root, one.tensors) == ("hash", at_hand.MODEL.digest, at_hand.MODEL.tensors)


def test_a_list_that_contradicts_itself(good: GoodRun, tmp_path: Path) -> None:
    path = tmp_path / "e.palm.json"
    end = put(good.end, "claims.model.digest", at_hand.INITIAL.digest)
    path.write_bytes(good.with_end(end.encode()).encode())
    with pytest.raises(DataError, match=r"root: expected palm-sha256:.*, which the tensors give"):
        weights_lists.read(path)


def test_what_lists_nothing(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="cannot read the list"):
        weights_lists.read(tmp_path / "missing")
