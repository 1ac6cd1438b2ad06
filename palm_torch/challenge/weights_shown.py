"""Opening the weights that a request asks for, on the side that has them; each tensor is read once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_torch.commit import (
    safetensors_file,
    weights_commitment,
    weights_reading,
    weights_schemes,
)
from palm_torch.commit.weights_block import Block
from palm_torch.commit.weights_opening import ReadBlock
from palm_torch.errors import ArtifactError, DataError
from palm_torch.roles import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from palm_torch.challenge.geometry import Geometry
    from palm_torch.challenge.weights_asked import WeightsQuestion
    from palm_torch.commit.opening_file import WeightsOpening
    from palm_torch.commit.weights_commitment import WeightsCommitment
    from palm_torch.digest import Digest

_HEAD = "lm_head.weight"


def listed(path: Path, model: Digest, geometry: Geometry) -> WeightsCommitment:
    """Returns the list of a model's tensors that gives the root which a trace names.

    A file has tied weights once, under one name, and the model has them under two: both are tried.

    Args:
        path: The weights: a safetensors file, an index or a folder.
        model: The weights root.
        geometry: What the model is.

    Raises:
        DataError: If the file cannot be read.
        ArtifactError: If they are other weights.
    """
    plain = weights_commitment.commit(path)
    if plain.root == model:
        return plain
    embedding = f"{geometry.prefix}{'embed_tokens' if geometry.family == 'llama' else 'wte'}.weight"
    if geometry.tied and plain.find(embedding) is not None:
        tied = weights_commitment.commit(path, like=as_tied(plain.tensors, embedding))
        if tied.root == model:
            return tied
    raise ArtifactError(
        f"{path}: expected the weights {model}, which the trace names, got {plain.root}: other weights"
    )


def as_tied(tensors: Sequence[Tensor], embedding: str) -> list[Tensor]:
    """Returns tensors with the head's and the embedding's name for one of them."""
    names = sorted((_HEAD, embedding), key=lambda name: name.encode("utf-8"))
    return [
        Tensor(name=names[0], aliases=(names[1],), dtype=tensor.dtype, shape=tensor.shape, root=tensor.root)
        if tensor.name == embedding
        else tensor
        for tensor in tensors
        if tensor.name != _HEAD
    ]


def open_all(
    path: Path, like: WeightsCommitment, questions: Sequence[WeightsQuestion]
) -> tuple[WeightsOpening, ...]:
    """Opens blocks of weights, in the order of the questions.

    Args:
        path: The weights.
        like: The list of them that gives the root.
        questions: What to show.

    Raises:
        DataError: If the weights have no such tensor or block, or the file cannot be read.
        ArtifactError: If a tensor is not the one listed.
    """
    stored = safetensors_file.stored_tensors(path)
    by_tensor: dict[int, list[tuple[int, Block]]] = {}
    for number, question in enumerate(questions):
        at = like.find(question.name)
        if at is None:
            raise DataError(f"{path}: expected a tensor {question.name!r}, which the model has, got none")
        spec = weights_commitment.spec_of(like.tensors[at])
        block = Block.of(spec, rows=question.rows, columns=question.columns)
        by_tensor.setdefault(at, []).append((number, block))
    openings: dict[int, WeightsOpening] = {}
    for at, blocks in by_tensor.items():
        claim = like.tensors[at]
        spec = weights_commitment.spec_of(claim)
        wanted = {position for _, block in blocks for position, _, _ in block.tiles(spec)}
        here = next(stored[name] for name in (claim.name, *claim.aliases) if name in stored)
        tree, kept = weights_schemes.of(like.scheme).tree(spec), {}
        for position, content in enumerate(weights_reading.tiles(spec, here)):
            tree.add(content)
            if position in wanted:
                kept[position] = content
        if (found := tree.root()) != claim.root.value:
            raise ArtifactError(
                f"{path}: tensor {claim.name!r}: expected the root {claim.root.value.hex()}, got "
                f"{found.hex()}"
            )
        for number, block in blocks:
            tiles = {position: kept[position] for position, _, _ in block.tiles(spec)}
            openings[number] = ReadBlock(
                what=str(path), listed=like, index=at, block=block, tree=tree, tiles=tiles
            ).opening()
    return tuple(openings[number] for number in range(len(questions)))
