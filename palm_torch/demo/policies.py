"""The policies of the demo, as a person would write them: what a verifier demands of the run."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from palm_torch.cvm import simulated_quote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palm_torch.digest import Digest


def text(
    *,
    data: Sequence[Digest],
    simulated_root: str | None,
    records: int,
    greatest_learning_rate: float,
    greatest_loss: float,
) -> str:
    """Returns a policy in YAML.

    Args:
        data: Manifests of the data that may be used.
        simulated_root: Root certificate of the simulated TEE, PEM; None demands hardware.
        records: Least number of records delivered for training.
        greatest_learning_rate: Upper bound over all steps.
        greatest_loss: Upper bound of the last loss that the script reported.
    """
    registers = "\n".join(
        f'    {name}: ["{value.hex()}"]'
        for name, value in (
            ("mr_td", simulated_quote.MR_TD),
            ("rtmr0", simulated_quote.RTMR0),
            ("rtmr1", simulated_quote.RTMR1),
            ("rtmr2", simulated_quote.RTMR2),
        )
    )
    root = "" if simulated_root is None else _ROOT + textwrap.indent(simulated_root, "    ")
    manifests = "\n".join(f'    - "{digest}"' for digest in data)
    return _POLICY.format(
        registers=registers,
        root=root,
        manifests=manifests,
        records=records,
        rate=greatest_learning_rate,
        loss=greatest_loss,
    )


_ROOT = """\
  # Admits a simulated TEE in place of Intel's root. No hardware vouches for anything then, and no result
  # under this policy is ever affirming.
  simulated_root: |
"""

_POLICY = """\
version: 1

platform:
  tdx:
{registers}
{root}
code:
  # Nobody has reviewed the demo's code for this policy: the result is a warning at best. A policy that
  # means it lists code digests here instead.
  unreviewed: true

claims:
  property: train
  data:
{manifests}
  initial: [any]      # random initial weights; the seed is in the evidence
  tokenizer: [none]   # the records are bytes already
  records: {{least: {records}}}
  epochs: {{least: 1}}  # every record was delivered for training at least once
  arguments:
    lr: {{least: 0, greatest: {rate}}}
  reported:
    loss: {{greatest: {loss}}}
"""
