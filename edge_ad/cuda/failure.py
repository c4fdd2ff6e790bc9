"""What a failed call of the driver means, as a DeviceError: code, what was being done, remedy."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from edge_ad.errors import DeviceError

_PYCUDA = re.compile(r"(\w+)(?:::\w+)? failed: (.*?)(?: -(?: (.*))?)?", re.DOTALL)
_NO_GRAPH = (
    "something of it cannot be in a CUDA graph: an engine then launches a frame's parts one by one, "
    "which takes longer; nothing else needs to be done"
)
_AGAIN = "open the device again; if that fails too, restart edge-ad and see `dmesg` for NVRM: Xid"
_REMEDIES = {
    "CUDA_ERROR_OUT_OF_MEMORY": "end what else holds the memory (see `nvidia-smi`), or use fewer tiles",
    "CUDA_ERROR_NO_BINARY_FOR_GPU": "install kernels that were compiled for this GPU's architecture",
    "CUDA_ERROR_INVALID_IMAGE": "install edge_ad again: the kernels' binary is damaged",
    "CUDA_ERROR_UNSUPPORTED_PTX_VERSION": "update the NVIDIA driver: the kernels are of a newer CUDA",
    "CUDA_ERROR_NOT_FOUND": "install edge_ad again: the kernels' binary is of another version",
    "CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE": "open the GPU here before that library does",
    "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED": _NO_GRAPH,
    "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED": _NO_GRAPH,
    "CUDA_ERROR_ECC_UNCORRECTABLE": "the GPU's memory fails: restart; replace the card if it repeats",
}
# After these codes of cuda.h every call in the context fails: uncorrectable memory (214) and links
# (220), errors that were contained (226), what kernels do wrong (700 to 721), a context that is gone.
CONTEXT_IS_DESTROYED = 709
STICKS = frozenset({214, 220, 226, 700, 702, CONTEXT_IS_DESTROYED, 710, *range(714, 720), 721})
CAPTURES = range(900, 909)  # what has to do with a stream's capture, and with nothing that runs


@functools.cache
def libraries() -> tuple[Any, Any]:
    """pycuda's driver module and that of cuda.bindings. Raises DeviceError where one is missing."""
    try:
        import pycuda.driver
        from cuda.bindings import driver
    except ImportError as error:
        raise DeviceError(
            f"the Python packages for the GPU cannot be loaded ({error}); install "
            "edge_ad[build,cuda] from the wheelhouse that was built for this machine"
        ) from error
    return pycuda.driver, driver


@contextmanager
def doing(what: str, more: str = "") -> Iterator[None]:
    """Turns pycuda's errors into a DeviceError that says what was being done, and more."""
    pycuda, _ = libraries()
    try:
        yield
    except pycuda.Error as error:
        raise failed(*_told(str(error)), what, more) from error


def check(result: tuple[Any, ...], what: str) -> Any:
    """What a function of cuda.bindings returned besides its code; DeviceError unless that is success."""
    code = result[0]
    if int(code):
        raise failed(str(code.name), "", what)
    return result[1] if len(result) == 2 else result[1:]


def failed(name: str, detail: str, what: str, more: str = "") -> DeviceError:
    """The error for a code's name."""
    about = "".join(f", {text}" for text in (detail, more) if text)
    return DeviceError(f"{what}: the GPU's driver reports {name}{about}; {_REMEDIES.get(name, _AGAIN)}")


def _told(message: str) -> tuple[str, str]:
    """The code's name and details from pycuda's message, which has the code's text only."""
    found = _PYCUDA.fullmatch(message.strip())
    if found is None:
        return message, ""
    _, bindings = libraries()
    for code in bindings.CUresult:
        result, text = bindings.cuGetErrorString(code)
        if not int(result) and text.decode() == found[2]:
            return str(code.name), " ".join((found[3] or "").split())
    return found[2], found[3] or ""
