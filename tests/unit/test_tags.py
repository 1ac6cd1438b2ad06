"""Every tag in the code stands in the specification's table, and none is a prefix of another."""

from __future__ import annotations

import re
from pathlib import Path

import palm_torch

TAG = re.compile(r"palm-torch/[a-z0-9]+(?:-[a-z0-9]+)*/v\d+")
USES = "SHA-256|SHA-512|key|HMAC|log"
ROW = re.compile(rf"^\| `(palm-torch/[^`]+)` \| (?:{USES}) \|", re.MULTILINE)
TYPE_ROW = re.compile(rf"^\| `(palm-torch/[^`]+)` \| (?!(?:{USES}) \|)", re.MULTILINE)
PAGE = Path(__file__).parents[2] / "docs" / "spec" / "10-encoding.md"


def in_the_code() -> set[str]:
    sources = Path(palm_torch.__file__).parent.rglob("*.py")
    return {tag for path in sources for tag in TAG.findall(path.read_text(encoding="utf-8"))}


def in_the_table() -> list[str]:
    return ROW.findall(PAGE.read_text(encoding="utf-8"))


def document_types() -> list[str]:
    return TYPE_ROW.findall(PAGE.read_text(encoding="utf-8"))


def test_the_tables_list_every_tag_and_type_of_the_code() -> None:
    assert "palm-torch/record/v1" in in_the_code()
    assert "palm-torch/request/v1" in document_types()
    assert sorted(in_the_code() - set(in_the_table()) - set(document_types())) == []


def test_the_tables_list_only_tags_and_types_of_the_code() -> None:
    assert sorted({*in_the_table(), *document_types()} - in_the_code()) == []


def test_no_tag_is_listed_twice_or_begins_another() -> None:
    tags = in_the_table()
    assert len(tags) == len(set(tags)) > 10
    assert not [(a, b) for a in tags for b in tags if a != b and b.startswith(a)]


def test_every_tag_has_the_form_that_makes_this_so() -> None:
    for tag in in_the_table():
        assert re.fullmatch(r"palm-torch/[a-z0-9]+(-[a-z0-9]+)*/v[1-9]", tag), tag
