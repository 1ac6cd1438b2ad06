"""`palm-torch timestamp`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from palm_torch.commands import arguments
from palm_torch.commands.arguments import FILE
from palm_torch.errors import EvidenceError, SealError
from palm_torch.escaping import printable

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.evidence import Bundle


@click.command(short_help="Have evidence time-stamped by somebody else.")
@click.argument("evidence", type=FILE)
@click.option("--query", type=FILE, help="Write the query to send to a time-stamping authority.")
@click.option("--response", type=FILE, help="Attach the token of the authority's response.")
@click.option("--root", type=FILE, help="Root certificate of the authority, PEM; goes with --response.")
@click.option("--force", is_flag=True, help="Replace a token, or a query file, that is there already.")
def timestamp(
    evidence: Path, query: Path | None, response: Path | None, root: Path | None, force: bool
) -> None:
    """Have evidence time-stamped (RFC 3161): write the query, then attach what comes back.

    palm-torch opens no connection: send the query with whatever you like, such as the curl line printed.
    """
    if query is not None and response is None and root is None:
        arguments.apart(query, evidence)
        _write_query(_read(evidence, force=force), query, force=force)
    elif query is None and response is not None and root is not None:
        _attach(_read(evidence, force=force), evidence, response, root)
    else:
        raise click.UsageError("give --query to write a query, or --response and --root to attach the answer")


def _read(evidence: Path, *, force: bool) -> Bundle:
    from palm_torch import evidence as bundles
    from palm_torch import files

    data = files.read_bounded(
        evidence, max_bytes=bundles.MAX_BUNDLE_BYTES, what="the evidence", error=EvidenceError
    )
    bundle = bundles.decode(data, what=str(evidence))
    if bundle.timestamp is not None and not force:
        raise EvidenceError(f"{evidence}: there is a time-stamp token already; --force replaces it")
    return bundle


def _write_query(bundle: Bundle, query: Path, *, force: bool) -> None:
    import secrets

    from palm_torch import files
    from palm_torch.cvm import timestamp as tokens

    if query.exists() and not force:
        raise SealError(f"{query}: there is a file already; --force replaces it")
    digest = bundle.digest_to_stamp()
    files.write_atomically(query, [tokens.make_query(digest, secrets.token_bytes(8))], error=SealError)
    name = printable(str(query))
    answer = printable(str(query.with_suffix(".tsr")))
    click.echo(f"query    {name}")
    click.echo(f"digest   {digest}")
    click.echo("send it  curl -sS -H 'Content-Type: application/timestamp-query' \\")
    click.echo(f"              --data-binary '@{name}' -o '{answer}' URL-OF-THE-AUTHORITY")


def _attach(bundle: Bundle, evidence: Path, response: Path, root: Path) -> None:
    import dataclasses
    import stat

    from palm_torch import evidence as bundles
    from palm_torch import files
    from palm_torch.cvm import timestamp as tokens
    from palm_torch.cvm import timestamp_response

    limit = timestamp_response.MAX_RESPONSE_BYTES
    pem = files.read_bounded(root, max_bytes=limit, what="the root certificate", error=EvidenceError)
    answer = files.read_bounded(
        response, max_bytes=limit, what="the authority's response", error=EvidenceError
    )
    token = tokens.normalised(timestamp_response.token_of_response(answer), root=pem)
    verified = tokens.verify_token(token, digest=bundle.digest_to_stamp(), root=pem)
    stamped = dataclasses.replace(bundle, timestamp=token).encode()
    bundles.decode(stamped, what=str(evidence))  # within every limit
    mode = stat.S_IMODE(evidence.stat().st_mode)
    files.write_atomically(evidence, [stamped], error=SealError, mode=mode)
    click.echo(f"evidence   {printable(str(evidence))}")
    click.echo(f"stamped    {verified.time.isoformat()}, {tokens.accuracy_in_words(verified.accuracy)}")
    click.echo(f"authority  {printable(verified.authority)}")
