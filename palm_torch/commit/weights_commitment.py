"""A commitment to weights as a file: a root, and the tensors under it with a root each.

`commit` makes one of a safetensors file, an index or a folder, in one pass over the bytes. It is what whoever
holds weights publishes, and it spares them reading all of the weights again when they open a part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from palm_torch import files
from palm_torch.codec import from_bytes, to_json
from palm_torch.commit import safetensors_file, weights_reading, weights_root, weights_schemes
from palm_torch.digest import TAGGED_SHA256, Digest
from palm_torch.encoding import MAX_VALUES, encode_json, values_in
from palm_torch.errors import ArtifactError, DataError
from palm_torch.roles import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from palm_torch.commit.safetensors_file import StoredTensor

MEDIA_TYPE: Final = "application/vnd.palm-torch.weights-commitment+json;version=1"

MAX_BYTES: Final = 64 << 20

START: Final = b'{"media_type":"application/vnd.palm-torch.weights-commitment'
"""How a commitment's canonical bytes begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsCommitment:
    """A model's weights, committed to.

    Attributes:
        media_type: `MEDIA_TYPE`, which carries the version.
        scheme: Which trees.
        root: The weights root under this scheme.
        tensors: The tensors with the roots of their tiles under it, sorted by name.

    Raises:
        DataError: If the list is not canonical, or under ``hash`` gives another root.
    """

    media_type: str
    scheme: weights_schemes.Name
    root: Digest
    tensors: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        """Refuses a list that nobody can have hashed."""
        if self.media_type != MEDIA_TYPE:
            raise DataError(f"media_type: expected {MEDIA_TYPE!r}, got {self.media_type[:80]!r}")
        if self.root.algorithm != TAGGED_SHA256:
            raise DataError(f"root: expected a {TAGGED_SHA256} root, got {self.root}")
        listed = weights_root.claimed_root(self.tensors)
        if self.scheme == "hash" and listed != self.root:  # under kzg: `check_root`
            raise DataError(f"root: expected {listed}, which the tensors give, got {self.root}")

    @classmethod
    def of(cls, tensors: Iterable[Tensor], scheme: weights_schemes.Name) -> WeightsCommitment:
        """Returns the commitment to tensors, in any order, whose roots are known."""
        ordered = tuple(sorted(tensors, key=lambda tensor: tensor.name.encode("utf-8")))
        root = weights_schemes.of(scheme).entries_root(entries(ordered))
        return cls(media_type=MEDIA_TYPE, scheme=scheme, root=Digest(TAGGED_SHA256, root), tensors=ordered)

    def find(self, name: str) -> int | None:
        """Returns the place of a tensor by its name, or by one of its aliases; None if there is none."""
        places = (at for at, tensor in enumerate(self.tensors) if name in (tensor.name, *tensor.aliases))
        return next(places, None)

    def encode(self) -> bytes:
        """Returns the file's bytes, canonical JSON.

        Raises:
            DataError: If there are too many tensors for a file that `decode` accepts.
        """
        data = encode_json(to_json(self))
        values = values_in(data)
        if len(data) > MAX_BYTES or values > MAX_VALUES:
            raise DataError(
                f"a list of {len(self.tensors)} tensors has {len(data)} bytes and {values} commas and "
                f"colons, or opening brackets: expected at most {MAX_BYTES} and {MAX_VALUES} in a file; the "
                "root needs none"
            )
        return data

    def check_root(self) -> None:
        """Computes the root again from the list: under ``kzg`` nobody did so far.

        Raises:
            DataError: If it is another one.
            MissingExtraError: If it needs the extra ``kzg``.
        """
        found = Digest(TAGGED_SHA256, weights_schemes.of(self.scheme).entries_root(entries(self.tensors)))
        if found != self.root:
            raise DataError(f"root: expected {found}, which the tensors give, got {self.root}")


