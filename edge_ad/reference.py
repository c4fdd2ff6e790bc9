"""The bundle's own good parts, scored again where they meet another runtime or device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from edge_ad.bundle import Bundle
from edge_ad.errors import ArtifactError
from edge_ad.frame import Image

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
    change = (
        f"calibrated on {were.runtime} ({were.device}), this is {identity.runtime} ({identity.device})"
    )
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
    images: list[Image] = []
    for one in files:
        image = cv2.imread(str(bundle.path / one), cv2.IMREAD_UNCHANGED)
        if image is None:
            raise ArtifactError(f"{bundle.path}: {one} is no image; calibrate again")
        images.append(image)
    return images
