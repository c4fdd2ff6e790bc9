"""Renders a machined plate as a camera on a line sees it: brushed metal, a bore, four countersunk bolt
holes, a slot; placed a little differently each time, under light that wanders, with sensor noise.

Deterministic in (seed, index): the same part looks the same in every run.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_ad.capture.defects import DEFECTS, DRAW
from edge_ad.frame import Image

Rng = np.random.Generator
Point = NDArray[np.float64]

SIDE = 100_003  # from one side's stream of grain and light to the next one's
_MARGIN = 64  # px that the stores of grain and noise are larger than a frame, so that pieces differ
_BELT, _SHADOW, _EDGE, _FACE, _BORE, _CHAMFER, _COUNTERSINK = 40, 24, 192, 150, 30, 180, 114


def part_key(index: int) -> str:
    """The key of a rendered part: "S00000042"."""
    return f"S{index:08d}"


def part_number(key: str) -> int:
    """The inverse of `part_key`."""
    return int(key.removeprefix("S"))


class Placement(NamedTuple):
    """Where a part lies besides the little that belt and trigger leave open: dx, dy in pixels; degrees,
    counter-clockwise as one looks at the picture."""

    dx: float = 0.0
    dy: float = 0.0
    angle: float = 0.0


HERE = Placement()


def render_part(
    seed: int,
    index: int,
    width: int,
    height: int,
    defect_rate: float,
    good_first: int = 0,
    shift: float = 0.0,
    angle: float = 0.0,
    cameras: int = 1,
    camera: int = 0,
) -> tuple[Image, str]:
    """Part `index` of the stream `seed`: uint8 height x width, and its defect of `DEFECTS`, "" for a
    good part. The first `good_first` parts are good. See `part_placement` for shift and angle; of
    several cameras each sees another side, and one of them the defect."""
    defect = part_defect(seed, index, defect_rate, good_first)
    placement = part_placement(seed, index, width, height, shift, angle)
    seen = defect if defect and part_side(seed, index, cameras) == camera else ""
    return plate(seed + SIDE * camera, width, height).render(index, seen, placement), defect


def part_side(seed: int, index: int, cameras: int) -> int:
    """Which of several cameras a part's defect shows to."""
    return int(np.random.default_rng((seed, index, 4)).integers(cameras))


def part_lost(seed: int, index: int, camera: int, share: float, shot: int = 0) -> bool:
    """Whether a camera misses this part, or this picture of it."""
    rng = np.random.default_rng((seed, index, 5, camera, shot) if shot else (seed, index, 5, camera))
    return bool(rng.random() < share)


def part_dropped(seed: int, index: int, camera: int, share: float, shot: int = 0) -> bool:
    """Whether a camera's picture of this part is lost on its way."""
    return bool(np.random.default_rng((seed, index, 6, camera, shot)).random() < share)


def grazing_light(image: Image) -> Image:
    """The picture as under light from the side, uint8 [H, W]: dark, with edges and scratches bright."""
    smooth = cv2.GaussianBlur(image, (0, 0), 1.0)
    edges = [cv2.Sobel(smooth, cv2.CV_32F, *axis, ksize=3) for axis in ((1, 0), (0, 1))]
    return np.asarray(cv2.convertScaleAbs(cv2.magnitude(*edges), alpha=0.4, beta=18.0), np.uint8)


def part_placement(
    seed: int, index: int, width: int, height: int, shift: float, angle: float
) -> Placement:
    """Up to `shift` of the frame's width and height and `angle` degrees off, either way."""
    x, y, turn = np.random.default_rng((seed, index, 3)).uniform(-1, 1, 3)
    return Placement(x * shift * width, y * shift * height, turn * angle)


def part_defect(seed: int, index: int, defect_rate: float, good_first: int = 0) -> str:
    """The defect that `render_part` draws into this part: the ground truth, without rendering."""
    rng = np.random.default_rng((seed, index))
    defective = rng.random() < defect_rate and index >= good_first
    return DEFECTS[int(rng.integers(len(DEFECTS)))] if defective else ""


@lru_cache(maxsize=4)
def plate(seed: int, width: int, height: int) -> Plate:
    """The plate of a stream, drawn once."""
    return Plate(seed, width, height)


