"""What half precision and 8-bit integers cost a network's features, against OpenVINO in float32.

    python calibration/studies/precision.py [DIR of a backbone ...]

The converted graphs that TensorRT gets are run by ONNX Runtime on the CPU, without optimisations;
bfloat16 is OpenVINO's own. Largest error over the gate's reference pictures, in standard deviations of a
feature. int8's ranges are those of the same pictures. Needs edge_ad[build].
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_ad.backbone.openvino import open_features
from edge_ad.backbone.spec import Backbone, load_backbone
from edge_ad.backbone.tensorrt.make import Request, convert
from edge_ad.config import EMBEDDED_BACKBONE
from edge_ad.engines.alike import BOUNDS, feature_errors, reference_pictures


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


def main() -> None:
    """Print a table for each backbone."""
    for directory in map(Path, sys.argv[1:] or [EMBEDDED_BACKBONE]):
        backbone = load_backbone(directory)
        assert backbone.local is not None
        dim = backbone.local.dim
        pictures = reference_pictures(backbone.height, backbone.width)
        reference = open_features(backbone, local=True, dim=dim)
        print(f"{backbone.name} at {backbone.width} x {backbone.height}")
        for precision in ("f16", "bf16", "int8"):
            if precision == "bf16":
                engine = open_features(backbone, precision="bf16", local=True, dim=dim)
            else:
                frames = [picture[None] for picture in pictures]
                request = Request(backbone, precision, local_dim=dim, frames=frames)  # type: ignore[arg-type]
                engine = OnnxFeatures(convert(request).onnx, backbone)  # type: ignore[assignment]
            errors = feature_errors(engine, reference, backbone, pictures)
            engine.close()
            worst = max(errors, key=lambda level: errors[level])
            figures = ", ".join(f"{level} {error:.2g}" for level, error in errors.items())
            bound = BOUNDS.get(precision)
            print(f"  {precision:5} {errors[worst]:.2g} ({worst}), bound {bound}: {figures}")
        reference.close()


if __name__ == "__main__":
    main()
