"""Data sets in MVTec layout: train/good, test/good and test/<kind of defect>."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edge_ad.capture.images import IMAGE_SUFFIXES, list_images, printable
from edge_ad.errors import CaptureError

GOOD = "good"


@dataclass(frozen=True, slots=True)
class Dataset:
    """Paths of one class: good parts to fit on, good and defective ones to test with."""

    name: str
    root: Path
    train: list[Path]
    good: list[Path]
    defects: dict[str, list[Path]]
    empty: list[str] = field(default_factory=list)  # folders under test/ without an image

    @property
    def size(self) -> int:
        """How many images there are in all."""
        return len(self.train) + len(self.good) + sum(len(paths) for paths in self.defects.values())


def find_datasets(directory: Path) -> list[Dataset]:
    """The data set in `directory`, or those in its subdirectories, by name.

    Raises CaptureError that names the folder that is missing or has no image.
    """
    if not directory.is_dir():
        raise CaptureError(f"{directory}: no such directory; give a data set in MVTec layout")
    if (directory / "train").is_dir() or (directory / "test").is_dir():
        return [open_dataset(directory)]
    classes = [d for d in _subdirectories(directory) if (d / "train" / GOOD).is_dir()]
    if not classes:
        raise CaptureError(
            f"{directory}: no train/good here or one level below; expected MVTec layout: train/good, "
            "test/good, test/<defect>"
        )
    return [open_dataset(d) for d in classes]


def open_dataset(directory: Path) -> Dataset:
    """The paths of one class. Raises CaptureError when a part of it is missing."""
    test = directory / "test"
    train, good = list_images(directory / "train" / GOOD), list_images(test / GOOD)
    kinds = {printable(Path(d.name)): _images(d) for d in _subdirectories(test) if d.name != GOOD}
    defects = {kind: paths for kind, paths in kinds.items() if paths}
    if not defects:
        raise CaptureError(
            f"{test}: no images of defects; put them in {test}/<kind of defect>, next to good"
        )
    empty = [f"test/{kind}" for kind, paths in kinds.items() if not paths]
    return Dataset(printable(Path(directory.resolve().name)), directory, train, good, defects, empty)


def _subdirectories(directory: Path) -> list[Path]:
    return sorted(d for d in directory.iterdir() if d.is_dir() and not d.name.startswith("."))


def _images(directory: Path) -> list[Path]:
    return list_images(directory) if any(_is_image(p) for p in directory.rglob("*")) else []


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
