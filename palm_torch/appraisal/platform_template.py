"""The platform part of a policy to start from; see `palm_torch.appraisal.policy_template`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from palm_torch.appraisal import gpu_template, snp_template, tdx_template, yaml_comments
from palm_torch.cvm import certificate_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from palm_torch.cvm.platforms import Kind
    from palm_torch.evidence import Bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class Roots:
    """Root certificates of simulations to admit in place of the vendors', DER; None admits none.

    Attributes:
        machine: Of a simulated TEE.
        gpus: Of simulated GPUs.
        rims: Of who signs simulated GPUs' reference manifests.
    """

    machine: bytes | None = None
    gpus: bytes | None = None
    rims: bytes | None = None


_RULES: Final[dict[Kind, Callable[[Bundle], Iterator[str]]]] = {
    "tdx": tdx_template.lines,
    "snp": snp_template.lines,
}
_VENDORS: Final[dict[Kind, str]] = {"tdx": "Intel", "snp": "AMD"}


def lines(bundle: Bundle, roots: Roots) -> Iterator[str]:
    """Yields the platform part of a policy that accepts the machine which made an end quote, and its GPUs.

    Args:
        bundle: The evidence; nothing in it is verified.
        roots: As for `policy_template.starting_policy`.

    Raises:
        InputError: If the quote or the collateral does not parse.
    """
    yield "platform:"
    yield from _RULES[bundle.attester](bundle)
    yield from gpu_template.lines(bundle)
    yield from _root(_VENDORS[bundle.attester], roots.machine)
    if roots.gpus is not None:
        yield from _simulated("simulated GPUs", "NVIDIA", "simulated_gpu_root", roots.gpus)
    if roots.rims is not None:
        yield from _simulated(
            "simulated reference manifests of GPUs", "NVIDIA", "simulated_rim_root", roots.rims
        )


def _root(vendor: str, simulated_root: bytes | None) -> Iterator[str]:
    if simulated_root is None:
        yield from yaml_comments.comment(
            f"Quotes must lead to {vendor}'s root. For a rehearsal with a simulated TEE, whose results are "
            "never affirming, admit its root here as simulated_root: `palm-torch policy init "
            "--simulated-root auto` does so on the machine that ran the rehearsal.",
            2,
        )
        return
    yield from _simulated("a simulated TEE", vendor, "simulated_root", simulated_root)


def _simulated(what: str, vendor: str, name: str, root: bytes) -> Iterator[str]:
    yield from yaml_comments.comment(
        f"CHECK: this admits {what} IN PLACE OF {vendor}'s root. No hardware vouches for anything "
        "under this policy, and no result is affirming. Delete it for real evidence.",
        2,
    )
    yield f"  {name}: |"
    yield from (f"    {line}" for line in certificate_bytes.encode_pem([root]).decode().splitlines())
