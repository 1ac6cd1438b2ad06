"""What an audit that prefers some layers would prefer, and which layers it would look at least."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import safetensors.torch

from palm_torch.audit import scores
from palm_torch.challenge import scores_file

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.challenge.scores_file import Scores

WEAKEST: Final = 2
UNIFORM: Final = 0.5
"""Share of the draws that look at no score."""


def stored(model: Any, folder: Path) -> Path:  # noqa: ANN401 (transformers has no types)
    """Writes a model's weights to a file, as a verifier has them."""
    path = folder / "claimed.safetensors"
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    safetensors.torch.save_file(state, path)
    return path


def of_file(path: Path) -> Scores:
    """Returns the scores of the parts of a Llama, by the tails of the spectra of its matrices."""
    return scores.score(path, "alpha")


def weakest(found: Scores) -> tuple[int, ...]:
    """Returns the blocks with the lowest scores; the first and the last part are no blocks."""
    blocks = [part.score for part in found.parts[1:-1]]
    return tuple(sorted(sorted(range(len(blocks)), key=blocks.__getitem__)[:WEAKEST]))


def weights(found: Scores) -> tuple[int, ...]:
    """Returns how often an audit by scores draws each part."""
    return scores_file.weights_of(found, uniform=UNIFORM)
