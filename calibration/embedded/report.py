"""Measure the embedded backbone beside its teacher, itself with random weights, and a fixed filter bank.

    python calibration/embedded/report.py --json runs/report.json

Same pipeline for all: every picture squashed to the input size with area averaging; one Gaussian per
level on pooled features, distances summed; one Gaussian per position of a 32 x 32 grid on mid-level
features, projected to 100 dimensions by a seeded orthonormal matrix, score = largest distance; and the
product's default profile on 16 x 16 positions of 128 dimensions. All are fitted on train/good. AUROC
is of test/good against the defects, in two halves: those whose file name has an even sha256 served
development, the odd ones not.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import openvino
import torch
from distil import load_teacher, teacher_stages
from graph import build
from sklearn.metrics import roc_auc_score
from student import EMBEDDED, Block, Student
from torch import Tensor, nn
from torch.nn import functional

from edge_ad.gaussian.view import Features, FitSettings, fit_view

GRID = 32
DIMENSIONS = 100
CELLS, WIDTH = 16, 128  # the default profile's grid and features per position
SCALES, ORIENTATIONS = (4.0, 8.0, 16.0, 32.0), 6  # wavelengths of the filter bank in pixels
Maps = Callable[[np.ndarray], list[Tensor]]
LATENCY = {
    "INFERENCE_NUM_THREADS": 2,
    "NUM_STREAMS": 1,
    "INFERENCE_PRECISION_HINT": "f32",
    "PERFORMANCE_HINT": "LATENCY",
}


class Level(NamedTuple):
    name: str
    offset: int
    dim: int


class TeacherLevels(nn.Module):
    """The teacher with the student's contract: uint8 BGR [1, H, W, 3] in, nine pooled levels out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def maps(self, image: Tensor) -> list[Tensor]:
        x = image.permute(0, 3, 1, 2).float().flip(1) / 127.5 - 1
        model = self.model
        stem = model.bn1(model.conv_stem(x))
        stages = teacher_stages(model, x)
        return [stem, *stages, model.bn2(model.conv_head(stages[-1]))]

    def forward(self, image: Tensor) -> Tensor:
        return torch.cat([level.mean((2, 3)) for level in self.maps(image)], 1)


@torch.no_grad()
def random_student(seed: int, photos: Path) -> Student:
    """The architecture untrained: random kernels, batch norms with the moments of photographs.

    Without those moments the signal fades from layer to layer, and the comparison would be unfair.
    """
    torch.manual_seed(seed)
    student = Student(EMBEDDED).train().requires_grad_(False)
    for module in student.modules():
        if isinstance(module, Block):
            module.down.norm.weight.fill_(1.0)  # zero where training starts
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain average over the batches below
    paths = sorted(photos.glob("*.jpg"))[:128]
    for start in range(0, len(paths), 16):
        images = [
            cv2.resize(cv2.imread(str(p)), (224, 224), interpolation=cv2.INTER_AREA)[..., ::-1]
            for p in paths[start : start + 16]
        ]
        batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
        student(batch)
    return student.eval()


def graph_maps(source: str | bytes, size: int) -> Maps:
    """Maps of the levels of an exported graph, through OpenVINO."""
    core = openvino.Core()
    model = core.read_model(source)
    names = [level.name for level in EMBEDDED.levels]
    model.reshape({"image": [1, size, size, 3]})
    model.add_outputs(names)
    request = core.compile_model(model, "CPU", LATENCY).create_infer_request()

    def maps(image: np.ndarray) -> list[Tensor]:
        request.infer([image])
        return [torch.from_numpy(request.get_tensor(n).data.copy()) for n in names]

    return maps


