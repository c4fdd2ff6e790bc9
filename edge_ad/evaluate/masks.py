"""Masks of defects in MVTec layout: ground_truth/<kind>/<stem>_mask.png, or the image's own name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_ad.capture.headers import read_header
from edge_ad.capture.images import IMAGE_SUFFIXES, printable, read_image
from edge_ad.capture.pixels import pixel_rule
from edge_ad.config import MAX_MEGAPIXELS
from edge_ad.errors import CaptureError

FOLDER = "ground_truth"
DEFECT_ABOVE = 127  # a brighter mask pixel is defect
_RULE = pixel_rule("auto")


@dataclass(frozen=True, slots=True)
class Masks:
    """What was found for the images of defects. `files` maps an image to its mask, none of them empty;
    the others are listed relative to the data set: empty and unreadable masks, images without one."""

    files: dict[Path, Path] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def find_masks(root: Path, images: Iterable[Path]) -> Masks | None:
    """The masks of `images`, which lie under root/test; None for a data set without ground_truth.

    Each is looked at now, so that a mask of another size than its image ends the evaluation before its
    work: CaptureError with both files, both sizes and the remedy.
    """
    if not (root / FOLDER).is_dir():
        return None
    masks = Masks()
    for image in images:
        path = find_mask(root, image)
        if path is None:
            masks.missing.append(_short(image, root))
            continue
        try:
            mask = read_grey(path)
        except CaptureError as error:
            masks.unreadable.append(str(error))
            continue
        _check_size(path, mask, image)
        if int(mask.max()) > DEFECT_ABOVE:
            masks.files[image] = path
        else:
            masks.empty.append(
                f"{_short(path, root)}: no pixel above {DEFECT_ABOVE} (highest {mask.max()})"
            )
    return masks


def find_mask(root: Path, image: Path) -> Path | None:
    """Where the mask of test/<kind>/<stem>.* lies, `<stem>_mask` before `<stem>`; None without one."""
    folder = root / FOLDER / image.relative_to(root / "test").parent
    for stem in (f"{image.stem}_mask", image.stem):
        for suffix in IMAGE_SUFFIXES:
            for name in (stem + suffix, stem + suffix.upper()):
                if (folder / name).is_file():
                    return folder / name
    return None


def read_mask(path: Path) -> NDArray[np.bool_]:
    """The defect's pixels, bool [H, W]. CaptureError when the file cannot be read."""
    return np.asarray(read_grey(path) > DEFECT_ABOVE)


def read_grey(path: Path) -> NDArray[np.uint8]:
    """A mask's values, uint8 [H, W]; of a coloured mask the brightest channel."""
    image: NDArray[Any] = read_image(path, _RULE, int(MAX_MEGAPIXELS * 1e6))
    return np.asarray(image if image.ndim == 2 else image.max(axis=2), np.uint8)


def _check_size(path: Path, mask: NDArray[np.uint8], image: Path) -> None:
    try:
        header = read_header(image.read_bytes())
    except (CaptureError, OSError):
        return  # reading the image itself will say what is wrong with it
    height, width = mask.shape
    if (height, width) != (header.height, header.width):
        raise CaptureError(
            f"{printable(path)}: the mask is {width} x {height} px, its image {printable(image)} is "
            f"{header.width} x {header.height} px; save the mask at the image's size, or remove it"
        )


def _short(path: Path, root: Path) -> str:
    return printable(path.relative_to(root))
