"""The command line: one verb, one meaning.

Exit codes: 0 accepted, 1 rejected (or a run, seal, attester or service that failed), 2 malformed input,
3 usage, 130 interrupted. They are those of `palm_torch.exit_codes`; click's own differ. `verify` says its
verdict in the last line of standard output; every other error is one line on standard error.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Final

import click

from palm_torch import __version__, terminal
from palm_torch.commands import (
    answer,
    audit,
    bind,
    check,
    collateral,
    commit,
    coverage,
    demo,
    distribute,
    doctor,
    fingerprint,
    inspect,
    measure,
    policy,
    preprocess,
    prove_record,
    request,
    run,
    timestamp,
    verify,
)
from palm_torch.commands import (
    open as open_verb,
)
from palm_torch.errors import InputError, PalmTorchError
from palm_torch.escaping import printable
from palm_torch.exit_codes import ACCEPTED, INTERRUPTED, MALFORMED, REJECTED, USAGE

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code.

    Args:
        arguments: The words after the program's name; those of this process if None.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = commands.main(args=arguments, prog_name="palm-torch", standalone_mode=False)
        sys.stdout.flush()
    except click.Abort:
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return USAGE
    except PalmTorchError as error:
        click.echo(f"error: {terminal.refusal('', error).strip()}", err=True)
        return MALFORMED if isinstance(error, InputError) else REJECTED
    except BrokenPipeError:
        # Whoever was reading is gone and the verdict with them. Python would complain once more when it
        # flushes at exit.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return REJECTED
    except OSError as error:
        click.echo(f"error: {printable(str(error))}", err=True)
        return REJECTED
    return code if isinstance(code, int) else ACCEPTED


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="palm-torch")
def commands() -> None:
    """Hardware-sealed evidence of what a PyTorch run did, checked offline.

    Exit codes: 0 accepted, 1 rejected, 2 malformed input, 3 usage, 130 interrupted.
    """


VERBS: Final = (
    demo.demo,
    run.run,
    measure.measure,
    bind.bind,
    preprocess.preprocess,
    distribute.distribute,
    request.request,
    verify.verify,
    inspect.inspect,
    coverage.coverage,
    prove_record.prove_record,
    prove_record.check_record,
    commit.commit,
    open_verb.open_,
    check.check,
    answer.open_answer,
    answer.check_answers,
    audit.audit,
    fingerprint.fingerprint,
    policy.policy,
    timestamp.timestamp,
    collateral.collateral,
    doctor.doctor,
)

for _verb in VERBS:
    commands.add_command(_verb)
