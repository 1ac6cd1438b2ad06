"""`palm-torch check-answers` and `palm-torch open-answer`."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from palm_torch.commands import arguments, printing
from palm_torch.commands.arguments import FILE
from palm_torch.encoding import encode_json
from palm_torch.errors import ArtifactError, EvidenceError, InputError, RejectedError
from palm_torch.escaping import printable
from palm_torch.exit_codes import ACCEPTED, MALFORMED, REJECTED
from palm_torch.files import read_bounded

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.answer_verification import VerifiedAnswer, VerifiedAnswers
    from palm_torch.commit.salted import Content, SaltedOpening

_SHOWN_CHARACTERS: Final = 2000
_SHOWN_TOKENS: Final = 64
_TOKENS: Final = {"int64": "q", "int32": "i"}


@click.command("check-answers", short_help="Check a model's answers: receipts, order, what was said.")
@click.argument("receipts", nargs=-1, required=True, type=FILE)
@click.option("--policy", type=FILE, required=True, help="What is demanded of each, YAML.")
@click.option("--request", type=FILE, help="The request that the session should answer.")
@click.option("--closing", type=FILE, help="The sealed evidence of the session: were answers revoked?")
@click.option(
    "--opening",
    "openings",
    type=FILE,
    multiple=True,
    help="Shows what was asked or answered; repeatable.",
)
@click.option(
    "--trace",
    "traces",
    type=FILE,
    multiple=True,
    help="Context of the trace that a receipt names, from `proof.save`; repeatable.",
)
@click.option("--tokenizer", type=FILE, help="The tokenizer: its file, or the folder it was saved to.")
@click.option("--collateral", type=FILE, help="What the vendor says of the platform.")
@click.option("--at", help="Time of verification, ISO 8601 with time zone.  [default: this machine's clock]")
@click.option(
    "--freshness",
    type=click.Choice(["required", "not_checked"]),
    default="required",
    show_default=True,
    help="not_checked accepts an answer to a request that is not at hand.",
)
@click.option("--reference-values", type=FILE, help="Signed values, for a policy that says [authority].")
@click.option("--authority-key", type=FILE, help="Public key of who signed the reference values, PEM.")
@click.option("--json", "as_json", is_flag=True, help="Print the results, or the rejection, as JSON.")
def check_answers(receipts: tuple[Path, ...], *, at: str | None, as_json: bool, **choices: Any) -> int:  # noqa: ANN401 (the options of `verify_answers`, as click hands them on)
    """Check receipts of one session's answers offline: each against the policy, all against each other.

    What was asked and answered is hidden in the receipts; --opening shows it, one file for each question or
    answer. The verdict is the last line.
    """
    from palm_torch import answer_verification

    moment = None if at is None else arguments.moment(at, "--at")
    try:
        verified = answer_verification.verify_answers(receipts, at=moment, **choices)
    except RejectedError as error:
        return printing.refused("REJECTED", error, REJECTED, as_json=as_json)
    except InputError as error:
        return printing.refused("MALFORMED", error, MALFORMED, as_json=as_json)
    if as_json:
        printing.print_json(verified.to_json())
        return ACCEPTED
    _show(verified)
    return ACCEPTED


@click.command("open-answer", short_help="Show what one question or answer of a session was.")
@click.argument("salts", type=FILE)
@click.option("--answer", type=click.IntRange(min=0), required=True, help="Number of the answer, from 0.")
@click.option(
    "--role", type=click.Choice(["query", "response"]), required=True, help="What was asked, or answered."
)
@click.option("--text", help="What it was, as text.")
@click.option("--file", "content", type=FILE, help="What it was: the file's bytes are its own.")
@click.option(
    "--form",
    default="bytes",
    show_default=True,
    help="With --file: text, bytes, or a tensor's element type and shape, such as 'int64[1,17]'.",
)
@click.option("--receipt", type=FILE, help="The answer's receipt: is it what the receipt commits to?")
@click.option("-o", "--output", type=FILE, required=True, help="Where to write the opening.")
def open_answer(
    salts: Path,
    *,
    answer: int,
    role: Literal["query", "response"],
    text: str | None,
    content: Path | None,
    form: str,
    receipt: Path | None,
    output: Path,
) -> int:
    """Write the opening of one question or answer, with the salts that `run.openings.save` kept.

    Whoever gets the file and the receipt knows what was asked or answered, and nothing of the other answers.
    Other content makes an opening that nobody accepts: --receipt tells before it is sent.
    """
    from palm_torch.commit import salted

    if (text is None) is (content is None):
        raise click.UsageError("open-answer needs either --text TEXT or --file FILE")
    arguments.apart(output, salts, content, receipt)
    kept = salted.decode_salts(
        read_bounded(salts, what="the salts", max_bytes=salted.MAX_FILE_BYTES, error=EvidenceError),
        what=str(salts),
    )
    found = next((item for item in kept.salts if item.answer == answer), None)
    if found is None:
        raise ArtifactError(f"{salts}: expected an answer from 0 to {len(kept.salts) - 1}, got {answer}")
    opening = found.opening(role, _content(text, content, form))
    if receipt is not None:
        _compare(opening, receipt, kept.run_id, answer)
    opening.save(output)
    click.echo(printable(f"opening   {output}, of the {role} of answer {answer} in run {kept.run_id}"))
    click.echo(f"digest    {opening.digest}")
    compared = "as the receipt says" if receipt is not None else "not compared; --receipt FILE compares it"
    click.echo(printable(f"receipt   {compared}"))
    return ACCEPTED


def _content(text: str | None, path: Path | None, form: str) -> Content:
    from palm_torch.commit import salted

    if path is not None:
        data = read_bounded(
            path, what="what was said", max_bytes=salted.MAX_CONTENT_BYTES, error=EvidenceError
        )
        return salted.Content(form, data)
    try:
        return salted.Content("text", (text or "").encode())
    except UnicodeEncodeError as error:
        raise EvidenceError(f"--text: expected text that UTF-8 can spell: {error.reason}") from error


def _compare(opening: SaltedOpening, path: Path, run_id: str, answer: int) -> None:
    """Compares an opening with a receipt that nobody has verified here.

    Raises:
        ArtifactError: If the receipt is another answer's, or commits to something else.
    """
    from palm_torch import evidence, receipt

    payload = receipt.decode(evidence.read(path), what=str(path)).envelope.payload
    said = receipt.decode_content(payload, what=str(path))
    if not isinstance(said, receipt.AnswerReceipt) or (said.issued.run_id, said.answer) != (run_id, answer):
        raise ArtifactError(f"{path}: expected the receipt of answer {answer} in run {run_id}")
    committed = getattr(said, opening.role).digest
    if opening.digest != committed:
        raise ArtifactError(
            f"{path}: its {opening.role} is {committed}, what is given makes {opening.digest}: other "
            "content, or another --form"
        )


def _show(verified: VerifiedAnswers) -> None:
    first = verified.answers[0].content
    click.echo(printable(f"session   {first.issued.run_id}, {verified.answers[0].result.session}"))
    click.echo(f"model     {first.model}")
    click.echo(f"tokenizer {first.tokenizer.digest or 'none'}")
    for answer in verified.answers:
        _show_answer(answer)
    numbers = [answer.content.answer for answer in verified.answers]
    gaps = ", ".join(map(str, verified.missing[:20])) or "none"
    click.echo(
        f"\nSHOWN: {len(numbers)} answers of one session, in this order; missing before the last: {gaps}."
    )
    left_open = [
        "that the responses are what the model computes (a trace can be audited)",
        "that no other answer was drawn and thrown away",
    ]
    if verified.answers[0].result.session == "unclosed":
        left_open.append("that none is revoked, and how the session went on: --closing EVIDENCE")
    click.echo(f"NOT SHOWN: {'; '.join(left_open)}.")
    for line in verified.not_checked:
        click.echo(printable(f"  not checked: {line}"))
    reasons = "; ".join(verified.warnings)
    verdict = f"ACCEPTED ({verified.tier.value})" + (f": {reasons}" if reasons else "")
    click.secho(printable(verdict), bold=True, fg="yellow" if reasons else "green")


def _show_answer(answer: VerifiedAnswer) -> None:
    said = answer.content
    click.echo(printable(f"\nanswer    {said.answer}, from {answer.path}"))
    for role in ("query", "response"):
        click.echo(printable(f"{role:9} {_words(answer.opened.get(role))}"))
    decoding = ", ".join(
        f"{name} {encode_json(value).decode()}" for name, value in said.decoding.value.items()
    )
    click.echo(printable(f"decoding  {decoding or 'not said'} (reported by code)"))
    rests = f"{said.rests_on.age_s} s and {said.answer - said.rests_on.answers} answers before"
    click.echo(f"weights   measured {rests}, by the clock of its machine")
    if said.trace is not None:
        context = "its context was not given" if answer.trace is None else "its context is this answer's"
        click.echo(f"trace     {said.trace}; {context}")


def _words(content: Content | None) -> str:
    """Returns what was asked or answered, as a person can read it."""
    if content is None:
        return "not opened; --opening FILE shows it"
    if content.form == "text":
        return _shortened(content.content.decode("utf-8", "backslashreplace"))
    dtype = content.form.partition("[")[0]
    code = _TOKENS.get(dtype)
    size = 0 if code is None else struct.calcsize(f"<{code}")
    if code is None or len(content.content) % size:
        return f"{content.form}, {len(content.content)} bytes"
    shown = content.content[: _SHOWN_TOKENS * size]
    words = " ".join(map(str, struct.unpack(f"<{len(shown) // size}{code}", shown)))
    return f"{content.form}: {words}{' ...' if len(shown) < len(content.content) else ''}"


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]} ..."
