"""What the verbs about weights have in common: words to rows, roots and tensors, and back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import click

from palm_torch.commands import arguments
from palm_torch.errors import EncodingError, prefixed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from palm_torch.commit import weights_schemes
    from palm_torch.commit.weights_block import Span
    from palm_torch.commit.weights_commitment import WeightsCommitment
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


def block_options(*, default: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Returns what adds ``--rows`` and ``--cols``.

    Args:
        default: What they are if they are not given, for ``--help``.
    """

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        what = f"from A up to and without B, or one number.  [default: {default}]"
        columns = click.option("--cols", "columns", type=SPAN, metavar="A:B", help=f"Columns {what}")
        rows = click.option("--rows", type=SPAN, metavar="A:B", help=f"Rows {what}")
        return rows(columns(command))

    return add


def apart(output: Path | None, path: Path, like: Path | None) -> None:
    """Refuses to write over weights, or over the list that they are compared with.

    Raises:
        click.UsageError: If the output is one of the files that are read.
        DataError: If the weights cannot be read.
    """
    from palm_torch.commit import safetensors_file

    arguments.apart(output, path, like)
    if output is not None and output.exists():
        shards = {tensor.path for tensor in safetensors_file.stored_tensors(path).values()}
        arguments.apart(output, *sorted(shards), *sorted(path.glob("*.index.json")))


def lists(
    path: Path, scheme: weights_schemes.Name, *, role: str | None = None
) -> dict[str, WeightsCommitment]:
    """Reads the lists of a file, by words for messages; see `weights_lists.read`.

    Args:
        path: Evidence, or a commitment.
        scheme: Under which trees roots are compared: what such a list gives is the root that it says.
        role: The one role of the evidence that counts; None for all.

    Raises:
        InputError: If the file cannot be read, is neither, lists no weights, or says another root.
        ArtifactError: If the evidence has no such role.
    """
    from palm_torch.commit import weights_lists

    found = weights_lists.read(path, role=role)
    for what, listed in found.items():
        if listed.scheme == scheme:
            with prefixed(what):
                listed.check_root()
    return found


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
