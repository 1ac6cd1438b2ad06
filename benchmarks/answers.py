"""What attesting an answer adds to giving it.

Run ``python benchmarks/answers.py``. A plain answer is `TOKENS` tokens, one after the other, out of a model
of `LAYERS` blocks of width 768 that keeps nothing between tokens but its input. Attesting it is
``run.begin_answer()`` before and ``run.answer(...)`` after; the receipt is the part of that which signs and
logs. All times are CPU time of the loop's own thread (on a machine with other work, the clock on the wall
says nothing), medians, plain and attested answers in turn, so that what attesting needs has left the caches
each time; receipts are timed in answers of their own, so that no clock is read inside the others. Bars: the
receipt at most 1 ms; the whole addition at most 1 ms, and at most 2 % of the plain answer. Milliseconds are
for a machine of known speed (`support/yardstick.py`); figures as measured stand beside those that are judged.
The first answer after ``run.model(...)`` stands apart. Exits 1 when a bar is missed.
"""

from __future__ import annotations

import functools
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import torch
from support.timing import processor_ms
from support.yardstick import NOMINAL_MS, commitment, judged
from torch import nn

from palm_torch.attesting.attested import attested

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTH: Final = 768
LAYERS: Final = 6
HEADS: Final = 12
VOCABULARY: Final = 8192
PROMPT: Final = 32
TOKENS: Final = 16
ROUNDS: Final = 40
WARM: Final = 3

RECEIPT_MS: Final = 1.0
ANSWER_MS: Final = 1.0
SHARE: Final = 0.02
DECODING: Final = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "max_new_tokens": TOKENS}


class Model(nn.Module):
    """A small language model without a cache."""

    def __init__(self) -> None:
        super().__init__()
        self.enc = nn.Embedding(VOCABULARY, WIDTH)
        block = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, LAYERS, enable_nested_tensor=False)
        self.dec = nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Returns logits (1, tokens, vocabulary) of ids (1, tokens)."""
        scores: torch.Tensor = self.dec(self.blocks(self.enc(ids)))
        return scores


@torch.inference_mode()
def reply(model: Model, prompt: torch.Tensor) -> torch.Tensor:
    """Samples an answer; prompt and answer are int64 (1, tokens)."""
    ids = prompt
    for _ in range(TOKENS):
        scores = model(ids)[:, -1] / DECODING["temperature"]
        ids = torch.cat([ids, torch.multinomial(torch.softmax(scores, -1), 1)], 1)
    return ids[:, prompt.shape[1] :]


def cpu(action: Callable[[], Any]) -> tuple[float, Any]:
    """Returns the CPU time of this thread that an action took, in seconds, and what it returned."""
    begun = time.thread_time()
    value = action()
    return time.thread_time() - begun, value


def main() -> int:
    """Measures and prints; returns 1 if a bar was missed."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Model().eval()
    prompts = [torch.randint(0, VOCABULARY, (1, PROMPT)) for _ in range(WARM + ROUNDS)]
    receipts: list[float] = []
    yards: list[float] = []
    commitment()  # loads what is loaded once
    with attested("session", attester="simulated") as run:
        run.model(model)
        sealer: Any = run._sealer  # noqa: SLF001 (what is timed is a part of what users call)
        issue = sealer.issue_spelled

        def timed(spell: Any) -> Any:  # noqa: ANN401 (that of `Sealer.issue_spelled`)
            took, envelope = cpu(lambda: issue(spell))
            receipts.append(took)
            return envelope

        plain: list[float] = []
        added: list[float] = []
        payload = b""
        for number, prompt in enumerate(prompts):
            sealer.issue_spelled = timed if number % 2 else issue
            plain.append(cpu(functools.partial(reply, model, prompt))[0])
            before, _ = cpu(run.begin_answer)
            response = reply(model, prompt)
            after, signed = cpu(
                functools.partial(run.answer, query=prompt, response=response, decoding=DECODING)
            )
            if not number % 2:
                added.append(before + after)
            payload = signed.receipt.envelope.payload
            yards.append(processor_ms(commitment))
    answer, addition, receipt = (statistics.median(times[WARM:]) * 1e3 for times in (plain, added, receipts))
    weights = sum(parameter.numel() for parameter in model.parameters())
    print(f"plain answer, {TOKENS} tokens, width {WIDTH}, {weights / 1e6:.0f} M parameters: {answer:.1f} ms")
    yard = statistics.median(yards)
    counted, counted_receipt = judged(addition, yard), judged(receipt, yard)
    print(f"in brackets what is judged, where ckzg's commitment takes {NOMINAL_MS:.0f} ms; here {yard:.0f}")
    print(
        f"receipt of {len(payload)} bytes: {receipt:.2f} ({counted_receipt:.2f}) ms "
        f"(bar: {RECEIPT_MS:.0f} ms)"
    )
    print(f"attesting one answer: {addition:.2f} ({counted:.2f}) ms (bar: {ANSWER_MS:.0f} ms)")
    print(f"attesting the first answer: {added[0] * 1e3:.2f} ({judged(added[0] * 1e3, yard):.2f}) ms")
    print(f"attesting / plain answer: {addition / answer:.2%} (bar: {SHARE:.0%})")
    met = counted <= ANSWER_MS and counted_receipt <= RECEIPT_MS and addition <= SHARE * answer
    print("bars: met" if met else "bars: MISSED")
    return int(not met)


if __name__ == "__main__":
    sys.exit(main())
