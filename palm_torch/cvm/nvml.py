"""NVML, the library of NVIDIA's driver, asked with care: lazily, within a time, every failure one of ours.

The binding is imported when something is asked, and not before. A wedged driver never answers, so questions
are put in a thread that is left behind when its time is over.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
from typing import TYPE_CHECKING, Any, Final, TypeVar

from palm_torch import extras
from palm_torch.cvm import gpu_state
from palm_torch.deadlines import Deadline, within
from palm_torch.errors import AttesterError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable

    from palm_torch.cvm.gpu_state import Environment, MultiGpuMode, Switch

T = TypeVar("T")

TIMEOUT_S: Final = 10.0
"""How long the driver may take to say what state it is in."""

SUCCESS: Final = 0
NOT_SUPPORTED: Final = 3
FUNCTION_NOT_FOUND: Final = 13
VERSION_MISMATCH: Final = 25
UNKNOWING: Final = frozenset({NOT_SUPPORTED, FUNCTION_NOT_FOUND, VERSION_MISMATCH})
"""The codes (``nvmlReturn_t``) of a GPU or a driver that has not heard of what it is asked."""

ADVICE: Final = {
    2: "the driver and this version of nvidia-ml-py do not fit together",
    NOT_SUPPORTED: "needs a Hopper GPU or a newer one, in confidential mode",
    4: "run as root, or as a user who may open /dev/nvidia*",
    7: "the driver and this version of nvidia-ml-py do not fit together",
    9: "load the driver (modprobe nvidia), then see nvidia-smi",
    10: "see the kernel's log and nvidia-smi",
    12: "install NVIDIA's driver with its libnvidia-ml.so.1",
    FUNCTION_NOT_FOUND: "needs a driver from 550 on",
    15: "the GPU has fallen off the bus: restart the machine",
    18: "driver and library are of different versions: restart the machine",
    VERSION_MISMATCH: "the driver and this version of nvidia-ml-py do not fit together",
}
"""What to do about some of the codes; for the others the library's own words have to do."""

_ENVIRONMENTS: Final[dict[int, Environment]] = {0: "unavailable", 1: "sim", 2: "prod"}
_MULTI_GPU_MODES: Final[dict[int, MultiGpuMode]] = {0: "none", 1: "ppcie", 2: "nvle"}
_FEATURES: Final[dict[int, Switch]] = {0: "off", 1: "on"}


def load() -> Any:  # noqa: ANN401 (a module without types)
    """Returns the module ``pynvml``.

    Raises:
        MissingExtraError: If it is not installed.
    """
    with extras.needed("nvidia", for_what="asking NVIDIA's driver"):
        import pynvml  # noqa: PLC0415 (an extra: imported where a GPU is asked, and nowhere else)
    return pynvml


def ask(question: Callable[[Any], T], *, load: Callable[[], Any] = load, timeout_s: float = TIMEOUT_S) -> T:
    """Puts a question to the driver.

    Args:
        question: Takes the module ``pynvml``, with its library initialised, and returns the answer.
        load: Returns that module.
        timeout_s: How long to wait for the answer, in seconds.

    Raises:
        AttesterError: If there is no driver, or it does not answer, or not as it should.
        MissingExtraError: If the module is not installed.
    """
    try:
        return within(Deadline.after(timeout_s), functools.partial(_ask, load, question))
    except TimeoutError as error:
        raise AttesterError(
            f"GPU: the driver did not answer in {timeout_s:g} seconds: see the kernel's log"
        ) from error


def read_system(nvml: Any) -> gpu_state.SystemState:  # noqa: ANN401 (the module)
    """Reads the state that all GPUs share, from the module ``pynvml`` inside `ask`.

    Raises:
        AttesterError: If the driver answers with a value that has no meaning.
    """
    driver = text(nvml.nvmlSystemGetDriverVersion())
    state = _unless_unknown(nvml, nvml.nvmlSystemGetConfComputeState)
    if state is None:
        return gpu_state.SystemState(
            driver=driver,
            cc_mode="off",
            devtools=False,
            environment="unavailable",
            ready=True,
            multi_gpu_mode="unknown",
        )
    cc_mode, multi_gpu_mode = _FEATURES[int(state.ccFeature)], _multi_gpu_mode(nvml)
    switched_off = (
        cc_mode == "off" and multi_gpu_mode != "ppcie"
    )  # then nobody has to say that work is welcome
    ready = _unless_unknown(nvml, nvml.nvmlSystemGetConfComputeGpusReadyState)
    return gpu_state.SystemState(
        driver=driver,
        cc_mode=cc_mode,
        devtools=int(state.devToolsMode) != 0,
        environment=_ENVIRONMENTS.get(int(state.environment), "unknown"),
        ready=switched_off if ready is None else int(ready) == 1,
        multi_gpu_mode=multi_gpu_mode,
    )


def text(value: object) -> str:
    """Returns text that older versions of the binding give as bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _ask(load: Callable[[], Any], question: Callable[[Any], T]) -> T:
    try:
        nvml = load()
        failures: tuple[type[Exception], ...] = (
            nvml.NVMLError,
            AttributeError,
            LookupError,
            TypeError,
            ValueError,
        )
    except MissingExtraError:
        raise
    except (ImportError, AttributeError, OSError) as error:
        raise AttesterError(f"GPU: pynvml is not usable: {error}; reinstall nvidia-ml-py") from error
    try:
        nvml.nvmlInit()
    except failures as error:
        raise AttesterError(f"GPU: no answer from the driver: {_said(error)}") from error
    try:
        return question(nvml)
    except failures as error:
        raise AttesterError(f"GPU: unexpected answer of the driver: {_said(error)}") from error
    finally:
        with contextlib.suppress(*failures):  # the answer is here, whatever becomes of the library
            nvml.nvmlShutdown()


def _said(error: Exception) -> str:
    """Returns the library's words, and what to do if that is known."""
    advice = ADVICE.get(getattr(error, "value", None) or SUCCESS)
    return f"{error}; {advice}" if advice else str(error)


def _unless_unknown(nvml: Any, call: Callable[[], T]) -> T | None:  # noqa: ANN401 (the module)
    """Returns an answer, None if GPU or driver have not heard of the question."""
    try:
        return call()
    except nvml.NVMLError as error:
        if getattr(error, "value", None) in UNKNOWING:
            return None
        raise


def _multi_gpu_mode(nvml: Any) -> MultiGpuMode:  # noqa: ANN401 (the module)
    """Asks how several GPUs work together; the binding may hand back the library's code and raise nothing."""
    settings = nvml.c_nvmlSystemConfComputeSettings_v1_t()
    try:
        code = nvml.nvmlSystemGetConfComputeSettings(ctypes.byref(settings))
    except nvml.NVMLError as error:
        code = error.value
    if code in UNKNOWING:
        return "unknown"
    if code not in (None, SUCCESS):
        raise nvml.NVMLError(code)
    return _MULTI_GPU_MODES.get(int(settings.multiGpuMode), "unknown")
