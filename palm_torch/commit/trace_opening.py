"""Showing some of what a module computed to whoever holds a trace root and the trace's context.

A question names a site and ranges of sequences, tokens and channels. Which tiles these touch, and where they
lie in which tree, follows from the question and the context alone; an opening is those tiles and one proof.
It needs neither torch nor the tensors to check it. Specification: docs/spec/26-traces.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from blake3 import blake3

from palm_torch import files
from palm_torch.codec import from_bytes, to_json
from palm_torch.commit import merkle, tile_leaf, trace, trace_rows, trace_schemes
from palm_torch.commit.trace_rows import Question, Sites
from palm_torch.commit.weights_root import ITEM_BYTES
from palm_torch.digest import TAGGED_SHA256, Digest
from palm_torch.encoding import encode_json
from palm_torch.errors import BindingError, DataError, EvidenceError, prefixed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from palm_torch.commit.trace_rows import Place, Tile
    from palm_torch.commit.trace_schemes import Tree

MEDIA_TYPE: Final = "application/vnd.palm-torch.trace-opening+json;version=1"
SUFFIX: Final = ".palm-opening.json"

START: Final = f'{{"media_type":"{MEDIA_TYPE.partition(";")[0]};'.encode("ascii")
"""What every file of this kind begins with, whatever its version."""

MAX_PROOF_BYTES: Final = trace_rows.MAX_TILES * 24 * merkle.HASH_BYTES
"""No set of `trace_rows.MAX_TILES` leaves among 2^40 needs more siblings than 24 for each, in bytes; under
``kzg`` it needs less."""

MAX_BYTES: Final = (trace_rows.MAX_BYTES + MAX_PROOF_BYTES) // 3 * 4 + (64 << 10)
"""Largest file, in bytes: tiles and proof in base64, and 64 KiB for everything else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceOpening:
    """Tiles of a trace, with what it takes to check them.

    Attributes:
        media_type: `MEDIA_TYPE`, which carries the version.
        root: The trace root.
        question: What is shown.
        tiles: The tiles that it touches, back to back, by position in the tree.
        proof: What leads from the tiles to the root of the group's tree; see `trace_schemes`.

    Raises:
        EvidenceError: If it is of another version, or the root is no root.
    """

    media_type: str
    root: Digest
    question: Question
    tiles: bytes
    proof: bytes

    def __post_init__(self) -> None:
        """Refuses another version."""
        if self.media_type != MEDIA_TYPE:
            raise EvidenceError(f"media_type: expected {MEDIA_TYPE!r}, got {self.media_type[:80]!r}")
        if self.root.algorithm != TAGGED_SHA256:
            raise EvidenceError(f"root: expected a {TAGGED_SHA256} root, got {self.root}")

    def encode(self) -> bytes:
        """Returns the file's bytes, canonical JSON."""
        return encode_json(to_json(self))

    def save(self, path: str | Path) -> None:
        """Writes the opening to a file, whole or not at all.

        Raises:
            DataError: If it cannot be written.
        """
        files.write_atomically(Path(path), [self.encode()], error=DataError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What an opening shows; `verify` makes it, after everything was checked.

    Attributes:
        root: The trace root.
        question: What was asked.
        dtype: torch's name of the element type.
        shape: Sequences, tokens and channels.
        values: Exact little-endian bytes, row-major.
    """

    root: Digest
    question: Question
    dtype: str
    shape: tuple[int, int, int]
    values: bytes


def verify(root: Digest, context: bytes, question: Question, opening: TraceOpening) -> Shown:
    """Checks an opening against a trace root.

    Algorithm:
        1. The context has the root. *(Stops: the context of another run; a schedule, a module's name, an
           element type or a fact that was changed.)*
        2. The context is well formed.
        3. The opening is of this root and answers this question. *(Stops: an opening of something else.)*
        4. Question and context say which tiles of which tree are needed, and how long each is. *(Stops:
           tokens, channels or calls that there were not.)*
        5. The opening's bytes are as many as these tiles have.
        6. The tiles are hashed with the names of module and output, the element type, their shape and their
           place; with the proof, which has exactly the length that scheme and positions ask for, they give
           the root of the group. *(Stops: changed values; those of another place, token, site or element
           type.)*
        7. What was asked for is cut out of the tiles that were hashed.

    Args:
        root: The trace root that the verifier trusts.
        context: The bytes of the trace's context.
        question: What the verifier wants to see.
        opening: What is to be believed.

    Raises:
        DataError: At step 4: there is nothing such in this trace; at step 6 under ``kzg``: it is too much for
            one proof.
        EvidenceError: At steps 2, 5 and 6: malformed, nothing was compared.
        BindingError: At steps 1, 3 and 6: it is not what was committed to.
        MissingExtraError: If the trace needs the extra ``kzg``.
    """
    if (found := trace.root(context)) != root:  # 1
        raise BindingError(f"trace context: expected the root {root}, got {found}: it is of another trace")
    return verify_in(root, trace.decode(context, what="trace context"), question, opening)  # 2


def verify_in(
    root: Digest,
    context: trace.Context,
    question: Question,
    opening: TraceOpening,
    *,
    sites: Sites | None = None,
) -> Shown:
    """Checks one of many openings against a trace root: steps 3 to 7 of `verify`.

    Args:
        root: The trace root that the verifier trusts.
        context: What steps 1 and 2 made of the context's bytes: decoded after their root was found equal.
        question: What the verifier wants to see.
        opening: What is to be believed.
        sites: Those of the context, for many openings; None looks through all of them.

    Raises:
        PalmTorchError: As `verify`.
    """
    what = f"opening of {question.site}"
    if opening.root != root:  # 3
        raise BindingError(f"{what}: expected it under the root {root}, it is under {opening.root}")
    if opening.question != question:
        raise BindingError(f"{what}: expected an answer to {question}, it answers {opening.question}")
    place = trace_rows.locate(context, question, sites=sites)  # 4
    if len(opening.tiles) != (size := sum(tile.nbytes for tile in place.tiles)):  # 5
        raise EvidenceError(f"{what}: expected tiles of {size} bytes, got {len(opening.tiles)}")
    contents = list(_split(opening.tiles, place.tiles))
    group, leaves = place.group, dict(_leaves(place, contents))
    with prefixed(what):  # 6
        trace_schemes.verify(context.scheme, group.dtype, group.grid(), group.root, leaves, opening.proof)
    values = place.cut(contents)  # 7
    return Shown(root=root, question=question, dtype=group.dtype, shape=place.shape, values=values)


def make(
    root: Digest,
    context: trace.Context,
    trees: Sequence[Tree],
    question: Question,
    read: Callable[[int, int], bytes],
    *,
    sites: Sites | None = None,
) -> TraceOpening:
    """Opens a trace, on the side that has the tensors.

    Args:
        root: The trace root.
        context: The trace's context.
        trees: The tree of each group.
        question: What to show.
        read: Function (start, stop) → the site's bytes in this range: of all its tensors of the group, row by
            row, call by call. Called once for each tile.
        sites: Those of the context, for many questions; None looks through all of them.

    Raises:
        DataError: If the question is no question of this trace, the bytes are not those captured, or it is
            too much for one proof.
    """
    sites = sites or Sites(context)
    place = trace_rows.locate(context, question, sites=sites)
    contents = [read(tile.start, tile.start + tile.nbytes) for tile in place.tiles]
    tree = trees[sites.number(place.group)]
    for position, leaf in _leaves(place, contents):
        if leaf != tree.leaf(position):
            raise DataError(
                f"opening of {question.site}: the bytes at hand are not those that were captured"
                f" (tile {position} of its tree)"
            )
    proof = tree.open([tile.position for tile in place.tiles])
    return TraceOpening(
        media_type=MEDIA_TYPE, root=root, question=question, tiles=b"".join(contents), proof=proof
    )


def read(path: Path) -> TraceOpening:
    """Reads an opening, without checking it against anything.

    Raises:
        EvidenceError: If the file cannot be read or is not exactly such an opening.
    """
    data = files.read_bounded(path, what="the opening", max_bytes=MAX_BYTES, error=EvidenceError)
    return decode(data, what=str(path))


def decode(data: bytes, *, what: str) -> TraceOpening:
    """Parses an opening.

    Args:
        data: The file's bytes.
        what: Name of the file, for messages.

    Raises:
        EvidenceError: If they are not exactly such an opening.
    """
    return from_bytes(TraceOpening, data, what=what, max_bytes=MAX_BYTES, error=EvidenceError)


def _leaves(place: Place, contents: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yields position and leaf digest of each tile."""
    leaf = tile_leaf.maker(place.site.tree_id, place.group.dtype, axes=2)
    item_bytes = ITEM_BYTES[place.group.dtype]
    for tile, content in zip(place.tiles, contents, strict=True):
        shape = (tile.nbytes // tile.channels // item_bytes, tile.channels)
        yield tile.position, leaf(shape, tile.coordinates, blake3(content).digest())


def _split(data: bytes, tiles: Sequence[Tile]) -> Iterator[bytes]:
    at = 0
    for tile in tiles:
        yield data[at : at + tile.nbytes]
        at += tile.nbytes
