"""Pictures of a part -> Verdict. Pure: no I/O, no clock of its own, no log per part.

    part's score = max over tiles of all views of  score(tile) / scale(tile)

A tile's score is the sum of d over its levels (profile "paper"), or that and the distances of its
positions on one scale (`gaussian.view.Combination`). PASS if it is finite and at most the threshold.
Whether it comes in time is for the caller to judge.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_ad import failpoints
from edge_ad.backbone.engine import FrameEngine, ScoreEngine
from edge_ad.bundle import Bundle, CameraRule, map_maker, open_bundle, tile_scale
from edge_ad.bundle.frames import gpu_frames
from edge_ad.bundle.zones import painted, position_labels, read_label_images
from edge_ad.cores import usable_cores
from edge_ad.engines import REFERENCE, EngineChoice, open_scorer
from edge_ad.errors import ConfigError
from edge_ad.findings import Finder
from edge_ad.frame import Image
from edge_ad.gaussian.maps import MapMaker
from edge_ad.gaussian.scale import TileScale
from edge_ad.gaussian.zones import ZoneScale, by_zone, on_one_scale
from edge_ad.locate import Pose
from edge_ad.preprocess import PartInput, Stitch
from edge_ad.preprocess.zones import LabelImage
from edge_ad.reference import check_reference, part_locator
from edge_ad.verdict import Decision, Finding, Maps, Reason, Verdict, fault


def _no_clock() -> int:
    return 0


@dataclass(frozen=True, slots=True, eq=False)
class _Places:
    """How the distances of a part's positions become its score, its maps and its findings."""

    scale: TileScale
    maker: MapMaker
    finder: Finder
    zones: Sequence[ZoneScale]
    row_scales: NDArray[np.float64]

    def worst(self, rows: NDArray[np.float64]) -> tuple[float, int]:
        """The part's score from those of its rows, and the tile that it comes from."""
        rows = rows / self.row_scales
        if self.zones:
            scores = on_one_scale(by_zone(rows, self.scale.zone, len(self.zones)), self.zones)
            zone = int(scores.argmax())
            row = int(np.where(self.scale.zone == zone, rows, -np.inf).argmax())
            return float(scores[zone]), int(self.scale.tile[row])
        row = int(rows.argmax())
        return float(rows[row]), int(self.scale.tile[row])


_NO_TILES = np.empty((0, 0, 0), np.float32)


