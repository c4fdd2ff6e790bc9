"""What a backbone is on disk: a directory with `backbone.onnx` and the `backbone.json` about it.

The graph takes uint8 BGR pictures at the network's size, [batch, height, width, 3], and normalises them
itself. Its output `pooled` is float32 [batch, D]: the globally averaged channels of every level, one
after the other in the order of `levels`. Its output `local`, where it has one, is float32 [batch, P, d]:
d features at each of P positions. A backbone's identity is the sha256 of its ONNX file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from edge_ad.errors import ArtifactError

SCHEMA = 1
ONNX_NAME = "backbone.onnx"
JSON_NAME = "backbone.json"


class Level(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One level of features: `dim` columns of `pooled` from `offset` on.

    `tensor` is the path of the module whose output was averaged, `stride` its step in input pixels.
    """

    name: str
    tensor: str
    dim: int
    stride: int
    offset: int


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """The graph's input; `batch` is what it was exported with, an engine reshapes it."""

    name: str = "image"
    layout: Literal["NHWC"] = "NHWC"
    dtype: Literal["uint8"] = "uint8"
    color: Literal["BGR"] = "BGR"
    batch: int = 1
    height: int
    width: int


class Normalisation(msgspec.Struct, frozen=True, kw_only=True):
    """What the graph does first: `(x * scale - mean) / std`, channels in the order of `color`."""

    color: Literal["RGB", "BGR"]
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Pooled(msgspec.Struct, frozen=True):
    """The output `pooled`: float32 [batch, dim]."""

    dim: int
    levels: tuple[Level, ...]


