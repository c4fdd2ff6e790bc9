"""Pictures of a part -> Verdict. Pure: no I/O, no clock of its own, no log per part.

    part's score = max over views of  score(view) / scale(view)

A view's score is the sum of d over its levels (profile "paper"), or that and the distances of its
positions on one scale (`gaussian.view.Combination`). PASS if it is finite and at most the threshold.
Whether it comes in time is for the caller to judge.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_ad.backbone.engine import ScoreEngine
from edge_ad.bundle import LOCAL, Bundle, CameraRule, open_bundle, tensor_name
from edge_ad.errors import ArtifactError
from edge_ad.frame import Image
from edge_ad.gaussian.view import Combination, anomaly_map
from edge_ad.preprocess import Preprocessor, Roi
from edge_ad.reference import check_reference
from edge_ad.verdict import Decision, Reason, Verdict, fault


@dataclass(frozen=True, slots=True)
class _View:
    name: str
    camera: int  # place in the part's images
    roi: Roi | None
    preprocessor: Preprocessor
    out: NDArray[np.uint8]  # the view's row of the engine's input


@dataclass(frozen=True, slots=True)
class _Cells:
    """How a view's distances become its score and its map."""

    combination: Combination
    center: NDArray[np.float64]  # [2, P], as spread
    spread: NDArray[np.float64]
    grid: tuple[int, int]

    def score(self, whole: float, cells: NDArray[np.float32]) -> tuple[float, NDArray[np.float32]]:
        """Score and map [rows, columns] from the sum of level distances and cells [2, P]."""
        z = (cells - self.center) / self.spread
        score = self.combination.scores(np.array([whole]), z[None])
        return float(score[0]), anomaly_map(z, self.grid)


def _no_clock() -> int:
    return 0


class Inspector:
    """Judges parts by one bundle on one engine. Owns the engine; not thread safe.

    `cameras` is the order of a part's images. With a `clock` (nanoseconds), `stamps` holds the times of
    the last part: start, preprocessed, scored, judged.
    """

    def __init__(
        self, bundle: Bundle, engine: ScoreEngine, clock: Callable[[], int] = _no_clock
    ) -> None:
        manifest = bundle.manifest
        section = bundle.section(engine.identity.key)
        self.bundle = bundle
        self.engine = engine
        self.identity = engine.identity
        self.threshold = section.threshold
        self.cameras = tuple(manifest.preprocess.cameras)
        self.stamps = [0, 0, 0, 0]
        self._clock = clock
        self._rules = tuple(manifest.preprocess.cameras.values())
        self._scales = tuple(section.scales)
        self._cells = _view_cells(bundle, engine.identity.key)
        size = (manifest.preprocess.height, manifest.preprocess.width)
        self._views = tuple(
            _View(view.name, self.cameras.index(view.camera), view.roi, Preprocessor(*size), row)
            for view, row in zip(manifest.views, engine.input, strict=True)
        )

    def inspect(self, image: Image) -> Verdict:
        """Judge a part of a single-camera bundle: uint8 H x W grey or H x W x 3 BGR."""
        return self.inspect_part((image,))

    def inspect_part(self, images: Sequence[Image]) -> Verdict:
        """Judge a part by one image per camera, in the order of `cameras`.

        A picture that the bundle was not made for is FAULT, as are distances that are not finite.
        Raises DeviceError when the engine fails.
        """
        stamps, clock = self.stamps, self._clock
        stamps[0] = clock()
        wrong = self._check(images)
        if wrong is not None:
            stamps[1] = stamps[2] = stamps[3] = clock()
            return wrong
        for view in self._views:
            view.preprocessor.prepare(images[view.camera], view.roi, view.out)
        stamps[1] = clock()
        distances = self.engine.infer()
        stamps[2] = clock()
        verdict = self._judge(distances, self.engine.cells if self._cells else None)
        stamps[3] = clock()
        return verdict

    def warm_up(self, rounds: int = 3) -> None:
        """Run on black pictures, so that the first part does not pay for first-time allocations."""
        black = [
            np.zeros((r.height, r.width) if r.channels == 1 else (r.height, r.width, 3), np.uint8)
            if r.frame_size == "fixed"
            else None
            for r in self._rules
        ]
        for _ in range(rounds):
            for view in self._views:
                image = black[view.camera]
                if image is not None:
                    view.preprocessor.prepare(image, view.roi, view.out)
            self._judge(self.engine.infer(), self.engine.cells if self._cells else None)

    def close(self) -> None:
        """Release the engine. Idempotent."""
        self.engine.close()

    def _judge(self, distances: NDArray[np.float32], cells: NDArray[np.float32] | None) -> Verdict:
        """Levels in plain floats: right after the engine, on cold caches, NumPy takes three times as
        long."""
        score, worst, maps = -math.inf, 0, []
        for i, (levels, scale) in enumerate(zip(distances.tolist(), self._scales, strict=True)):
            one = sum(levels)
            finite = math.isfinite(one)  # a sum of float32 is finite exactly when all of them are
            if cells is not None:
                finite = finite and bool(np.isfinite(cells[i]).all())
                one, picture = self._cells[i].score(one, cells[i])
                maps.append(picture)
            one /= scale
            if not (finite and math.isfinite(one)):
                return fault(Reason.NOT_FINITE, self.threshold, "the engine's distances are not finite")
            if one > score:
                score, worst = one, i
        passed = score <= self.threshold
        return Verdict(
            Decision.PASS if passed else Decision.REJECT,
            Reason.NONE if passed else Reason.SCORE,
            score,
            self.threshold,
            self._views[worst].name,
            distances.copy(),
            maps=tuple(maps) if self._cells else None,
        )

    def _check(self, images: Sequence[Image]) -> Verdict | None:
        """A FAULT for pictures that the bundle was not made for."""
        if len(images) != len(self.cameras):
            detail = f"{len(images)} images for cameras {list(self.cameras)}"
            return fault(Reason.MISSING_VIEW, self.threshold, detail)
        for camera, rule, image in zip(self.cameras, self._rules, images, strict=True):
            reason, detail = _unfit(image, rule)
            if reason is not Reason.NONE:
                return fault(reason, self.threshold, f"camera {camera}: {detail}")
        for view in self._views:
            if view.roi is None:
                continue
            x, y, width, height = view.roi
            rows, columns = images[view.camera].shape[:2]
            if x + width > columns or y + height > rows:
                detail = f"view {view.name}: roi {list(view.roi)} is outside of {columns} x {rows} px"
                return fault(Reason.FRAME_SIZE, self.threshold, detail)
        return None


