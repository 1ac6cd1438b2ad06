"""A file has the name under which evidence lists what another rank opened, and loses its place to that."""

from __future__ import annotations

from palm_torch import together
from palm_torch.digest import sha256_digest
from palm_torch.roles import OPENED, Artifact, Source


def opened(content: bytes) -> Artifact:
    return Artifact(source=Source.REPORTED, kind=OPENED, digest=sha256_digest(content))


def test_no_file_takes_the_place_of_another() -> None:
    hidden, data, bait = opened(b"hidden"), opened(b"data"), opened(b"bait")
    first = {"opened:x#rank1": hidden, "opened:x": data}
    listed = together.beside([(0, first), (1, {"opened:x": bait})])
    assert listed == {**first, "opened:x#rank1#rank1": bait}
    listed = together.beside([(0, {"opened:x": data}), (1, {"opened:x": bait, "opened:x#rank1": hidden})])
    assert set(listed.values()) == {data, bait, hidden}


def test_what_all_ranks_opened_is_listed_once() -> None:
    data = opened(b"data")
    assert together.beside([(0, {"opened:x": data}), (1, {"opened:x": data})]) == {"opened:x": data}
