"""What every GPU engine does: a frame's buffers, its one stream, and its replay as one graph.

Which backbone runs is behind `GpuBackbone`, and what is made of its features behind `FrameDistances`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_ad.backbone.engine import EngineIdentity
from edge_ad.cuda.device import Device
from edge_ad.cuda.failure import doing
from edge_ad.cuda.graph import Graph, GraphRefused
from edge_ad.cuda.memory import Mirror
from edge_ad.cuda.primary import SETUP
from edge_ad.cuda.stream import Stream
from edge_ad.errors import DeviceError

logger = logging.getLogger(__name__)

Shape = tuple[int, ...]


class GpuBackbone(Protocol):
    """A network on the GPU, which reads and writes where it is told.

    `shapes`: image, uint8 [B, H, W, 3]; pooled, float32 [B, D]; local, float32 [B, P, d], where it has
    that output. Methods raise DeviceError.
    """

    @property
    def identity(self) -> EngineIdentity:
        """What runs it."""
        ...

    @property
    def capturable(self) -> bool:
        """Whether it can be in a CUDA graph, once it has run."""
        ...

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """Of its input and outputs, batch included."""
        ...

    def bind(self, pointers: Mapping[str, int]) -> None:
        """Addresses on the GPU for all of `shapes`; once, before the first `enqueue`."""
        ...

    def enqueue(self, stream: int) -> None:
        """Put one inference on a CUstream. After the first call it neither allocates nor waits."""
        ...

    def close(self) -> None:
        """Release it, also where the GPU is broken; calling it again does nothing."""
        ...


class _Closes(Protocol):
    def close(self) -> None: ...


Owned = TypeVar("Owned", bound=_Closes)


class FrameDistances(Protocol):
    """What is made of a frame's features on the GPU: `gaussian.cuda.launch.FrameScorer`."""

    distances: Mirror
    cells: Mirror | None

    @property
    def features_shape(self) -> Shape: ...
    @property
    def local_shape(self) -> Shape | None: ...
    @property
    def bytes_per_frame(self) -> int: ...
    def enqueue(self, stream: Stream, features: int, local: int) -> None: ...
    def close(self) -> None: ...


class Frames(Protocol):
    """A part's frames on the GPU: `preprocess.cuda.launch.FrameLoader`."""

    @property
    def pointer(self) -> int: ...
    def upload(self, stream: Stream) -> None: ...
    def prepare(self, stream: Stream) -> None: ...


