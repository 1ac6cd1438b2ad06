"""Running a script inside a session, as `palm-torch run` does it.

The script runs as ``python script.py`` or ``python -m module`` would run it: `sys.argv`, `sys.path`,
``__main__``, tracebacks and exit codes are the same. Its bytes are read once, hashed and compiled, and the
import hook that `palm_torch.bootstrap` installed does the same with all it imports.

1. List from here on the files that anything but palm-torch opens by itself.
2. Read and compile the entry script, so that the begin statement names it. The packages that a module lies in
   are searched for it and not run yet.
3. Open the session: the begin quote seals what is known.
4. Run the script, and before it the packages that it lies in. A `palm_torch.attested` in it joins this
   session. Older evidence of the same name is put aside as ``NAME.previous``.
5. A good end (the last line, or exit code 0) seals and writes the evidence; any other leaves none. Of the
ranks
   that torchrun started on a machine the first one writes it.

Threads and exit handlers that run after the script's last line are not part of what is sealed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from palm_torch import escaping, extras, recorder
from palm_torch.attesting import entry, joining, ranks
from palm_torch.errors import InputError, PalmTorchError
from palm_torch.evidence import SIMULATED_SUFFIX, SUFFIX
from palm_torch.exit_codes import ACCEPTED, INTERRUPTED, MALFORMED, REJECTED
from palm_torch.hooks import auditing, executed, forked, opened

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType

    from palm_torch.attesting.entry import Entry
    from palm_torch.attesting.session import Session


PREVIOUS: Final = ".previous"
"""What is added to the name of older evidence before a run begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run, and how to attest it.

    Attributes:
        operation: What the session is about, such as ``train``.
        module: Whether `words` begin with the name of a module instead of a script's path.
        words: The script and its arguments.
        output: Where the evidence goes; None names it after the script.
        request: A verifier's request file to answer; None makes the run unchallenged.
        attester: As in `palm_torch.attested`.
        collateral: As in `palm_torch.attested`.
        rims: As in `palm_torch.attested`.
        ocsp: As in `palm_torch.attested`.
        gpu_crls: As in `palm_torch.attested`.
        gpu_collector: As in `palm_torch.attested`.
        ranks_deadline_s: As in `palm_torch.attested`.
        safe_path: Whether Python was asked not to search the script's folder for modules (``-P``).
    """

    operation: str
    module: bool
    words: tuple[str, ...]
    output: str | None = None
    request: str | None = None
    attester: str = "auto"
    collateral: str | None = None
    rims: tuple[str, ...] = ()
    ocsp: tuple[str, ...] = ()
    gpu_crls: tuple[str, ...] = ()
    gpu_collector: str = "auto"
    ranks_deadline_s: float | None = None
    safe_path: bool = False

    def to_words(self) -> list[str]:
        """Returns the command line of `palm_torch.bootstrap`: the options as one word, then the script's."""
        options = dataclasses.asdict(self)
        del options["words"]
        return [json.dumps(options), *self.words]

    @classmethod
    def from_words(cls, words: Sequence[str]) -> Plan:
        """Reads what `to_words` wrote."""
        options = json.loads(words[0])
        several = {name: tuple(options[name]) for name in ("rims", "ocsp", "gpu_crls")}
        return cls(words=tuple(words[1:]), **{**options, **several})

    def command(self) -> list[str]:
        """Returns what Python was asked to run: a script, or ``-m`` and a module, and their words."""
        return ["-m", *self.words] if self.module else list(self.words)

    def evidence_path(self) -> Path:
        """Returns where the evidence goes, whatever folder the script changes to."""
        if self.output is not None:
            return Path(self.output).absolute()
        name = self.words[0].rpartition(".")[2] if self.module else Path(self.words[0]).stem
        return Path(f"{name}{SUFFIX}").absolute()


def main(words: Sequence[str]) -> int:
    """Runs a script inside a session and returns the exit code.

    Args:
        words: What `Plan.to_words` made.

    Raises:
        SystemExit: As the script raised it.
    """
    plan = Plan.from_words(words)
    files, ran = opened.OpenedFiles(os.getcwd()), executed.ExecutedFiles()  # noqa: PTH109 (text is what it takes)
    files.note_standard_input()
    with contextlib.ExitStack() as listening:
        listening.enter_context(auditing.listen(files))
        return _attest(plan, files, ran, listening)


