"""palm-torch: hardware-sealed evidence of what a PyTorch run did, checked offline by anyone.

The names in `__all__` are doors: each opens on first use. Importing the package loads neither torch nor
numpy, so whoever verifies needs neither.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

from palm_torch import extras

if TYPE_CHECKING:
    from palm_torch.attesting.attested import attested
    from palm_torch.committing.entry import commit
    from palm_torch.data.dataset import AttestedMmapDataset
    from palm_torch.data.generic import AttestedDataset
    from palm_torch.data.loader import DataLoader
    from palm_torch.data.memmap import memmap
    from palm_torch.data.shard_writer import ShardWriter
    from palm_torch.data.stateful import StatefulDataLoader
    from palm_torch.data.stream import AttestedIterableDataset
    from palm_torch.data.windows import AttestedWindows
    from palm_torch.hooks.loading import load_safetensors
    from palm_torch.verification import verify

__version__ = "0.1.0"

__all__ = [
    "AttestedDataset",
    "AttestedIterableDataset",
    "AttestedMmapDataset",
    "AttestedWindows",
    "DataLoader",
    "ShardWriter",
    "StatefulDataLoader",
    "__version__",
    "attested",
    "commit",
    "load_safetensors",
    "memmap",
    "verify",
]

_DOORS: Final = {
    "AttestedDataset": "palm_torch.data.generic",
    "AttestedIterableDataset": "palm_torch.data.stream",
    "AttestedMmapDataset": "palm_torch.data.dataset",
    "AttestedWindows": "palm_torch.data.windows",
    "DataLoader": "palm_torch.data.loader",
    "ShardWriter": "palm_torch.data.shard_writer",
    "StatefulDataLoader": "palm_torch.data.stateful",
    "attested": "palm_torch.attesting.attested",
    "load_safetensors": "palm_torch.hooks.loading",
    "memmap": "palm_torch.data.memmap",
    "verify": "palm_torch.verification",
}


def __getattr__(name: str) -> object:
    """Opens a door: imports the module behind a public name.

    Raises:
        AttributeError: If there is no such name.
        MissingExtraError: If the name needs an extra, such as ``palm-torch[torch]``, that is not installed.
    """
    if name == "commit":  # a package that can be called; importing it binds the name
        return importlib.import_module("palm_torch.commit")
    module = _DOORS.get(name)
    if module is None:
        raise AttributeError(f"module 'palm_torch' has no attribute {name!r}")
    what = f"palm_torch.{name}"
    with extras.needed("resume", for_what=what), extras.needed("torch", for_what=what):
        value: object = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Lists the doors, opened or not, beside what is there already."""
    return sorted({*globals(), *__all__})
