"""What people see: results, rejections and bundles as text on a terminal.

Names and values in evidence were chosen by whoever made it. They are printed only after everything that
could move the cursor, colour the text or begin a new line was replaced, so that no evidence can draw a
verdict of its own. rich is imported when something is drawn, not before: `palm-torch verify` starts fast.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Final

from palm_torch import wording
from palm_torch.escaping import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from palm_torch.encoding import Json
    from palm_torch.inspection import Inspected
    from palm_torch.result import AttestationResult, Check

WIDTH_WITHOUT_TERMINAL: Final = 160
"""Columns when output goes to a file or a pipe."""

_LONG_HEX: Final = re.compile(r"[0-9a-f]{24,}")
_STRENGTH_STYLES: Final = {"hardware": "green", "simulated": "yellow", "code": "yellow"}


def verdict(result: AttestationResult) -> str:
    """Returns the one line that says what came out: ``ACCEPTED (warning): why``."""
    reasons = "; ".join(result.warnings)
    return printable(f"ACCEPTED ({result.tier.value})" + (f": {reasons}" if reasons else ""))


def refusal(word: str, error: Exception) -> str:
    """Returns the one line for an error: ``REJECTED SignatureError: why``."""
    return printable(f"{word} {type(error).__name__}: {error}")


def console(*, stderr: bool = False) -> Console:
    """Returns a console that interprets nothing in what it prints; wide when it is no terminal."""
    from rich.console import Console  # noqa: PLC0415 (drawing is optional, starting fast is not)

    made = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not made.is_terminal:
        made = Console(
            stderr=stderr, highlight=False, markup=False, emoji=False, width=WIDTH_WITHOUT_TERMINAL
        )
    return made


@contextlib.contextmanager
def progress_bytes(what: str) -> Iterator[Callable[[int, int], None]]:
    """Draws a bar on standard error, if that is a terminal; yields what takes (done, total) in bytes."""
    from rich.progress import (  # noqa: PLC0415 (as in `console`)
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TransferSpeedColumn,
    )

    out = console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as bar:
        task = bar.add_task(printable(what), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextlib.contextmanager
def progress_steps(what: str, steps: int) -> Iterator[Callable[[int, str], None]]:
    """Draws a bar as `progress_bytes` does; yields what takes (steps done, a note such as the loss)."""
    from rich.progress import (  # noqa: PLC0415 (as in `console`)
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    out = console(stderr=True)
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as bar:
        task = bar.add_task(printable(what), total=steps, note="")
        yield lambda done, note: bar.update(task, completed=done, note=printable(note))


def show_result(out: Console, result: AttestationResult) -> None:
    """Prints what it is worth, what was checked, what the evidence says, and what is left open."""
    out.print(f"{result.operation} run {printable(result.run_id)}", style="bold")
    out.print(
        f"checked as of {printable(result.time)}; freshness: {result.freshness}; session: {result.session}"
    )
    out.print(f"MAY I RELY ON IT? {wording.worth(result)}\n", style="bold")
    out.print("CHECKED: each of these held; what that is worth depends on who vouches, below", style="bold")
    show_checks(out, result.checks)
    out.print("\nTHE EVIDENCE SAYS", style="bold")
    table = _table("claim", "value", "strength")
    for claim in result.claims:
        table.add_row(
            *_texts(claim.name, claim.value),
            _text(claim.strength, _STRENGTH_STYLES.get(claim.strength, "cyan")),
        )
    out.print(table)
    for strength in dict.fromkeys(claim.strength for claim in result.claims):
        line(out, f"  {strength}: {wording.STRENGTHS[strength]}", "dim")
    line(out, f"  {wording.DIGESTS}", "dim")
    if result.reservations:
        out.print("\nWHAT KEEPS IT FROM BEING AFFIRMING, and what to do", style="bold")
        for item in result.reservations:
            line(out, f"  - {printable(item.reason)}", "yellow")
            line(out, f"    what to do: {printable(item.advice)}")
    if result.opinions:
        out.print("\nWHAT OTHERS THINK, beside the evidence: nothing above hangs on it", style="bold")
    for opinion in result.opinions:
        said = (
            f"{opinion.issuer} on {opinion.about}: {opinion.says} (signed by {', '.join(opinion.keys)}, in "
        )
        line(out, printable(f"  - {said}force from {opinion.issued} to {opinion.expires})"), "cyan")
        if opinion.warns is not None:
            line(out, printable(f"    it warns: {opinion.warns}"), "yellow")
    show_left_open(out, result.not_checked)
    out.print()
    for words in wording.WORDS:
        line(out, words, "dim")


def show_left_open(out: Console, left_open: Sequence[str]) -> None:
    """Prints what is not shown; nothing if nothing is left open."""
    if left_open:
        out.print("\nNOT SHOWN by this evidence", style="bold")
    for item in left_open:
        line(out, f"  - {printable(item)}", "dim")


def show_refused(out: Console, error: Exception, checks: Sequence[Check]) -> None:
    """Prints which checks had passed before evidence was refused, and what to do."""
    if checks:
        out.print("Held before it was refused, and worth nothing by itself:", style="bold")
        show_checks(out, checks)
        out.print()
    advice = wording.advice(error)
    if advice:
        line(out, f"what to do: {advice}")


def show_checks(out: Console, checks: Sequence[Check]) -> None:
    """Prints the checks that passed."""
    table = _table("", "check", "what it established")
    for check in checks:
        table.add_row(_text("✓", "green"), *_texts(check.name, check.detail))
    out.print(table)


def show_outcomes(out: Console, outcomes: Iterable[tuple[str, str, Exception | None, bool]]) -> None:
    """Prints tamperings: what was done, the error expected, the error that came, whether they agree."""
    table = _table("", "what was done", "expected", "got", "the error says")
    for title, expected, error, good in outcomes:
        got = "accepted" if error is None else type(error).__name__
        said = _LONG_HEX.sub(lambda found: f"{found[0][:8]}…", str(error).partition("\n")[0]) if error else ""
        style = "green" if good else "bold red"
        table.add_row(
            _text("✓" if good else "✗", style), *_texts(title, expected), _text(got, style), _text(said)
        )
    out.print(table)


def show_inspected(out: Console, inspected: Inspected, path: Path) -> None:
    """Prints what a bundle says, under a heading that nobody has checked it."""
    out.print(
        "NOT VERIFIED: this is what the file says of itself; `palm-torch verify` checks it",
        style="bold yellow",
    )
    bundle, document = inspected.bundle, inspected.document
    facts = _table("field", "content")
    rows: list[tuple[str, str]] = [
        ("file", str(path)),
        ("format", bundle.media_type),
        ("operation", str(document["operation"])),
        ("run", bundle.run_id),
        ("attester", f"{bundle.attester}; whether simulated follows from its root, see verify"),
        ("challenge", f"{bundle.challenge.kind}, nonce {bundle.challenge.nonce.hex()}"),
        ("session key", f"{len(bundle.session_key)} bytes DER"),
        ("boot log", _boot_log(document["boot_log"], bundle.boot_log)),
        ("register log", _register_log(bundle.register_log)),
    ]
    rows += _segments(document["segments"])
    for name, phase in (("begin", bundle.begin), ("end", bundle.end)):
        rows.append(
            (
                name,
                f"statement {len(phase.statement)} bytes, quote {len(phase.quote)}, GPUs {len(phase.gpus)}",
            )
        )
        rows += [(f"{name} {register}", value) for register, value in _registers(document[name])]
        rows += [(f"{name} {gpu}", said) for gpu, said in _gpus(document[name])]
    rows += [(f"log {index}", entry.decode("utf-8", "replace")) for index, entry in enumerate(bundle.log)]
    rows.append(("collateral", ", ".join(sorted(bundle.collateral)) if bundle.collateral else "none"))
    rows.append(("GPU endorsements", _gpu_endorsements(document["gpu_endorsements"])))
    rows.append(("time stamp", _stamped(document["timestamp"])))
    for row in rows:
        facts.add_row(*_texts(*row))
    out.print(facts)
    said = _table("claim", "what the evidence says", "source")
    for claim in inspected.claims:
        source = "measured, it says" if claim.strength == "code" else claim.strength
        said.add_row(*_texts(claim.name, claim.value, source))
    out.print(said)


def _boot_log(events: Json, log: bytes | None) -> str:
    if log is None or not isinstance(events, list):
        return "none"
    return f"{len(events)} events in {len(log)} bytes; --json shows them"


def _register_log(digests: Sequence[bytes]) -> str:
    return f"{len(digests)} digests that extended RTMR[3] before the session began" if digests else "none"


def _segments(segments: Json) -> Iterable[tuple[str, str]]:
    """Yields, for each earlier session of a resumed run, where it ended and what its begin quote says."""
    for number, segment in enumerate(segments if isinstance(segments, list) else (), 1):
        if not isinstance(segment, dict):
            continue
        name = f"segment {number}"
        receipt = segment["receipt"]
        predicate = receipt.get("predicate") if isinstance(receipt, dict) else None
        state = predicate if isinstance(predicate, dict) else {}
        steps = state.get("steps")
        taken = steps.get("taken") if isinstance(steps, dict) else None
        yield name, f"run {segment['run_id']}, receipt after {taken} steps"
        yield f"{name} model", str(state.get("model"))
        for register, value in (*_registers(segment["begin"]), *_gpus(segment["begin"])):
            yield f"{name} begin {register}", value


def _stamped(stamp: Json) -> str:
    if not isinstance(stamp, dict):
        return "none"
    over = "this file" if stamp["over_this_file"] else f"ANOTHER file, {stamp['over']}"
    return f"{stamp['time']}, {stamp['accuracy']}, over {over}; by whom is not checked here"


def _gpus(phase: Json) -> Iterable[tuple[str, str]]:
    """Yields what each GPU's report says which it is, and what it runs."""
    gpus = phase["gpus"] if isinstance(phase, dict) else None
    for number, gpu in enumerate(gpus if isinstance(gpus, list) else ()):
        if isinstance(gpu, dict):
            said = f"driver {gpu['driver']}, VBIOS {gpu['vbios']}, mode {gpu['mode']}"
            yield f"GPU {number}", f"{gpu['chip']}, {said}"


def _gpu_endorsements(counts: Json) -> str:
    if not isinstance(counts, dict):
        return "none"
    rims = counts["rims"] if isinstance(counts["rims"], list) else []
    return f"{len(rims)} RIMs, {counts['ocsp']} OCSP answers, {counts['crls']} revocation lists" + "".join(
        f"; {name}" for name in rims
    )


def _registers(phase: Json) -> Iterable[tuple[str, str]]:
    registers = phase["registers"] if isinstance(phase, dict) else None
    return [(name, str(value)) for name, value in registers.items()] if isinstance(registers, dict) else []


def _table(*headings: str) -> Table:
    from rich import box  # noqa: PLC0415 (as in `console`)
    from rich.table import Table  # noqa: PLC0415 (as in `console`)

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", padding=(0, 1), show_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _text(text: str, style: str = "") -> Text:
    from rich.text import Text  # noqa: PLC0415 (as in `console`)

    return Text(printable(text), style=style)


def _texts(*texts: str) -> list[Text]:
    return [_text(text) for text in texts]


def line(out: Console, text: str, style: str = "") -> None:
    """Prints a line as it is, to be copied whole: nothing is broken or cut."""
    out.print(text, style=style, soft_wrap=True)
