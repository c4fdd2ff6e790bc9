"""Write the embedded backbone: `backbone.onnx` and `backbone.json`.

    python calibration/embedded/export.py --weights pooled.safetensors \
        --out edge_ad/backbone/embedded
    python calibration/embedded/export.py --weights edge_ad/backbone/embedded/backbone.onnx \
        --out runs/embedded-224 --height 224 --width 224

The second form starts from the shipped graph and needs neither torch nor the training weights.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from graph import OPSET, build, resized, with_local

from edge_ad.backbone.grid import DIM, SEED, STRIDE


def level_table(architecture: Any) -> Iterator[dict[str, Any]]:
    stride, offset = 1, 0
    for i, level in enumerate(architecture.levels, 1):
        stride *= level.stride
        yield {
            "name": str(i),
            "tensor": level.name,
            "dim": level.width,
            "stride": stride,
            "offset": offset,
        }
        offset += level.width


def described(source: dict[str, Any], levels: list[dict[str, Any]], size: list[int]) -> dict[str, Any]:
    """backbone.json but for what depends on the graph's bytes and `local`."""
    height, width = size
    return {
        "schema": 1,
        "name": "edge_ad_embedded",
        "source": source,
        "onnx_sha256": "",
        "opset": OPSET,
        "input": {
            "name": "image",
            "layout": "NHWC",
            "dtype": "uint8",
            "color": "BGR",
            "batch": 1,
            "height": height,
            "width": width,
        },
        "normalisation": {
            "color": "RGB",
            "scale": 1 / 255,
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
        },
        "outputs": {
            "pooled": {"dim": sum(level["dim"] for level in levels), "levels": levels},
            "local": None,
        },
        "defaults_used": [],
        "versions": {"onnx": onnx.__version__},
    }


def from_training(path: Path, size: list[int]) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Graph and description of a checkpoint that train.py wrote."""
    import torch
    from safetensors import safe_open
    from student import EMBEDDED, Student

    with safe_open(str(path), "pt") as file:
        settings = json.loads(file.metadata()["settings"])
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    student = Student(EMBEDDED)
    student.load_state_dict(state)
    student.eval().requires_grad_(False)
    model = build(student, *size)
    verify(model, student, size)
    trained = int(state["entries.0.norm.num_batches_tracked"])
    source = {
        "kind": "embedded",
        "teacher": "mobilenetv2_100 (google-coral/test_data tf2_mobilenet_v2_1.0_224_ptq)",
        "teacher_sha256": settings["teacher_sha256"],
        "training": f"calibration/embedded/train.py --target {path.stem}, step {trained}",
        "seed": settings["seed"],
        "weights_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "license": "Apache-2.0",
    }
    description = described(source, list(level_table(EMBEDDED)), size)
    description["versions"] |= {
        "torch": torch.__version__,
        "torch_training": settings["torch"],
    }
    return model, description


def verify(model: onnx.ModelProto, student: Any, size: list[int]) -> None:
    """Refuse a graph that differs from the student by more than rounding, on a random picture."""
    import openvino
    import torch

    image = np.random.default_rng(0).integers(0, 256, (1, *size, 3), dtype=np.uint8)
    rgb = torch.from_numpy(image[..., ::-1].copy()).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        expected = torch.cat([level.mean((2, 3)) for level in student(rgb)[0]], 1).numpy()
    core = openvino.Core()
    loaded = core.read_model(model.SerializeToString())
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    found = core.compile_model(loaded, "CPU", exact)([image])[0]
    error = float(np.abs(found - expected).max() / np.abs(expected).max())
    if not error < 1e-4:
        raise SystemExit(f"the graph's output differs from the student's by {error:.2g} (relative)")


def from_graph(path: Path, size: list[int]) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The graph beside `backbone.json`, for another input size, with `pooled` alone."""
    description = json.loads(path.with_suffix(".json").read_text())
    description["input"] |= {"height": size[0], "width": size[1]}
    description["outputs"]["local"] = None
    return resized(onnx.load(str(path)), *size), description


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--weights", type=Path, required=True, help="train.py's *.safetensors, or a backbone.onnx")
    add("--out", type=Path, required=True, help="folder for backbone.onnx and backbone.json")
    add("--height", type=int, default=256, help="a multiple of 32")
    add("--width", type=int, default=256, help="a multiple of 32")
    add("--local", type=int, default=DIM, help="most dimensions of the output `local`; 0: leave it out")
    add("--levels", default="s8,s16a", help="tensors that `local` is made of")
    add("--stride", type=int, default=STRIDE, help="grid of `local`, in input pixels")
    add("--projection-seed", type=int, default=SEED)
    args = parser.parse_args()
    size = [args.height, args.width]
    if args.height % 32 or args.width % 32:
        raise SystemExit(f"input of {args.height} x {args.width}: use multiples of 32")
    load = from_graph if args.weights.suffix == ".onnx" else from_training
    model, description = load(args.weights, size)
    if args.local:
        names = args.levels.split(",")
        levels = [lv for lv in description["outputs"]["pooled"]["levels"] if lv["tensor"] in names]
        if len(levels) != len(names):
            raise SystemExit(f"--levels {args.levels}: not all of them are tensors of the levels")
        model = with_local(model, levels, args.stride, args.local, args.projection_seed)
        shape = model.graph.output[1].type.tensor_type.shape.dim
        description["outputs"]["local"] = {
            "dim": shape[2].dim_value,
            "rows": args.height // args.stride,
            "columns": args.width // args.stride,
            "stride": args.stride,
            "levels": [level["name"] for level in levels],
            "seed": args.projection_seed if sum(lv["dim"] for lv in levels) > args.local else None,
        }
    data = model.SerializeToString(deterministic=True)
    description["onnx_sha256"] = hashlib.sha256(data).hexdigest()
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "backbone.onnx").write_bytes(data)
    (args.out / "backbone.json").write_text(json.dumps(description, indent=2) + "\n")
    print(f"{len(data)} bytes, sha256 {description['onnx_sha256']}")


if __name__ == "__main__":
    main()