def _attest(
    plan: Plan, files: opened.OpenedFiles, ran: executed.ExecutedFiles, listening: contextlib.ExitStack
) -> int:
    try:
        place = ranks.place()
        leads = place is None or place.leads  # of the ranks of a machine one writes the evidence
        output = _writable(plan.evidence_path())
        with extras.needed("torch", for_what="palm-torch run"):
            from palm_torch.attesting import attested as sessions  # noqa: PLC0415 (needs torch, which verify must not)
        listening.enter_context(auditing.listen(ran))
        listening.enter_context(recorder.observing(forked.ForkedWorkers(files, ran)))
        _set_up(plan)
        found = entry.module(plan.words[0]) if plan.module else entry.script(plan.words[0])
        if leads:
            _put_aside(output)
        session = sessions.launched(
            plan.operation,
            request=plan.request,
            attester=plan.attester,
            collateral=plan.collateral,
            rims=plan.rims,
            ocsp=plan.ocsp,
            gpu_crls=plan.gpu_crls,
            gpu_collector=plan.gpu_collector,
            ranks_deadline_s=plan.ranks_deadline_s,
            opened=files.result,
            command=plan.command(),
        ).__enter__()
    except PalmTorchError as error:
        return _refuse(error)
    except BaseException as error:  # noqa: BLE001 (what is wrong with a script is told as Python tells it)
        return _tell(error, None)
    try:
        return _run(found, session, listening, output)
    finally:
        joining.withdraw()


def _run(found: Entry, session: Session, listening: contextlib.ExitStack, output: Path) -> int:
    process = os.getpid()
    left: SystemExit | None = None
    code = found.code
    try:
        with listening:
            code = found.placed()
            exec(code, vars(found.module))  # noqa: S102 (what palm-torch run is for)
    except SystemExit as error:
        left = error
    except BaseException as error:  # noqa: BLE001 (the launcher stands where the interpreter stood)
        if os.getpid() == process:
            _abandon(joining.offered() or session, error)
        return _tell(error, code)
    if os.getpid() != process:  # a forked child that ran to the script's end: evidence is its parent's
        return _leave(left)
    session = joining.offered() or session  # a script that resumes has put another one in its place
    if left is not None and not _is_good(left.code):
        _abandon(session, left)
        return _leave(left)
    try:
        if session.state == "open":
            session.__exit__(None, None, None)
        if not session.leads:
            return _leave(left)
        path = session.evidence.save(output)
    except PalmTorchError as error:
        return _refuse(error)
    _say(f"evidence: {path}")
    return _leave(left)


def _is_good(code: object) -> bool:
    return code is None or (isinstance(code, int) and code == 0)


def _leave(left: SystemExit | None) -> int:
    if left is not None:
        raise left
    return ACCEPTED


def _abandon(session: Session, error: BaseException) -> None:
    if session.state == "open":
        session.__exit__(type(error), error, error.__traceback__)
    what = f"exit code {error.code!r}" if isinstance(error, SystemExit) else type(error).__name__
    _say(f"palm-torch: no evidence was written: the script ended with {what}")


def _refuse(error: PalmTorchError) -> int:
    _say(f"error: {type(error).__name__}: {error}")
    return MALFORMED if isinstance(error, InputError) else REJECTED


def _tell(error: BaseException, code: CodeType | None) -> int:
    """Prints a traceback that begins in the script, as if nobody had called it."""
    if isinstance(error, SystemExit):
        raise error
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code is not code:
        trace = trace.tb_next
    if trace is None and not isinstance(error, SyntaxError):  # something that the script's import began
        trace = error.__traceback__
    sys.excepthook(type(error), error.with_traceback(trace), trace)
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else REJECTED


def _say(text: str) -> None:
    """Prints one line on standard error, with nothing in it that a terminal would obey."""
    with contextlib.suppress(OSError, ValueError):  # the script, or who reads it, may have closed them
        sys.stdout.flush()
        sys.stderr.write(escaping.printable(text) + "\n")


# The script ------------------------------------------------------------------------------------------------


def _writable(path: Path) -> Path:
    """Checks where evidence will be written, before a run of days and not after it."""
    if not os.access(path.parent, os.W_OK) or path.is_dir():
        raise InputError(
            f"{path}: evidence cannot be written there; name a file in a folder that exists: -o FILE"
        )
    return path


def _set_up(plan: Plan) -> None:
    """Sets `sys.argv` and `sys.path` as Python does for a script or a module."""
    sys.argv = list(plan.words)
    if plan.safe_path:
        return
    if plan.module:
        sys.path.insert(0, os.getcwd())  # noqa: PTH109 (text is what it takes)
    else:
        sys.path.insert(0, str(Path(plan.words[0]).resolve().parent))


def _put_aside(output: Path) -> None:
    """Gives evidence of an earlier run another name: what lies there when a run ends is of that run."""
    stem = output.name.removesuffix(SUFFIX) if output.name.endswith(SUFFIX) else output.stem
    simulated = output.with_name(f"{stem.removesuffix('.simulated')}{SIMULATED_SUFFIX}")
    for path in {output, simulated}:
        if path.is_file():
            aside = path.with_name(f"{path.name}{PREVIOUS}")
            try:
                path.replace(aside)
            except OSError as error:
                raise InputError(f"{path}: cannot be put aside: {error.strerror}") from error
            _say(f"palm-torch: evidence of an earlier run was put aside: {aside}")
