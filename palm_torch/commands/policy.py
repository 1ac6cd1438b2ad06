"""`palm-torch policy`: write a policy to start from, sign reference values, see what a policy says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from palm_torch.commands import arguments
from palm_torch.commands.arguments import FILE, moment
from palm_torch.errors import PolicyError
from palm_torch.escaping import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from palm_torch.evidence import Bundle
    from palm_torch.policies.reference_values import VerifiedValues


@click.group(short_help="Write, check and sign what a verifier demands.")
def policy() -> None:
    """Write a policy to start from, see what a policy says, sign reference values for policies of others."""


@policy.command(short_help="Write a commented policy to start from.")
@click.argument("evidence", type=FILE)
@click.option("-o", "--output", type=FILE, default=Path("policy.yaml"), show_default=True)
@click.option(
    "--simulated-root",
    metavar="PEM|auto",
    help="Admit a simulated TEE: its root certificate, or that of this machine's simulated TEE of the "
    "evidence's kind (auto), and those of its simulated GPUs where they attested.",
)
@click.option("--simulated-gpu-root", metavar="PEM", help="Admit simulated GPUs: their root certificate.")
@click.option(
    "--simulated-rim-root",
    metavar="PEM",
    help="Admit their reference manifests: the signer's root certificate.",
)
@click.option("--force", is_flag=True, help="Replace a file that is there already.")
def init(
    evidence: Path,
    output: Path,
    simulated_root: str | None,
    simulated_gpu_root: str | None,
    simulated_rim_root: str | None,
    force: bool,
) -> None:
    """Write a policy to start from, made of evidence that nobody has verified.

    It accepts this very evidence, of one kind of machine (Intel TDX or AMD SEV-SNP), and says at each value
    where the right one comes from. It is worth nothing before you have gone through the lines that say CHECK.
    """
    from palm_torch import evidence as bundles
    from palm_torch.appraisal import policy_template

    arguments.apart(output, evidence)
    data = bundles.read(evidence)
    roots: dict[str, bytes] = {}
    if simulated_root is not None:
        roots = _simulated_roots(simulated_root, bundles.decode(data, what=str(evidence)))
    for name, given in (
        ("simulated_gpu_root", simulated_gpu_root),
        ("simulated_rim_root", simulated_rim_root),
    ):
        if given is not None:
            roots[name] = _certificate(given)
    text = policy_template.starting_policy(data, what=str(evidence), **roots)
    _write(output, text.encode("ascii"), force=force)
    click.echo(f"policy  {printable(str(output))}")
    click.echo(
        "next    go through what it says CHECK at: these values are the evidence's own, verified by nobody"
    )


@policy.command(short_help="Show what a policy demands and waves through.")
@click.argument("path", metavar="POLICY", type=FILE)
@click.option("--reference-values", "references", type=FILE, help="Values of a trusted authority, signed.")
@click.option("--authority-key", type=FILE, help="The authority's public key, PEM.")
@click.option("--at", help="Time at which they must hold, ISO 8601.  [default: this machine's clock]")
def check(path: Path, references: Path | None, authority_key: Path | None, at: str | None) -> None:
    """Read a policy and show what it demands, what it waves through, and where it accepts nothing.

    A policy that says [authority] can be checked only together with the authority's values: give
    --reference-values and --authority-key. Without them no more is known of it than that it is YAML.
    """
    from palm_torch.appraisal import policy_summary
    from palm_torch.policies import policy as policies

    values = _references(references, authority_key, at)
    summary = policy_summary.summarize(policies.load(path, references=values))
    if values is not None:
        click.echo(f"authority: {printable(str(values))}\n")
    _list("demands", (f"{rule}: {says}" for rule, says in summary.demands))
    _list("waves through", summary.waves_through)
    _list("accepts nothing, because it names no value for", summary.accepts_nothing)


@policy.command(short_help="Sign reference values for other people's policies.")
@click.argument("values", type=FILE)
@click.option("--key", type=FILE, required=True, help="Private key, PEM: Ed25519 or ECDSA P-256.")
@click.option("-o", "--output", type=FILE, default=Path("reference-values.json"), show_default=True)
@click.option("--force", is_flag=True, help="Replace a file that is there already.")
def sign(values: Path, key: Path, output: Path, force: bool) -> None:
    """Sign reference values, written in YAML, for the policies of those who trust you.

    \b
        issuer: Example Laboratory
        issued: 2026-11-01T00:00:00Z
        expires: 2027-11-01T00:00:00Z
        platform:
          tdx: {mr_td: [...], rtmr0: [...], rtmr1: [...], rtmr2: [...]}
          snp: {measurement: [...]}
          gpu: {chip_ids: [...]}
        code: {digests: [...], packages: [...]}
        claims: {data: [...], initial: [...], tokenizer: [...], architecture: [...]}

    Parts and lists that you have nothing to say of may be missing. Whoever verifies gives the file, and
    your public key, to `verify`; a policy asks for a list of yours with [authority] in its place.
    """  # noqa: D301 (click wants the backspace itself)
    from palm_torch import dsse, files
    from palm_torch.policies import reference_values, signing_keys

    arguments.apart(output, values, key)
    text = files.read_bounded(
        values, what="the values", max_bytes=reference_values.MAX_BYTES, error=PolicyError
    )
    pem = files.read_bounded(key, what="the key", max_bytes=signing_keys.MAX_KEY_BYTES, error=PolicyError)
    parsed = reference_values.parse(text, what=str(values))
    private = signing_keys.load_private(pem, what=str(key))
    _write(output, reference_values.sign(parsed, key=private), force=force)
    click.echo(f"reference values  {printable(str(output))}")
    click.echo(f"issuer            {parsed.issuer}")
    click.echo(f"hold              {parsed.issued} to {parsed.expires}")
    click.echo(f"key               {dsse.key_id(private.public_key())}")
    for path, listed in parsed.lists().items():
        if listed:
            click.echo(f"{path:<17} {len(listed)} values")


def _simulated_roots(given: str, bundle: Bundle) -> dict[str, bytes]:
    """Returns the root that was given; for "auto" those of this machine that the evidence could lead to."""
    from palm_torch.cvm import simulated_gpu_state, simulated_snp, simulated_state

    if given != "auto":
        return {"simulated_root": _certificate(given)}
    if bundle.attester == "snp":
        roots = {"simulated_root": simulated_snp.read_root(simulated_snp.default_directory())}
    else:
        roots = {"simulated_root": simulated_state.read_root(simulated_state.default_directory())}
    folder = simulated_gpu_state.default_directory()
    if bundle.end.gpus and folder.exists():
        root = simulated_gpu_state.read_root(folder)
        if all(gpu.chain.endswith(root) for gpu in bundle.end.gpus):
            roots["simulated_gpu_root"] = root
            roots["simulated_rim_root"] = simulated_gpu_state.read_rim_root(folder)
    return roots


def _certificate(given: str) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from palm_torch import files
    from palm_torch.cvm import certificate_bytes
    from palm_torch.policies import signing_keys

    pem = files.read_bounded(
        Path(given), what="the root certificate", max_bytes=signing_keys.MAX_KEY_BYTES, error=PolicyError
    )
    try:
        return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    except certificate_bytes.FOREIGN_ERRORS as error:
        raise PolicyError(f"{given}: expected one certificate in PEM: {error}") from error


def _references(path: Path | None, key: Path | None, at: str | None) -> VerifiedValues | None:
    from datetime import UTC, datetime

    from palm_torch.policies import reference_values

    if (path is None) != (key is None):
        raise click.UsageError("--reference-values and --authority-key go together")
    if path is None or key is None:
        return None
    return reference_values.load(path, key=key, at=datetime.now(UTC) if at is None else moment(at, "--at"))


def _write(path: Path, data: bytes, *, force: bool) -> None:
    from palm_torch import files

    if path.exists() and not force:
        raise PolicyError(f"{path}: there is a file already; --force replaces it")
    files.write_atomically(path, [data], error=PolicyError)


def _list(heading: str, lines: Iterable[str]) -> None:
    said = list(lines)
    click.echo(heading + ("" if said else ": nothing"))
    for line in said:
        click.echo(f"  - {printable(line)}")
