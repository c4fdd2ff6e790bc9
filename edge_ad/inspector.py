"""Pictures of a part -> Verdict. Pure: no I/O, no clock of its own, no log per part.

    part's score = max over tiles of all views of  score(tile) / scale(tile)

A tile's score is the sum of d over its levels (profile "paper"), or that and the distances of its
positions on one scale (`gaussian.view.Combination`). PASS if it is finite and at most the threshold.
Whether it comes in time is for the caller to judge.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_ad.backbone.engine import ScoreEngine
from edge_ad.bundle import Bundle, CameraRule, map_maker, open_bundle, tile_scale
from edge_ad.errors import ArtifactError, ConfigError
from edge_ad.frame import Image
from edge_ad.gaussian.maps import MapMaker
from edge_ad.gaussian.view import TileScale
from edge_ad.locate import Pose
from edge_ad.preprocess import PartInput
from edge_ad.reference import check_reference, part_locator
from edge_ad.verdict import Decision, Maps, Reason, Verdict, fault


def _no_clock() -> int:
    return 0


class Inspector:
    """Judges parts by one bundle on one engine. Owns the engine; not thread safe.

    `cameras` is the order of a part's images; `threads` resize tiles where there are many. With a
    `clock` (nanoseconds), `stamps` holds the times of the last part: start, located, preprocessed,
    scored, judged.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: ScoreEngine,
        clock: Callable[[], int] = _no_clock,
        threads: int = 1,
    ) -> None:
        manifest = bundle.manifest
        section = bundle.section(engine.identity.key)
        self.bundle = bundle
        self.engine = engine
        self.identity = engine.identity
        self.threshold = section.threshold
        self.cameras = tuple(manifest.preprocess.cameras)
        self.stamps = [0, 0, 0, 0, 0]
        self._clock = clock
        self._rules = tuple(manifest.preprocess.cameras.values())
        self._scales = tuple(section.scales)
        self._scale, self._maker = _positions(bundle, engine.identity.key)
        size = (manifest.preprocess.height, manifest.preprocess.width)
        self._locator = part_locator(bundle)
        self._part = PartInput(manifest.views, self.cameras, *size, threads)
        self._tiles = manifest.tiles
        if len(engine.input) != len(self._tiles):
            raise ValueError(f"an engine of {len(engine.input)} rows for {len(self._tiles)} tiles")

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
            stamps[1:] = [clock()] * 4
            return wrong
        straight = self._locator.straighten(images)
        stamps[1] = clock()
        if straight.failure is not None:
            stamps[2:] = [stamps[1]] * 3
            detail = f"camera {self.cameras[straight.camera]}: {straight.detail}"
            return fault(Reason(straight.failure), self.threshold, detail)
        self._part.fill(straight.images, self.engine.input)
        stamps[2] = clock()
        distances = self.engine.infer()
        stamps[3] = clock()
        verdict = self._judge(distances, self.engine.cells, straight.poses)
        stamps[4] = clock()
        return verdict

    def warm_up(self, rounds: int = 3) -> None:
        """Run on black pictures, so that the first part does not pay for first-time allocations."""
        black = [
            np.zeros((r.height, r.width) if r.channels == 1 else (r.height, r.width, 3), np.uint8)
            for r in self._rules
            if r.frame_size == "fixed"
        ]
        for _ in range(rounds):
            if len(black) == len(self._rules):
                self._part.fill(black, self.engine.input)
            distances = self.engine.infer()
            if len(black) == len(self._rules):  # a map has a size only where the frames have
                self._judge(distances, self.engine.cells, ())

    def close(self) -> None:
        """Release the engine. Idempotent."""
        self._part.close()
        self.engine.close()

    def _judge(
        self,
        distances: NDArray[np.float32],
        cells: NDArray[np.float32] | None,
        poses: tuple[Pose | None, ...],
    ) -> Verdict:
        """Levels in plain floats: right after the engine, on cold caches, NumPy takes three times as
        long."""
        scores = [sum(levels) for levels in distances.tolist()]
        maps: Callable[[], Maps] | None = None
        # A sum of float32 is finite exactly when all of them are.
        finite = all(map(math.isfinite, scores))
        if self._scale is not None and cells is not None:
            finite = finite and bool(np.isfinite(cells).all())
            standard, z = self._scale.scores(np.array(scores), cells)
            scores, maps = standard.tolist(), self._maps(z)
        scores = [score / scale for score, scale in zip(scores, self._scales, strict=True)]
        if not (finite and all(map(math.isfinite, scores))):
            return fault(Reason.NOT_FINITE, self.threshold, "the engine's distances are not finite")
        score = max(scores)
        worst = scores.index(score)
        passed = score <= self.threshold
        return Verdict(
            Decision.PASS if passed else Decision.REJECT,
            Reason.NONE if passed else Reason.SCORE,
            score,
            self.threshold,
            self._tiles[worst].view.name,
            distances.copy(),
            box=self._part.box(worst),
            poses=poses,
            map_source=maps,
        )

    def _maps(self, z: NDArray[np.float64]) -> Callable[[], Maps]:
        """What makes one map per view of the part that was judged, now or later."""
        maker, local = self._maker, self.engine.local
        assert maker is not None
        assert local is not None
        kept, part = local.copy(), self._part
        views = [
            (rows, view.stitch(maker.grid)) for view, rows in zip(part.views, part.rows, strict=True)
        ]
        made: list[Maps] = []

        def make() -> Maps:
            if not made:
                tiles = maker.maps(kept, z)
                made.append(tuple(stitch(tiles[rows]) for rows, stitch in views))
            return made[0]

        return make

    def _check(self, images: Sequence[Image]) -> Verdict | None:
        """A FAULT for pictures that the bundle was not made for."""
        if len(images) != len(self.cameras):
            detail = f"{len(images)} images for cameras {list(self.cameras)}"
            return fault(Reason.MISSING_VIEW, self.threshold, detail)
        for camera, rule, image in zip(self.cameras, self._rules, images, strict=True):
            reason, detail = _unfit(image, rule)
            if reason is not Reason.NONE:
                return fault(reason, self.threshold, f"camera {camera}: {detail}")
        try:
            self._part.fit(images)
        except ConfigError as error:
            return fault(Reason.FRAME_SIZE, self.threshold, str(error))
        return None


def _positions(bundle: Bundle, key: str) -> tuple[TileScale | None, MapMaker | None]:
    """What judges positions and shows them; None for a bundle that does not localise."""
    local, tiles = bundle.manifest.local, bundle.manifest.tiles
    if local is None:
        return None, None
    combinations = [fit.combination for fit in bundle.section(key).local]
    return (
        tile_scale(bundle.tensors, key, tiles, combinations),
        map_maker(bundle.tensors, key, tiles, local),
    )


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
    from edge_ad.backbone.openvino import open_scorer, usable_cores

    engine = open_scorer(backbone, heads, threads, precision, local)
    inspector = Inspector(bundle, engine, clock, threads or usable_cores())
    if engine.identity != section.identity:
        try:
            check_reference(inspector)
        except ArtifactError:
            inspector.close()
            raise
    return inspector
