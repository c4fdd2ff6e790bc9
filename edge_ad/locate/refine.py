"""The last fractions of a pixel: least squares on a few thousand points of the reference.

At a pose that is off by the small motion V the frame shows, at the point p of the reference,

    F(W(p)) = a T(V(p)) + b = a T(p) + b + a J(p) v,   J = grad T [1 0 y; 0 1 -x] (and [x; y])

with a and b the light, so that one regression of the frame's values on T, 1 and J gives v, and the pose
is corrected by the inverse of V (Baker and Matthews, 2004, "Lucas-Kanade 20 years on: a unifying
framework", inverse compositional). T, J and the points are laid out once. Points that disagree, because
a defect lies there, weigh less.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_ad.locate.pose import Pose, rotation
from edge_ad.locate.pyramid import Grey, to_level

POINTS = 1024
CELLS = 16  # points are spread over CELLS x CELLS pieces of the box
STEPS = 8
ENOUGH = 0.01  # px of a level: smaller steps end it
SOFT = 2.5  # robust deviations at which a point weighs half as much

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Points of the reference at one level: offsets [n, 2] from the middle of the box in pixels of the
    picture; design [n, 2 + k]: T, 1 and J by dx, dy and, where they are free, angle (radians) and scale;
    piece [n]: which of the box's pieces each lies in."""

    level: int
    middle: Floats
    offsets: Floats
    design: Floats
    piece: NDArray[np.int64]
    turns: bool

    @property
    def values(self) -> Floats:
        """T [n]."""
        return self.design[:, 0]


def choose_points(
    plane: Grey, level: int, middle: Floats, box: Floats, turns: bool, scales: bool
) -> Points:
    """The strongest edges, the same number from each piece of the box (x0, y0, x1, y1 of the level)."""
    gx = cv2.Sobel(plane, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
    gy = cv2.Sobel(plane, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
    strength = gx * gx + gy * gy
    xs, ys = (np.unique(np.linspace(box[i], box[i + 2], CELLS + 1).round().astype(int)) for i in (0, 1))
    places = []
    each = math.ceil(POINTS / ((len(xs) - 1) * (len(ys) - 1)))
    for y0, y1 in pairwise(ys.tolist()):
        for x0, x1 in pairwise(xs.tolist()):
            piece = strength[y0:y1, x0:x1]
            best = np.argsort(-piece, axis=None, kind="stable")[:each]
            at = np.unravel_index(best, piece.shape)
            places.append(np.column_stack([at[1] + x0, at[0] + y0]))
    piece = np.repeat(np.arange(len(places)), [len(place) for place in places])
    x, y = np.concatenate(places).T
    offsets = (np.column_stack([x, y]) + 0.5) * 2.0**level - 0.5 - middle
    # Gradients by pixels of the picture, as offsets are.
    gx, gy = (g[y, x].astype(np.float64) / 2**level for g in (gx, gy))
    px, py = offsets.T
    columns = [plane[y, x].astype(np.float64), np.ones(len(x)), gx, gy]
    if turns:
        columns.append(gx * py - gy * px)
    if scales:
        columns.append(gx * px + gy * py)
    return Points(level, middle, offsets, np.column_stack(columns), piece, turns)


def sample(plane: Grey, points: Points, pose: Pose) -> tuple[Floats, NDArray[np.bool_]]:
    """The frame's values [n] at the points, and which of them lie inside of it."""
    turn = pose.scale * rotation(pose.angle)
    at = points.offsets @ turn.T + (points.middle + (pose.dx, pose.dy))
    at = to_level(at, points.level).astype(np.float32)
    values = cv2.remap(
        plane, at[:, None, 0], at[:, None, 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    inside = ((at > -0.5) & (at < np.array(plane.shape[::-1]) - 0.5)).all(axis=1)
    return np.asarray(values[:, 0], np.float64), np.asarray(inside)


def refine(plane: Grey, points: Points, pose: Pose) -> Pose:
    """The pose corrected at the points' level; quality and share outside are of the last step."""
    weights = np.ones(len(points.offsets))
    enough = ENOUGH * 2**points.level
    for step in range(STEPS):
        values, inside = sample(plane, points, pose)
        if inside.sum() < len(inside) / 4:
            return replace(pose, quality=0.0, outside=1.0 - float(inside.mean()))
        weighted = points.design * (weights * inside)[:, None]
        normal = weighted.T @ points.design
        try:
            solution = np.linalg.solve(normal, weighted.T @ values)
        except np.linalg.LinAlgError:
            return replace(pose, quality=0.0)
        if not solution[0] > 0.05:  # the picture here is not like the reference at all
            break
        pose = _corrected(pose, solution[2:] / solution[0], points.turns)
        rest = np.abs(values - points.design @ solution)
        spread = 1.4826 * float(np.median(rest[::4])) + 1e-6
        weights = 1.0 / (1.0 + (rest / (SOFT * spread)) ** 2)
        radius = float(np.abs(points.offsets).max())
        move = np.abs(solution[2:] / solution[0]) * ([1.0, 1.0] + [radius] * (len(solution) - 4))
        if step and move.max() < enough:
            break
    return measured(plane, points, pose)


def measured(plane: Grey, points: Points, pose: Pose) -> Pose:
    """The pose with its quality, the correlation of the frame's values and the reference's."""
    values, inside = sample(plane, points, pose)
    quality = correlation(values[inside], points.values[inside])
    return replace(pose, quality=quality, outside=1.0 - float(inside.mean()))


def correlation(a: Floats, b: Floats) -> float:
    """Of two [n]; 0 where one of them is the same everywhere."""
    if len(a) < 8:
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    length = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / length if length > 1e-9 else 0.0


def _corrected(pose: Pose, v: Floats, turns: bool) -> Pose:
    """W after the inverse of V."""
    turn = float(v[2]) if turns else 0.0
    grow = float(v[-1]) if len(v) > 2 + turns else 0.0
    scale, angle = pose.scale / (1.0 + grow), pose.angle - math.degrees(turn)
    dx, dy = np.array([pose.dx, pose.dy]) - scale * rotation(angle) @ v[:2]
    return replace(pose, dx=float(dx), dy=float(dy), angle=angle, scale=scale)