def filter_bank(image: np.ndarray) -> list[Tensor]:
    """Magnitudes of 24 Gabor filters on grey, one level of six per wavelength, averaged over 8 x 8."""
    grey = cv2.cvtColor(image[0], cv2.COLOR_BGR2GRAY).astype(np.float32) / 255
    levels = []
    for wavelength in SCALES:
        side = 2 * round(wavelength) + 1
        magnitudes = []
        for i in range(ORIENTATIONS):
            angle = np.pi * i / ORIENTATIONS
            even, odd = (
                cv2.getGaborKernel((side, side), wavelength / 2, angle, wavelength, 0.5, phase)
                for phase in (0.0, np.pi / 2)
            )
            even -= even.mean()  # no answer to plain grey
            real, imaginary = (cv2.filter2D(grey, -1, k / side**2) for k in (even, odd))
            magnitudes.append(np.hypot(real, imaginary))
        stack = torch.from_numpy(np.stack(magnitudes)).float()[None]
        levels.append(functional.avg_pool2d(stack, 8))
    return levels


@torch.no_grad()
def features(maps: Maps, paths: list[Path], size: int, local: tuple[int, ...]) -> Any:
    """Pooled levels [levels][N, d], local features [P, N, DIMENSIONS], and those of the default profile,
    [N, CELLS^2, WIDTH]."""
    pooled, grids, cells, matrix, wide = [], [], [], None, None
    for path in paths:
        image = cv2.resize(cv2.imread(str(path)), (size, size), interpolation=cv2.INTER_AREA)
        levels = maps(image[None])
        pooled.append([level.mean((2, 3))[0] for level in levels])
        parts = [functional.interpolate(levels[i], size=(GRID, GRID), mode="bilinear") for i in local]
        joined = torch.cat(parts, 1)[0].flatten(1).T
        if matrix is None or wide is None:
            matrix, wide = (orthonormal(joined.shape[1], width) for width in (DIMENSIONS, WIDTH))
        grids.append(joined @ matrix)
        coarse = [functional.adaptive_avg_pool2d(levels[i], CELLS) for i in local]
        cells.append(torch.cat(coarse, 1)[0].flatten(1).T @ wide)
    stacked = [torch.stack(level) for level in zip(*pooled, strict=True)]
    return stacked, torch.stack(grids, 1), torch.stack(cells)


def orthonormal(channels: int, width: int) -> Tensor:
    """Seeded matrix [channels, min(channels, width)] with orthonormal columns."""
    noise = torch.randn(channels, width, generator=torch.Generator().manual_seed(0))
    return torch.linalg.qr(noise)[0]


