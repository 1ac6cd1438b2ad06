"""What a model is made of, apart from its weights: classes, their source files, settings and shapes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from torch.nn.parameter import is_lazy

from palm_torch.digest import Digest, tagged_digest
from palm_torch.encoding import Json, encode_json
from palm_torch.hooks import source, wrappers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn

    from palm_torch.hooks.discovery import Owners

TAG: Final = "palm-torch/architecture/v1"

_ADDRESS: Final = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")


@dataclass(frozen=True, slots=True)
class Architecture:
    """An architecture and its digest.

    Attributes:
        digest: Tagged hash of the canonical JSON of `value`.
        modules: How many modules it has, repeats not counted.
        value: The description that was hashed (docs/spec/50-training.md).
    """

    digest: Digest
    modules: int
    value: Json


def describe(owners: Owners) -> Architecture:
    """Describes the owners' modules in order, without wrappers and without memory addresses.

    Raises:
        EncodingError: If a class reports something about itself that is not valid text.
    """
    first_path: dict[int, str] = {}
    sources: dict[type, str | None] = {}
    entries: list[Json] = []
    for path, module in owners.named_modules():
        if id(module) in first_path:
            entries.append({"path": path, "same_as": first_path[id(module)]})
        else:
            first_path[id(module)] = path
            kind = wrappers.kind_of(module)
            if kind not in sources:
                digest = source.of_class(kind).digest
                sources[kind] = str(digest) if digest else None
            entries.append({"path": path, "source": sources[kind], **_module(module)})
    value: Json = {"modules": entries, "tensors": _tensors(owners.loose.items())}
    return Architecture(tagged_digest(TAG, encode_json(value)), len(first_path), value)


def _module(module: nn.Module) -> dict[str, Json]:
    return {
        "class": wrappers.qualified_name(wrappers.kind_of(module)),
        "extra_repr": _ADDRESS.sub("0x", module.extra_repr()),
        "parameters": _tensors(module.named_parameters(recurse=False, remove_duplicate=False)),
        "buffers": _tensors(module.named_buffers(recurse=False, remove_duplicate=False)),
    }


def _tensors(named: Iterable[tuple[str, Tensor]]) -> list[Json]:
    return [
        {
            "name": name,
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "shape": None if is_lazy(tensor) else list(tensor.shape),
        }
        for name, tensor in named
    ]
