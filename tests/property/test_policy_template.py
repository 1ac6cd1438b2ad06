"""Laws of the policy to start from: whatever the evidence calls things, the policy means the same."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import records_at_hand as at_hand
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from workshop import put

from palm_torch.appraisal import policy_template, yaml_comments
from palm_torch.errors import PolicyError
from palm_torch.policies import policy, strict_yaml
from palm_torch.statement import SourceFile

if TYPE_CHECKING:
    from workshop import GoodRun

TEXT = st.text(max_size=120) | st.text(
    "\n\r\t #:-{}[]'\"\\&*!|>%@`,?\x00\x1b\x85\u2028\u202e\ufeffab1", max_size=60
)
NUMBERS = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)


@given(TEXT)
def test_quoted_text_reads_back(text: str) -> None:
    quoted = strict_yaml.quoted(text)
    assert re.fullmatch(r"[ -~]*", quoted)
    read = strict_yaml.parse(f"a: {quoted}".encode(), what="x", max_bytes=1 << 20, error=PolicyError)
    assert read == {"a": text}


@given(TEXT, st.integers(0, 8))
def test_a_comment_holds_what_it_is_given(text: str, indent: int) -> None:
    lines = yaml_comments.comment(yaml_comments.quoted_name(text), indent)
    assert all(re.fullmatch(r" *# [ -~]*", line) for line in lines)
    assert (
        strict_yaml.parse("\n".join(lines).encode(), what="x", max_bytes=1 << 20, error=PolicyError) is None
    )


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(TEXT, min_size=6, max_size=6),
    ends=st.tuples(NUMBERS, NUMBERS),
    counts=st.tuples(st.integers(0, 2**53 - 1), st.integers(0, 2**53 - 1)),
)
def test_no_text_and_no_number_of_the_evidence_bends_the_policy(
    good: GoodRun, names: list[str], ends: tuple[Any, Any], counts: tuple[int, int]
) -> None:
    option = {"least": min(ends), "greatest": max(ends)}
    module, reason, dataset, reported, argument, what = names
    end = put(good.end, "run.code.files", (SourceFile(module=module, digest=None, reason=reason),))
    end = put(end, "claims.data", {dataset: good.end.claims.data["dataset1"]})
    end = put(end, "run.reported", {reported: good.end.run.reported["loss"]})
    end = put(end, "claims.configuration.value.optimizers", [{"groups": [{"options": {argument: option}}]}])
    end = put(put(end, "claims.steps.taken", counts[0]), "claims.steps.skipped", counts[1])
    bundle = good.with_end(end.encode())
    text = policy_template.starting_policy(bundle.encode(), what=what)
    assert re.fullmatch(r"[\n -~]*", text)
    parsed = policy.parse(text.encode())
    usual = policy.parse(policy_template.starting_policy(good.data).encode())
    assert parsed.platform == usual.platform
    assert parsed.claims.data == usual.claims.data
    assert parsed.claims.steps == policy.Range(least=counts[0], greatest=counts[0])
    assert parsed.claims.reported == {}
    assert at_hand.MANIFEST.digest is not None
    for name, allowed in parsed.claims.arguments.items():
        assert name == argument
        assert allowed.holds(min(ends))
        assert allowed.holds(max(ends))
