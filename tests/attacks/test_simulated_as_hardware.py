"""Simulated evidence is passed off as real: under a policy for hardware, or with its root in its bag."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import workshop
from workshop import put

from palm_torch.errors import EvidenceError, TrustAnchorError
from palm_torch.result import Tier

if TYPE_CHECKING:
    from pathlib import Path

    from workshop import GoodRun


def test_a_policy_for_hardware_refuses_it(good: GoodRun) -> None:
    with pytest.raises(TrustAnchorError, match=r"not a configured trust anchor \('Intel SGX Root CA'\)"):
        good.verify(policy=good.policy(hardware=True))


def test_the_root_in_the_bundle_is_no_trust_anchor(good: GoodRun) -> None:
    """Quotes and collateral bring their root along; it must equal the verifier's, and never becomes it."""
    root = workshop.pem(good.machine.root_certificate())
    assert root in good.bundle.collateral["pck_crl_issuer_chain"]
    for name in ("pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain"):
        smuggled = put(good.bundle, f"collateral.{name}", lambda chain: chain + root)
        with pytest.raises((EvidenceError, TrustAnchorError)):
            good.verify(smuggled, policy=good.policy(hardware=True))
        with pytest.raises(EvidenceError):
            good.verify(smuggled)


@pytest.mark.parametrize("key", ["simulated", "root", "simulated_root", "trust_anchor", "allow_simulated"])
def test_no_key_of_the_bundle_speaks_about_trust(good: GoodRun, key: str) -> None:
    for value in (b"false", b'"Intel SGX Root CA"'):
        data = good.data[:-1] + b',"' + key.encode() + b'":' + value + b"}"
        with pytest.raises(EvidenceError):
            good.verify(data)
        with pytest.raises(EvidenceError):
            good.verify(put(good.bundle, f"collateral.{key}", value.decode()))


def test_another_simulated_root_is_not_the_one_admitted(good: GoodRun, tmp_path: Path) -> None:
    other = workshop.make_good_run(tmp_path / "keys")
    with pytest.raises(TrustAnchorError):
        good.verify(other.data)
    with pytest.raises(TrustAnchorError):
        good.verify(good.resealed(good.bundle, machine=other.machine))
    both = put(good.resealed(good.bundle, machine=other.machine), "collateral", other.bundle.collateral)
    with pytest.raises(TrustAnchorError):
        good.verify(both)


def test_even_where_it_is_admitted_it_is_never_affirming(good: GoodRun) -> None:
    result = good.verify()
    assert result.simulated
    assert result.tier is Tier.WARNING
    assert not any(claim.strength == "hardware" for claim in result.claims)
