"""What the verbs about weights have in common: words to rows, roots and tensors, and back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import click

from palm_torch.errors import EncodingError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from palm_torch.commit.weights_block import Span
    from palm_torch.commit.weights_root import TensorSpec
    from palm_torch.digest import Digest

_SPAN: Final = re.compile(r"([0-9]{1,15})(?::([0-9]{1,15}))?")

SCHEME: Final = click.Choice(["hash", "kzg"])


class SpanType(click.ParamType["Span"]):
    """``A:B``, from A up to and without B; ``A`` alone is one."""

    name = "A:B"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Span:  # noqa: ANN401 (click's)
        """Returns the first and the one after the last."""
        if isinstance(value, tuple):
            return value
        match = _SPAN.fullmatch(value)
        if match is None:
            self.fail(f"expected A:B such as 0:8, or one number, got {value!r}", param, ctx)
        return int(match[1]), int(match[2]) if match[2] is not None else int(match[1]) + 1


SPAN: Final = SpanType()


def block_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--rows`` and ``--cols``."""
    rows = click.option(
        "--rows", type=SPAN, metavar="A:B", help="Rows from A up to and without B.  [default: all]"
    )
    columns = click.option(
        "--cols", "columns", type=SPAN, metavar="A:B", help="Likewise columns.  [default: all]"
    )
    return rows(columns(command))


def root(text: str) -> Digest:
    """Parses a weights root, with or without the name of its algorithm.

    Raises:
        click.BadParameter: If it is none.
    """
    from palm_torch.digest import TAGGED_SHA256, Digest

    try:
        parsed = Digest.parse(text if ":" in text else f"{TAGGED_SHA256}:{text}", what="a root")
    except EncodingError as error:
        raise click.BadParameter(str(error), param_hint="--root") from error
    if parsed.algorithm != TAGGED_SHA256:
        raise click.BadParameter(f"expected a {TAGGED_SHA256} root, got {parsed}", param_hint="--root")
    return parsed


def tensor_in_words(spec: TensorSpec) -> str:
    """Returns what a tensor is: ``'a' (also 'b'), float32 [4, 8]``."""
    also = f" (also {', '.join(map(repr, spec.aliases))})" if spec.aliases else ""
    return f"{spec.name!r}{also}, {spec.dtype} {list(spec.shape)}"


def written(path: Path | None, instead: str) -> str:
    """Returns where something was written, or what would have written it."""
    return f"not written; {instead}" if path is None else str(path)
