"""The bundle's own good parts: scored again where they meet another runtime or device, and what parts
are laid like.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from edge_ad.bundle import Bundle
from edge_ad.errors import ArtifactError, CheckFailed
from edge_ad.frame import Image
from edge_ad.locate import CameraLocator, Follower, Locator, PartLocator, Settings
from edge_ad.preprocess.views import camera_regions

if TYPE_CHECKING:
    from edge_ad.inspector import Inspector

# Largest move of a reference frame's score, relative to the threshold, under another runtime or device.
REFERENCE_TOLERANCE = 0.02


def check_reference(inspector: Inspector) -> float:
    """Score the bundle's reference frames again; returns the largest move relative to the threshold.

    Raises ArtifactError when it is more than REFERENCE_TOLERANCE, or when there is nothing to compare.
    """
    bundle, identity = inspector.bundle, inspector.identity
    section = bundle.section(identity.key)
    were = section.identity
    change = f"calibrated on {were.text}, this is {identity.text}"
    if not section.reference_scores:
        raise ArtifactError(
            f"{bundle.path}: {change}, and it has no reference frames to compare; "
            "run 'edge-ad calibrate --refit'"
        )
    moved = 0.0
    for file, expected in section.reference_scores.items():
        score = inspector.inspect_part(reference_images(bundle, file)).score
        # NaN must not slip through a comparison
        if not abs(score - expected) <= REFERENCE_TOLERANCE * section.threshold:
            raise ArtifactError(
                f"{bundle.path}: {change}; {file} scores {score:.6g} instead of {expected:.6g} "
                f"(threshold {section.threshold:.6g}); run 'edge-ad calibrate --refit'"
            )
        moved = max(moved, abs(score - expected) / section.threshold)
    return moved


def reference_images(bundle: Bundle, file: str) -> list[Image]:
    """The pictures of a reference part, one per camera.

    `file` is the first camera's, reference/NAME.png; with several cameras each has a directory,
    reference/CAMERA/NAME.png. The bundle was verified when it was opened.
    """
    path = Path(file)
    cameras = tuple(bundle.manifest.preprocess.cameras)
    files = (
        [path.parent.with_name(camera) / path.name for camera in cameras] if len(cameras) > 1 else [path]
    )
    return [_picture(bundle, one) for one in files]


def part_locator(bundle: Bundle) -> PartLocator:
    """What finds the part in each camera's frame; ArtifactError for a reference part that is none."""
    finders: list[CameraLocator | Follower | None] = []
    cameras = bundle.manifest.preprocess.cameras
    for name, camera in cameras.items():
        rule = camera.locate
        if rule is None:
            finders.append(None)
            continue
        if rule.shot:
            regions = camera_regions(bundle.manifest.views, name, (camera.height, camera.width))
            finders.append(Follower(list(cameras).index(rule.shot), regions, rule.max_outside))
            continue
        settings = Settings(rule.max_shift, rule.max_angle, rule.max_scale, rule.min_quality, rule.box)
        try:
            locator = Locator(_picture(bundle, Path(rule.reference)), settings)
        except CheckFailed as error:
            raise ArtifactError(f"{bundle.path}: {rule.reference}: {error}; calibrate again") from error
        regions = camera_regions(bundle.manifest.views, name, locator.shape)
        finders.append(CameraLocator(locator, regions, rule.max_outside))
    return PartLocator(finders)


def _picture(bundle: Bundle, file: Path) -> Image:
    image = cv2.imread(str(bundle.path / file), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ArtifactError(f"{bundle.path}: {file} is no image; calibrate again")
    return np.asarray(image, np.uint8)
