"""Where in a picture a defect may be put: inside of a view, on what is not ignored there, wherever the
part lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_ad.bundle import ViewRule
from edge_ad.bundle.zones import ignored, read_label_images
from edge_ad.capture.defects import Rng
from edge_ad.errors import ConfigError
from edge_ad.inspector import Inspector
from edge_ad.locate import Pose
from edge_ad.locate.pose import matrix
from edge_ad.preprocess.views import view_region
from edge_ad.reference import part_locator

TRIES = 10_000  # places that are drawn before none is taken to be left


@dataclass(frozen=True, eq=False)
class Ground:
    """By camera: `hidden` [H, W], what is ignored in the reference part's frame; `middles`: of what its
    parts are located by, where they are."""

    hidden: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    middles: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def choose(
        self, view: ViewRule, shape: Sequence[int], size: Sequence[int], rng: Rng
    ) -> tuple[int, int]:
        """Upper left corner (x, y) of a defect of this size (rows, columns), anywhere in a view of
        frames of this shape, its middle not in what is ignored. ConfigError where no place is left."""
        left, top, width, height = view_region(view, shape)
        hidden = self.hidden.get(view.camera)
        for _ in range(TRIES):
            across, down = rng.random(2)
            x = left + int(across * (width - size[1] + 1))
            y = top + int(down * (height - size[0] + 1))
            if hidden is None or not hidden[y + size[0] // 2, x + size[1] // 2]:
                return x, y
        raise ConfigError(
            f"view {view.name!r} is ignored nearly as a whole; no defect of {size[1]} x {size[0]} px "
            "can be put into it"
        )

    def on_part(
        self,
        camera: str,
        pose: Pose | None,
        shape: Sequence[int],
        size: Sequence[int],
        at: tuple[int, int],
    ) -> tuple[int, int]:
        """The corner of a defect in a frame in which the part lies so, whole inside of it."""
        if pose is None or camera not in self.middles:
            return at
        half = np.array([size[1] - 1, size[0] - 1]) / 2
        middle = matrix(pose, self.middles[camera]) @ (*(np.array(at) + half), 1.0)
        x, y = (
            np.clip(np.rint(middle - half), 0, (shape[1] - size[1], shape[0] - size[0]))
            .astype(int)
            .tolist()
        )
        return x, y


def ground_of(inspector: Inspector) -> Ground:
    """What a bundle says of it."""
    bundle = inspector.bundle
    hidden = {
        camera: np.isin(image, ignored(bundle.manifest.zones, camera))
        for camera, image in read_label_images(bundle).items()
    }
    finders = zip(inspector.cameras, part_locator(bundle).finders, strict=True)
    middles = {camera: one.locator.middle for camera, one in finders if one is not None}
    return Ground(hidden, middles)
