"""Captures: every kind of tensor, and what cannot be captured or must not be done meanwhile."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
import tapped
import torch
from torch import nn

from palm_torch.commit.trace import Calls, Site
from palm_torch.committing import capture as captures
from palm_torch.committing.capture import Capture
from palm_torch.committing.ring import Ring
from palm_torch.committing.spill import Kept
from palm_torch.errors import CoverageError, SessionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from palm_torch.commit.trace_gathering import Captured

SITE = Site("layers.0")


@pytest.fixture
def made() -> Iterator[Callable[..., Capture]]:
    """Makes captures, and ends their threads."""
    captured: list[Capture] = []

    def make(**options: Any) -> Capture:
        captured.append(Capture(**options))
        return captured[-1]

    yield make
    for one in captured:
        one.abandon()


def take(tensors: list[torch.Tensor], **options: Any) -> Captured:
    capture = Capture(**options)
    for call, tensor in enumerate(tensors):
        capture.capture(SITE, tensor, call)
    (captured,) = capture.close()
    return captured


STRANGE: dict[str, Callable[[], torch.Tensor]] = {
    "transposed": lambda: torch.randn(40, 30).t(),
    "channels last": lambda: torch.randn(2, 3, 8, 9).to(memory_format=torch.channels_last),
    "every other": lambda: torch.randn(10, 64)[::2, 1::2],
    "expanded": lambda: torch.randn(1, 5).expand(7, 5),
    "negative bit": lambda: torch.randn(7, dtype=torch.complex64).conj().imag,
    "conjugate bit": lambda: torch.randn(7, 3, dtype=torch.complex64).conj(),
    "parameter": lambda: nn.Parameter(torch.randn(4, 4)),
    "empty parameter": lambda: nn.Parameter(torch.empty(0, 4)),
    "with gradient": lambda: torch.randn(4, 4, requires_grad=True) * 2,
    "inference": torch.inference_mode()(lambda: torch.randn(3, 3)),
    "scalar": lambda: torch.tensor(3.5),
    "vector": lambda: torch.arange(17),
    "empty": lambda: torch.empty(3, 0),
    "no rows": lambda: torch.empty(0, 5),
    "bfloat16": lambda: torch.randn(3, 900).bfloat16(),
    "float8": lambda: torch.randn(3, 900).to(torch.float8_e4m3fn).view(torch.uint8).view(torch.float8_e4m3fn),
    "bool": lambda: torch.randn(3, 900) > 0,
    "long rows": lambda: torch.randn(3, 9000),
    "larger than a buffer": lambda: torch.randn(1000, 700),
}


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("threads", [None, 0, 2])
def test_every_kind_of_tensor(name: str, threads: int | None) -> None:
    torch.manual_seed(0)
    tensors = [STRANGE[name]() for _ in range(3)]
    captured = take(tensors, threads=threads)
    plain = [one.detach().resolve_conj().resolve_neg().contiguous() for one in tensors]
    leaves = [one.view(torch.uint8) if name == "float8" else one for one in plain]
    dtype = str(plain[0].dtype).removeprefix("torch.")
    assert (captured.dtype, captured.channels) == (dtype, plain[0].shape[-1] if plain[0].dim() else 1)
    assert captured.leaves == b"".join(tapped.naive_leaves("layers.0|", dtype, leaves))
    shape = tuple(plain[0].shape[:-1]) if plain[0].dim() else None
    assert captured.schedule == (Calls(0, 3, shape),)


@pytest.mark.parametrize("threads", [None, 1])
def test_small_and_large_tensors_keep_their_order(threads: int | None) -> None:
    tensors = [torch.randn(rows, 300) for rows in (1, 1000, 2, 3, 999, 400, 1)]
    assert take(tensors, threads=threads).leaves == b"".join(
        tapped.naive_leaves("layers.0|", "float32", tensors)
    )


@pytest.mark.parametrize("rows", [4, 1000])
def test_later_writes_do_not_matter(rows: int) -> None:
    tensor = torch.randn(rows, 300)
    expected = take([tensor.clone()]).leaves
    capture = Capture()
    capture.capture(SITE, tensor, 0)
    tensor.zero_()
    assert capture.close()[0].leaves == expected


def test_a_site_with_two_kinds_of_tensors() -> None:
    capture = Capture()
    shapes = [(2, 4), (2, 5), (3, 4), (3, 5), (3, 5), (1, 4)]
    tensors = [torch.randn(shape) for shape in shapes]
    for call, tensor in enumerate(tensors):
        capture.capture(SITE, tensor, call)
    capture.capture(SITE, tensors[0].double(), 9)
    narrow, wide, double = capture.close()
    assert narrow.schedule == (Calls(0, 1, (2,)), Calls(2, 1, (3,)), Calls(5, 1, (1,)))
    assert wide.schedule == (Calls(1, 1, (2,)), Calls(3, 2, (3,)))
    assert (double.dtype, double.schedule) == ("float64", (Calls(9, 1, (2,)),))
    assert narrow.leaves == b"".join(
        tapped.naive_leaves("layers.0|", "float32", tensors[::2][:2] + tensors[5:])
    )


def test_a_call_twice_is_refused_whatever_it_returned(made: Callable[..., Capture]) -> None:
    capture = made()
    capture.capture(SITE, torch.zeros(2, 4), 0)
    with pytest.raises(CoverageError, match="call 0 was captured after call 0"):
        capture.capture(SITE, torch.zeros(2, 5), 0)
    with pytest.raises(CoverageError, match=r"the commitment has failed before: layers\.0: call 0 was"):
        capture.capture(SITE, torch.zeros(2, 5), 1)
    with pytest.raises(CoverageError, match="has failed before"):
        capture.close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.eye(3).to_sparse(), "sparse"),
        (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "layers.0"),
        (lambda: torch.ones(3, device="meta"), "meta device"),
        (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "no canonical bytes"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_tensors_without_bytes_are_refused(
    made: Callable[..., Capture], make: Callable[[], torch.Tensor], message: str
) -> None:
    with pytest.raises(CoverageError, match=message):
        made().capture(SITE, make(), 0)


TRANSFORMS: dict[str, Callable[[Callable[..., torch.Tensor]], object]] = {
    "vmap": lambda function: torch.func.vmap(function)(torch.ones(5, 3, 4)),
    "grad": lambda function: torch.func.grad(function)(torch.ones(3, 4)),
    "vjp": lambda function: torch.func.vjp(function, torch.ones(3, 4)),
    "functionalize": lambda function: torch.func.functionalize(function)(torch.ones(3, 4)),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_tensors_inside_of_a_transform_are_refused(made: Callable[..., Capture], name: str) -> None:
    capture = made()
    capture.capture(SITE, torch.ones(3, 4), 0)  # of the same shape: only the place of its bytes tells

    def function(tensor: torch.Tensor) -> torch.Tensor:
        capture.capture(SITE, tensor, 1)
        return tensor.sum()

    with pytest.raises(CoverageError, match=r"layers\.0: the module runs inside of a torch\.func transform"):
        TRANSFORMS[name](function)
    with pytest.raises(CoverageError, match="has failed before"):
        capture.close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.eye(3).to_sparse(), "sparse"),
        (lambda: torch.ones(3, 3).to_mkldnn(), "_mkldnn"),
        (lambda: torch.ones(3, 3, device="meta"), "meta device"),
        (lambda: torch._efficientzerotensor((3, 3)), "no bytes to copy"),  # type: ignore[attr-defined]
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_later_tensor_without_bytes_is_refused(
    made: Callable[..., Capture], make: Callable[[], torch.Tensor], message: str
) -> None:
    capture = made()
    capture.capture(SITE, torch.ones(3, 3), 0)
    with pytest.raises(CoverageError, match=message):
        capture.capture(SITE, make(), 1)


def test_memory_that_was_given_back_is_not_read(made: Callable[..., Capture]) -> None:
    tensor = torch.ones(8)
    tensor.untyped_storage().resize_(0)
    with pytest.raises(CoverageError, match="the memory of its output was given back already"):
        made().capture(SITE, tensor, 0)


class Reentrant(torch.Tensor):
    """A tensor whose conversion runs a module that is captured too."""

    capture: Any = None

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.detach and cls.capture is not None:
            capture, cls.capture = cls.capture, None
            capture.capture(Site("inner"), torch.ones(3), 0)
        return super().__torch_function__(func, types, args, kwargs)


def test_a_capture_inside_of_a_capture_is_refused(made: Callable[..., Capture]) -> None:
    capture = made()
    tensor = torch.ones(3).as_subclass(Reentrant)
    Reentrant.capture = capture
    with pytest.raises(SessionError, match="inner: captured while another tensor was: expected one forward"):
        capture.capture(SITE, tensor, 0)
    with pytest.raises(CoverageError, match="has failed before: inner: captured while"):
        capture.close()


def test_a_capture_from_another_thread_meanwhile_is_refused(made: Callable[..., Capture]) -> None:
    capture = made()
    capture._stopped = True  # as if another thread were in the middle of one
    with pytest.raises(SessionError, match="one forward pass at a time"):
        capture.capture(SITE, torch.ones(3), 0)
    with pytest.raises(CoverageError, match="has failed before"):
        capture.close()


def test_a_model_may_run_in_another_thread() -> None:
    capture = Capture()
    thread = threading.Thread(target=capture.capture, args=(SITE, torch.ones(3), 0))
    thread.start()
    thread.join()
    assert len(capture.close()) == 1


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_inside_of_the_block_is_told(made: Callable[..., Capture]) -> None:
    capture = made()
    capture.capture(SITE, torch.ones(3), 0)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        told = []
        for action in (lambda: capture.capture(SITE, torch.ones(3), 1), capture.close):
            try:
                action()
            except SessionError as error:
                told.append(str(error))
        capture.abandon()
        os.write(writing, "\n".join(told).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        lines = stream.read().splitlines()
    expected = f"this process ({child}) was forked inside the block of another: run the model in"
    assert [line[: len(expected)] for line in lines] == [expected] * 2
    capture.capture(SITE, torch.ones(3), 1)
    assert capture.close()[0].schedule == (Calls(0, 2, ()),)


def test_a_forked_process_leaves_the_threads_alone(made: Callable[..., Capture]) -> None:
    capture = made(threads=1)
    capture.capture(SITE, torch.ones(1 << 20), 0)
    captures._mark_forked()
    capture.abandon()
    assert capture._lanes[0]._thread is not None
    for action in (capture.close, lambda: capture.capture(SITE, torch.ones(3), 1)):
        with pytest.raises(SessionError, match="was forked inside the block of another"):
            action()
    capture._forked = False


def test_sites_may_be_named_by_any_object() -> None:
    capture = Capture()
    for call in range(6):
        capture.capture(Site("a"), torch.ones(2, 300 if call in {2, 4} else 400), call)
    narrow, wide = sorted(capture.close(), key=lambda one: one.channels)
    assert narrow.schedule == (Calls(2, 1, (2,)), Calls(4, 1, (2,)))
    assert wide.schedule == (Calls(0, 2, (2,)), Calls(3, 1, (2,)), Calls(5, 1, (2,)))


def test_two_objects_for_one_site_have_one_count(made: Callable[..., Capture]) -> None:
    capture, other = made(), Site("layers.0")
    capture.capture(SITE, torch.ones(2, 4), 0)
    capture.capture(other, torch.ones(2, 5), 1)
    with pytest.raises(CoverageError, match="call 1 was captured after call 1"):
        capture.capture(SITE, torch.ones(2, 4), 1)


def test_ctrl_c_in_the_middle_breaks_the_commitment(
    made: Callable[..., Capture], monkeypatch: pytest.MonkeyPatch
) -> None:
    capture = made()
    capture.capture(SITE, torch.ones(3), 0)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(type(capture._lanes[0]), "write", interrupt)
        with pytest.raises(KeyboardInterrupt):
            capture.capture(SITE, torch.ones(3), 1)
    with pytest.raises(CoverageError, match="has failed before"):
        capture.capture(SITE, torch.ones(3), 1)


def test_after_the_end_nothing_is_captured(made: Callable[..., Capture]) -> None:
    capture = made()
    capture.abandon()
    with pytest.raises(CoverageError, match="has failed before: the block has ended"):
        capture.capture(SITE, torch.ones(3), 0)


def test_the_limit_of_what_is_kept_ends_the_run(made: Callable[..., Capture]) -> None:
    capture = made(kept=Kept(limit_bytes=5 << 20), threads=1)
    with pytest.raises(CoverageError, match="expected at most 5242880 bytes"):  # noqa: PT012 (some later one)
        for call in range(10_000):
            capture.capture(SITE, torch.ones(1 << 18), call)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"threads": -1}, "threads: "), ({"threads": 17}, "17"), ({"queue_bytes": -1}, "-1")],
)
def test_numbers_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SessionError, match=message):
        Capture(**options)


class OnDevice(torch.Tensor):
    """Says that it lies on a GPU."""

    is_cuda = True  # type: ignore[assignment]
    is_cpu = False  # type: ignore[assignment]


def test_tensors_on_a_device_go_through_its_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captures, "Ring", lambda device, deliver: Ring(device, deliver, half_bytes=100))
    tensors = [torch.randn(2, 9) for _ in range(8)]
    capture = Capture()
    for call, tensor in enumerate(tensors):
        on_device = call < 3 or call > 5  # then in main memory, then back
        capture.capture(SITE, tensor.as_subclass(OnDevice) if on_device else tensor, call)
    assert capture.close()[0].leaves == take(tensors).leaves
    assert len(capture._rings) == 1


def test_the_environment_is_that_of_the_first_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    capture = Capture()
    assert capture.environment == {}
    with torch.autocast("cpu", torch.bfloat16):
        capture.capture(SITE, torch.ones(3), 0)
    capture.close()
    assert capture.environment["autocast.cpu"] == "bfloat16"
    assert capture.environment["torch"] == torch.__version__
    assert captures.environment()["autocast.cpu"] == "off"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert captures.environment()["autocast.cuda"] == "off"