class GpuEngine:
    """Buffers, the stream and the frame. Used and closed by the device's thread alone.

    A frame that fails, in whatever way, leaves the engine dead: each later `infer()` raises DeviceError.
    `input`: page-locked pictures [B, H, W, 3], BGR, for the caller to write, unless frames are taken.
    """

    def __init__(
        self, device: Device, backbone: GpuBackbone, owned: ExitStack, frames: Frames | None = None
    ) -> None:
        """`owned` closes what the engine took over; closed when this raises. With `frames` the pictures
        are made on the GPU, of what that was given; else of what is written into `input`."""
        self._device, self._backbone, self._owned = device, backbone, owned
        self._dead = ""
        self._graph: Graph | None = None
        self.identity = backbone.identity
        self._stream = self._own(Stream(device))
        shapes = backbone.shapes
        self._frames = frames
        self._image: Mirror | None = None
        if frames is None:
            self._image = self._own(Mirror(device, shapes["image"], np.uint8, "the pictures"))
            self.input: NDArray[np.uint8] = self._image.host
            pictures = self._image.pointer
        else:
            self.input = np.zeros(shapes["image"], np.uint8)
            pictures = frames.pointer
        # Kernels read features more than once.
        outputs = {
            name: self._own(
                Mirror(device, shapes[name], np.float32, f"the features {name!r}", copied=True)
            )
            for name in ("pooled", "local")
            if name in shapes
        }
        self._pooled, self._local = outputs["pooled"], outputs.get("local")
        backbone.bind({"image": pictures, **{n: m.pointer for n, m in outputs.items()}})

    def _own(self, made: Owned) -> Owned:
        self._owned.callback(made.close)
        return made

    @property
    def captured(self) -> bool:
        """Whether frames are replayed as one CUDA graph."""
        return self._graph is not None

    def _intake(self) -> list[tuple[str, Callable[[], None]]]:
        """What brings the pictures to where the backbone reads them."""
        stream, image, frames = self._stream, self._image, self._frames
        if frames is None:
            assert image is not None
            return [("upload", lambda: image.upload(stream))]
        return [
            ("upload", lambda: frames.upload(stream)),
            ("preprocess", lambda: frames.prepare(stream)),
        ]

    def _stages(self) -> list[tuple[str, Callable[[], None]]]:
        """The parts of a frame, in order; each enqueues its own."""
        raise NotImplementedError

    def _enqueue(self) -> None:
        for _, enqueue in self._stages():
            enqueue()

    def _warm(self, graph: bool) -> None:
        """Let libraries allocate what they want in a first frame; then capture, and try the capture.
        Where it is refused, frames are launched part by part."""
        with SETUP:
            self._enqueue()
            self._stream.synchronize("running a first frame on the GPU")
            if graph:
                try:
                    self._graph = self._own(Graph(self._device, self._stream, self._enqueue))
                except GraphRefused as error:
                    logger.warning("%s: frames run without a graph: %s", self.identity.key, error)
                self._run()

    def _run(self) -> None:
        self._device.check_thread()
        if self._dead:
            raise DeviceError(self._dead)
        # Whatever ends this before its last line leaves an engine that nobody knows the state of.
        self._dead = "an earlier frame failed on the GPU and left the engine unusable; open another one"
        if self._graph is not None:
            self._graph.launch(self._stream)
        else:
            self._enqueue()
        self._stream.synchronize("running a frame on the GPU")
        self._dead = ""

    def time_stages(self, frames: int) -> dict[str, NDArray[np.float64]]:
        """Milliseconds [frames] of each stage, between events on the stream, without the graph. Not for
        use between frames that count."""
        stages = self._stages()
        times = {name: np.zeros(frames) for name, _ in stages}
        with doing("measuring a frame on the GPU"):
            marks = [self._device.pycuda.Event() for _ in range(len(stages) + 1)]
            for i in range(frames):
                marks[0].record(self._stream.raw)
                for mark, (_, enqueue) in zip(marks[1:], stages, strict=True):
                    enqueue()
                    mark.record(self._stream.raw)
                marks[-1].synchronize()
                for j, (name, _) in enumerate(stages):
                    times[name][i] = marks[j + 1].time_since(marks[j])
        return times

    def time_alone(self, stage: str, repeats: int, launches: int) -> NDArray[np.float64]:
        """Milliseconds [launches] that a stage takes of the GPU: the mean of `repeats`, one after the
        other in one graph, so that no launch is waited for. Caches are warm."""
        enqueue = dict(self._stages())[stage]
        times = np.zeros(launches)

        def repeated() -> None:
            for _ in range(repeats):
                enqueue()

        graph = Graph(self._device, self._stream, repeated)
        try:
            with doing(f"measuring the stage {stage} on the GPU"):
                before, after = (self._device.pycuda.Event() for _ in range(2))
                for i in range(launches):
                    before.record(self._stream.raw)
                    graph.launch(self._stream)
                    after.record(self._stream.raw)
                    after.synchronize()
                    times[i] = after.time_since(before) / repeats
        finally:
            graph.close()
        return times

    def close(self) -> None:
        """Release everything, the backbone too; calling it again does nothing. What cannot be released
        is logged.

        Raises DeviceError only when another thread than the device's calls it.
        """
        if self._device.opened:
            self._device.check_thread()
        self._dead = self._dead or "the engine is closed; open another one"
        try:
            with SETUP:
                self._owned.close()
        except DeviceError as error:
            logger.warning("%s: closing the engine: %s", self.identity.key, error)
