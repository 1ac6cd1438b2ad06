"""Laws of the policy: whatever is written in it, only a PolicyError comes out, or a policy that means it."""

from __future__ import annotations

import copy
from typing import Any

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from palm_torch.errors import PolicyError
from palm_torch.policies import policy
from palm_torch.policies.policy import Policy, Range

HEX = ["ab" * 48]
DIGEST = "palm-sha256:" + "00" * 32
REFERENCES = st.sampled_from([["any"], ["none"], [DIGEST], [DIGEST, "sha256:" + "11" * 32]])
NUMBERS = st.integers(-(10**9), 10**9) | st.floats(-1e9, 1e9)
RANGES = st.builds(
    lambda ends, which: {
        k: v for k, v in zip(("least", "greatest"), sorted(ends), strict=True) if k in which
    },
    st.tuples(NUMBERS, NUMBERS),
    st.sampled_from([("least",), ("greatest",), ("least", "greatest")]),
)
NAMES = st.text("abcdefghij_", min_size=1, max_size=6)
POLICIES = st.fixed_dictionaries(
    {
        "version": st.just(1),
        "platform": st.just({"tdx": dict.fromkeys(("mr_td", "rtmr0", "rtmr1", "rtmr2"), HEX)}),
        "code": st.sampled_from([{"unreviewed": True}, {"covered_by_image": True}, {"digests": [DIGEST]}]),
        "claims": st.fixed_dictionaries(
            {
                "property": st.just("train"),
                "data": REFERENCES,
                "initial": REFERENCES,
                "tokenizer": REFERENCES,
            },
            optional={
                "architecture": REFERENCES,
                "records": RANGES,
                "epochs": RANGES,
                "steps": RANGES,
                "arguments": st.dictionaries(NAMES, RANGES, max_size=2),
                "reported": st.dictionaries(NAMES, RANGES, max_size=2),
                "declared": st.integers(0, 5),
            },
        ),
    }
)


def dump(document: Any) -> bytes:
    """Writes YAML without aliases, which PyYAML makes of equal objects."""

    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, _data: Any) -> bool:
            return True

    text: str = yaml.dump(document, Dumper=Plain)
    return text.encode("utf-8")


@given(POLICIES)
def test_a_policy_means_what_it_says(document: dict[str, Any]) -> None:
    parsed = policy.parse(dump(document))
    claims = document["claims"]
    assert list(parsed.claims.data) == claims["data"]
    assert parsed.claims.steps == (Range(**claims["steps"]) if "steps" in claims else None)
    assert parsed.claims.arguments == {k: Range(**v) for k, v in claims.get("arguments", {}).items()}
    assert parsed.claims.declared == claims.get("declared", 0)
    assert parsed == policy.parse(dump(document))


@given(POLICIES, st.data())
def test_leaving_out_a_part_or_adding_one_is_an_error(document: dict[str, Any], data: st.DataObject) -> None:
    document = copy.deepcopy(document)
    part = data.draw(st.sampled_from([document, document["platform"], document["claims"]]))
    mandatory = [
        key for key in part if key in {"version", "platform", "code", "claims", "tdx", "property", "data"}
    ]
    if data.draw(st.booleans()):
        del part[data.draw(st.sampled_from(mandatory))]
    else:
        part[data.draw(NAMES)] = data.draw(st.none() | st.integers() | st.just({}))
    try:
        policy.parse(dump(document))
    except PolicyError:
        return
    raise AssertionError(document)


@given(st.binary(max_size=60) | st.text("{}[]:,-?!&*#|>'\"%@` \nab01.~<=", max_size=40).map(str.encode))
@example(b"!!bool x")
@example(b"a: !!timestamp x")
@example(b"? !!int ''\n: 1")
@example(b"1:1.0")
def test_any_bytes_raise_only_policy_errors(data: bytes) -> None:
    try:
        parsed = policy.parse(data)
    except PolicyError:
        return
    assert isinstance(parsed, Policy)


@given(NUMBERS, NUMBERS, NUMBERS)
def test_a_range_holds_what_lies_between_its_ends(one: float, two: float, value: float) -> None:
    least, greatest = sorted((one, two))
    assert Range(least=least, greatest=greatest).holds(value) == (least <= value <= greatest)
    assert Range(least=least).holds(value) == (least <= value)
    assert Range(greatest=greatest).holds(value) == (value <= greatest)
