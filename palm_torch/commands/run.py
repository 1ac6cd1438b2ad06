"""`palm-torch run`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from palm_torch.commands.arguments import FILE
from palm_torch.errors import InputError, SessionError

if TYPE_CHECKING:
    from palm_torch.attesting.launch import Plan

HINT = "put two dashes before the script: palm-torch run train -- train.py --lr 3e-4"


class _AfterTwoDashes(click.Command):
    """A command whose last words belong to somebody else and are not looked at."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" not in args and not {"-h", "--help"} & set(args):
            raise click.UsageError(HINT, ctx=ctx)
        return super().parse_args(ctx, args)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, "OPERATION [OPTIONS] -- SCRIPT [ARGS]...")


@click.command(cls=_AfterTwoDashes, short_help="Run a script, unmodified, and attest it.")
@click.argument("operation", metavar="OPERATION")
@click.argument("words", metavar="SCRIPT [ARGS]...", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("-o", "--output", type=FILE, help="Where the evidence goes.  [default: SCRIPT.palm.json]")
@click.option(
    "--request", "request_path", type=FILE, help="A verifier's request to answer; without, unchallenged."
)
@click.option(
    "--attester",
    default="auto",
    show_default=True,
    help="auto, tdx, snp, simulated, simulated-snp or simulated-gpu.",
)
@click.option("--collateral", type=FILE, help="What the vendor says of this platform, to travel with it.")
@click.option(
    "--rim",
    "rims",
    multiple=True,
    metavar="[NAME=]FILE",
    help="NVIDIA's reference manifest of the GPUs' driver or firmware, to travel with it; repeatable. Its "
    "name is that of the file unless NAME is given.",
)
@click.option(
    "--ocsp",
    type=FILE,
    multiple=True,
    help="Answer about the status of a GPU's certificate, DER, to travel with it; repeatable.",
)
@click.option(
    "--gpu-crl",
    "gpu_crls",
    type=FILE,
    multiple=True,
    help="Revocation list of GPUs' certificates, DER, to travel with it; repeatable.",
)
@click.option(
    "--gpu-collector",
    default="auto",
    show_default=True,
    help="Who asks the GPUs: auto, nvml, nvattest or nv-sdk.",
)
@click.option(
    "--ranks-deadline",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Under torchrun: how long ranks wait for one another.  [default: 60]",
)
def run(  # noqa: PLR0913, PLR0917 (one for each option)
    operation: str,
    words: tuple[str, ...],
    output: Path | None,
    request_path: Path | None,
    attester: str,
    collateral: Path | None,
    rims: tuple[str, ...],
    ocsp: tuple[Path, ...],
    gpu_crls: tuple[Path, ...],
    gpu_collector: str,
    ranks_deadline: float | None,
) -> int:
    """Run a script in a measured session and write evidence of it.

    \b
      palm-torch run train -- train.py --lr 3e-4
      palm-torch run train -o run1.palm.json -- -m mypackage.train config.yaml
      torchrun --nproc-per-node 8 --no-python palm-torch run train -- train.py

    OPERATION says what the script does; this version attests: preprocess, distribute, bind, train. The script
    need not know palm-torch: it runs as `python SCRIPT ARGS...` would, with its own output and exit code.

    Every source file is read once, hashed, and those bytes are compiled: the evidence says which code ran.
    Optimizer steps, their settings, and the weights before and after are measured. Data is counted record
    by record if the script reads it through palm_torch.AttestedMmapDataset and palm_torch.DataLoader;
    otherwise the files it opens are listed with their digests, as reported by code. A script that calls
    palm_torch.attested itself joins this session; with resume=... the session goes on from its checkpoint.

    A script that fails leaves no evidence. The last line on standard error says where the evidence is.
    """  # noqa: D301 (\b is click's own mark)
    _require_torchrun()
    from palm_torch import gpu_files
    from palm_torch.attesting.launch import Plan

    module = words[0] == "-m"
    words = words[1:] if module else words
    if not words:
        raise click.UsageError("-m: expected the name of a module after it")
    if words[0].startswith("-"):
        raise click.UsageError(f"expected a script or -m MODULE after the two dashes, got {words[0]!r}")
    if not module and not Path(words[0]).is_file():
        raise InputError(f"{words[0]}: there is no such script")
    plan = Plan(
        operation=operation,
        module=module,
        words=words,
        output=None if output is None else str(output),
        request=None if request_path is None else str(request_path),
        attester=attester,
        collateral=None if collateral is None else str(collateral.absolute()),
        rims=tuple(gpu_files.absolute_rim(given) for given in rims),
        ocsp=tuple(str(path.absolute()) for path in ocsp),
        gpu_crls=tuple(str(path.absolute()) for path in gpu_crls),
        gpu_collector=gpu_collector,
        ranks_deadline_s=ranks_deadline,
        safe_path=bool(sys.flags.safe_path),
    )
    hand_over(plan)


def hand_over(plan: Plan) -> NoReturn:
    """Turns this process into one that begins with the import hook and runs a script inside a session."""
    sys.stdout.flush()
    os.environ.pop("PYTHONPYCACHEPREFIX", None)  # the standard library's bytecode is that of the image
    os.execv(sys.executable, command(plan.to_words()))  # noqa: S606 (the same interpreter, from its beginning)


def command(words: list[str]) -> list[str]:
    """Returns the command line of an interpreter like this one that begins with the import hook.

    Args:
        words: What `palm_torch.attesting.launch.main` takes.
    """
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001 (as multiprocessing does)
    if getattr(sys.stdout, "write_through", False):
        flags.append("-u")
    # -P: until the hook is there, no module may come from the folder we stand in
    bootstrap = Path(__file__).parent.parent / "bootstrap.py"
    return [sys.executable, *(flag for flag in flags if flag != "-P"), "-P", str(bootstrap), *words]


def _require_torchrun() -> None:
    size = os.environ.get("WORLD_SIZE", "1")
    if size != "1" and "TORCHELASTIC_RUN_ID" not in os.environ:
        raise SessionError(
            f"WORLD_SIZE is {size}, and torchrun did not start this process: start all of them with torchrun "
            "--nproc-per-node N --no-python palm-torch run ..."
        )
