from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from any_data import Mapped, Stream

from palm_torch.data.generic import AttestedDataset
from palm_torch.data.stream import AttestedIterableDataset


def around(kind: str) -> Any:
    return AttestedDataset(Mapped()) if kind == "items" else AttestedIterableDataset(Stream())


@pytest.mark.parametrize("kind", ["items", "stream"])
@pytest.mark.parametrize("name", ["inner", "info", "uid", "_digests", "hands_on_records", "__getstate__"])
def test_what_it_is_made_of_stays(kind: str, name: str) -> None:
    data = around(kind)
    for one in (data, copy.copy(data), pickle.loads(pickle.dumps(data))):  # noqa: S301 (our own bytes)
        with pytest.raises(AttributeError, match=f"{name} stays as it was: make another"):
            setattr(one, name, Mapped())


def test_what_the_inner_one_has_is_set_there() -> None:
    data = around("stream")
    data.epoch = 3
    assert (data.inner.epoch, data.epoch) == (3, 3)
    assert "epoch" not in vars(data)


@pytest.mark.parametrize("kind", ["items", "stream"])
def test_everything_else_is_its_own(kind: str) -> None:
    data = around(kind)
    data.note, data._private = 1, 2
    assert (data.note, data._private) == (1, 2)
    assert not hasattr(data.inner, "note")
