"""Finds the part in a frame, or says why it cannot."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_ad.errors import CheckFailed
from edge_ad.frame import Image
from edge_ad.locate.alike import Alike, find_alike, look_alikes
from edge_ad.locate.coarse import Peak, Search, angle_steps
from edge_ad.locate.pose import Box, Failure, Located, Pose, Settings, matrix, middle_of
from edge_ad.locate.pyramid import Grey, Pyramid, to_level
from edge_ad.locate.refine import Points, choose_points, correlation, refine, sample
from edge_ad.locate.regions import default_box
from edge_ad.locate.straight import lay_straight

SCALE_STEP = 0.05
REACH = 3.0  # degrees that are searched beyond max_angle: what lies there is out of range, not absent
TEXTURE = 1.0  # grey values: deviation of the reference's levels, at least
SAME = 0.97  # correlation of the reference with itself moved or turned, from which it has no place
EMPTY = 0.3  # of the reference's deviation: a frame with less shows nothing
SECOND = 0.8  # of the part's quality: as good as this somewhere else is another part
PROMISING = 0.6  # of the best peak's score: lower ones cannot be parts
OUTSIDE = 0.5  # of the box that may be outside of the frame: with less of it a place is a guess
SLACK = 1e-6

Floats = NDArray[np.float64]


class Locator:
    """Finds one part. Prepared once from a reference picture (uint8, H x W grey or H x W x 3 BGR); owns
    scratch memory, so one thread uses it at a time. After the first frame nothing of a frame's size is
    allocated.

    Raises CheckFailed for a reference in which no place, or no angle, can be told from others.
    """

    def __init__(self, reference: Image, settings: Settings) -> None:
        self.settings = settings
        self.shape = reference.shape
        self.box = settings.box or default_box(reference.shape, settings.max_shift)
        _check_box(self.box, reference.shape)
        self.middle = middle_of(self.box)
        self._size = np.array(self.box[2:], np.float64)
        self._pyramid = Pyramid(reference.shape)
        self._planes = {k: plane.copy() for k, plane in self._pyramid.build(reference).items()}
        self._levels = self._pyramid.levels
        self._points = [self._choose(self._planes[k], k) for k in self._levels]
        _check_texture(self._points[-1])
        reach = settings.max_angle + REACH if settings.max_angle else 0.0
        self._search = self._make_search(self._planes[self._levels[0]], reach)
        self._around: list[tuple[Failure, Search, list[Points]]] = []
        self._check_definite()
        self._alike: list[Alike] = look_alikes(reference, self.middle, self._place)

    def find(self, image: Image) -> Located:
        """The part's pose in a frame of the reference's shape; ValueError for another."""
        if image.shape != self.shape:
            raise ValueError(f"a frame of shape {image.shape}, the reference has {self.shape}")
        planes = self._pyramid.build(image)
        peaks = self._search.peaks(planes[self._levels[0]], 3)
        poses = self._refined(planes, peaks)
        if not poses or poses[0].quality < self.settings.min_quality:
            return self._why_not(planes, poses)
        pose = poses[0]
        if len(poses) > 1 and poses[1].quality >= SECOND * pose.quality:
            places = " and ".join(f"{one.dx:+.0f}, {one.dy:+.0f} px" for one in poses[:2])
            return Located(None, "two_parts", f"parts at {places}; leave one in the picture")
        other = find_alike(self._alike, planes, pose)
        if other is not None:
            return Located(None, other.failure, other.text)
        beyond = self._beyond(pose)
        return Located(None, "out_of_range", beyond) if beyond else Located(pose)

    def warm_up(self) -> None:
        """Make what the first part that is not found would wait for."""
        self._all_around()

    def straighten(self, image: Image, pose: Pose, out: Image) -> None:
        """Write the frame into `out` (of its shape), the part where it lay in the reference. What came
        from outside of the frame repeats its edge."""
        lay_straight(image, matrix(pose, self.middle), out)

    def _choose(self, plane: Grey, level: int) -> Points:
        x, y, width, height = self.box
        corners = np.array([x, y, x + width, y + height]) / 2**level
        limits = np.array(plane.shape[::-1] * 2)
        turns, scales = self.settings.max_angle > 0, self.settings.max_scale > 0
        return choose_points(plane, level, self.middle, np.clip(corners, 0, limits), turns, scales)

    def _make_search(self, plane: Grey, reach: float) -> Search:
        level, most = self._levels[0], self.settings.max_scale
        count = int(np.ceil(most / SCALE_STEP)) if most else 0
        scales = (1 + np.linspace(-most, most, 2 * count + 1)).tolist() if count else [1.0]
        angles = angle_steps(reach, self._size, level)
        return Search(plane, level, self.middle, self._size, angles, scales)

    def _refined(
        self, planes: dict[int, Grey], peaks: Sequence[Peak], points: Sequence[Points] = ()
    ) -> list[Pose]:
        """The peaks as poses, the best first. All are refined at the first level, those that may be
        parts at every level."""
        first, *rest = points or self._points
        near = [peak for peak in peaks if peak.score >= PROMISING * peaks[0].score]
        poses = [refine(planes[first.level], first, peak.pose) for peak in near]
        poses.sort(key=lambda pose: -pose.quality)
        for i, pose in enumerate(poses):
            if i and pose.quality < SECOND * poses[0].quality:
                continue
            for level in rest:
                pose = refine(planes[level.level], level, pose)
            poses[i] = pose
        poses.sort(key=lambda pose: -pose.quality)
        return _distinct(poses, float(self._size.min()) / 4)

    def _place(self, image: Image) -> tuple[dict[int, Grey], Pose | None, Points]:
        """Where the reference is found in a picture, and the points to look at more closely."""
        planes = {k: plane.copy() for k, plane in self._pyramid.build(image).items()}
        poses = self._refined(planes, self._search.peaks(planes[self._levels[0]], 1))
        points = self._points[min(1, len(self._points) - 1)]
        found = poses and poses[0].quality >= self.settings.min_quality and not self._beyond(poses[0])
        return planes, poses[0] if found else None, points

    def _beyond(self, pose: Pose) -> str:
        """In which way a pose is out of bounds; "" when it is not."""
        settings, (height, width) = self.settings, self.shape[:2]
        if abs(pose.dx) > settings.max_shift * width + SLACK or (
            abs(pose.dy) > settings.max_shift * height + SLACK
        ):
            return (
                f"the part is off by {pose.dx:+.1f}, {pose.dy:+.1f} px, max_shift = "
                f"{settings.max_shift:g} allows {settings.max_shift * width:.0f}, "
                f"{settings.max_shift * height:.0f}"
            )
        if abs(pose.angle) > settings.max_angle + SLACK:
            return f"the part is turned by {pose.angle:+.1f} degrees, max_angle = {settings.max_angle:g}"
        if abs(pose.scale - 1.0) > max(settings.max_scale, SLACK) + SLACK:
            return f"the part is {pose.scale:.3f} times as large, max_scale = {settings.max_scale:g}"
        if pose.outside > OUTSIDE:
            return f"{pose.outside:.0%} of what the part is located by is outside of the frame"
        return ""

    def _why_not(self, planes: dict[int, Grey], poses: Sequence[Pose]) -> Located:
        """What a frame shows in which the part is not found: time does not matter any more."""
        level = self._levels[0]
        ours, theirs = float(self._planes[level].std()), float(planes[level].std())
        if theirs < EMPTY * ours:
            return Located(None, "empty", f"the frame has {theirs / ours:.0%} of the part's contrast")
        quality = poses[0].quality if poses else 0.0
        for failure, search, points in self._all_around():
            found = self._refined(planes, search.peaks(planes[level], 2), points)
            if not found or found[0].quality < self.settings.min_quality:
                continue
            pose = found[0]
            if failure == "orientation" and abs(pose.angle) <= 45.0:
                beyond = self._beyond(pose)
                if beyond:
                    return Located(None, "out_of_range", beyond)
                continue
            what = "its mirror image is there" if failure == "mirrored" else "the part is there"
            return Located(None, failure, f"{what}, turned by {pose.angle:+.0f} degrees")
        return Located(
            None,
            "not_found",
            f"nothing is like the part: quality {quality:.2f}, min_quality = "
            f"{self.settings.min_quality:g}",
        )

    def _all_around(self) -> list[tuple[Failure, Search, list[Points]]]:
        """Searches at any angle, for the part and for its mirror image; made when first needed."""
        if not self._around:
            for failure, planes in (("orientation", self._planes), ("mirrored", self._mirrored())):
                search = self._make_search(planes[self._levels[0]], 180.0)
                points = [self._choose(planes[k], k) for k in self._levels]
                self._around.append((failure, search, points))  # type: ignore[arg-type]
        return self._around

    def _mirrored(self) -> dict[int, Grey]:
        """The reference's levels, mirrored left to right about the middle of the box."""
        flipped = {}
        for k, plane in self._planes.items():
            move = np.array([[-1.0, 0.0, 2 * to_level(self.middle, k)[0]], [0.0, 1.0, 0.0]])
            size = plane.shape[::-1]
            flipped[k] = np.asarray(
                cv2.warpAffine(plane, move, size, borderMode=cv2.BORDER_REPLICATE), np.float32
            )
        return flipped

    def _check_definite(self) -> None:
        """A stripe looks the same further along, a disc at every angle."""
        points, settings = self._points[0], self.settings
        plane, (height, width) = self._planes[points.level], self.shape[:2]
        moves = [
            Pose(settings.max_shift * width * x / 2, settings.max_shift * height * y / 2, 0.0)
            for x, y in ((1, 0), (0, 1), (1, 1), (1, -1))
        ]
        for pose, what in [
            *((move, "max_shift") for move in moves if settings.max_shift),
            *((Pose(0.0, 0.0, a * settings.max_angle, 1.0), "max_angle") for a in (0.5, 1.0)),
        ]:
            values, inside = sample(plane, points, pose)
            if pose != Pose(0.0, 0.0, 0.0) and correlation(values[inside], points.values[inside]) > SAME:
                how = (
                    f"turned by {pose.angle:.1f} degrees"
                    if what == "max_angle"
                    else f"moved by {pose.dx:.0f}, {pose.dy:.0f} px"
                )
                raise CheckFailed(
                    f"the reference part looks the same {how}, so where it lies cannot be told; give "
                    f"locate.box a region with more features, or set locate.{what} = 0"
                )


def _check_box(box: Box, shape: Sequence[int]) -> None:
    x, y, width, height = box
    if min(x, y) < 0 or min(width, height) < 16 or x + width > shape[1] or y + height > shape[0]:
        raise CheckFailed(
            f"locate.box {list(box)} (x, y, width, height) is not a region of at least 16 x 16 px "
            f"inside a frame of {shape[1]} x {shape[0]} px; correct it"
        )


def _check_texture(points: Points) -> None:
    deviation = float(points.values.std())
    if deviation < TEXTURE:
        raise CheckFailed(
            f"the reference part has no texture to find it by (deviation {deviation:.2g} grey values, "
            f"{TEXTURE:g} are needed); look at light and focus, or give locate.box another region"
        )


def _distinct(poses: Sequence[Pose], apart: float) -> list[Pose]:
    """Without those that came to lie where a better one does."""
    kept: list[Pose] = []
    for pose in poses:
        if all(np.hypot(pose.dx - k.dx, pose.dy - k.dy) > apart for k in kept):
            kept.append(pose)
    return kept
