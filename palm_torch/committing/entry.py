"""`palm_torch.commit(model)`: what users call, and what they may choose."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from palm_torch.commit import trace_schemes
from palm_torch.committing.capture import QUEUE_BYTES, Capture
from palm_torch.committing.proof import Proof
from palm_torch.committing.spill import Kept
from palm_torch.errors import SessionError
from palm_torch.hooks import taps

if TYPE_CHECKING:
    from torch import nn

    from palm_torch.hooks.tap_targets import Conditional, Layers

KEEP_BYTES: Final = 1 << 30
"""Most bytes that are kept if nothing else is said."""

Keep: TypeAlias = "Literal['memory'] | Path | None"


def commit(  # noqa: PLR0913 (what users choose)
    model: nn.Module,
    *,
    layers: Layers = "blocks",
    conditional: Conditional = (),
    scheme: trace_schemes.Name = "hash",
    threads: int | None = None,
    queue_bytes: int = QUEUE_BYTES,
    keep: Keep = None,
    keep_bytes: int = KEEP_BYTES,
    encrypt: bool = False,
) -> Proof:
    """Commits to what a model computes inside a ``with`` block, under one root.

    Example:
        with palm_torch.commit(model, keep="memory") as proof:
            answer = model.generate(**prompt)
        print(proof.root)
        proof.open("model.layers.3", tokens=slice(0, 4)).save("opening.json")

    The outputs of the model are bit for bit those without the block.

    Args:
        model: Any module; wrappers such as DDP may be around it.
        layers: Which outputs: ``blocks`` are those of the repeated blocks, ``all`` those of every layer with
            parameters too, ``audit`` what recomputing a step needs; or names, or a function (name, module) →
            bool.
        conditional: Modules that may be skipped, beside experts, adapters and dropped layers: names, or a
            function as for `layers`.
        scheme: What the trees are made of. ``hash`` relies on hashes alone. Under ``kzg`` an opening takes
            some 200 bytes beside the tiles, and the end of the block about 20 µs for each tile, which is a
            row of a tensor or 16 KiB of it: more than a second for 65,536 of them. Its first use takes 2 s,
            before the block. It needs the extra ``kzg``.
        threads: How many threads hash; 0 hashes on the loop's own. None has one thread for tensors that come
            from a GPU or are kept, and none for others, since the model uses all cores by itself. The root is
            the same.
        queue_bytes: Most bytes of main memory that wait for them; when it is reached, the model waits.
        keep: Where tensors are kept so that they can be opened: ``memory``, or a folder on a disk with room,
            in which they lie in a file that no other process can open. None keeps none.
        keep_bytes: Most bytes kept; when it is reached, the run ends with an error.
        encrypt: Whether that file is encrypted, under a key that only this process has.

    Returns:
        The commitment; ``with`` binds it. Its root is there when the block has ended.

    Raises:
        CoverageError: If a module cannot be tapped, or no file can be made to keep tensors in.
        MissingExtraError: If the scheme needs an extra that is not installed.
        SessionError: If an argument is none of these.
    """
    if scheme not in trace_schemes.SCHEMES:
        raise SessionError(f"scheme: expected one of {trace_schemes.SCHEMES}, got {scheme!r}")
    trace_schemes.prepare(scheme)
    capture = Capture(
        threads=threads, queue_bytes=queue_bytes, kept=(kept := _kept(keep, keep_bytes, encrypt))
    )
    tapped = taps.Taps(model, layers, capture, conditional=conditional)
    return Proof(tapped, capture, kept, scheme=scheme, module=model)


def _kept(keep: Keep, keep_bytes: int, encrypt: bool) -> Kept | None:  # noqa: FBT001 (as given)
    if keep is not None and keep != "memory" and not isinstance(keep, Path):
        raise SessionError(f"keep: expected 'memory', a folder as a pathlib.Path, or None, got {keep!r}")
    if encrypt and not isinstance(keep, Path):
        raise SessionError("encrypt: only what lies on a disk is encrypted: expected keep=FOLDER")
    if keep is None:
        return None
    folder = keep if isinstance(keep, Path) else None
    return Kept(limit_bytes=keep_bytes, folder=folder, encrypt=encrypt)
