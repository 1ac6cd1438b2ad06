"""The platform part of a policy to start from; see `palm_torch.appraisal.policy_template`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from palm_torch.appraisal import snp_template, tdx_template, yaml_comments
from palm_torch.cvm import certificate_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from palm_torch.cvm.platforms import Kind
    from palm_torch.evidence import Bundle

_RULES: Final[dict[Kind, Callable[[Bundle], Iterator[str]]]] = {
    "tdx": tdx_template.lines,
    "snp": snp_template.lines,
}
_VENDORS: Final[dict[Kind, str]] = {"tdx": "Intel", "snp": "AMD"}


def lines(bundle: Bundle, simulated_root: bytes | None) -> Iterator[str]:
    """Yields the platform part of a policy that accepts the machine which made an end quote.

    Args:
        bundle: The evidence; nothing in it is verified.
        simulated_root: As for `policy_template.starting_policy`.

    Raises:
        InputError: If the quote or the collateral does not parse.
    """
    yield "platform:"
    yield from _RULES[bundle.attester](bundle)
    yield from _root(_VENDORS[bundle.attester], simulated_root)


def _root(vendor: str, simulated_root: bytes | None) -> Iterator[str]:
    if simulated_root is None:
        yield from yaml_comments.comment(
            f"Quotes must lead to {vendor}'s root. For a rehearsal with a simulated TEE, whose results are "
            "never affirming, admit its root here as simulated_root: `palm-torch policy init "
            "--simulated-root auto` does so on the machine that ran the rehearsal.",
            2,
        )
        return
    yield from yaml_comments.comment(
        f"CHECK: this admits a simulated TEE IN PLACE OF {vendor}'s root. No hardware vouches for anything "
        "under this policy, and no result is affirming. Delete it for real evidence.",
        2,
    )
    yield "  simulated_root: |"
    yield from (
        f"    {line}" for line in certificate_bytes.encode_pem([simulated_root]).decode().splitlines()
    )