class Local(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The output `local`: float32 [batch, rows * columns, dim], positions row by row.

    `levels` (names of levels of `pooled`) were brought to the grid of `stride` input pixels: finer maps
    averaged over the cell, coarser ones enlarged bilinearly. Their channels, one level after the other,
    were projected to `dim` by `grid.projection` of `seed`; null: they are `local` as they are.
    `narrowed_from`: never in a backbone's file; the graph gives so many features, and an engine that was
    asked for `dim` projects them once more.
    """

    dim: int
    rows: int
    columns: int
    stride: int
    levels: tuple[str, ...]
    seed: int | None = None
    narrowed_from: int | None = None

    @property
    def positions(self) -> int:
        """The number of cells of the grid."""
        return self.rows * self.columns

    @property
    def exported(self) -> Local:
        """What the graph itself gives."""
        return msgspec.structs.replace(self, dim=self.narrowed_from or self.dim, narrowed_from=None)

    def narrowed(self, dim: int) -> Local:
        """At most `dim` features per position."""
        if dim >= self.dim:
            return self
        return msgspec.structs.replace(self, dim=dim, narrowed_from=self.narrowed_from or self.dim)


class Outputs(msgspec.Struct, frozen=True):
    """The graph's outputs. `local` is null in a graph without it."""

    pooled: Pooled
    local: Local | None = None


class BackboneSpec(msgspec.Struct, frozen=True, kw_only=True):
    """`backbone.json`."""

    schema: int = SCHEMA
    name: str
    source: dict[str, Any]
    onnx_sha256: str
    opset: int
    input: Input
    normalisation: Normalisation
    outputs: Outputs
    # Settings that nobody gave and the exporter chose, as "key = value".
    defaults_used: tuple[str, ...] = ()
    versions: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Backbone:
    """A backbone that was found whole on disk."""

    directory: Path
    spec: BackboneSpec

    @property
    def onnx_path(self) -> Path:
        """The graph's file."""
        return self.directory / ONNX_NAME

    @property
    def name(self) -> str:
        """The network's name."""
        return self.spec.name

    @property
    def sha256(self) -> str:
        """The backbone's identity: the sha256 of its ONNX file."""
        return self.spec.onnx_sha256

    @property
    def height(self) -> int:
        """Rows of the input."""
        return self.spec.input.height

    @property
    def width(self) -> int:
        """Columns of the input."""
        return self.spec.input.width

    @property
    def levels(self) -> tuple[Level, ...]:
        """The levels of `pooled`, in order."""
        return self.spec.outputs.pooled.levels

    @property
    def dim(self) -> int:
        """The number of columns of `pooled`."""
        return self.spec.outputs.pooled.dim

    @property
    def local(self) -> Local | None:
        """What `local` is made of; None in a graph without it."""
        return self.spec.outputs.local


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def load_backbone(directory: str | Path, verify: bool = True) -> Backbone:
    """Read and check a backbone's directory; `verify` compares the graph's sha256 with the stated one.

    Raises ArtifactError when a file is missing or unreadable, the schema is unknown, the levels do not
    fill `pooled`, `local` contradicts them, or the graph is not the one that the JSON describes.
    """
    directory = Path(directory).expanduser().absolute()
    path = directory / JSON_NAME
    try:
        data = path.read_bytes()
        spec = _decode(data)
    except OSError as error:
        raise ArtifactError(
            f"{directory}: no backbone here ({error.strerror}: {path.name}); "
            "'edge-ad backbone export NAME -o DIR' writes one"
        ) from error
    except (ValueError, msgspec.DecodeError) as error:
        raise ArtifactError(f"{path}: not a valid backbone.json: {error}; export it again") from error
    _check_levels(spec, path)
    _check_local(spec, path)
    backbone = Backbone(directory, spec)
    if not backbone.onnx_path.is_file():
        raise ArtifactError(
            f"{backbone.onnx_path}: missing, though {path.name} is there; export it again"
        )
    if verify and (found := file_sha256(backbone.onnx_path)) != spec.onnx_sha256:
        raise ArtifactError(
            f"{backbone.onnx_path}: sha256 is {found}, {path.name} says {spec.onnx_sha256}; "
            "the two do not belong together, export again"
        )
    return backbone


def check_outputs(backbone: Backbone, found: Mapping[str, object], batch: int, runtime: str) -> None:
    """Raise ArtifactError unless the graph's outputs, by name, have the shapes that backbone.json says;
    `found` has them as sequences of numbers, or as text."""
    expected = {"pooled": [batch, backbone.dim]}
    if (local := backbone.local) is not None:
        expected["local"] = [batch, local.positions, local.dim]
    for name, wanted in expected.items():
        shape = str(found.get(name, "none")).replace(" ", "").replace("(", "[").replace(")", "]")
        if shape != str(wanted).replace(" ", ""):
            raise ArtifactError(
                f"{backbone.onnx_path}: {name} has shape {shape} for {runtime}, backbone.json says "
                f"{str(wanted).replace(' ', '')}; export the backbone again"
            )


def encode_spec(spec: BackboneSpec) -> bytes:
    """`backbone.json`'s text, the same bytes for the same spec."""
    return msgspec.json.format(msgspec.json.encode(spec), indent=2) + b"\n"


def _decode(data: bytes) -> BackboneSpec:
    """The schema is looked at first: a later one may differ in anything."""
    schema = json.loads(data).get("schema") if data.lstrip()[:1] == b"{" else None
    if schema != SCHEMA:
        raise ValueError(f"schema is {schema!r}, this edge_ad reads {SCHEMA}")
    return msgspec.json.decode(data, type=BackboneSpec)


def _check_levels(spec: BackboneSpec, path: Path) -> None:
    pooled = spec.outputs.pooled
    offset = 0
    for level in pooled.levels:
        if level.offset != offset or level.dim < 1:
            raise ArtifactError(
                f"{path}: level {level.name!r} has offset {level.offset} and dim {level.dim}, "
                f"expected offset {offset}; export it again"
            )
        offset += level.dim
    if offset != pooled.dim or not offset:
        raise ArtifactError(
            f"{path}: the levels fill {offset} columns, pooled has {pooled.dim}; export it again"
        )


def _check_local(spec: BackboneSpec, path: Path) -> None:
    local = spec.outputs.local
    if local is None:
        return
    widths = {level.name: level.dim for level in spec.outputs.pooled.levels}
    unknown = [name for name in local.levels if name not in widths]
    channels = sum(widths.get(name, 0) for name in set(local.levels))
    grid = tuple(-(-side // local.stride) if local.stride > 0 else 0 for side in _sides(spec))
    wrong = ""
    if unknown or not local.levels or len(set(local.levels)) < len(local.levels):
        wrong = f"is made of the levels {list(local.levels)}, pooled has {list(widths)}"
    elif (local.rows, local.columns) != grid or min(grid) < 1:
        wrong = (
            f"has {local.rows} x {local.columns} positions {local.stride} pixels apart, the input is "
            f"{spec.input.height} x {spec.input.width}"
        )
    elif not 1 <= local.dim <= channels or (local.seed is None and local.dim != channels):
        wrong = f"has {local.dim} dimensions (seed {local.seed}), its levels have {channels} channels"
    if wrong:
        raise ArtifactError(f"{path}: local {wrong}; export it again")


def _sides(spec: BackboneSpec) -> tuple[int, int]:
    return spec.input.height, spec.input.width
