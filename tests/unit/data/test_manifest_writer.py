"""Writing a manifest of digests that come in any order."""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random  # noqa: TC003 (hypothesis reads the annotation)

import pytest
from hypothesis import given
from hypothesis import strategies as some

from palm_torch.commit import manifest as manifests
from palm_torch.commit import manifest_file, multiset, records
from palm_torch.data.formats.table import Layout
from palm_torch.data.measuring.writing import ManifestWriter, write_manifest
from palm_torch.errors import DataError

LAYOUT = Layout("bin", "uint8", (4,))


def digests_of(count: int) -> bytes:
    return b"".join(records.record_digest(number.to_bytes(4, "little")) for number in range(count))


def shard(count: int) -> manifests.Shard:
    return manifests.Shard("a.bin", 4 * count, count, None)


@given(some.integers(1, 400), some.integers(1, 150), some.randoms(use_true_random=False))
def test_any_order_gives_the_same(count: int, most: int, order: Random) -> None:
    digests, parts, at = digests_of(count), [], 0
    while at < count:
        step = order.randint(1, most)
        parts.append((at, digests[at * 32 : (at + step) * 32]))
        at += step
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "m"
        expected = write_manifest(target, layout=LAYOUT, shards=[shard(count)], digests=[digests])
        whole = target.read_bytes()
        order.shuffle(parts)
        with ManifestWriter(target) as writer:
            for first, part in parts:
                writer.put(first, part)
            writer.multiset.add_many(digests)
            assert writer.finish(layout=LAYOUT, shards=[shard(count)], salted=False) == expected
        assert target.read_bytes() == whole
        with manifest_file.ManifestFile.open(target) as file:
            assert file.mapping[file.offset :] == digests
            file.group_digests()


def test_shards_may_be_listed_while_digests_come(tmp_path: Path) -> None:
    listed: list[manifests.Shard] = []

    def digests() -> object:
        yield digests_of(3)[:32]
        yield digests_of(3)[32:]
        listed.append(shard(3))

    known = multiset.MultisetHash()
    known.add_many(digests_of(3))
    made = write_manifest(
        tmp_path / "m", layout=LAYOUT, shards=listed, digests=digests(), multiset=known, salted=True
    )
    assert (made.records, made.salted, made.multiset.state) == (3, True, known.state.hex())
    assert manifest_file.read(tmp_path / "m") == made


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([], "no manifest can be written: records: expected 1 to"),
        ([(0, 10), (20, 10)], "missing or came twice"),
        ([(64, 64)], "missing or came twice|records: expected one number"),
        ([(0, 70), (0, 64)], "missing or came twice"),
        ([(3, 5)], "missing or came twice"),
        ([(0, 64), (0, 64), (128, 64)], "missing or came twice"),
        ([(0, 64), (128, 64)], "missing or came twice"),
        ([(0, 9), (5, 9)], "missing or came twice"),
    ],
)
def test_what_is_missing_or_there_twice(tmp_path: Path, parts: list[tuple[int, int]], says: str) -> None:
    with ManifestWriter(tmp_path / "m") as writer, pytest.raises(DataError, match=says):  # noqa: PT012 (any call)
        for first, count in parts:
            writer.put(first, digests_of(count))
            writer.multiset.add_many(digests_of(count))
        writer.finish(layout=LAYOUT, shards=[shard(max(1, writer.records))], salted=False)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_digest(tmp_path: Path) -> None:
    with (
        ManifestWriter(tmp_path / "m") as writer,
        pytest.raises(DataError, match="expected n × 32 bytes, got 33"),
    ):
        writer.add(bytes(33))


def test_counts_that_differ(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="records: expected one number, got 5, 4 in the shards"):
        write_manifest(tmp_path / "m", layout=LAYOUT, shards=[shard(4)], digests=[digests_of(5)])
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the manifest cannot be written: No such file"):
        write_manifest(tmp_path / "no" / "m", layout=LAYOUT, shards=[shard(1)], digests=[digests_of(1)])
