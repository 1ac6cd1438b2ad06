"""The header of a manifest: what it says of a dataset, and what is no header."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from palm_torch.codec import to_json
from palm_torch.commit import manifest, manifest_file, multiset, records
from palm_torch.digest import Digest
from palm_torch.encoding import encode_json
from palm_torch.errors import DataError, EncodingError, ManifestError
from palm_torch.roles import Multiset

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 70
DIGESTS = b"".join(records.record_digest(bytes([number])) for number in range(COUNT))


def good() -> manifest.Manifest:
    product = multiset.MultisetHash()
    product.add_many(DIGESTS)
    return manifest.Manifest(
        version=1,
        format="bin",
        dtype="uint8",
        record_shape=(1,),
        record_bytes=1,
        columns=None,
        records=COUNT,
        shards=(
            manifest.Shard("a.bin", 30, 30, Digest("sha256", bytes(32))),
            manifest.Shard("sub/b.bin", 40, 40, Digest("sha256", bytes(32))),
        ),
        digests_root=manifest_file.groups_root(records.group_digests(DIGESTS)),
        multiset=Multiset(scheme="mset-mu-3072", count=COUNT, state=product.state.hex()),
        salted=False,
    )


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def whole() -> bytes:
    return manifest_file.head(good()) + DIGESTS


def with_header(header: bytes) -> bytes:
    length = len(manifest_file.MAGIC) + 4 + len(header)
    return manifest_file.MAGIC + len(header).to_bytes(4, "big") + header + bytes(-length % 64) + DIGESTS


def test_digest_is_sha256_of_the_header() -> None:
    import hashlib

    header = encode_json(to_json(good()))
    assert good().digest == Digest("sha256", hashlib.sha256(header).digest())
    assert with_header(header) == whole()


def test_records_of_any_length(tmp_path: Path) -> None:
    columns = (manifest.Column("text", "string"), manifest.Column("ids", "list<int32>"))
    for changes, kind in (
        ({"format": "jsonl"}, ""),
        ({"format": "megatron", "dtype": "int32"}, ""),
        ({"format": "items"}, "items"),
        ({"format": "arrow", "columns": columns}, '[["text","string"],["ids","list<int32>"]]'),
    ):
        bare = {"dtype": None, "record_shape": None, "record_bytes": None}
        shards = (replace(good().shards[0], bytes=1, sha256=None), good().shards[1])
        header = replace(good(), **(bare | {"shards": shards} | changes))
        path = write(tmp_path / "m", manifest_file.head(header) + DIGESTS)
        assert manifest_file.read(path) == header
        assert header.kind == kind


def test_kind_is_in_the_record_key() -> None:
    import hashlib

    framed = (0).to_bytes(4, "big") + (5).to_bytes(4, "big") + b"items"
    assert records.record_key(kind="items") == hashlib.sha256(b"palm-torch/record/v1" + framed).digest()
    assert records.record_key(b"items" * 4) != records.record_key(kind="items") != records.record_key()


def test_record_digest_known_answer() -> None:
    import hashlib

    from blake3 import blake3

    key = hashlib.sha256(b"palm-torch/record/v1" + (16).to_bytes(4, "big") + b"a secret of salt").digest()
    assert records.record_digest(b"abc", salt=b"a secret of salt") == blake3(b"abc", key=key).digest()
    assert records.record_digest(b"abc") == records.record_digest(memoryview(b"abc"))
    assert records.record_digest(b"abc") != records.record_digest(b"abc", salt=b"a secret of salt")
    assert records.group_digests(b"") == b""


@pytest.mark.parametrize("salt", [b"", b"s" * 15, "s" * 16, bytearray(16), 16])
def test_what_hides_nothing_is_no_salt(salt: Any) -> None:
    with pytest.raises(DataError, match=r"salt: expected (bytes|at least 16 bytes)"):
        records.record_key(salt)


def json_header(**changes: Any) -> bytes:
    return encode_json(to_json(good()) | changes)


def rows_header(**changes: Any) -> bytes:
    return json_header(**({"dtype": None, "record_shape": None, "record_bytes": None} | changes))


def column(name: str) -> dict[str, str]:
    return {"name": name, "type": "string"}


def shard(**changes: Any) -> Any:
    return [to_json(good().shards[0]) | changes, to_json(good().shards[1])]


MALFORMED = (
    {
        "not json": with_header(b"hello"),
        "not canonical": with_header(json_header().replace(b'"version":1', b'"version": 1')),
        "unknown key": with_header(json_header(extra=1)),
        "missing key": with_header(encode_json({k: v for k, v in to_json(good()).items() if k != "salted"})),
        "version": with_header(json_header(version=2)),
        "format": with_header(json_header(format="../x")),
        "dtype": with_header(json_header(dtype="")),
        "no records": with_header(json_header(records=0)),
        "records differ from shards": with_header(json_header(records=COUNT + 1)),
        "record bytes": with_header(json_header(record_bytes=0)),
        "record shape": with_header(json_header(record_shape=[0])),
        "record shape alone": with_header(json_header(record_bytes=None)),
        "record bytes alone": with_header(json_header(record_shape=None)),
        "record shape of no elements": with_header(json_header(dtype=None)),
        "no columns": with_header(rows_header(columns=[])),
        "column twice": with_header(rows_header(columns=[column("a"), column("a")])),
        "column of another type": with_header(rows_header(columns=["a"])),
        "two columns of elements": with_header(json_header(columns=[column("a"), column("b")])),
        "root of another kind": with_header(json_header(digests_root="sha256:" + "00" * 32)),
        "multiset scheme": with_header(
            json_header(multiset=to_json(good().multiset) | {"scheme": "muhash3072"})
        ),
        "multiset count": with_header(json_header(multiset=to_json(good().multiset) | {"count": COUNT + 1})),
        "multiset state": with_header(json_header(multiset=to_json(good().multiset) | {"state": "00"})),
        "no shards": with_header(json_header(shards=[])),
        "shard twice": with_header(json_header(shards=shard(name="sub/b.bin"))),
        "shard too small": with_header(json_header(shards=shard(bytes=29))),
        "shard without records": with_header(json_header(shards=shard(records=0))),
        "shard digest": with_header(json_header(shards=shard(sha256="palm-sha256:" + "00" * 32))),
    }
    | {
        f"shard name {name!r}": with_header(json_header(shards=shard(name=name)))
        for name in (
            "",
            ".",
            "..",
            "/etc/passwd",
            "../a.bin",
            "sub/../../a",
            "./a.bin",
            "a//b",
            "a/",
            "a\\b",
            "a\0b",
        )
    }
    | {"shard name too long": with_header(json_header(shards=shard(name="a" * 1025)))}
)


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "m", MALFORMED[name])
    for reader in (manifest_file.ManifestFile.open, manifest_file.read, manifest_file.read_header):
        with pytest.raises(ManifestError, match=re.escape(str(path))):
            reader(path)


def test_every_field_is_in_the_identity() -> None:
    header = replace(good(), shards=tuple(replace(shard, sha256=None) for shard in good().shards))
    changes = {
        "dtype": "int8",
        "format": "npy",
        "record_shape": (1, 1),
        "columns": (manifest.Column("x", "uint8"),),
        "salted": True,
        "shards": header.shards[::-1],
        "digests_root": Digest("palm-sha256", bytes(32)),
        "multiset": replace(header.multiset, state="11" * 384),
    }
    seen = {replace(header, **{name: value}).digest for name, value in changes.items()} | {header.digest}
    assert len(seen) == len(changes) + 1


def test_a_salted_manifest_has_no_plain_digest_of_a_file() -> None:
    with pytest.raises(EncodingError, match="sha256: expected null in a salted manifest"):
        replace(good(), salted=True)
    one = replace(good().shards[0], sha256=None)
    with pytest.raises(EncodingError, match="sha256: expected null in a salted manifest"):
        replace(good(), salted=True, shards=(one, good().shards[1]))
