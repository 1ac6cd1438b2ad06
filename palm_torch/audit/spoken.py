"""The ids that a trace binds, compared with question and answer as their owner opens them.

Both are salted commitments among the trace's facts. Given as ids, they can be compared one by one; given as
text, that takes a tokenizer, which no audit has.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np

from palm_torch.challenge.tokens import PADDING
from palm_torch.commit import answer_facts, salted
from palm_torch.errors import BindingError, DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from palm_torch.challenge.tokens import Tokens
    from palm_torch.commit.salted import SaltedOpening
    from palm_torch.commit.trace import Context

ROLES: Final = (answer_facts.QUERY, answer_facts.RESPONSE)

_FORM: Final = re.compile(r"int64\[(?:([1-9][0-9]{0,9}),)?([1-9][0-9]{0,9})\]")


def check(opening: SaltedOpening, context: Context, ids: Tokens | None) -> None:
    """Checks that an opened question begins the bound ids, or that an opened answer ends them.

    1. The opening is that of the trace's fact of its role.
    2. It holds ids, as many sequences as are bound and at most as many of each.
    3. They are equal, where the bound ones are no padding. An answer may be everything, question included.

    Args:
        opening: The opening.
        context: The trace's context.
        ids: The bound ids; None if the trace binds none.

    Raises:
        BindingError: If it is another one's, or the ids differ.
        DataError: If it holds no ids, or none are bound.
    """
    what = f"opening of the {opening.role[:40]}"
    if opening.role not in ROLES:
        raise BindingError(f"{what}: expected one of the {' or '.join(ROLES)}")
    content = salted.verify(opening, context.facts.get(opening.role), what=what)  # 1
    if ids is None:
        raise DataError(f"{what}: the trace binds no ids that it could be compared with")
    match = _FORM.fullmatch(content.form)  # 2
    if match is None:
        raise DataError(
            f"{what}: expected ids, int64[sequences,tokens], got {content.form!r}: comparing it takes the "
            "tokenizer"
        )
    batch, length = int(match[1] or 1), int(match[2])
    if len(content.content) != 8 * batch * length:
        raise DataError(f"{what}: expected {content.form}, got {len(content.content)} bytes")
    if batch != ids.batch or length > ids.length:
        raise BindingError(
            f"{what}: expected {ids.batch} sequences of at most {ids.length} ids, got {batch} of {length}"
        )
    said = np.frombuffer(content.content, "<i8").reshape(batch, length)
    bound = np.array(ids.rows, np.int64)
    part = bound[:, :length] if opening.role == answer_facts.QUERY else bound[:, ids.length - length :]
    _compare(what, said, part)  # 3


def _compare(what: str, said: NDArray[np.int64], bound: NDArray[np.int64]) -> None:
    differing = np.argwhere((said != bound) & (bound != PADDING))
    if len(differing):
        sequence, token = map(int, differing[0])
        raise BindingError(
            f"{what}: sequence {sequence}, id {token}: expected {said[sequence, token]}, as it says, the "
            f"trace binds {bound[sequence, token]} ({len(differing)} differ)"
        )
