"""What was found on a part that scores above the threshold: where, how large, and whether it matters.

A position stands out where its z on the map exceeds what its zone may show. Neighbouring ones are one
finding, of the zone of the one that stands out most. A zone excuses findings that lie in it whole and
are too small, or of the few small ones that are cosmetic. Where every finding of a part is excused, and
what is left of it scores below the threshold, it passes: that only ever makes false rejects rarer than
promised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_ad.bundle import Manifest, Section, ZoneRule
from edge_ad.bundle.zones import Images
from edge_ad.gaussian.scale import TileScale
from edge_ad.gaussian.zones import Labels
from edge_ad.locate import Pose
from edge_ad.locate.part import PartLocator
from edge_ad.locate.pose import matrix
from edge_ad.preprocess import PartInput, Roi
from edge_ad.preprocess.views import ViewInput
from edge_ad.preprocess.zones import tile_labels
from edge_ad.verdict import Finding

MOST = 50  # findings of a part that are listed, those that stand out most
TOO_MANY = 2000  # findings of a view from which nothing excuses them, and only the listed ones are made
LEAST_Z = 0.1  # what a zone's limit on z is taken to be at least

Floats = NDArray[np.float64]
Places = NDArray[np.int64]


class Finder:
    """Findings by one section of a bundle. labels [T, P]: zones of the positions, None without zones."""

    def __init__(
        self,
        manifest: Manifest,
        section: Section,
        scale: TileScale,
        grid: tuple[int, int],
        labels: Labels | None,
        images: Images,
    ) -> None:
        self._rules = manifest.zones
        self._scale, self._grid = scale, grid
        self._labels, self._images = labels, images
        self._maps: dict[tuple[str, tuple[int, ...]], NDArray[np.int16]] = {}  # by view and shape
        self._px_per_mm = {name: c.px_per_mm for name, c in manifest.preprocess.cameras.items()}
        limits = [one.median + section.threshold * (one.limit - one.median) for one in section.zones]
        of_row = (
            [limits[zone] for zone in scale.zone.tolist()]
            if limits
            else [section.threshold * section.scales[tile] for tile in scale.tile.tolist()]
        )
        self._limit = np.array(of_row)  # [R], of the rows' scores
        self._z_limit = np.maximum(scale.local_mean + scale.local_spread * self._limit, LEAST_Z)

    def find(
        self,
        whole: Floats,
        z: Floats,
        maps: NDArray[np.float32],
        part: PartInput,
        locator: PartLocator,
        poses: Sequence[Pose | None],
    ) -> tuple[tuple[Finding, ...], bool]:
        """Findings of a part from its sums of level distances [T], z given the whole [T, P] and maps
        [T, rows, columns], the most striking first; and whether all that is wrong with it is excused."""
        excess = self._excess(z, maps)
        seen: list[tuple[Finding, bool]] = []
        cells = []  # of each finding, places in z
        too_many = False
        for view, span, camera in zip(part.views, part.rows, part.cameras, strict=True):
            stitch = view.stitch(self._grid)
            found_there, cut = self._of_view(view, stitch(excess[span]))
            too_many |= cut
            for one, inside, places in found_there:
                seen.append((_in_frame(one, locator, camera, poses), inside))
                cells.append(stitch.cells_of(places) + span.start * z.shape[1])
        found = self._excused(seen)
        excused = bool(found) and not too_many and all(one.allowed for one in found)
        if excused:
            # What is left must pass by itself. The part as a whole is no place, and nothing excuses it.
            rest = z.copy()
            rest.reshape(-1)[np.concatenate(cells)] = -np.inf
            left = np.maximum(self._scale.local_scores(rest), self._scale.whole_scores(whole))
            excused = bool((left <= self._limit).all())
        return tuple(sorted(found, key=lambda one: -one.peak)[:MOST]), excused

    def _excess(self, z: Floats, maps: NDArray[np.float32]) -> NDArray[np.float32]:
        """[T, rows, columns]: above 1 where a position stands out; 0 where it is ignored."""
        tiles, positions = z.shape
        local = self._scale.local_scores(z)
        excess = np.zeros((tiles, positions))
        for row, (tile, zone) in enumerate(
            zip(self._scale.tile.tolist(), self._scale.zone.tolist(), strict=True)
        ):
            inside = np.ones(positions, np.bool_) if self._labels is None else self._labels[tile] == zone
            if not inside.any():
                continue
            seen = maps[tile].ravel()[inside] / self._z_limit[row]
            excess[tile, inside] = seen
            if local[row] > self._limit[row] and not (seen > 1).any():
                # The score looks at z given the whole alone; the map must show what decided.
                at = np.flatnonzero(inside)[int(np.argmax(z[tile, inside]))]
                excess[tile, at] = max(1.001, z[tile, at] / self._z_limit[row])
        return excess.reshape(tiles, *self._grid).astype(np.float32)

    def _of_view(
        self, view: ViewInput, excess: NDArray[np.float32]
    ) -> tuple[list[tuple[Finding, bool, Places]], bool]:
        """In pixels of the frame as the part was laid; whether all of it is in its zone; its places on
        the map. And whether there are too many, so that some are missing."""
        x, y, width, height = _region(view.boxes)
        columns = excess.shape[1]
        size = np.array([width / columns, height / excess.shape[0]])
        zones = self._zone_map(view, excess.shape)
        spots = _spots(excess)
        cut = len(spots) > TOO_MANY
        if cut:
            peaks = np.array([excess.flat[spot].max() for spot in spots])
            spots = [spots[i] for i in np.argsort(-peaks)[:MOST]]
        found = []
        for spot in spots:
            at = np.column_stack([spot % columns, spot // columns]) + 0.5
            weights = excess.flat[spot].astype(np.float64)
            middle = at.T @ weights / weights.sum() * size + (x, y) - 0.5
            whose = np.zeros(len(spot), np.int16) if zones is None else zones.flat[spot]
            zone = int(whose[int(np.argmax(weights))])
            rule = self._rules[zone - 1] if zone else None
            # What reaches out of a zone is not the zone's to excuse.
            inside_it = bool((whose == zone).all())
            one = self._finding(view, rule, middle, float(len(spot) * size.prod()), float(weights.max()))
            found.append((one, inside_it, spot))
        return found, cut

    def _zone_map(self, view: ViewInput, shape: tuple[int, ...]) -> NDArray[np.int16] | None:
        """Which zone most of each place of a view's map is in: 1 for the first rule, 0 for none."""
        key, image = (view.view.name, shape), self._images.get(view.view.camera)
        if image is None:
            return None
        if key not in self._maps:
            meaning = {
                rule.value: i for i, rule in enumerate(self._rules, 1) if rule.camera == view.view.camera
            }
            # More than half, for a place that is in a zone by less is not excused by it.
            grid = (shape[0], shape[1])
            labels = tile_labels(image, [_region(view.boxes)], grid, meaning, least=0.5)
            self._maps[key] = labels.reshape(shape)
        return self._maps[key]

    def _finding(
        self, view: ViewInput, rule: ZoneRule | None, middle: Any, area: float, peak: float
    ) -> Finding:
        scale = self._px_per_mm[view.view.camera]
        return Finding(
            zone="" if rule is None else rule.name,
            view=view.view.name,
            x=float(middle[0]),
            y=float(middle[1]),
            area=area,
            area_mm2=area / scale**2 if scale else None,
            peak=peak,
            px_per_mm=scale,
        )

    def _excused(self, found: Sequence[tuple[Finding, bool]]) -> list[Finding]:
        """With what their zones allow: of findings that lie in them as a whole."""
        result = []
        for name in dict.fromkeys(one.zone for one, _ in found):
            rule = next((zone for zone in self._rules if zone.name == name), None)
            of_zone = [(one, inside) for one, inside in found if one.zone == name]
            if rule is None:
                result += [one for one, _ in of_zone]
                continue
            tiny = [inside and _size(one) < rule.min_area for one, inside in of_zone]
            small = [
                inside and not least and _size(one) <= rule.allow_area
                for (one, inside), least in zip(of_zone, tiny, strict=True)
            ]
            few = sum(small) <= rule.allow
            result += [
                replace(one, allowed=least or (cosmetic and few))
                for (one, _), least, cosmetic in zip(of_zone, tiny, small, strict=True)
            ]
        return result