class Plate:
    """What all parts of a stream share: the drawing, with and without each hole, and stores of grain and
    noise to cut pieces from. Lengths are in units of 1/480 of the frame's shorter side."""

    def __init__(self, seed: int, width: int, height: int) -> None:
        rng = np.random.default_rng(seed)
        self.seed = seed
        self.width, self.height = width, height
        self.unit = min(width, height) / 480
        self.center = np.array([width / 2, height / 2])
        self.half = np.array([min(width * 0.42, 250 * self.unit), 172 * self.unit])
        self.holes = [self.center + self.half * (0.78 * x, 0.68 * y) for y in (-1, 1) for x in (-1, 1)]
        store = (height + _MARGIN, width + _MARGIN)
        self.grain = _grain(rng, store, self.unit)
        self.noise = np.clip(rng.normal(0, 2.2, store), -12, 12).astype(np.int8)
        self.drawings = [self._draw(missing) for missing in (-1, 0, 1, 2, 3)]

    def render(self, index: int, defect: str, placement: Placement = HERE) -> Image:
        """Part number `index`, with a defect of `DEFECTS` or "" for none; but for the defect the two are
        the same picture."""
        rng = np.random.default_rng((self.seed, index, 1))
        flaw = np.random.default_rng((self.seed, index, 2))
        which = 1 + int(flaw.integers(4)) if defect == "missing_feature" else 0
        drawing, metal = self.drawings[which]
        image = cv2.add(
            drawing, self._cut(rng, self.grain), dst=drawing.copy(), mask=metal, dtype=cv2.CV_8U
        )
        if defect in DRAW:
            DRAW[defect](flaw, image, metal, self.unit)
        image = cv2.warpAffine(
            image,
            self._placed(rng, placement),
            (self.width, self.height),
            borderMode=cv2.BORDER_REPLICATE,
        )
        image = cv2.multiply(image, self._light(rng), scale=1 / 128)
        return np.asarray(cv2.add(image, self._cut(rng, self.noise), dtype=cv2.CV_8U), np.uint8)

    def placed(self, index: int, placement: Placement = HERE) -> NDArray[np.float64]:
        """[2, 3] that takes points of the drawing to points of the picture of part number `index`."""
        rng = np.random.default_rng((self.seed, index, 1))
        self._cut(rng, self.grain)  # as `render` does before
        return self._placed(rng, placement)

    def _placed(self, rng: Rng, placement: Placement) -> NDArray[np.float64]:
        """A few pixels and a fraction of a degree, and what was asked for."""
        turn = float(rng.normal(0, 0.35)) + placement.angle
        matrix = cv2.getRotationMatrix2D(tuple(self.center), turn, 1.0)
        matrix[:, 2] += np.clip(rng.normal(0, 1.6 * self.unit, 2), -4 * self.unit, 4 * self.unit)
        matrix[:, 2] += (placement.dx, placement.dy)
        return np.asarray(matrix, np.float64)

    def _light(self, rng: Rng) -> Image:
        """Gain in 1/128: brightness and a gradient, different for each part."""
        corners = 128 * (1 + rng.normal(0, 0.015) + rng.normal(0, 0.012, (3, 3)))
        field = cv2.resize(
            corners.astype(np.uint8), (self.width, self.height), interpolation=cv2.INTER_LINEAR
        )
        return np.asarray(field, np.uint8)

    def _cut(self, rng: Rng, store: NDArray[np.int8]) -> NDArray[np.int8]:
        x, y = rng.integers(0, _MARGIN, 2)
        return store[y : y + self.height, x : x + self.width]

    def _draw(self, missing: int) -> tuple[Image, Image]:
        """The bare plate without hole number `missing`, and a mask of where it is metal."""
        image = np.full((self.height, self.width), _BELT, np.uint8)
        mask = np.zeros_like(image)
        self._box(image, self.half + 7 * self.unit, _SHADOW)
        self._box(image, self.half, _EDGE)
        self._box(image, self.half - 4 * self.unit, _FACE)
        self._box(mask, self.half, 255)
        for radius, grey in ((66, _COUNTERSINK), (60, _CHAMFER), (52, _BORE)):
            self._disc(image, self.center, radius, grey)
        self._disc(mask, self.center, 52, 0)
        for i, hole in enumerate(self.holes):
            if i != missing:
                for radius, grey in ((21, _COUNTERSINK), (16, _CHAMFER), (12, _BORE)):
                    self._disc(image, hole, radius, grey)
                self._disc(mask, hole, 12, 0)
        a, b = self.center + self.half * (-0.3, 0.72), self.center + self.half * (0.3, 0.72)
        for target, thick, grey in ((image, 20, _COUNTERSINK), (image, 13, _BORE), (mask, 13, 0)):
            cv2.line(target, _pixel(a), _pixel(b), grey, max(1, round(thick * self.unit)), cv2.LINE_AA)
        return np.asarray(cv2.GaussianBlur(image, (0, 0), 0.8 * self.unit), np.uint8), mask

    def _box(self, image: Image, half: Point, grey: int) -> None:
        """A filled rectangle with rounded corners."""
        radius = 22 * self.unit
        inner = half - radius
        for reach in (np.array([half[0], inner[1]]), np.array([inner[0], half[1]])):
            cv2.rectangle(image, _pixel(self.center - reach), _pixel(self.center + reach), grey, -1)
        for x, y in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
            corner = self.center + inner * (x, y)
            cv2.circle(image, _pixel(corner), round(radius), grey, -1, cv2.LINE_AA)

    def _disc(self, image: Image, center: Point, radius: float, grey: int) -> None:
        cv2.circle(image, _pixel(center), max(1, round(radius * self.unit)), grey, -1, cv2.LINE_AA)


def _grain(rng: Rng, shape: tuple[int, int], unit: float) -> NDArray[np.int8]:
    """Brushing: noise drawn out along x, with slower waves across."""
    fine = cv2.GaussianBlur(rng.normal(0, 1, shape), (0, 0), sigmaX=24 * unit, sigmaY=0.6 * unit)
    slow = cv2.GaussianBlur(rng.normal(0, 1, shape), (0, 0), sigmaX=60 * unit, sigmaY=4 * unit)
    mixed = 5.0 * fine / fine.std() + 2.5 * slow / slow.std()
    return np.asarray(np.clip(mixed, -40, 40), np.int8)


def _pixel(point: Point) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))
