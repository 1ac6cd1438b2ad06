"""The host rewrites what says where records lie: with a manifest it shows, without it chooses records.

An index is a hint. Whatever it says, what is handed out is what was hashed; with a manifest it is also the
record that was asked for.
"""

from __future__ import annotations

import pickle
import signal
import struct
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest
import sequence_files
from recording import recording

from palm_torch.commit import records
from palm_torch.data import measure
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.formats import line_index
from palm_torch.errors import DataError, ManifestError, RecordError

if TYPE_CHECKING:
    from pathlib import Path

SEQUENCES = [[10, 11, 12], [20, 21, 22], [30, 31, 32], [40, 41, 42]]
LINES = [b'{"n": 0}', b'{"n": 1}', b'{"n": 2}', b'{"n": 3}']
POINTERS = 34 + 4 * 4
"""Where the pointers begin in the index of four sequences."""


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    path = sequence_files.write(tmp_path / "corpus", SEQUENCES)
    measure.measure(path)
    return path


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    path.write_bytes(b"\n".join(LINES) + b"\n")
    measure.measure(path)
    AttestedMmapDataset(path)  # makes the index
    return path


def overwrite(path: Path, at: int, number: int) -> None:
    """Writes eight bytes into a file as it lies, mapped as it may be."""
    with path.open("r+b") as stream:
        stream.seek(at)
        stream.write(struct.pack("<q", number))


def read_honestly(data: AttestedMmapDataset, number: int) -> object:
    """Reads a record and checks that what is counted is what is handed out."""
    with recording() as session:
        item = data[number]
    (reads,) = session.batches[0]
    content = item.numpy().astype("<u2").tobytes()  # type: ignore[attr-defined]
    assert reads.digests == records.record_digest(content)
    return item


ELSEWHERE = {
    "outside": 2**40,
    "at the end of the number range": 2**63 - 1,
    "negative": -6,
    "behind the one after it": 13,
    "onto another sequence": 0,
    "into the middle of a sequence": 8,
    "into the middle of an element": 7,
}


@pytest.mark.parametrize("to", ELSEWHERE.values(), ids=ELSEWHERE.keys())
def test_pointer_rewritten_while_the_index_is_mapped(pair: Path, to: int) -> None:
    data = AttestedMmapDataset(pair)
    without = AttestedMmapDataset(pair, manifest=None)
    overwrite(pair.with_suffix(".idx"), POINTERS + 8, to)
    for number in (0, 1):  # the sequence it is of, and the one that ends there
        with pytest.raises((RecordError, DataError), match=r"corpus\.bin: (record|sequence)"):
            data[number]
    assert data[2].tolist() == SEQUENCES[2]
    try:
        item = read_honestly(without, 1)
    except DataError:
        return
    assert item.tolist() != SEQUENCES[1]  # type: ignore[attr-defined]


def test_lengths_rewritten_while_the_index_is_mapped_are_without_effect(pair: Path) -> None:
    data = AttestedMmapDataset(pair)
    with pair.with_suffix(".idx").open("r+b") as stream:
        stream.seek(34)
        stream.write(struct.pack("<4i", -1, 2**31 - 1, 0, 7))
    assert [data[number].tolist() for number in range(4)] == SEQUENCES


def test_an_index_that_cuts_the_same_file_otherwise(pair: Path) -> None:
    index = pair.with_suffix(".idx")
    index.write_bytes(sequence_files.index([2, 4, 3, 3], [0, 4, 12, 18]))
    data = AttestedMmapDataset(pair)
    assert data[2].tolist() == SEQUENCES[2]
    with pytest.raises(RecordError, match="record 0"):
        data[0]
    index.write_bytes(sequence_files.index([6, 6], [0, 12]))
    with pytest.raises(ManifestError, match="another dataset's"):
        AttestedMmapDataset(pair)


LINE_OFFSETS = {
    "outside": 2**62,
    "behind the line": 10**6,
    "into the line": 12,
    "onto another line": 0,
    "over two lines": 18,
}


