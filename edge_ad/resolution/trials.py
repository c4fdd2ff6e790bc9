"""Defects into good parts, and how many of them are rejected: from large to small."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edge_ad.bundle import ViewRule
from edge_ad.calibrate.job import Candidate
from edge_ad.calibrate.progress import Progress
from edge_ad.capture.defects import Rng
from edge_ad.capture.insertion import KINDS, draw, insert, white
from edge_ad.frame import Image
from edge_ad.locate import Pose
from edge_ad.preprocess import Roi
from edge_ad.preprocess.views import view_region
from edge_ad.qualify.judge import Judge, Reader
from edge_ad.resolution.ground import Ground
from edge_ad.resolution.request import Request
from edge_ad.resolution.result import Size, tried
from edge_ad.verdict import Decision

STEP = "defects"
HOPELESS = 0.5  # after two sizes in a row with a lower rate, smaller ones are not tried

Poses = tuple[Pose | None, ...]  # of a part's cameras; none where nothing is located
Example = Callable[[str, float, Image, "Altered"], None]


@dataclass(frozen=True)
class Altered:
    """A part with a defect: its images, the one that has it, and where it is (x, y, width, height)."""

    images: list[Image]
    camera: int
    spot: Roi


def run_trials(
    judge: Judge,
    reader: Reader,
    parts: Sequence[Candidate],
    views: Sequence[ViewRule],
    sizes: Sequence[float],
    request: Request,
    progress: Progress,
    example: Example | None = None,
    ground: Ground | None = None,
    poses: Sequence[Poses] = (),
) -> dict[str, list[Size]]:
    """By kind, the sizes that were tried, largest first.

    Trial number i of a kind takes the same part, view and relative place at every size, so that sizes
    are compared on equal terms. `example` is shown the first trial of each kind and size: the image
    unaltered, and what became of it. `poses`: of each part. Raises CaptureError for a part that has gone
    since it passed.
    """
    ground = ground or Ground()
    found: dict[str, list[Size]] = {kind: [] for kind in request.kinds}
    done = 0
    for left, size in zip(range(len(sizes), 0, -1), reversed(sizes), strict=True):
        kinds = [kind for kind in request.kinds if not _hopeless(found[kind])]
        if not kinds:
            break
        total = done + left * len(kinds) * request.trials
        verdicts: dict[str, list[Decision]] = {kind: [] for kind in kinds}
        for trial in range(request.trials):
            which = trial % len(parts)
            images, lying = reader.read(parts[which]), poses[which] if poses else ()
            for kind in kinds:
                rng = np.random.default_rng((request.seed, KINDS.index(kind), trial))
                altered = alter(
                    images, judge.cameras, views, kind, size, request.contrast, rng, ground, lying
                )
                if example is not None and trial == 0:
                    example(kind, size, images[altered.camera], altered)
                verdicts[kind].append(judge.inspect_part(altered.images).decision)
                progress.update(STEP, done, total)
                done += 1
        for kind, decisions in verdicts.items():
            detected, faults = (decisions.count(d) for d in (Decision.REJECT, Decision.FAULT))
            found[kind].append(tried(size, request.trials, detected, faults))
    progress.update(STEP, done, done)
    return found


def alter(
    images: Sequence[Image],
    cameras: Sequence[str],
    views: Sequence[ViewRule],
    kind: str,
    size: float,
    contrast: float,
    rng: Rng,
    ground: Ground,
    poses: Poses,
) -> Altered:
    """A defect at a random place of a random view, whole inside of it, where the part lies so; `images`
    stay as they are."""
    view = views[int(rng.integers(len(views)))]
    camera = list(cameras).index(view.camera)
    image = images[camera]
    left, top, width, height = view_region(view, image.shape)
    relief = draw(kind, rng, size, min(width, height))
    at = ground.choose(view, image.shape, relief.shape, rng)
    pose = poses[camera] if poses else None
    x, y = ground.on_part(view.camera, pose, image.shape, relief.shape, at)
    step = contrast * white(np.ascontiguousarray(image[top : top + height, left : left + width]))
    changed = list(images)
    changed[camera] = insert(image, relief, x, y, step)
    return Altered(changed, camera, (x, y, relief.shape[1], relief.shape[0]))


def _hopeless(sizes: Sequence[Size]) -> bool:
    return len(sizes) >= 2 and all(one.rate < HOPELESS for one in sizes[-2:])
