"""Evidence calls its datasets, modules and options such that a policy made of it lets everything pass."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import records_at_hand as at_hand
import yaml
from workshop import put

from palm_torch.appraisal import policy_template, yaml_comments
from palm_torch.digest import sha256_digest
from palm_torch.errors import PolicyError
from palm_torch.policies import policy
from palm_torch.roles import Artifact, Source
from palm_torch.statement import SourceFile

if TYPE_CHECKING:
    from workshop import GoodRun

    from palm_torch.evidence import Bundle

DECLARED = Artifact(source=Source.DECLARED, kind="file", digest=sha256_digest(b"said"))


def template(good: GoodRun, bundle: Bundle | None = None, *, what: str = "evidence") -> str:
    return policy_template.starting_policy((bundle or good.bundle).encode(), what=what)


NASTY = (
    "name\nplatform: {}",
    "name\r\nclaims:\r\n  data: [any]",
    "a: b # c",
    "# code: {unreviewed: true}",
    'quote" \\ back',
    "\x00\x07\x1b[31m\x7f\x85\x9b",
    "\u2028unreviewed: true\u2029",
    "\u202eright to left\u2066\u200b\ufeff",
    "\U0001f600 é ß",
    "- ? & * ! | > ' % @ `",
    "{{lr}} {0} %s",
    " ",
    "x" * 500,
    "\n" * 90,
)


@pytest.mark.parametrize("name", NASTY, ids=range(len(NASTY)))
def test_no_name_leaves_its_comment_or_scalar(good: GoodRun, name: str) -> None:
    option = at_hand.option(0.1, 0.2)
    end = put(good.end, "run.code.files", (SourceFile(module=name, digest=None, reason=name),))
    end = put(end, "claims.data", {name: good.end.claims.data["dataset1"]})
    end = put(end, "run.reported", {name: good.end.run.reported["loss"]})
    end = put(end, "run.run_id", name)
    end = put(end, "run.inputs", {name: DECLARED})
    end = put(end, "claims.configuration.value.optimizers", [{"groups": [{"options": {name: option}}]}])
    hostile = template(good, good.with_end(end.encode()), what=name)
    harmless = template(good)
    assert_same_shape(hostile, harmless)
    assert re.fullmatch(r"[\n -~]*", hostile)
    parsed = policy.parse(hostile.encode())
    assert parsed.claims.declared == 1
    if len(name) <= yaml_comments.MAX_NAME_CHARACTERS:
        assert parsed.claims.arguments == {name: policy.Range(least=0.1, greatest=0.2)}
    else:
        assert parsed.claims.arguments == {}


def assert_same_shape(one: str, two: str) -> None:
    """Both have the same rules, and every rule the same number of values, the hyper-parameters excepted."""

    def shape(value: Any, path: str = "") -> dict[str, int]:
        if isinstance(value, dict):
            return {
                key: n for name, item in value.items() for key, n in shape(item, f"{path}.{name}").items()
            }
        return {path: len(value) if isinstance(value, list) else 1}

    shapes = [shape(yaml.safe_load(text)) for text in (one, two)]
    for found in shapes:
        for path in [path for path in found if path.startswith(".claims.arguments")]:
            del found[path]
    assert shapes[0] == shapes[1]


def test_a_template_that_did_not_escape_would_be_seen(good: GoodRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_comments, "quoted_name", lambda text: text)
    monkeypatch.setattr(yaml_comments, "comment", lambda text, indent=0, **_: [" " * indent + "# " + text])
    end = put(good.end, "run.run_id", "x\nclaims: {}")
    with pytest.raises((PolicyError, AssertionError)):
        assert_same_shape(template(good, good.with_end(end.encode())), template(good))
