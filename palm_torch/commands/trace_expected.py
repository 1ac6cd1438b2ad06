"""What the caller of `palm-torch check` expects an opening of a trace to show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from palm_torch.commands import trace_words
from palm_torch.digest import Digest
from palm_torch.errors import ArtifactError, EncodingError

if TYPE_CHECKING:
    from palm_torch.commit.trace import Context
    from palm_torch.commit.trace_rows import Question


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the caller expects to see; None for whatever is shown.

    Attributes:
        site: Path of the module, and of its output behind a ``|``.
        call: Number of the call.
        batch: Sequences.
        tokens: Tokens.
        channels: Channels.
        facts: Digests by name.
    """

    site: str | None
    call: int | None
    batch: tuple[int, int] | None
    tokens: tuple[int, int] | None
    channels: tuple[int, int] | None
    facts: dict[str, Digest]

    def compare(self, what: str, question: Question, context: Context) -> None:
        """Compares what is shown with what is expected.

        Raises:
            ArtifactError: If it is something else.
        """
        if self.site is not None:
            module, bar, output = self.site.partition("|")
            outputs = trace_words.outputs(context, module)
            if not bar and len(outputs) > 1:
                names = ", ".join(repr(f"{module}|{one}") for one in outputs)
                raise ArtifactError(f"{what}: {module!r} has several outputs: --site is one of {names}")
            if (question.site.module, question.site.output) != (module, output if bar else "".join(outputs)):
                raise ArtifactError(f"{what}: expected the site {self.site!r}, it is of {question.site}")
        if self.call not in (None, question.call):
            got = (
                "counts tokens through all calls" if question.call is None else f"is of call {question.call}"
            )
            raise ArtifactError(f"{what}: expected call {self.call}, it {got}")
        for name in ("batch", "tokens", "channels"):
            expected, got = getattr(self, name), getattr(question, name)
            if expected is not None and expected != got:
                raise ArtifactError(
                    f"{what}: expected {name} {expected[0]}:{expected[1]}, it has {got[0]}:{got[1]}"
                )
        for name, digest in self.facts.items():
            if context.facts.get(name) != digest:
                raise ArtifactError(
                    f"{what}: expected the fact {name!r} to be {digest}, the trace has "
                    f"{context.facts.get(name) or 'none of that name'}"
                )


def facts(pairs: tuple[str, ...]) -> dict[str, Digest]:
    """Parses ``NAME=DIGEST`` words; each name once.

    Raises:
        click.BadParameter: If one is none, or a name comes twice.
    """
    found: dict[str, Digest] = {}
    for pair in pairs:
        name, equals, digest = pair.rpartition("=")
        if not equals or name in found:
            raise click.BadParameter(
                f"expected NAME=DIGEST, each name once, got {pair!r}", param_hint="--fact"
            )
        try:
            found[name] = Digest.parse(digest, what=f"the fact {name!r}")
        except EncodingError as error:
            raise click.BadParameter(str(error), param_hint="--fact") from error
    return found
