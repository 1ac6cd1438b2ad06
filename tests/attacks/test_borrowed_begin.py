"""A run that began badly borrows the clean begin phase of another run of the same machine."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
from workshop import put

from palm_torch.digest import sha256_digest
from palm_torch.errors import BindingError, ClaimError, CodeError
from palm_torch.statement import SourceFile, code_digest

if TYPE_CHECKING:
    from workshop import GoodRun


def test_the_end_hangs_on_its_own_begin_quote(good: GoodRun) -> None:
    """Signed twice over the same data, a quote differs, and only one of the two is the beginning."""
    again = good.resealed(good.bundle, phases=("begin",))
    assert again.begin.statement == good.bundle.begin.statement
    assert again.begin.quote != good.bundle.begin.quote
    with pytest.raises(BindingError, match="end quote: report data"):
        good.verify(again)


def test_code_that_was_loaded_at_begin_cannot_be_disowned(good: GoodRun) -> None:
    bad = SourceFile(module="backdoor", digest=sha256_digest(b"evil"), reason=None)
    files = (good.begin.code.files[0], bad, *good.begin.code.files[1:])
    code = dataclasses.replace(good.begin.code, files=files, digest=code_digest(files))
    with pytest.raises(CodeError, match="source file of backdoor is missing later"):
        good.verify(good.sealed_begin("code", code))


def test_a_file_edited_between_begin_and_end(good: GoodRun) -> None:
    with pytest.raises(CodeError, match="source file of __main__ is missing later"):
        good.verify(good.sealed_begin("code.files.0.digest", sha256_digest(b"before the edit")))


def test_a_package_replaced_between_begin_and_end(good: GoodRun) -> None:
    with pytest.raises(ClaimError, match="is missing later"):
        good.verify(good.sealed_begin("environment.value.packages", [["torch", "0.0"]]))


def test_a_begin_without_packages_hides_a_change(good: GoodRun) -> None:
    without = put(good.begin, "environment.value", {"python": "3.11"})
    ended = put(good.end, "run.environment.value", {"python": "3.11"})
    both = put(good.with_end(ended.encode()), "begin.statement", without.encode())
    with pytest.raises(ClaimError, match="packages"):
        good.verify(good.resealed(both))
