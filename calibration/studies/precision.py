"""What half precision and 8-bit integers cost a network's features, against OpenVINO in float32.

    python calibration/studies/precision.py [DIR of a backbone ...]

The converted graphs that TensorRT gets are run by ONNX Runtime on the CPU, without optimisations;
bfloat16 is OpenVINO's own. Over the gate's reference pictures, per level: the largest error in standard
deviations of a feature, and the RMS error over the RMS deviation of the level. int8's ranges are those
of the same pictures, and in a second row those of the demo's parts. Needs edge_ad[build].
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_ad.backbone.openvino import open_features
from edge_ad.backbone.spec import Backbone, load_backbone
from edge_ad.backbone.tensorrt.make import Request, convert
from edge_ad.capture.parts import render_part
from edge_ad.config import EMBEDDED_BACKBONE
from edge_ad.engines.alike import (
    BOUNDS,
    RELATIVE_BOUND,
    Difference,
    feature_errors,
    reference_pictures,
)


class OnnxFeatures:
    """A converted graph as an engine of features."""

    def __init__(self, graph: bytes, backbone: Backbone) -> None:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(graph, options, providers=providers)
        self.input = np.zeros((1, backbone.height, backbone.width, 3), np.uint8)
        self.local: NDArray[np.float32] | None = None

    def infer(self) -> NDArray[np.float32]:
        """Pooled features."""
        pooled, self.local = self._session.run(["pooled", "local"], {"image": self.input})
        return np.asarray(pooled)

    def close(self) -> None:
        """Nothing is held."""


def rendered_parts(backbone: Backbone, count: int = 32) -> NDArray[np.uint8]:
    """Good parts of the demo [count, height, width, 3]."""
    size = (backbone.width, backbone.height)
    return np.stack(
        [cv2.cvtColor(render_part(1, i, *size, 0.0)[0], cv2.COLOR_GRAY2BGR) for i in range(count)]
    ).astype(np.uint8)


def show(precision: str, what: str, errors: dict[str, Difference], bound: float | None) -> None:
    """The errors of one kind, the worst level's first."""
    found = {level: getattr(error, what) for level, error in errors.items()}
    worst = max(found, key=lambda level: found[level])
    figures = ", ".join(f"{level} {error:.2g}" for level, error in found.items())
    print(f"  {precision:5} {what:8} {found[worst]:.2g} ({worst}), bound {bound}: {figures}")


def main() -> None:
    """Print a table for each backbone."""
    for directory in map(Path, sys.argv[1:] or [EMBEDDED_BACKBONE]):
        backbone = load_backbone(directory)
        assert backbone.local is not None
        dim = backbone.local.dim
        pictures = reference_pictures(backbone.height, backbone.width)
        reference = open_features(backbone, local=True, dim=dim)
        print(f"{backbone.name} at {backbone.width} x {backbone.height}")
        parts = rendered_parts(backbone)
        for precision, frames in (("f16", []), ("bf16", []), ("int8", pictures), ("int8", parts)):
            if precision == "bf16":
                engine = open_features(backbone, precision="bf16", local=True, dim=dim)
            else:
                ranges = [frame[None] for frame in frames]
                request = Request(backbone, precision, local_dim=dim, frames=ranges)  # type: ignore[arg-type]
                engine = OnnxFeatures(convert(request).onnx, backbone)  # type: ignore[assignment]
            errors = feature_errors(engine, reference, backbone, pictures)
            engine.close()
            show(precision, "largest", errors, BOUNDS.get(precision))
            show("", "relative", errors, RELATIVE_BOUND)
        reference.close()


if __name__ == "__main__":
    main()
