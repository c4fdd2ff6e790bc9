"""What every engine offers, whatever runs it: features for calibration, distances for inspection.

An engine owns its buffers. The caller writes the pictures into `input`, calls `infer()` and reads the
arrays it hands out before the next `infer()`. Not thread safe: one thread uses an engine at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import msgspec
import numpy as np
from numpy.typing import NDArray


class EngineIdentity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that may move a feature, and so a threshold."""

    kind: str  # "openvino"
    runtime: str  # the runtime's full version
    device: str  # the device's full name
    precision: str  # "f32", "f16", "bf16"
    backbone_sha256: str
    build: str = ""  # the sha256 of what was built beforehand: TensorRT's plan
    driver: str = ""  # of the GPU

    @property
    def text(self) -> str:
        """For a message."""
        plan = f", plan {self.build[:12]}" if self.build else ""
        driver = f", driver {self.driver}" if self.driver else ""
        return f"{self.runtime} ({self.device}{plan}{driver})"

    @property
    def key(self) -> str:
        """The name of the bundle's section for engines of this kind and precision: "openvino-f32"."""
        return f"{self.kind}-{self.precision}"


@dataclass(frozen=True, slots=True)
class Head:
    """The Gaussian of one level in one view: d = |whitening @ (pooled[offset : offset + d] - mean)|.

    `mean` is float32 [d], `whitening` float32 [k, d] with zeros below the diagonal.
    """

    offset: int
    mean: NDArray[np.float32]
    whitening: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LocalHead:
    """The Gaussians of every position in one view, given the part as a whole:

        t = context @ ((pooling @ local).ravel() - context_mean)
        d_p = |whitening_p @ (local_p - mean_p - coefficients_p @ t)|

    All float32: pooling [m, P], context_mean [m d], context [q, m d], mean [P, d], coefficients
    [P, d, q], whitening [P, k, d] with zeros below the diagonal. q may be 0.
    """

    pooling: NDArray[np.float32]
    context_mean: NDArray[np.float32]
    context: NDArray[np.float32]
    mean: NDArray[np.float32]
    coefficients: NDArray[np.float32]
    whitening: NDArray[np.float32]


class _Engine(Protocol):
    """What every engine has."""

    @property
    def identity(self) -> EngineIdentity:
        """What runs it."""
        ...

    @property
    def input(self) -> NDArray[np.uint8]:
        """The engine's own [B, H, W, 3] BGR buffer, to be written by the caller."""
        ...

    def close(self) -> None:
        """Release the engine; calling it again does nothing."""
        ...


class FeatureEngine(_Engine, Protocol):
    """Pictures to features."""

    @property
    def local(self) -> NDArray[np.float32] | None:
        """Features per position [B, P, d] of the last `infer()`; None in an engine opened without."""
        ...

    def infer(self) -> NDArray[np.float32]:
        """Features [B, D] of what `input` holds, valid until the next call."""
        ...


@runtime_checkable
class FrameEngine(Protocol):
    """A ScoreEngine that may also prepare a part's frames itself, where it was opened to."""

    @property
    def prepares(self) -> bool:
        """Whether `take` stands in for writing into `input`."""
        ...

    def take(
        self, images: Sequence[NDArray[np.uint8]], moves: Sequence[NDArray[np.float64] | None]
    ) -> None:
        """A part's images in the order of the cameras, uint8 grey or BGR, and for each that is located
        the matrix [2, 3] that takes a place in the reference to one in the frame."""
        ...


class ScoreEngine(_Engine, Protocol):
    """Pictures to Mahalanobis distances, one batch row per tile."""

    @property
    def cells(self) -> NDArray[np.float32] | None:
        """Distances per position [B, P], given the whole, of the last `infer()`; None in an engine
        opened without. NaN and Inf are never hidden."""
        ...

    @property
    def local(self) -> NDArray[np.float32] | None:
        """Features per position [B, P, d] of the last `infer()`, where there are `cells`."""
        ...

    def infer(self) -> NDArray[np.float32]:
        """Distances d = sqrt(d2), [B, L], valid until the next call. NaN and Inf are never hidden."""
        ...