def spec_of(tensor: Tensor) -> weights_root.TensorSpec:
    """Returns what a listed tensor is, apart from its bytes.

    Raises:
        DataError: If a name, the dtype or the shape is malformed.
    """
    return weights_root.TensorSpec(tensor.name, tensor.dtype, tensor.shape, tensor.aliases)


def entries(tensors: Iterable[Tensor]) -> list[bytes]:
    """Returns the entry of each tensor, 32 bytes, in the same order."""
    return [weights_root.tensor_entry(spec_of(tensor), tensor.root.value) for tensor in tensors]


def commit(
    path: Path,
    *,
    scheme: weights_schemes.Name = "hash",
    like: Sequence[Tensor] | None = None,
    to_file: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> WeightsCommitment:
    """Reads weights once, tile by tile, and returns the commitment to them.

    Args:
        path: A safetensors file, an index or a folder; see `palm_torch.commit.safetensors_file`.
        scheme: Which trees.
        like: Names, aliases, dtypes and shapes to take, such as evidence lists them. None takes the names in
            the file: there, tied weights that are stored once or twice are one tensor or two.
        to_file: Whether the list shall be written: if it is too long for a file, nothing is read.
        progress: Told how many bytes were hashed, and of how many.

    Raises:
        DataError: If a file is missing, malformed, or becomes shorter while it is read; or if there are too
            many tensors for a file.
        ArtifactError: If the file has other tensors than `like`, or tied ones that differ.
    """
    stored = _named(path, like)
    if to_file:  # the list will be exactly as long
        WeightsCommitment.of({spec: _listed(spec, bytes(32)) for spec, _ in stored}.values(), "hash").encode()
    total, done = sum(tensor.spec.nbytes for _, tensor in stored), 0
    roots: dict[weights_root.TensorSpec, tuple[str, bytes]] = {}
    for spec, tensor in stored:
        tree = weights_schemes.of(scheme).tree(spec)
        for content in weights_reading.tiles(spec, tensor):
            tree.add(content)
            done += len(content)
            if progress is not None:
                progress(done, total)
        root = tree.root()
        first, expected = roots.setdefault(spec, (tensor.spec.name, root))
        if root != expected:
            raise ArtifactError(
                f"{path}: {first!r} and {tensor.spec.name!r} are names of one tensor, but their bytes "
                f"differ: roots {expected.hex()} and {root.hex()}"
            )
    return WeightsCommitment.of((_listed(spec, root) for spec, (_, root) in roots.items()), scheme)


def _named(path: Path, like: Sequence[Tensor] | None) -> list[tuple[weights_root.TensorSpec, StoredTensor]]:
    """Returns the stored tensors in the order of their bytes, each with the name that counts."""
    if like is None:
        found = [(tensor.spec, tensor) for tensor in safetensors_file.stored_tensors(path).values()]
    else:
        found = [(spec_of(claim), stored) for claim, stored in safetensors_file.matched(path, like)]
    return sorted(found, key=lambda item: (item[1].path, item[1].start))


def _listed(spec: weights_root.TensorSpec, root: bytes) -> Tensor:
    return Tensor(
        name=spec.name,
        aliases=spec.aliases,
        dtype=spec.dtype,
        shape=spec.shape,
        root=Digest(TAGGED_SHA256, root),
    )


def read(path: Path) -> WeightsCommitment:
    """Reads a commitment.

    Raises:
        DataError: If the file cannot be read or is not exactly such a commitment.
    """
    data = files.read_bounded(path, what="the commitment", max_bytes=MAX_BYTES, error=DataError)
    return decode(data, what=str(path))


def decode(data: bytes, *, what: str) -> WeightsCommitment:
    """Parses a commitment.

    Args:
        data: The file's bytes.
        what: Name of the file, for messages.

    Raises:
        DataError: If they are not exactly such a commitment.
    """
    return from_bytes(WeightsCommitment, data, what=what, max_bytes=MAX_BYTES, error=DataError)
