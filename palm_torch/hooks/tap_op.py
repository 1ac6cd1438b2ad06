"""The tap of a compiled graph: an operator without results that no optimization drops or moves.

A compiler removes an operator that returns nothing and writes nothing. This one is registered as having an
effect whose order counts: the graph then hands a token from one call of it to the next, so all of them stay,
in their order, under ``fullgraph=True``, with gradients and without. Seen with torch 2.13: without the effect
`aot_eager` and Inductor both drop every call, and say nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import torch

from palm_torch.hooks import live, tap_outputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

NAME: Final = "palm_torch::tap"

_SCHEMA: Final = "tap(Tensor[] tensors, SymInt token, str paths, str others) -> ()"
_SEPARATOR: Final = "\n"
_NOT_IN_BACKWARD: Final = -1


class Receiver(Protocol):
    """What stands behind a token."""

    strangers: int

    def arrived(self, module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        """Takes the arguments of a call that begins."""

    def left(self, module: nn.Module, output: object) -> None:
        """Takes the output of a call that returned."""

    def left_in_graph(
        self, tensors: Sequence[torch.Tensor], paths: Sequence[str], others: Sequence[tuple[str, str]]
    ) -> None:
        """Takes the tensors that a module of a compiled graph returned."""


receivers: Final[dict[int, Receiver]] = {}
"""Token → what takes the outputs; a token that is not here belongs to a block that has ended."""

_TELLS: Final = "_current_graph_task_id"
_graph_task: Any = getattr(torch._C, _TELLS, None)  # noqa: SLF001 (torch tells it nowhere else)


def require_names() -> None:
    """Checks that torch tells of backward passes: without that, a repetition would pass for a call.

    Raises:
        CoverageError: If it does not.
    """
    if _graph_task is None:
        raise live.missing_private_name(torch._C, _TELLS)  # noqa: SLF001 (as above)


def in_backward() -> bool:
    """Says whether a backward pass runs on this thread: a forward pass in it repeats an earlier one."""
    found: bool = _graph_task() != _NOT_IN_BACKWARD
    return found


def emit(token: int, output: object, *, captured: bool) -> None:
    """Puts the operator into the graph that is being traced.

    Args:
        token: A key of `receivers` when the graph runs.
        output: What the module returned to the tracer.
        captured: Whether the output is handed over, or only the call is told.

    Raises:
        CoverageError: If it has a part that cannot be captured.
    """
    tensors: list[torch.Tensor] = []
    paths: list[str] = []
    others: list[str] = []
    for path, value in tap_outputs.leaves(output) if captured else ():
        if isinstance(value, torch.Tensor):
            tensors.append(value)
            paths.append(path)
        else:
            others.append(path)
            others.append(tap_outputs.kind_of(value))
    _operator(tensors, token, _SEPARATOR.join(paths), _SEPARATOR.join(others))


def _run(tensors: Sequence[torch.Tensor], token: int, paths: str, others: str) -> None:
    receiver = receivers.get(token)
    if receiver is not None:
        left_out = others.split(_SEPARATOR) if others else []
        receiver.left_in_graph(
            tensors,
            paths.split(_SEPARATOR) if tensors else [],
            list(zip(left_out[::2], left_out[1::2], strict=True)),
        )


def _trace(tensors: Sequence[torch.Tensor], token: int, paths: str, others: str) -> None:
    del tensors, token, paths, others  # the operator returns nothing, so there is no shape to tell


def _define() -> tuple[Any, Any]:
    library: Any = torch.library.Library(NAME.partition("::")[0], "FRAGMENT")  # type: ignore[no-untyped-call]
    library.define(_SCHEMA, tags=(torch.Tag.cudagraph_unsafe,))
    torch.library.impl(NAME, "CompositeExplicitAutograd", lib=library)(_run)
    torch.library.register_fake(NAME, _trace, lib=library)
    register = getattr(library, "_register_effectful_op", None)
    effects = getattr(torch.library, "EffectType", None)
    if register is None or effects is None:
        raise live.missing_private_name(library, "_register_effectful_op")
    register(NAME, effects.ORDERED)
    return library, torch.ops.palm_torch.tap.default


_library, _operator = _define()