def _size(one: Finding) -> float:
    """In the unit that zones are given in."""
    return one.area if one.area_mm2 is None else one.area_mm2


def _spots(excess: NDArray[np.float32]) -> list[Places]:
    """The places of neighbours that stand out, each group's in one array."""
    count, marks = cv2.connectedComponents((excess > 1).astype(np.uint8))
    if count == 1:  # the background
        return []
    places = np.flatnonzero(marks)
    order = np.argsort(marks.flat[places], kind="stable")
    ends = np.cumsum(np.bincount(marks.flat[places], minlength=count)[1:])
    return np.split(places[order], ends[:-1])


def _region(boxes: Sequence[Roi]) -> Roi:
    first, last = boxes[0], boxes[-1]
    return first[0], first[1], last[0] + last[2] - first[0], last[1] + last[3] - first[1]


def _in_frame(one: Finding, locator: PartLocator, camera: int, poses: Sequence[Pose | None]) -> Finding:
    """Where it is in the frame as the camera took it."""
    pose = poses[camera] if camera < len(poses) else None
    finder = locator.finders[camera]
    x, y = one.x, one.y
    if pose is not None and finder is not None:
        x, y = matrix(pose, finder.locator.middle) @ (x, y, 1.0)
    # From the first pixel's middle to its corner, where zones and regions are counted from.
    return replace(one, x=float(x) + 0.5, y=float(y) + 0.5)
