"""A part's frames on the GPU: uploaded as they are, and made into the network's input there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from edge_ad.cuda.device import Device
from edge_ad.cuda.memory import Mirror, upload, zeros
from edge_ad.cuda.stream import Kernel, Module, Stream
from edge_ad.frame import Image
from edge_ad.preprocess.cuda.plan import Launch, PreprocessPlan


class FrameLoader:
    """One part's frames: written by `take` from any thread, then uploaded and prepared.

    `pointer`: the rows [rows, height, width, 3], uint8 or fp16, on the GPU. Owned by the device's
    thread.
    """

    def __init__(self, device: Device, image: bytes, plan: PreprocessPlan) -> None:
        """`image`: the kernels of `preprocess.cu`. Raises DeviceError for what the GPU refuses."""
        self.plan = plan
        with ExitStack() as made:
            module = Module(device, image)
            made.callback(module.close)
            self._raw = Mirror(device, (plan.sizes["raw"],), np.uint8, "the cameras' frames")
            made.callback(self._raw.close)
            places = (plan.sizes["matrices"] // 48, 2, 3)
            self._moves = Mirror(device, places, np.float64, "the parts' places")
            made.callback(self._moves.close)
            pointers = {"raw": self._raw.pointer, "matrices": self._moves.pointer}
            for name in ("faults", "scratch", "rows"):
                pointers[name] = zeros(made, device, plan.sizes[name], f"the frames' {name}")
            for name, array in plan.constants.items():
                pointers[name] = upload(made, device, array, f"the frames' {name}")
            self._launches = [_bound(module, launch, pointers) for launch in plan.launches]
            self._made = made.pop_all()
        self.pointer = pointers["rows"]
        ends = zip(plan.starts, plan.frame_sizes, strict=True)
        self._frames = [self._raw.host[start : start + size] for start, size in ends]

    def take(self, images: Sequence[Image], moves: Sequence[NDArray[np.float64] | None]) -> None:
        """Copy a part's images, in the order of the cameras, into page-locked memory, and for each that
        is located the matrix that takes a place in the reference to one in the frame."""
        for place, image in zip(self._frames, images, strict=True):
            np.copyto(place, image.reshape(-1).view(np.uint8))
        for i, camera in enumerate(self.plan.located):
            move = moves[camera]
            assert move is not None
            self._moves.host[i] = move

    def upload(self, stream: Stream) -> None:
        """Enqueue the copies to the GPU of what was taken."""
        self._raw.upload(stream)
        if self.plan.located:
            self._moves.upload(stream)

    def prepare(self, stream: Stream) -> None:
        """Enqueue what makes the rows of it."""
        for kernel, launch, arguments in self._launches:
            kernel.launch(stream, launch.grid, launch.block, arguments, launch.shared)

    def close(self) -> None:
        """Free all of it; calling it again does nothing."""
        self._made.close()


def _bound(
    module: Module, launch: Launch, pointers: dict[str, int]
) -> tuple[Kernel, Launch, tuple[int, ...]]:
    types = "".join("P" if isinstance(one, str) else "i" for one in launch.arguments)
    arguments = tuple(pointers[one] if isinstance(one, str) else one for one in launch.arguments)
    return module.kernel(launch.kernel, types), launch, arguments
