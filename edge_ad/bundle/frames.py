"""How a GPU turns a bundle's frames into network inputs."""

from __future__ import annotations

import logging

from edge_ad.bundle.read import Bundle
from edge_ad.bundle.zones import painted, read_label_images
from edge_ad.preprocess.cuda.cameras import CameraPixels
from edge_ad.preprocess.cuda.frames import UnknownStraightening
from edge_ad.preprocess.cuda.plan import PreprocessPlan, plan_preprocess

logger = logging.getLogger(__name__)


def gpu_frames(bundle: Bundle) -> PreprocessPlan | None:
    """What the kernels do with a part's frames, already converted to grey or BGR, in the order of the
    bundle's cameras. None where the CPU has to prepare them: frames of any size, or an OpenCV that lays
    parts straight in a way that the kernels do not know. The rows are the same, bit by bit; which it is
    is logged, as it costs time.

    Raises ConfigError for what `plan_preprocess` refuses otherwise.
    """
    manifest = bundle.manifest
    rule = manifest.preprocess
    loose = [name for name, camera in rule.cameras.items() if camera.frame_size == "any"]
    if loose:
        _tell(manifest.id, f"camera {loose[0]} has frames of any size")
        return None
    cameras = [
        CameraPixels(
            name,
            (camera.height, camera.width) if camera.channels == 1 else (camera.height, camera.width, 3),
            located=camera.locate is not None,
        )
        for name, camera in rule.cameras.items()
    ]
    zones = painted(manifest.zones, read_label_images(bundle)) if manifest.local is not None else {}
    try:
        return plan_preprocess(manifest.views, cameras, rule.height, rule.width, zones)
    except UnknownStraightening as error:
        _tell(manifest.id, str(error))
        return None


def _tell(bundle: str, why: str) -> None:
    logger.warning("bundle %s: the CPU prepares the GPU's frames: %s", bundle, why)
