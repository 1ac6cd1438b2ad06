"""What keeps a result from being affirming whatever the policy says, and the rule for installed packages."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
import records_at_hand as at_hand
import workshop
from workshop import put

from palm_torch import artifacts, claims, encoding, policy, statement
from palm_torch.errors import ArtifactError, ClaimError, CodeError, DataError, EncodingError, PolicyError
from palm_torch.policy import Range

if TYPE_CHECKING:
    from pathlib import Path

    from workshop import GoodRun

GOOD = workshop.make_statement("run")
CONFIGURATION = "claims.configuration.value"


def test_a_plain_loop_has_none() -> None:
    assert claims.reservations(GOOD) == []


@pytest.mark.parametrize("key", ["steps_without_new_records", "writes_outside_steps"])
def test_a_count_that_is_not_zero(key: str) -> None:
    (said,) = claims.reservations(put(GOOD, f"{CONFIGURATION}.{key}", 3))
    assert said.startswith("3 ")


def test_records_counted_as_read() -> None:
    (said,) = claims.reservations(put(GOOD, "claims.data.dataset1.uses.train.exact", new=False))
    assert said.startswith("data dataset1, train: counted as read")


def test_other_properties_have_none() -> None:
    other: Any = dataclasses.replace(GOOD, claims=object())
    assert claims.reservations(other) == []


def test_arguments_without_any_optimizer() -> None:
    with pytest.raises(ClaimError, match="no optimizer is listed"):
        claims._check_argument(
            "lr", put(GOOD, f"{CONFIGURATION}.optimizers", []).claims.configuration, Range(least=0)
        )


def test_packages_that_the_policy_names(good: GoodRun) -> None:
    found = statement.value_digest(good.end.run.environment.value["packages"])
    result = good.verify(policy=good.policy({"code.packages": [str(found)]}))
    assert not any("installed packages" in line for line in result.not_checked)
    other = statement.value_digest([])
    with pytest.raises(CodeError, match=r"installed packages .* are none of those"):
        good.verify(policy=good.policy({"code.packages": [str(other)]}))


def test_a_manifest_that_evidence_does_not_name_is_recomputed(tmp_path: Path) -> None:
    path = at_hand.write_manifest(tmp_path / "corpus.palm-manifest")
    unnamed = put(GOOD, "claims.data.dataset1.manifest", None)
    artifacts.compare("data", path, unnamed)
    honest = path.read_bytes()
    path.write_bytes(honest.replace(at_hand.MANIFEST.multiset.state.encode(), b"01" * 384))
    assert path.read_bytes() != honest
    artifacts.compare("data", path, unnamed)  # the header's word on the multiset counts for nothing


def test_a_salted_manifest_that_evidence_does_not_name(tmp_path: Path) -> None:
    path = tmp_path / "corpus.palm-manifest"
    at_hand.write_manifest(path, dataclasses.replace(at_hand.MANIFEST, salted=True))
    with pytest.raises(ArtifactError, match="salted"):
        artifacts.compare("data", path, put(GOOD, "claims.data.dataset1.manifest", None))


def test_a_document_of_too_many_values() -> None:
    with pytest.raises(EncodingError, match="at most 2000000 values"):
        encoding.decode_json(b"[" + b"0," * 2_000_001 + b"0]", what="list", max_bytes=1 << 30)


@pytest.mark.parametrize(("text", "value"), [("1e-3", 0.001), ("0.5", 0.5), ("2E+2", 200.0), ("-7", -7)])
def test_decimal_numbers_of_a_policy(good: GoodRun, text: str, value: float) -> None:
    spelled = good.policy_text({"claims.steps": {"least": "NUMBER"}}).replace(b"NUMBER", text.encode())
    steps = policy.parse(spelled).claims.steps
    assert steps is not None
    assert steps.least == value


@pytest.mark.parametrize("bound", [float("nan"), float("inf"), 1e400])
def test_a_bound_is_finite(bound: float) -> None:
    with pytest.raises(PolicyError, match="finite numbers"):
        Range(least=bound)


@pytest.mark.parametrize("text", ["010", "1:30", "0x10", "1_000"])
def test_other_spellings_are_refused(good: GoodRun, text: str) -> None:
    spelled = good.policy_text({"claims.steps": {"least": "NUMBER"}}).replace(b"NUMBER", text.encode())
    with pytest.raises(PolicyError, match="expected a decimal number"):
        policy.parse(spelled)


def test_the_roles_a_file_can_be_compared_with_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        ArtifactError, match=r"it has architecture, data\.dataset1, tokenizer, initial, model"
    ):
        artifacts.compare("data.dataset9", tmp_path / "any", GOOD)


def test_a_folder_is_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"its manifest is .*manifest\.palm-manifest"):
        artifacts.compare("data", tmp_path, GOOD)
