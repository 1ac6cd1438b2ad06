"""The code part of a policy: the code's digest, and the list of installed packages."""

from __future__ import annotations

from typing import Any

import pytest
from workshop import make_code, measured

from palm_torch import statement
from palm_torch.appraisal import code_rules
from palm_torch.digest import Digest
from palm_torch.errors import CodeError
from palm_torch.policies.policy import CodeRules

CODE = make_code()
PACKAGES = [["torch", "2.13.0"]]
ENVIRONMENT = measured(packages=PACKAGES)
LISTED = statement.value_digest(PACKAGES)
OTHER = Digest("palm-sha256", bytes(32))


def test_code_and_packages_that_the_policy_names() -> None:
    assert (
        code_rules.check(CodeRules(digests=(OTHER, CODE.digest), packages=(OTHER, LISTED)), CODE, ENVIRONMENT)
        == []
    )


@pytest.mark.parametrize(
    "rules", [{"digests": (CODE.digest,)}, {"covered_by_image": True}, {"unreviewed": True}]
)
def test_packages_that_the_policy_does_not_name_are_left_open(rules: dict[str, Any]) -> None:
    (line,) = code_rules.check(CodeRules(**rules), CODE, ENVIRONMENT)
    assert line == f"which installed packages ran: the policy names none; these are {LISTED}"


def test_other_code() -> None:
    with pytest.raises(CodeError, match=f"^code {CODE.digest} is none of the 1 the policy names$"):
        code_rules.check(CodeRules(digests=(OTHER,), packages=(LISTED,)), CODE, ENVIRONMENT)


@pytest.mark.parametrize(
    "rules", [{"digests": (CODE.digest,)}, {"covered_by_image": True}, {"unreviewed": True}]
)
def test_other_packages(rules: dict[str, Any]) -> None:
    with pytest.raises(CodeError, match=f"^installed packages {LISTED} are none of those the policy names$"):
        code_rules.check(CodeRules(**rules, packages=(OTHER,)), CODE, ENVIRONMENT)