class _Maps:
    """One part's maps, made when they are asked for; by one thread at a time."""

    def __init__(
        self,
        maker: MapMaker,
        local: NDArray[np.float32],
        z: NDArray[np.float64],
        views: Sequence[tuple[slice, Stitch]],
    ) -> None:
        self._make: Callable[[], NDArray[np.float32]] | None = partial(maker.maps, local, z)
        self._views = views
        self._tiles = _NO_TILES
        self._made: Maps | None = None
        self._features = local.nbytes + z.nbytes

    @property
    def nbytes(self) -> int:
        """That are held, for maps that are made or of what they are made."""
        return self._tiles.nbytes if self._make is None else self._features

    def tiles(self) -> NDArray[np.float32]:
        """[T, rows, columns]."""
        if self._make is not None:
            self._tiles = self._make()
            self._make = None  # whoever keeps the maps keeps neither the features nor the bundle
        return self._tiles

    def __call__(self) -> Maps:
        """One map per view."""
        if self._made is None:
            self._made = tuple(stitch(self.tiles()[rows]) for rows, stitch in self._views)
        return self._made


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
        self.stands_in_for = ""  # the engine that failed, where this one has its place
        self._clock = clock
        self._rules = tuple(manifest.preprocess.cameras.values())
        self._scales = tuple(section.scales)
        self._places, zones = _places(bundle, engine.identity.key)
        size = (manifest.preprocess.height, manifest.preprocess.width)
        self._locator = part_locator(bundle)
        self._part = PartInput(manifest.views, self.cameras, *size, threads, zones)
        frames = engine if isinstance(engine, FrameEngine) and engine.prepares else None
        self._frames: FrameEngine | None = frames
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
        taking = self._frames is not None
        straight = self._locator.find(images) if taking else self._locator.straighten(images)
        stamps[1] = clock()
        if straight.failure is not None:
            stamps[2:] = [stamps[1]] * 3
            detail = f"camera {self.cameras[straight.camera]}: {straight.detail}"
            return fault(Reason(straight.failure), self.threshold, detail)
        if self._frames is not None:
            self._frames.take(images, self._locator.moves(straight.poses))
        else:
            self._part.fill(straight.images, self.engine.input)
        stamps[2] = clock()
        distances = self.engine.infer()
        if failpoints.active:
            distances.flat[0] = failpoints.active.value("inspect.score", float(distances.flat[0]))
        stamps[3] = clock()
        verdict = self._judge(distances, self.engine.cells, straight.poses)
        stamps[4] = clock()
        return verdict

    def warm_up(self, rounds: int = 3) -> None:
        """Run on black pictures, so that the first part does not pay for first-time allocations."""
        self._locator.warm_up()
        for _ in range(rounds):
            self._rehearse()

    def close(self) -> None:
        """Release the engine. Idempotent."""
        self._part.close()
        self.engine.close()

    def _rehearse(self) -> None:
        """Judge a part of black pictures, as far as the bundle knows their size, and forget it."""
        black = [
            np.zeros((r.height, r.width) if r.channels == 1 else (r.height, r.width, 3), np.uint8)
            for r in self._rules
            if r.frame_size == "fixed"
        ]
        if self._frames is not None:
            self._part.fit(black)
            self._frames.take(black, self._locator.moves([Pose(0.0, 0.0, 0.0)] * len(black)))
        elif len(black) == len(self._rules):
            self._part.fill(black, self.engine.input)
        distances = self.engine.infer()
        if len(black) == len(self._rules):  # a map has a size only where the frames have
            self._judge(distances, self.engine.cells, ())

    def _judge(
        self,
        distances: NDArray[np.float32],
        cells: NDArray[np.float32] | None,
        poses: tuple[Pose | None, ...],
    ) -> Verdict:
        """Levels in plain floats: right after the engine, on cold caches, NumPy takes three times as
        long."""
        whole = [sum(levels) for levels in distances.tolist()]
        # A sum of float32 is finite exactly when all of them are.
        finite = all(map(math.isfinite, whole))
        places: _Places | None = None
        if self._places is None or cells is None:
            scores = [score / scale for score, scale in zip(whole, self._scales, strict=True)]
            finite = finite and all(map(math.isfinite, scores))
            score = max(scores)
            tile = scores.index(score)
        else:
            places = self._places
            finite = finite and bool(np.isfinite(cells).all())
            rows, z = places.scale.scores(np.array(whole), cells)
            finite = finite and bool(np.isfinite(rows).all())
            score, tile = places.worst(rows)
        if not (finite and math.isfinite(score)):
            return fault(Reason.NOT_FINITE, self.threshold, "the engine's distances are not finite")
        passed, maps = score <= self.threshold, None
        findings: tuple[Finding, ...] = ()
        if places is not None:
            maps = self._maps(places, z)
            if not passed:
                findings, passed = places.finder.find(
                    np.array(whole), z, maps.tiles(), self._part, self._locator, poses
                )
        return Verdict(
            Decision.PASS if passed else Decision.REJECT,
            Reason.NONE if passed else Reason.SCORE,
            score,
            self.threshold,
            self._tiles[tile].view.name,
            distances.copy(),
            box=self._part.box(tile),
            poses=poses,
            findings=findings,
            map_source=maps,
        )

    def _maps(self, places: _Places, z: NDArray[np.float64]) -> _Maps:
        """Of the part that was judged, to be made now or later."""
        local, part = self.engine.local, self._part
        assert local is not None
        grid = places.maker.grid
        views = [(rows, view.stitch(grid)) for view, rows in zip(part.views, part.rows, strict=True)]
        return _Maps(places.maker, local.copy(), z, views)

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


def _places(bundle: Bundle, key: str) -> tuple[_Places | None, dict[str, tuple[LabelImage, list[int]]]]:
    """What judges positions and shows them, None for a bundle that does not localise; and by camera what
    is painted over."""
    manifest, section = bundle.manifest, bundle.section(key)
    if manifest.local is None:
        return None, {}
    images = read_label_images(bundle)
    grid = (manifest.local.rows, manifest.local.columns)
    labels = position_labels(manifest.zones, images, manifest.views, grid)
    scale = tile_scale(bundle.tensors, key, manifest.tiles, section.local, labels)
    places = _Places(
        scale=scale,
        maker=map_maker(bundle.tensors, key, manifest.tiles, manifest.local),
        finder=Finder(manifest, section, scale, grid, labels, images),
        zones=section.zones,
        row_scales=np.array(section.scales)[scale.tile],
    )
    return places, painted(manifest.zones, images)


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
    inspector = open_inspector(bundle, EngineChoice(threads=threads))
    inspector.warm_up()
    return inspector


def open_inspector(
    bundle: Bundle, choice: EngineChoice = REFERENCE, clock: Callable[[], int] = _no_clock
) -> Inspector:
    """Open an engine on its section of the bundle.

    A runtime or device other than the one calibrated is accepted when the bundle's reference frames
    keep their scores. Raises ArtifactError that names both sides, DeviceError when nothing compiles.
    """
    key = choice.key
    section, heads, backbone = bundle.section(key), bundle.heads(key), bundle.backbone()
    local = bundle.local_heads(key)
    choice = msgspec.structs.replace(choice, plan=section.identity.build)
    frames = gpu_frames(bundle) if choice.on_gpu else None
    engine = open_scorer(choice, backbone, heads, local, frames)
    with ExitStack() as opened:
        opened.callback(engine.close)
        inspector = Inspector(bundle, engine, clock, choice.threads or usable_cores())
        opened.callback(inspector.close)
        if engine.identity != section.identity:
            check_reference(inspector)
        opened.pop_all()
    return inspector
