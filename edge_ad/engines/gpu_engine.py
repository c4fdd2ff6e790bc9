"""The GPU engines: pictures to features, and pictures to distances, by whatever backbone and kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from edge_ad.cuda.device import Device
from edge_ad.engines.gpu_frame import FrameDistances, GpuBackbone, GpuEngine
from edge_ad.errors import ArtifactError
from edge_ad.preprocess.cuda.launch import FrameLoader


class GpuFeatures(GpuEngine):
    """Pictures to pooled features [B, D], and to `local` ones per position if the backbone has them."""

    def __init__(self, device: Device, backbone: GpuBackbone, graph: bool = True) -> None:
        """Takes the backbone over. `graph`: replay the frame as one CUDA graph, else launch its parts,
        as is done with a backbone that cannot be in a graph.

        Raises DeviceError when the GPU refuses; the backbone is closed then.
        """
        with ExitStack() as owned:
            owned.callback(backbone.close)
            super().__init__(device, backbone, owned)
            self._warm(graph and backbone.capturable)
            self._owned = owned.pop_all()

    @property
    def local(self) -> NDArray[np.float32] | None:
        """Features per position [B, P, d] of the last `infer()`."""
        return None if self._local is None else self._local.host

    def _stages(self) -> list[tuple[str, Callable[[], None]]]:
        return [
            *self._intake(),
            ("backbone", lambda: self._backbone.enqueue(self._stream.handle)),
            ("download", self._download),
        ]

    def _download(self) -> None:
        for features in (self._pooled, self._local):
            if features is not None:
                features.download(self._stream)

    def infer(self) -> NDArray[np.float32]:
        """Features [B, D] of what `input` holds: the engine's own array, valid until the next call.

        Raises DeviceError when the GPU fails, ever after, and when the engine is closed.
        """
        self._run()
        return self._pooled.host


class GpuScorer(GpuEngine):
    """Pictures to distances [B, L], and to distances of `cells` where opened with local heads."""

    def __init__(
        self,
        device: Device,
        backbone: GpuBackbone,
        scorer: FrameDistances,
        graph: bool = True,
        frames: FrameLoader | None = None,
    ) -> None:
        """Takes backbone, scorer and frames over; `graph` as in `GpuFeatures`.

        Raises DeviceError when the GPU refuses, ArtifactError when the Gaussians are not for this
        backbone; both are closed then.
        """
        self._scorer = scorer
        self._loader = frames
        with ExitStack() as owned:
            if frames is not None:
                owned.callback(frames.close)
            owned.callback(scorer.close)
            owned.callback(backbone.close)
            _check_shapes(backbone, scorer, frames)
            super().__init__(device, backbone, owned, frames)
            self._warm(graph and backbone.capturable)
            self._owned = owned.pop_all()

    @property
    def cells(self) -> NDArray[np.float32] | None:
        """Distances per position [B, P] of the last `infer()`."""
        return None if self._scorer.cells is None else self._scorer.cells.host

    @property
    def local(self) -> NDArray[np.float32] | None:
        """Features per position [B, P, d] of the last `infer()`, where there are `cells`."""
        return None if self._scorer.cells is None or self._local is None else self._local.host

    @property
    def bytes_per_frame(self) -> dict[str, int]:
        """What the kernels of a stage read and write of the GPU's memory, at least."""
        frames = {} if self._loader is None else {"preprocess": self._loader.plan.bytes_per_frame}
        return frames | {"distances": self._scorer.bytes_per_frame}

    @property
    def prepares(self) -> bool:
        """Whether `take` stands in for writing into `input`."""
        return self._loader is not None

    def take(
        self, images: Sequence[NDArray[np.uint8]], moves: Sequence[NDArray[np.float64] | None]
    ) -> None:
        """A part's images; see `FrameEngine`. From any thread, while no frame is under way."""
        assert self._loader is not None
        self._loader.take(images, moves)

    def _stages(self) -> list[tuple[str, Callable[[], None]]]:
        return [
            *self._intake(),
            ("backbone", lambda: self._backbone.enqueue(self._stream.handle)),
            ("distances", self._score),
            ("download", self._download),
        ]

    def _score(self) -> None:
        local = 0 if self._local is None else self._local.pointer
        self._scorer.enqueue(self._stream, self._pooled.pointer, local)

    def _download(self) -> None:
        self._scorer.distances.download(self._stream)
        if self._scorer.cells is not None and self._local is not None:
            self._scorer.cells.download(self._stream)
            self._local.download(self._stream)

    def infer(self) -> NDArray[np.float32]:
        """Distances [B, L] of what `input` holds: the engine's own array, valid until the next call.
        NaN and Inf are never hidden.

        Raises DeviceError when the GPU fails, ever after, and when the engine is closed.
        """
        self._run()
        return self._scorer.distances.host


def _check_shapes(backbone: GpuBackbone, scorer: FrameDistances, frames: FrameLoader | None) -> None:
    wanted = {"pooled": scorer.features_shape, "local": scorer.local_shape}
    if frames is not None:
        plan = frames.plan
        wanted["image"] = (plan.rows, plan.height, plan.width, 3)
    for name, shape in wanted.items():
        found = backbone.shapes.get(name)
        if shape is not None and found != shape:
            raise ArtifactError(
                f"the bundle's Gaussians are for {name!r} of {list(shape)}, the backbone "
                f"({backbone.identity.key}) gives {list(found or ())}; build its engine for this bundle"
            )
