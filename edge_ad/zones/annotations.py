"""Zones drawn in an annotation tool: the JSON files of LabelMe and COCO.

Only what is needed is decoded, by schema; the rest (embedded pictures, other labels' shapes) is skipped.
Coordinates of both are those of `polygon`: 0, 0 is the corner of the first pixel.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import msgspec

from edge_ad.config import MOST_CORNERS
from edge_ad.errors import ConfigError
from edge_ad.zones.files import listed, read

MOST_BYTES = 128 << 20  # LabelMe embeds the picture
MOST_SHAPES = 10_000  # of one label
CIRCLE_CORNERS = 64

Outline = list[tuple[float, float]]
T = TypeVar("T")


class _File(msgspec.Struct):
    """What tells the formats apart."""

    shapes: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    images: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    annotations: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    categories: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Shape(msgspec.Struct):
    label: str
    points: msgspec.Raw
    shape_type: str = "polygon"  # the oldest files have nothing else


class _LabelMe(msgspec.Struct, rename="camel"):
    shapes: list[_Shape]
    image_height: int
    image_width: int


class _Picture(msgspec.Struct):
    id: int | str
    width: int
    height: int
    file_name: str = ""


class _Category(msgspec.Struct):
    id: int | str
    name: str


class _Annotation(msgspec.Struct):
    image_id: int | str
    category_id: int | str
    segmentation: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Coco(msgspec.Struct):
    images: list[_Picture]
    annotations: list[_Annotation]
    categories: list[_Category]


def read_outlines(path: Path, label: str, shape: tuple[int, int]) -> list[tuple[str, Outline]]:
    """The outlines of a label: where each one is in the file, and its corners in pixels.

    `shape`: rows and columns of the frame that was drawn on. Raises ConfigError, without the file's
    name, for a file that cannot be read or is neither of the two, one of another size, a label that is
    not there, and shapes without an area. Corners are not checked but for being numbers.
    """
    data = read(path, MOST_BYTES, "export it without pictures, for this camera alone")
    data = data.removeprefix(b"\xef\xbb\xbf")  # as Windows' editors begin files
    file = _decode(data, _File, "is neither LabelMe's nor COCO's JSON")
    if file.shapes is not msgspec.UNSET:
        return _labelme(_decode(data, _LabelMe, "is not as LabelMe writes it"), label, shape)
    if msgspec.UNSET not in (file.images, file.annotations, file.categories):
        return _coco(_decode(data, _Coco, "is not as COCO has it"), label, shape)
    raise ConfigError(
        "is neither LabelMe's JSON (it has no 'shapes') nor COCO's (it lacks 'images', 'annotations' or "
        "'categories'); export it as one of them"
    )


def _decode(data: bytes | msgspec.Raw, kind: type[T], problem: str) -> T:
    """`data` by a schema. Whatever is wrong with it is a ConfigError."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{problem}: {error}; export it again") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"is not valid JSON ({error}); export it again") from error
    except RecursionError as error:
        raise ConfigError("is nested too deeply to be read; export it again") from error


def _labelme(file: _LabelMe, label: str, shape: tuple[int, int]) -> list[tuple[str, Outline]]:
    _check_size((file.image_height, file.image_width), shape, "it")
    chosen = [(f"shapes[{i}]", s) for i, s in enumerate(file.shapes) if s.label == label]
    _check_number(len(chosen), label, (s.label for s in file.shapes))
    return [(where, _outline(where, s)) for where, s in chosen]


def _outline(where: str, shape: _Shape) -> Outline:
    """A LabelMe shape as a polygon."""
    points = _decode(shape.points, list[tuple[float, float]], f"{where}.points")
    needed = {"rectangle": (2, 4), "circle": (2,)}.get(shape.shape_type)
    if needed and len(points) not in needed:
        raise ConfigError(
            f"{where}: a {shape.shape_type} of {len(points)} points, {needed[0]} are expected; draw it "
            "again"
        )
    if shape.shape_type == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points
        points = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    elif shape.shape_type == "circle":
        (x, y), (to_x, to_y) = points  # the middle, and a point on the circle
        radius = math.hypot(to_x - x, to_y - y)
        turns = [2 * math.pi * k / CIRCLE_CORNERS for k in range(CIRCLE_CORNERS)]
        points = [(x + radius * math.cos(t), y + radius * math.sin(t)) for t in turns]
    elif shape.shape_type not in ("polygon", "rectangle"):
        raise ConfigError(
            f"{where}: a shape of type {shape.shape_type!r} is no area; draw a polygon, rectangle or "
            "circle"
        )
    return _checked(where, points)


def _coco(file: _Coco, label: str, shape: tuple[int, int]) -> list[tuple[str, Outline]]:
    names = {c.id: c.name for c in file.categories}
    found = [(f"annotations[{i}]", a) for i, a in enumerate(file.annotations)]
    chosen = [(where, a) for where, a in found if names.get(a.category_id) == label]
    _check_number(len(chosen), label, (names[a.category_id] for _, a in found if a.category_id in names))
    ids = sorted({a.image_id for _, a in chosen}, key=str)
    pictures = {p.id: p for p in file.images}
    if len(ids) > 1:
        raise ConfigError(
            f"the annotations of {label!r} belong to {len(ids)} images (ids {listed(ids)}), but the "
            "zones of a camera are drawn on one; export the annotations of one image"
        )
    picture = pictures.get(ids[0])
    if picture is None:
        raise ConfigError(
            f"the annotations of {label!r} belong to image {ids[0]!r}, which 'images' lacks; export it "
            "again"
        )
    what = f"its image {picture.file_name or picture.id!r}"
    _check_size((picture.height, picture.width), shape, what)
    return [pair for where, a in chosen for pair in _segments(where, a)]


def _segments(where: str, annotation: _Annotation) -> Iterable[tuple[str, Outline]]:
    """The polygons of a COCO annotation."""
    where = f"{where}.segmentation"
    raw = b"[]" if annotation.segmentation is msgspec.UNSET else bytes(annotation.segmentation)
    if raw.lstrip().startswith(b"{"):
        raise ConfigError(f"{where} is run-length encoded (RLE); polygons are needed, export it as such")
    lists = _decode(raw, list[list[float]], where)
    if not lists:
        raise ConfigError(f"{where} is empty (a box alone?); polygons are needed, export it as such")
    for k, flat in enumerate(lists):
        if len(flat) % 2:
            raise ConfigError(f"{where}[{k}]: {len(flat)} numbers are no pairs x, y; export it again")
        yield (
            f"{where}[{k}]",
            _checked(f"{where}[{k}]", list(zip(flat[::2], flat[1::2], strict=True))),
        )


def _checked(where: str, points: Outline) -> Outline:
    if len(points) > MOST_CORNERS:
        raise ConfigError(
            f"{where}: {len(points)} corners, at most {MOST_CORNERS} are read; simplify the outline"
        )
    return points


def _check_size(size: tuple[int, int], shape: tuple[int, int], what: str) -> None:
    if size != shape:
        raise ConfigError(
            f"{what} is of {size[1]} x {size[0]} px, the camera's frame of {shape[1]} x {shape[0]}; "
            "draw on a picture of 'edge-ad camera grab'"
        )


def _check_number(count: int, label: str, there: Iterable[str]) -> None:
    """Whether the label is there, and not too often."""
    if not count:
        names = sorted(set(there))
        have = f"have {listed(names)}" if names else "there are no labels at all"
        raise ConfigError(f"no shape has the label {label!r}; {have}")
    if count > MOST_SHAPES:
        raise ConfigError(f"{count} shapes of the label {label!r}, at most {MOST_SHAPES} are read")