def default_profile(train: Any, test: Any) -> Tensor:
    """Scores of the product's own fit."""
    sizes = [level.shape[1] for level in train[0]]
    levels = [Level(str(i), sum(sizes[:i]), size) for i, size in enumerate(sizes)]
    fitted, new = (Features(torch.cat(s[0], 1).numpy(), s[2].numpy()) for s in (train, test))
    found = fit_view(fitted, FitSettings(levels, grid=(CELLS, CELLS)))
    blocks = np.array_split(np.arange(len(new)), max(1, len(new) // 64))
    return torch.from_numpy(np.concatenate([found.score(new.take(block)).scores for block in blocks]))


def fit(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and Cholesky factor of the Ledoit-Wolf covariance of [G, N, d], per group."""
    x = x.double()
    _, n, d = x.shape
    mean = x.mean(1, keepdim=True)
    centred = x - mean
    covariance = centred.transpose(1, 2) @ centred / n
    eye = torch.eye(d, dtype=x.dtype)
    target = covariance.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] * eye
    spread = ((covariance - target) ** 2).sum((1, 2))
    error = (centred.square().sum(2).square().sum(1) / n - covariance.square().sum((1, 2))) / n
    shrinkage = (error / spread).clamp(0, 1)[:, None, None]
    return mean, torch.linalg.cholesky((1 - shrinkage) * covariance + shrinkage * target)


def distance(x: Tensor, gaussian: tuple[Tensor, Tensor]) -> Tensor:
    """Mahalanobis distance [G, N]."""
    mean, factor = gaussian
    centred = (x.double() - mean).transpose(1, 2)
    return torch.linalg.solve_triangular(factor, centred, upper=False).square().sum(1).sqrt()


def scores(train: Any, test: Any) -> dict[str, Tensor]:
    levels = [distance(b[None], fit(a[None]))[0] for a, b in zip(train[0], test[0], strict=True)]
    step = 128  # positions at a time, to bound memory
    cells = [
        distance(test[1][i : i + step], fit(train[1][i : i + step])) for i in range(0, GRID * GRID, step)
    ]
    each = {f"level {i}": level for i, level in enumerate(levels, 1)}
    return {
        "default profile": default_profile(train, test),
        "pooled sum": sum(levels),
        "local max": torch.cat(cells).amax(0),
        **each,
    }


def is_even(path: Path) -> bool:
    return int(hashlib.sha256(path.name.encode()).hexdigest(), 16) % 2 == 0


def latency_ratio(teacher: TeacherLevels, graph: Path, rounds: int) -> dict[str, float]:
    """Median ms at 224 x 224, both nets in turn, two threads."""
    core = openvino.Core()
    image = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)
    exported = io.BytesIO()
    torch.onnx.export(teacher, (torch.from_numpy(image),), exported, opset_version=18, verbose=False)
    nets = {"teacher": exported.getvalue(), "student": graph.read_bytes()}
    requests = {}
    for name, net in nets.items():
        model = core.read_model(net)
        model.reshape([1, 224, 224, 3])  # the shipped graph is of 256 x 256
        requests[name] = core.compile_model(model, "CPU", LATENCY).create_infer_request()
    times: dict[str, list[float]] = {name: [] for name in requests}
    for i in range(rounds + 10):
        for name, request in requests.items():
            began = time.perf_counter()
            request.infer([image])
            if i >= 10:
                times[name].append((time.perf_counter() - began) * 1000)
    result = {f"{k} ms": round(float(np.median(v)), 2) for k, v in times.items()}
    ratio = float(np.median(times["student"]) / np.median(times["teacher"]))
    return {**result, "ratio": round(ratio, 3)}


def main() -> None:
    shared, here = Path("../shared"), Path("edge_ad/backbone/embedded/backbone.onnx")
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, default=shared / "data/magnetic_tile")
    add("--photos", type=Path, default=shared / "data/natural")
    add("--teacher", type=Path, default=shared / "weights/mobilenetv2_100.safetensors")
    add("--graph", type=Path, default=here)
    add("--sizes", type=int, nargs="+", default=[224, 256])
    add("--nets", nargs="+", default=["teacher", "student", "random", "filters"])
    add("--rounds", type=int, default=200, help="for the latency")
    add("--json", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(2)
    teacher = TeacherLevels(load_teacher(args.teacher, torch.device("cpu"))).eval()
    result: dict[str, Any] = {"latency": latency_ratio(teacher, args.graph, args.rounds)}
    print(result["latency"], flush=True)
    train = sorted((args.data / "train/good").iterdir())
    good = sorted((args.data / "test/good").iterdir())
    bad = sorted(p for p in (args.data / "test").glob("*/*") if p.parent.name != "good")
    untrained = build(random_student(0, args.photos), 224, 224).SerializeToString()
    even = np.array([is_even(p) for p in bad])
    for size in args.sizes:
        nets: dict[str, tuple[Maps, tuple[int, ...]]] = {
            "teacher": (lambda image: teacher.maps(torch.from_numpy(image)), (3, 4, 5)),
            "student": (graph_maps(str(args.graph), size), (2, 3, 4)),
            "random": (graph_maps(untrained, size), (2, 3, 4)),
            "filters": (filter_bank, (0, 1, 2, 3)),
        }
        for name in args.nets:
            maps, local = nets[name]
            fitted = features(maps, train, size, local)
            for kind, score in scores(fitted, features(maps, good + bad, size, local)).items():
                normal, defect = score[: len(good)].numpy(), score[len(good) :].numpy()
                aurocs = {}
                for half, chosen in (("even", even), ("odd", ~even), ("all", even | True)):
                    values = np.r_[normal, defect[chosen]]
                    labels = np.r_[np.zeros(len(good)), np.ones(chosen.sum())]
                    aurocs[half] = round(float(roc_auc_score(labels, values)), 4)
                result.setdefault(f"{name} {size}", {})[kind] = aurocs
                print(name, size, kind, aurocs, flush=True)
    args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
