"""PyTorch and a GPU's context: who shares it, whether it was lost, and what PyTorch's errors mean.

A process has one context per GPU. PyTorch cannot be told that it was reset: its allocator, its weights
and its libraries' handles stay those of the old one for as long as the process lives.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from edge_ad.errors import DeviceError

_AGAIN = "open the engine again; if that fails too, restart edge-ad and see `dmesg` for NVRM: Xid"
_DRIVER = "update the NVIDIA driver, or install a PyTorch for the CUDA version of this one"
# What a message of PyTorch has in it, and the remedy; the first that fits.
_REMEDIES = (
    ("out of memory", "end what else holds the memory (see `nvidia-smi`), or use fewer tiles"),
    ("no kernel image", "install a PyTorch built for this GPU, or use engine.kind = 'tensorrt'"),
    ("driver version is insufficient", _DRIVER),
    ("driver on your system is too old", _DRIVER),
    ("display driver", _DRIVER),
)

_shared: list[SharedDevice] = []  # open ones that PyTorch was used beside, and those that broke
_kept: list[object] = []  # what PyTorch had in a broken context


class SharedDevice(Protocol):
    """A `cuda.device.Device`: the owner of the context that PyTorch uses too."""

    @property
    def opened(self) -> bool: ...
    def usable(self) -> bool: ...
    def hold(self, handle: Any, free: Any = None) -> None: ...


def join(device: SharedDevice) -> None:
    """Before PyTorch is used on an open device: note it until that is closed.

    Raises DeviceError where PyTorch's context was lost earlier in this process.
    """
    check_alive()
    if not any(one is device for one in _shared):
        _shared.append(device)
        # A device that broke is closed without freeing what it holds: then it stays noted.
        device.hold(object(), lambda: _shared.remove(device))


def lost() -> bool:
    """Whether a device that PyTorch was used beside broke in this process."""
    return bool(_kept) or any(not device.opened for device in _shared)


def check_alive() -> None:
    """DeviceError when it is lost."""
    if lost():
        raise DeviceError(
            "engine.device = 'cuda': the GPU failed earlier, and PyTorch cannot go on in a process that "
            "has lost its context; restart edge-ad"
        )


def broken(device: SharedDevice) -> bool:
    """Whether PyTorch's memory on it is gone, so that nothing may be freed."""
    return lost() or (device.opened and not device.usable())


def keep(things: object) -> None:
    """Of a broken context: keep them while the process lives, since a destructor that fails ends it."""
    _kept.append(things)


@contextmanager
def doing(torch: Any, what: str) -> Iterator[None]:
    """Turns PyTorch's errors into a DeviceError: what was being done, what it says, remedy."""
    try:
        yield
    except (RuntimeError, torch.cuda.DeferredCudaCallError) as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".;: ")
        found = [remedy for part, remedy in _REMEDIES if part in str(error).lower()]
        remedy = [*found, _AGAIN][0]
        raise DeviceError(f"{what}: PyTorch {torch.__version__} says: {said}; {remedy}") from error
