"""Files at hand: manifests, coverage maps, proofs about records, weights and openings, NumPy arrays."""

from __future__ import annotations

import functools
import io
import tempfile
from pathlib import Path

import numpy as np
import records_at_hand as at_hand
import weights_at_hand
from laws import REFUSED, accepted, ours

from palm_torch.commit import (
    coverage,
    coverage_file,
    coverage_proof,
    manifest_file,
    opening_file,
    record_proof,
    records,
    safetensors_file,
    weights_commitment,
    weights_opening,
)
from palm_torch.data.formats import npy, table
from palm_torch.digest import Digest

HEAD = len(coverage.MAGIC) + 9


def one_input(data: bytes) -> None:
    path = scratch() / "file"
    path.write_bytes(data)
    if data.startswith(manifest_file.MAGIC[:12]):
        manifests(path, data)
    elif data.startswith(coverage.MAGIC[:12]):
        maps(path, data)
    elif data.startswith(b'{"dataset"'):
        counted(data)
    elif data.startswith(b'{"group"'):
        members(data)
    elif data.startswith(b'{"columns"'):
        rows(data)
    elif data.startswith(weights_commitment.START[:15]):
        lists(data)
    elif data.startswith(b"\x93NUMPY"):
        arrays(path, data)
    else:
        tensors(path, data)


def manifests(path: Path, data: bytes) -> None:
    digests = bytearray()
    accepted(
        data,
        lambda _: manifest_file.read(path, each=digests.extend),
        lambda found: manifest_file.head(found) + bytes(digests),
    )
    opened = ours(manifest_file.ManifestFile.open, path)
    if opened is not REFUSED:
        with opened as file:
            assert manifest_file.head(file.manifest) + file.mapping[file.offset :] == data
            ours(file.group_digests)


def maps(path: Path, data: bytes) -> None:
    width, counts = data[len(coverage.MAGIC) :][:1], data[HEAD:]
    root = ours(coverage.coverage_root, counts, width[0] if width else 0)
    if root is REFUSED:
        root = Digest("palm-sha256", bytes(32))

    def written(found: tuple[bytes, int]) -> bytes:
        coverage.write_sidecar(path, *found)
        return path.read_bytes()

    read = ours(coverage_file.read, path)
    accepted(data, lambda _: coverage.read_sidecar(path, root), written)
    if read is not REFUSED:
        assert read.root == root
        assert read.summary == coverage.summary(counts, width[0])


def counted(data: bytes) -> None:
    dataset = at_hand.make_train().data["dataset1"]
    accepted(data, lambda _: coverage_proof.decode(data, what="proof"), coverage_proof.CoverageProof.encode)
    found = ours(coverage_proof.decode, data, what="proof")
    if found is not REFUSED and (count := ours(found.check, dataset)) is not REFUSED:
        assert (
            count == {"train": bytes([2]) * 10, "eval": bytes([1, 0, 3, *bytes(7)])}[found.use][found.index]
        )


def members(data: bytes) -> None:
    accepted(data, lambda _: record_proof.decode(data, what="proof"), record_proof.RecordProof.encode)
    found = ours(record_proof.decode, data, what="proof")
    proven = REFUSED if found is REFUSED else ours(record_proof.check, found, at_hand.MANIFEST.digest)
    if proven is not REFUSED:
        assert proven.digest == at_hand.DIGESTS[proven.index * 32 :][:32]


def rows(data: bytes) -> None:
    accepted(data, lambda _: opening_file.decode(data, what="opening"), opening_file.WeightsOpening.encode)
    found = ours(opening_file.decode, data, what="opening")
    shown = REFUSED if found is REFUSED else ours(weights_opening.verify, found, model().root)
    if shown is not REFUSED:
        ((top, bottom), (left, right)) = shown.block.rows, shown.block.columns
        content, width = weights_at_hand.SMALL[shown.spec.name][2], shown.spec.view()[1]
        cut = (content[4 * (row * width + left) : 4 * (row * width + right)] for row in range(top, bottom))
        assert shown.values == b"".join(cut)


def lists(data: bytes) -> None:
    decode = weights_commitment.decode
    accepted(data, lambda _: decode(data, what="list"), weights_commitment.WeightsCommitment.encode)


@functools.cache
def model() -> weights_commitment.WeightsCommitment:
    return weights_commitment.commit(weights_at_hand.write(scratch() / "model", weights_at_hand.SMALL))


def arrays(path: Path, data: bytes) -> None:
    for wanted in (table.Wanted(), table.Wanted(record_length=2)):
        view = ours(npy.open_npy, path, wanted)
        if view is not REFUSED:
            array = np.load(io.BytesIO(data), allow_pickle=False)
            assert array.dtype.name == view.layout.dtype
            assert array.tobytes() == bytes(view.buffer)
            assert view.records * view.layout.record_bytes == array.nbytes


def tensors(path: Path, data: bytes) -> None:
    index = path.with_suffix(".json")
    index.write_bytes(data)
    for model in (path, index):
        found = ours(safetensors_file.stored_tensors, model)
        if found is not REFUSED:
            assert sum(tensor.spec.nbytes for tensor in found.values()) < len(data)
            for name, tensor in found.items():
                assert len(tensor.root(name)) == records.DIGEST_BYTES


@functools.cache
def scratch() -> Path:
    """Returns a folder in memory, where there is one."""
    memory = Path("/dev/shm")  # noqa: S108 (a folder of our own is made in it)
    return Path(tempfile.mkdtemp(prefix="palm-torch-fuzz-", dir=memory if memory.is_dir() else None))