@pytest.mark.parametrize("to", LINE_OFFSETS.values(), ids=LINE_OFFSETS.keys())
def test_line_offset_rewritten_while_the_index_is_mapped(texts: Path, to: int) -> None:
    data = AttestedMmapDataset(texts)
    overwrite(texts.with_name("texts.jsonl.palm-index"), line_index.HEADER.size + 8, to)
    for number in (0, 1):
        with pytest.raises((RecordError, DataError), match=r"texts\.jsonl: (record|line)"):
            data[number]
    assert data[2] == {"n": 2}


def test_a_planted_index_repeats_a_line_and_leaves_one_out(texts: Path) -> None:
    index = texts.with_name("texts.jsonl.palm-index")
    planted = bytearray(index.read_bytes())
    assert len(planted) == line_index.HEADER.size + 5 * 8
    starts = [0, 18, 27, 36, 36]  # line 1 joined to line 0, an empty record at the end
    planted[line_index.HEADER.size :] = struct.pack("<5Q", *starts)
    index.write_bytes(planted)
    data = AttestedMmapDataset(texts)
    with pytest.raises(DataError, match="are no line of the file"):
        data[0]
    with pytest.raises(RecordError, match="record 1"):
        data[1]
    without = AttestedMmapDataset(texts, manifest=None)
    assert [without[number]["n"] for number in range(4)] == [0, 1, 2, 3]


def test_without_a_manifest_a_planted_index_joins_no_lines(texts: Path) -> None:
    index = texts.with_name("texts.jsonl.palm-index")
    joined = index.read_bytes()[: line_index.HEADER.size] + struct.pack("<3Q", 0, 9, 36)
    index.write_bytes(joined)
    data = AttestedMmapDataset(texts, manifest=None)
    for one in (data, pickle.loads(pickle.dumps(data))):  # noqa: S301 (made here)
        assert [one[number]["n"] for number in range(len(one))] == [0, 1, 2, 3]
    assert index.read_bytes() == joined
    texts.with_name("texts.jsonl.palm-manifest").unlink()
    assert len(AttestedMmapDataset(texts)) == 4


def test_measuring_does_not_believe_a_planted_index(texts: Path) -> None:
    honest = measure.measure(texts)
    index = texts.with_name("texts.jsonl.palm-index")
    planted = index.read_bytes()[: line_index.HEADER.size] + struct.pack("<2Q", 0, texts.stat().st_size)
    index.write_bytes(planted)
    assert measure.measure(texts) == honest
    with pytest.raises(ManifestError, match="another dataset's"):
        AttestedMmapDataset(texts)


@pytest.mark.parametrize("which", ["corpus.idx", "texts.jsonl.palm-index"])
def test_twin_a_mapped_index_that_is_cut_kills_the_process(pair: Path, texts: Path, which: str) -> None:
    path = pair if which.startswith("corpus") else texts
    program = textwrap.dedent("""
        import os, pathlib, sys
        from palm_torch.data.dataset import AttestedMmapDataset
        data = AttestedMmapDataset(sys.argv[1])
        os.truncate(sys.argv[2], 0)
        data[0]
    """)
    command = [sys.executable, "-c", program, path, path.with_name(which)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGBUS


def test_index_rewritten_by_another_process_between_any_two_reads(pair: Path) -> None:
    """Every read gives the true record or an error: nothing in between."""
    data = AttestedMmapDataset(pair)
    program = textwrap.dedent("""
        import itertools, sys
        with open(sys.argv[1], "r+b", buffering=0) as stream:
            print("begun", flush=True)
            for number in itertools.cycle([6, 0, 7, -6, 12, 2**40]):
                stream.seek(int(sys.argv[2]))
                stream.write(number.to_bytes(8, "little", signed=True))
    """)
    command = [sys.executable, "-c", program, pair.with_suffix(".idx"), str(POINTERS + 8)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as host:
        try:
            assert host.stdout is not None
            host.stdout.readline()
            outcomes = set()
            for _ in range(4000):
                try:
                    outcomes.add(tuple(data[1].tolist()))
                except (RecordError, DataError) as error:
                    outcomes.add(type(error))
        finally:
            host.kill()
    assert outcomes <= {tuple(SEQUENCES[1]), RecordError, DataError}
    assert RecordError in outcomes
