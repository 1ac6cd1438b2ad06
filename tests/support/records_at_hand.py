"""A dataset of ten records and a model of two tensors, in plain bytes: what the good run is about."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from palm_torch.commit import coverage, manifest, manifest_file, multiset, records, weights_root
from palm_torch.digest import TAGGED_SHA256, Digest, sha256_digest
from palm_torch.properties import Train
from palm_torch.roles import (
    Artifact,
    Counts,
    Dataset,
    Delivered,
    Multiset,
    Source,
    Steps,
    Tensor,
    Value,
    Weights,
)

if TYPE_CHECKING:
    from pathlib import Path

RECORDS = 10
RECORD_BYTES = 16
CONTENT = bytes(range(RECORDS * RECORD_BYTES))
DIGESTS = b"".join(
    records.record_digest(CONTENT[at : at + RECORD_BYTES]) for at in range(0, len(CONTENT), RECORD_BYTES)
)
DIGEST_BYTES = records.DIGEST_BYTES


def multiset_of(counts: bytes) -> Multiset:
    """Returns the multiset hash of the records with these multiplicities by index."""
    hashed = multiset.MultisetHash()
    for index, count in enumerate(counts):
        hashed.add(DIGESTS[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES], count)
    return Multiset(scheme=hashed.parameters.name, count=hashed.count, state=hashed.state.hex())


def delivered(counts: bytes) -> Delivered:
    """Returns what a ledger says after delivering the records that often."""
    return Delivered(
        exact=True,
        delivered=sum(counts),
        padded=0,
        counts=Counts(
            distinct=sum(count > 0 for count in counts),
            least=min(counts),
            greatest=max(counts),
            coverage=coverage.coverage_root(counts, 1),
        ),
        multiset=multiset_of(counts),
        order=(Digest(TAGGED_SHA256, bytes(32)),),
    )


MANIFEST = manifest.Manifest(
    version=1,
    format="bin",
    dtype="uint16",
    record_shape=(RECORD_BYTES // 2,),
    record_bytes=RECORD_BYTES,
    columns=None,
    records=RECORDS,
    shards=(manifest.Shard("a.bin", len(CONTENT), RECORDS, sha256_digest(CONTENT)),),
    digests_root=manifest_file.groups_root(records.group_digests(DIGESTS)),
    multiset=multiset_of(bytes([1]) * RECORDS),
    salted=False,
)

SHAPES = {"body.weight": (2, 3), "head.weight": (3,)}
BEFORE = {"body.weight": bytes(24), "head.weight": bytes(12)}
AFTER = {"body.weight": bytes(range(24)), "head.weight": bytes(range(12))}


def weights(tensors: dict[str, bytes], taken: Any) -> Weights:
    roots = {
        name: (spec, weights_root.tensor_root(spec, data))
        for name, data in tensors.items()
        for spec in [weights_root.TensorSpec(name, "float32", SHAPES[name], aliases(name))]
    }
    return Weights(
        source=Source.MEASURED,
        digest=weights_root.weights_root(roots.values()),
        tensors=tuple(
            Tensor(
                name=name,
                aliases=spec.aliases,
                dtype=spec.dtype,
                shape=spec.shape,
                root=Digest(TAGGED_SHA256, root),
            )
            for name, (spec, root) in sorted(roots.items())
        ),
        taken=taken,
    )


def aliases(name: str) -> tuple[str, ...]:
    return ("tied.weight",) if name == "head.weight" else ()


INITIAL = weights(BEFORE, "first_step")
MODEL = weights(AFTER, "end")


def option(least: Any, greatest: Any) -> dict[str, Any]:
    return {"first": greatest, "last": least, "least": least, "greatest": greatest, "changes": 1}


def make_train() -> Train:
    return Train(
        architecture=Artifact(
            source=Source.MEASURED, kind="architecture", digest=sha256_digest(b"architecture")
        ),
        data={
            "dataset1": Dataset(
                source=Source.MEASURED,
                format="bin",
                manifest=MANIFEST.digest,
                records=RECORDS,
                record_bytes=RECORD_BYTES,
                layout=MANIFEST.layout,
                uses={
                    "train": delivered(bytes([2]) * RECORDS),
                    "eval": delivered(bytes([1, 0, 3]) + bytes(RECORDS - 3)),
                },
            )
        },
        configuration=Value(
            source=Source.MEASURED,
            value={
                "steps_without_new_records": 0,
                "writes_outside_steps": 0,
                "parameters_changed_without_steps": 0,
                "optimizers_begun_with_state": 0,
                "batches_carried_over": 0,
                "extra_state": [],
                "optimizers": [
                    {
                        "class_name": "torch.optim.adamw.AdamW",
                        "groups": [
                            {"options": {"lr": option(0.0005, 0.001), "capturable": option(None, None)}},
                            {"options": {"lr": option(0.0001, 0.0002)}},
                        ],
                    },
                    {
                        "class_name": "torch.optim.rprop.Rprop",
                        "groups": [{"options": {"lr": option(0.001, 0.001)}}],
                    },
                ],
                "config": {"warmup": 100},
            },
        ),
        tokenizer=Artifact(source=Source.DECLARED, kind="none", digest=None),
        initial=INITIAL,
        model=MODEL,
        steps=Steps(source=Source.MEASURED, taken=4, skipped=0),
        seeds=Value(source=Source.MEASURED, value={"begin": {"torch": "ab" * 32}, "end": {}}),
    )


def write_safetensors(path: Path, tensors: dict[str, bytes]) -> Path:
    """Writes the tensors by hand: length, JSON header, bytes."""
    header: dict[str, Any] = {}
    start = 0
    for name, data in tensors.items():
        header[name] = {
            "dtype": "F32",
            "shape": list(SHAPES[name]),
            "data_offsets": [start, start + len(data)],
        }
        start += len(data)
    encoded = json.dumps(header).encode("utf-8")
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + b"".join(tensors.values()))
    return path


def write_manifest(path: Path, header: manifest.Manifest = MANIFEST, digests: bytes = DIGESTS) -> Path:
    path.write_bytes(manifest_file.head(header) + digests)
    return path
