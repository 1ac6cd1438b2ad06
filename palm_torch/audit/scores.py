"""Scores of a model's parts, from its weights alone: where an edit is likely to matter most.

| measure | of a matrix | score of a part |
|---|---|---|
| ``alpha`` | Hill's estimate of the exponent that the tail of its spectrum falls with | least α / mean α |
| ``l1``, ``l2``, ``linf`` | mean magnitude, root mean square, largest magnitude | mean / largest mean |
| ``uniform`` | nothing | 1 |

A spectrum whose tail is heavy, with a small α, is that of a matrix that training has worked on. With n
eigenvalues λ₁ ≥ λ₂ ≥ … of WᵀW and k = ⌊n / 2⌋, α = 1 + k / Σ ln(λᵢ / λₖ₊₁), the sum over i from 1 to k. The
published map from α to a score clamps, which gives a quarter of all layers and more the score 0: they would
never be looked at. Here the score of a part is never 0 unless all its weights are.

All of these are heuristics: no score bounds what an edit can do.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from palm_torch.audit import weights_file
from palm_torch.challenge.scores_file import MEDIA_TYPE, Measure, PartScore, Scores, Verifier
from palm_torch.commit import safetensors_file, selection
from palm_torch.commit.safetensors_file import StoredTensor
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    Matrix: TypeAlias = npt.NDArray[Any]

EMBEDDING: Final = "embedding"
HEAD: Final = "head"

_NUMBERED: Final = re.compile(r"((?:[^.]+\.)*?)([0-9]{1,6})\.")
_EMBEDDINGS: Final = re.compile(r"(?:^|\.)(?:embed_tokens|embed_positions|wte|wpe|\w*embeddings?)\.")
_HEADS: Final = re.compile(r"(?:^|\.)(?:lm_head|embed_out|output)\.weight$")
_TOKENS: Final = re.compile(r"(?:^|\.)(?:embed_tokens|wte|embed_in|word_embeddings)\.weight$")
_SPLIT: Final = 3


@dataclass(frozen=True, slots=True)
class _Part:
    name: str
    tensors: tuple[StoredTensor, ...]

    @property
    def cost(self) -> int:
        """Its parameters."""
        return sum(int(np.prod(tensor.spec.shape, dtype=object)) for tensor in self.tensors)


def score(
    path: Path, measure: Measure = "alpha", *, progress: Callable[[int, int], object] | None = None
) -> Scores:
    """Scores the parts of a model: embedding, blocks in order, head.

    A head without a matrix of its own has that of the embedding. Matrices are read one at a time; those of
    experts, stored together, count one by one. ``alpha`` takes all eigenvalues of each: some seconds for a
    width of 2048, half a minute for 4096.

    Args:
        path: A safetensors file, an index or a folder; see `palm_torch.commit.safetensors_file`.
        measure: What the scores come from.
        progress: Is told how many bytes were looked at, and how many there are.

    Raises:
        DataError: If it cannot be read, has no numbered blocks, a part has no matrix, or one has an element
            type that no audit computes with or a number that is not finite.
    """
    parts = _parts(path)
    found: list[float] = []
    done, size = 0, sum(tensor.spec.nbytes for part in parts for tensor in part.tensors)
    for part in parts:
        if measure == "uniform":
            found.append(1.0)
            continue
        values = []
        for tensor in part.tensors:
            values += _measures(tensor, measure)
            done += tensor.spec.nbytes
            if progress is not None:
                progress(done, size)
        if not values:
            raise DataError(f"{path}: {part.name}: expected a matrix among its weights, found none")
        found.append(float(np.mean(values)))
    scores = normalised(found, measure)
    return Scores(
        media_type=MEDIA_TYPE,
        measure=measure,
        parts=tuple(
            PartScore(name=part.name, score=value, cost=part.cost)
            for part, value in zip(parts, scores, strict=True)
        ),
        verifiers=(),
    )


def share_out(scores: Scores, budgets: Sequence[float]) -> Scores:
    """Returns the scores with an interval of parts for each verifier, together worth as much as they can be.

    Args:
        scores: The scores.
        budgets: How many parameters each verifier can afford to look at.

    Raises:
        DataError: As `palm_torch.commit.selection.select`.
    """
    chosen = selection.select(
        [part.score for part in scores.parts], [part.cost for part in scores.parts], budgets
    )
    verifiers = tuple(
        Verifier(budget=budget, first=interval.start, end=interval.stop)
        for budget, interval in zip(budgets, chosen.intervals, strict=True)
    )
    return Scores(media_type=MEDIA_TYPE, measure=scores.measure, parts=scores.parts, verifiers=verifiers)


def measured(matrix: Matrix, measure: Measure, *, what: str) -> float:
    """Returns the measure of one matrix.

    Args:
        matrix: Floats, two dimensions.
        measure: Which; not ``uniform``.
        what: Name of the matrix, for messages.

    Raises:
        DataError: If it is empty or has a number that is not finite.
    """
    if measure == "alpha":
        return alpha(matrix, what=what)
    magnitudes = np.abs(_finite(matrix, what))
    if measure == "l1":
        return float(magnitudes.mean(dtype=np.float64))
    if measure == "l2":
        return float(np.sqrt(np.mean(np.square(magnitudes, dtype=np.float64))))
    return float(magnitudes.max())


def alpha(matrix: Matrix, *, what: str = "matrix") -> float:
    """Returns Hill's estimate of the tail exponent of the spectrum of WᵀW, over its larger half.

    Returns:
        α, above 1; infinite where all eigenvalues of that half are equal, as for fewer than two.

    Raises:
        DataError: As for `measured`.
    """
    x = _finite(matrix, what).astype(np.float64)
    if (largest := np.abs(x).max()) == 0:
        return float("inf")
    x = x / largest  # α does not depend on it, and nothing overflows
    gram = x.T @ x if x.shape[0] >= x.shape[1] else x @ x.T
    eigenvalues = np.maximum(np.linalg.eigvalsh(gram)[::-1], np.finfo(np.float64).tiny)
    tail = len(eigenvalues) // 2
    if not tail:
        return float("inf")
    # rounding leaves eigenvalues that are 0 somewhere below this
    least = max(eigenvalues[tail], eigenvalues[0] * len(eigenvalues) * np.finfo(np.float64).eps)
    logarithms = float(np.log(np.maximum(eigenvalues[:tail], least) / least).sum())
    return 1 + tail / logarithms if logarithms > 0 else float("inf")


def normalised(measures: Sequence[float], measure: Measure) -> list[float]:
    """Returns scores in [0, 1], the largest 1, from the measures of all parts."""
    found = [1 / value for value in measures] if measure == "alpha" else list(measures)  # 1 / ∞ = 0
    largest = max(found)
    return [value / largest for value in found] if largest else [1.0] * len(found)


def _parts(path: Path) -> list[_Part]:
    stored = safetensors_file.stored_tensors(path)
    numbered = {name: match for name in stored if (match := _NUMBERED.match(name))}
    if not numbered:
        raise DataError(f"{path}: expected tensors of numbered blocks, such as model.layers.0.…, found none")
    blocks_in = Counter(match[1] for match in numbered.values()).most_common(1)[0][0]
    blocks: dict[int, list[StoredTensor]] = {}
    ends: dict[str, list[StoredTensor]] = {EMBEDDING: [], HEAD: []}
    for name, tensor in stored.items():
        match = numbered.get(name)
        if match and match[1] == blocks_in:
            blocks.setdefault(int(match[2]), []).append(tensor)
        else:
            ends[EMBEDDING if _EMBEDDINGS.search(name) else HEAD].append(tensor)
    if sorted(blocks) != list(range(len(blocks))):
        raise DataError(f"{path}: expected blocks 0 to {max(blocks)} of {blocks_in!r}, some are missing")
    if not any(_HEADS.search(tensor.spec.name) for tensor in ends[HEAD]):
        ends[HEAD] += [tensor for tensor in ends[EMBEDDING] if _TOKENS.search(tensor.spec.name)]
    inner = [_Part(f"{blocks_in}{number}", tuple(blocks[number])) for number in sorted(blocks)]
    return [_Part(EMBEDDING, tuple(ends[EMBEDDING])), *inner, _Part(HEAD, tuple(ends[HEAD]))]


def _matrices(tensor: StoredTensor) -> Iterator[Matrix]:
    """Yields the matrices of a tensor: itself, or those of experts that are stored together."""
    spec = tensor.spec
    if len(spec.shape) not in (2, _SPLIT) or not spec.nbytes:
        return
    if spec.dtype not in weights_file.DTYPES:
        raise DataError(
            f"{tensor.path}: tensor {spec.name!r}: expected {', '.join(weights_file.DTYPES)}, got "
            f"{spec.dtype}"
        )
    array, _ = weights_file.array_of(tensor, weights_file.DTYPES[spec.dtype])
    yield from array if array.ndim == _SPLIT else (array,)


def _measures(tensor: StoredTensor, measure: Measure) -> list[float]:
    try:
        return [measured(matrix, measure, what=tensor.spec.name) for matrix in _matrices(tensor)]
    except MemoryError as error:
        raise DataError(
            f"{tensor.path}: tensor {tensor.spec.name!r}: too little memory for {measure!r} of a matrix "
            f"{list(tensor.spec.shape)}"
        ) from error


def _finite(matrix: Matrix, what: str) -> Matrix:
    x = matrix.astype(np.float64 if matrix.dtype == np.float64 else np.float32)
    if not x.size or not np.isfinite(x).all():
        raise DataError(f"{what}: expected finite weights, got an infinity or a NaN, or nothing")
    return x
