"""The folder of a verifier's store is renamed, and a link to an empty one put in its place.

Who may write to a folder above can do that, whoever owns the folder itself. The attacker of this story is the
same user, because tests have one: what is refused is the place, before anything happened there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from workshop import NOW

from palm_torch import chain_verification, verification
from palm_torch.errors import FreshnessError, InputError

if TYPE_CHECKING:
    from pathlib import Path

    from workshop import GoodRun

    from palm_torch.result import AttestationResult


def shown(folder: Path, store: Path, good: GoodRun, **options: bool) -> AttestationResult:
    for name, data in (("e", good.data), ("p", good.policy_text()), ("r", good.request)):
        (folder / name).write_bytes(data)
    return verification.verify(
        folder / "e", policy=folder / "p", request=folder / "r", at=NOW, seen=store, **options
    )


def test_a_folder_that_others_could_replace_is_refused(tmp_path: Path, good: GoodRun) -> None:
    above = tmp_path / "open"
    (above / "mine").mkdir(parents=True, mode=0o700)
    above.chmod(0o777)
    with pytest.raises(InputError, match=f"nor in one above it; got {above} with mode 0777"):
        shown(tmp_path, above / "mine" / "seen", good)
    above.chmod(0o755)
    assert shown(tmp_path, above / "mine" / "seen", good).checks, "the twin: closed, the same place will do"
    with pytest.raises(FreshnessError, match="this very evidence was accepted before"):
        shown(tmp_path, above / "mine" / "seen", good)


def test_a_link_in_place_of_the_folder_is_refused(tmp_path: Path, good: GoodRun) -> None:
    mine, empty = tmp_path / "mine", tmp_path / "empty"
    mine.mkdir(mode=0o700)
    empty.mkdir(mode=0o700)
    shown(tmp_path, mine / "seen", good)
    mine.rename(tmp_path / "away")
    mine.symlink_to(empty)
    with pytest.raises(InputError, match="named without links"):
        shown(tmp_path, mine / "seen", good)
    assert list(empty.iterdir()) == []


def test_a_store_without_a_past_is_told(tmp_path: Path, good: GoodRun) -> None:
    """However it came to be new: the verifier reads that its memory is empty."""
    store = tmp_path / "seen"
    said = verification.NEW_STORE.format(path=store)
    assert said in shown(tmp_path, store, good).not_checked
    assert said not in shown(tmp_path, store, good, again=True).not_checked
    store.unlink()
    both = chain_verification.verify_chain(
        [tmp_path / "e"], policies=[tmp_path / "p"], requests=[tmp_path / "r"], at=NOW, seen=store
    )
    assert said in both.not_checked
    assert said in str(both.to_json())