def _view_cells(bundle: Bundle, key: str) -> tuple[_Cells, ...]:
    """Per view; empty for a bundle that does not localise."""
    local, found = bundle.manifest.local, []
    for view, fit in zip(bundle.manifest.views, bundle.section(key).local, strict=False):
        assert local is not None  # the manifest was checked
        center, spread = (
            bundle.tensors[tensor_name(key, view.name, LOCAL, what)] for what in ("center", "spread")
        )
        found.append(_Cells(fit.combination, center, spread, (local.rows, local.columns)))
    return tuple(found)


def _unfit(image: Image, rule: CameraRule) -> tuple[Reason, str]:
    """Why the image is not what the rule says; Reason.NONE when it is."""
    channels = 1 if image.ndim == 2 else image.shape[-1]
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or channels != rule.channels:
        found = f"{image.dtype} {list(image.shape)}"
        return (
            Reason.PIXEL_FORMAT,
            f"frame is {found}, the bundle has uint8 of {rule.channels} channel(s)",
        )
    rows, columns = image.shape[:2]
    if rows == 0 or columns == 0:
        return Reason.FRAME_SIZE, "frame is empty"
    if rule.frame_size == "fixed" and (rows, columns) != (rule.height, rule.width):
        wanted = f"{rule.width} x {rule.height}"
        return Reason.FRAME_SIZE, f"frame is {columns} x {rows} px, the bundle has {wanted}"
    return Reason.NONE, ""


def load(path: str | Path, backbone: str | Path | None = None, threads: int = 0) -> Inspector:
    """Open the bundle at `path` for inspection on this machine.

    `backbone` is the network's directory where it does not lie in the bundle's state directory;
    threads 0: one per physical core. Raises ArtifactError for a bundle that is refused.
    """
    bundle = open_bundle(path, None if backbone is None else Path(backbone))
    sections = bundle.manifest.engines.values()
    precision = next((s.identity.precision for s in sections if s.identity.kind == "openvino"), "f32")
    inspector = open_inspector(bundle, threads, precision)
    inspector.warm_up()
    return inspector


def open_inspector(
    bundle: Bundle, threads: int = 0, precision: str = "f32", clock: Callable[[], int] = _no_clock
) -> Inspector:
    """Compile the bundle's section for this machine's engine.

    A runtime or device other than the one calibrated is accepted when the bundle's reference frames
    keep their scores. Raises ArtifactError that names both sides, DeviceError when nothing compiles.
    """
    key = f"openvino-{precision}"
    section, heads, backbone = bundle.section(key), bundle.heads(key), bundle.backbone()
    local = bundle.local_heads(key)
    # Imported last: at the daemon's start another thread imports it while this one verifies files.
    from edge_ad.backbone.openvino import open_scorer

    engine = open_scorer(backbone, heads, threads, precision, local)
    inspector = Inspector(bundle, engine, clock)
    if engine.identity != section.identity:
        try:
            check_reference(inspector)
        except ArtifactError:
            inspector.close()
            raise
    return inspector
