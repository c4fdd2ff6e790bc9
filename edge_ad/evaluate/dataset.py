"""Data sets in MVTec layout: train/good, test/good and test/<kind of defect>."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from edge_ad.capture.images import IMAGE_SUFFIXES, list_images, printable
from edge_ad.errors import CaptureError

GOOD = "good"
Split = Literal["all", "even", "odd"]
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Paths of one class: good parts to fit on, good and defective ones to test with.

    `empty`: folders under test/ without an image; `train_other`: folders beside train/good, which are
    not fitted on, each with its number of images.
    """

    name: str
    root: Path
    train: list[Path]
    good: list[Path]
    defects: dict[str, list[Path]]
    empty: list[str] = field(default_factory=list)
    train_other: dict[str, int] = field(default_factory=dict)
    split: Split = "all"

    @property
    def size(self) -> int:
        """How many images there are in all."""
        return len(self.train) + len(self.good) + sum(len(paths) for paths in self.defects.values())


@dataclass(frozen=True, slots=True)
class Found:
    """The classes of a data set, at least one; and one line about each that lacks a folder."""

    classes: list[Dataset]
    incomplete: list[str]


def find_datasets(directory: Path) -> Found:
    """The data set in `directory`, or those in its subdirectories, by name.

    Raises CaptureError that names the folder that is missing or has no image, if no class is whole.
    """
    if not directory.is_dir():
        raise CaptureError(f"{printable(directory)}: no such directory; give a data set in MVTec layout")
    if _is_class(directory):
        return Found([open_dataset(directory)], [])
    classes: list[Dataset] = []
    errors: list[CaptureError] = []
    for below in _subdirectories(directory):
        if _is_class(below):
            try:
                classes.append(open_dataset(below))
            except CaptureError as error:
                errors.append(error)
    if classes:
        return Found(classes, [str(error) for error in errors])
    if errors:
        raise errors[0]
    raise CaptureError(
        f"{printable(directory)}: no train/good here or one level below; expected MVTec layout: "
        "train/good, test/good, test/<defect>"
    )


def open_dataset(directory: Path) -> Dataset:
    """The paths of one class. Raises CaptureError when a part of it is missing."""
    test, train = directory / "test", directory / "train"
    fitted, good = list_images(train / GOOD), list_images(test / GOOD)
    kinds = {printable(Path(d.name)): _images(d) for d in _subdirectories(test) if d.name != GOOD}
    defects = {kind: paths for kind, paths in kinds.items() if paths}
    if not defects:
        raise CaptureError(
            f"{printable(test)}: no images of defects; put them in {printable(test)}/<kind of defect>, "
            "next to good"
        )
    others = {printable(Path(d.name)): len(_images(d)) for d in _subdirectories(train) if d.name != GOOD}
    return Dataset(
        name=printable(Path(_name(directory))),
        root=directory,
        train=fitted,
        good=good,
        defects=defects,
        empty=[f"test/{kind}" for kind, paths in kinds.items() if not paths],
        train_other={f"train/{name}": count for name, count in others.items() if count},
    )


def half(path: Path) -> Literal["even", "odd"]:
    """Which half of the defects a file belongs to, by the parity of its name's sha256."""
    return "odd" if int(hashlib.sha256(os.fsencode(path.name)).hexdigest(), 16) % 2 else "even"


def take_split(dataset: Dataset, split: Split) -> Dataset:
    """The data set with only that half of its defects, so that choices are made on one and scored on the
    other; good parts stay. Raises CaptureError when no defect is left."""
    if split == "all":
        return dataset
    halves = {kind: [p for p in paths if half(p) == split] for kind, paths in dataset.defects.items()}
    defects = {kind: paths for kind, paths in halves.items() if paths}
    if not defects:
        raise CaptureError(
            f"{printable(dataset.root)}: no defect's file name falls into the {split} half; "
            "use --split all"
        )
    return replace(dataset, defects=defects, split=split)


def _name(directory: Path) -> str:
    """The folder's own name, also where it is a link; of "." and ".." the name of what they are."""
    return directory.resolve().name if directory.name in ("", "..") else directory.name


def _is_class(directory: Path) -> bool:
    return (directory / "train").is_dir() or (directory / "test").is_dir()


def _subdirectories(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    return sorted(d for d in directory.iterdir() if d.is_dir() and not d.name.startswith("."))


def _images(directory: Path) -> list[Path]:
    return list_images(directory) if any(_is_image(p) for p in directory.rglob("*")) else []


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
