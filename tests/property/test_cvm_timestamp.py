"""Laws of the readers of time-stamp tokens: nothing foreign escapes, and nothing bent is accepted."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import stamping
from hypothesis import given
from hypothesis import strategies as st

from palm_torch.cvm import cms, timestamp, timestamp_info, timestamp_response
from palm_torch.digest import sha256_digest
from palm_torch.errors import PalmTorchError

if TYPE_CHECKING:
    from stamping import Authority

DIGEST = sha256_digest(b"evidence")


@functools.cache
def made() -> tuple[Authority, bytes, bytes]:
    """Returns an authority, its token as kept, and the token of a stranger over the same digest."""
    tokens = []
    for authority in (stamping.make_authority(), stamping.make_authority()):
        raw = authority.token(DIGEST.value)
        tokens.append((authority, timestamp.normalised(raw, root=authority.root.certificate)))
    return tokens[0][0], tokens[0][1], tokens[1][1]


@given(st.binary(max_size=400))
def test_nothing_foreign_escapes_the_readers(data: bytes) -> None:
    authority = made()[0]
    readers = (
        lambda: cms.parse(data, what="x"),
        lambda: timestamp_info.read(data, what="x"),
        lambda: timestamp_response.token_of_response(data),
        lambda: timestamp.normalised(data, root=authority.root.certificate),
        lambda: timestamp.verify_token(data, digest=DIGEST, root=authority.root.certificate),
        lambda: timestamp.verify_token(made()[1], digest=DIGEST, root=data),
    )
    for reader in readers:
        try:
            reader()
        except PalmTorchError:
            continue


@given(st.data())
def test_parts_of_two_tokens_make_no_third(data: st.DataObject) -> None:
    authority, token, other = made()
    start = data.draw(st.integers(0, len(token)))
    end = data.draw(st.integers(start, len(token)))
    source = data.draw(st.sampled_from([token, other, b""]))
    first = data.draw(st.integers(0, len(source)))
    bent = token[:start] + source[first : first + data.draw(st.integers(0, 80))] + token[end:]
    try:
        timestamp.verify_token(bent, digest=DIGEST, root=authority.root.certificate)
    except PalmTorchError:
        assert bent != token
    else:
        assert bent == token


@given(st.data())
def test_bringing_to_the_one_form_never_makes_a_bad_token_good(data: st.DataObject) -> None:
    authority, token, _ = made()
    at = data.draw(st.integers(0, len(token) - 1))
    bent = token[:at] + bytes([token[at] ^ data.draw(st.integers(1, 255))]) + token[at + 1 :]
    try:
        kept = timestamp.normalised(bent, root=authority.root.certificate)
        timestamp.verify_token(kept, digest=DIGEST, root=authority.root.certificate)
    except PalmTorchError:
        return
    assert kept == token
